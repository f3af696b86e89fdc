"""Workflows on a real server: their events, waits, signals, approvals, and what becomes of them when processes go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import pytest
from dynamicagents.execution.v1 import event_pb2, execution_pb2, execution_service_pb2
from dynamicagents.registry.v1 import workflow_pb2, workflow_service_pb2, workflow_service_pb2_grpc
from dynamicagents.router.v1 import chat_pb2
from google.protobuf.json_format import MessageToDict, ParseDict

from tests.rpc.conftest import CANCELLED, COMPLETED, FAILED, kinds, rest, sequences
from tests.rpc.test_execution import SECRET, bearer
from tests.rpc.test_execution_input import go_on, refused
from tests.rpc.test_execution_replay import replay
from tests.rpc.test_execution_takeover import take_away
from tests.scripted_router import call, calls, text

Bench = Callable[..., Any]
WAITING = execution_pb2.EXECUTION_STATUS_WAITING
INPUT_REQUIRED = execution_pb2.EXECUTION_STATUS_INPUT_REQUIRED
YES = {"approval": {"approved": True}}
AGENT = {"agent": {"agent_id": "helper"}}


async def workflow(at: Any, *steps: dict[str, Any], workflow_id: str = "flow", **spec: Any) -> workflow_pb2.Workflow:
    made = ParseDict({"workflow_id": workflow_id, "spec": {"steps": list(steps), **spec}}, workflow_pb2.Workflow())
    stub: Any = workflow_service_pb2_grpc.WorkflowServiceStub(at.registry)
    asked = workflow_service_pb2.CreateWorkflowRequest(workflow=made)
    return (await stub.CreateWorkflow(asked, metadata=at.metadata)).workflow


def step(step_id: str, **what: Any) -> dict[str, Any]:
    return {"step_id": step_id, **what}


def calculated(step_id: str, expression: str, **what: Any) -> dict[str, Any]:
    function = {"tool_id": "builtin/calculator", "arguments": {"expression": expression}}
    return step(step_id, function=function, **what)


async def signal(at: Any, execution_id: str, name: str, payload: Any = None, request_id: str = "") -> Any:
    request = execution_service_pb2.SignalExecutionRequest(execution_id=execution_id, name=name, request_id=request_id)
    if payload is not None:
        ParseDict(payload, request.payload)
    return (await at.executions.SignalExecution(request, timeout=20, metadata=at.metadata)).execution


async def until(at: Any, execution_id: str, status: int) -> execution_pb2.Execution:
    async with asyncio.timeout(20):
        while (found := await at.get(execution_id)).status != status:
            await asyncio.sleep(0.02)
    return found


async def begun(at: Any, status: int, **request: Any) -> tuple[Any, str]:
    """An open stream of a run, once the run has this status."""
    stream = at.stream(agent_id=None, workflow_id="flow", **request)
    execution_id = (await stream.read()).execution_id
    await until(at, execution_id, status)
    return stream, execution_id


def run_of(**request: Any) -> dict[str, Any]:
    return {"agent_id": None, "workflow_id": "flow", **request}


def places(events: Sequence[event_pb2.ExecuteEvent]) -> list[tuple[str, str]]:
    return [("/".join(event.source.path), str(event.WhichOneof("event"))) for event in without_beats(events)]


def without_beats(events: Sequence[event_pb2.ExecuteEvent]) -> list[event_pb2.ExecuteEvent]:
    return [event for event in events if not event.HasField("heartbeat")]


async def test_steps_and_members_with_their_sources(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    at.router.turns = [text("Hello there")]
    await at.create()
    await workflow(
        at, step("ask", **AGENT), calculated("sum", "'40 + 2'"), output="{'said': steps.ask, 'sum': steps.sum}"
    )
    events = await at.run(**run_of())
    assert places(events) == [
        ("flow", "execution_started"),
        ("flow/ask", "step_started"),
        ("flow/ask/helper", "member_started"),
        ("flow/ask/helper", "content_delta"),
        ("flow/ask/helper", "usage_reported"),
        ("flow/ask/helper", "member_completed"),
        ("flow/ask", "step_completed"),
        ("flow/sum", "step_started"),
        ("flow/sum", "tool_call_started"),
        ("flow/sum", "tool_call_completed"),
        ("flow/sum", "step_completed"),
        ("flow", "execution_completed"),
    ]
    assert sequences(events) == list(range(1, 13))
    assert [event.source.scope for event in events[1:4]] == ["ask", "ask/member", "ask/member"]
    assert (events[1].step_started.step_kind, events[1].step_started.attempt) == ("agent", 1)
    assert MessageToDict(events[6].step_completed) == {
        "stepId": "ask",
        "outcome": "STEP_OUTCOME_COMPLETED",
        "output": "Hello there",
        "attempt": 1,
    }
    assert MessageToDict(events[-1].execution_completed.structured_output) == {"said": "Hello there", "sum": "42"}
    found = await at.get(events[0].execution_id)
    assert (found.status, found.workflow_id, found.usage.model_calls, found.usage.tool_calls) == (
        COMPLETED,
        "flow",
        1,
        1,
    )
    assert {each.WhichOneof("kind") for each in found.steps} == {"model", "tool_id", "member", "workflow_step"}
    assert await at.watch(found.execution_id) == events


async def test_approval_wait_and_signal_on_one_stream(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings, wait_held=0)
    await workflow(
        at,
        calculated("sum", "'1 + 1'"),
        step("ok", approval={"question": "'Send ' + string(steps.sum) + '?'"}),
        step("rest", wait={"delay": "0.3s"}),
        step("go", wait={"signal": "go"}),
        calculated("end", "'2 + ' + string(steps.go.n)"),
    )
    stream, execution_id = await begun(at, INPUT_REQUIRED)
    found = await at.get(execution_id)
    (asked,) = found.input_required.requests
    assert (asked.step_approval.step_id, asked.step_approval.question) == ("ok", "Send 2?")
    bad = {"approval": {"approved": True, "arguments": {"a": 1}}}
    error = await refused(go_on(at, execution_id, **{asked.input_id: bad}))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    await go_on(at, execution_id, **{asked.input_id: YES})
    await until(at, execution_id, WAITING)
    await signal(at, execution_id, "go", {"n": 5}, "s1")
    events = without_beats(await rest(stream))
    assert kinds(events) == [
        "step_started",
        "tool_call_started",
        "tool_call_completed",
        "step_completed",
        "step_started",
        "input_required",
        "input_received",
        "step_completed",
        "step_started",
        "wait_started",
        "step_completed",
        "step_started",
        "wait_started",
        "signal_received",
        "step_completed",
        "step_started",
        "tool_call_started",
        "tool_call_completed",
        "step_completed",
        "execution_completed",
    ]
    assert sequences(events) == list(range(2, 22))
    received = events[13].signal_received
    assert (received.name, received.signal_id, received.subject) == ("go", "s1", "local")
    assert MessageToDict(received.payload) == {"n": 5}
    assert events[-1].execution_completed.output == "7"
    ended = await at.get(execution_id)
    assert ended.usage.tool_calls == 2
    assert (await at.watch(execution_id))[1:] == events


async def test_waiting_survives_its_server(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings, wait_held=0)
    await workflow(at, step("rest", wait={"delay": "1s"}), calculated("end", "'6 * 7'"))
    async with at.beside() as first:
        stream, execution_id = await begun(first, WAITING, on_disconnect=execution_service_pb2.ON_DISCONNECT_CONTINUE)
        stream.cancel()
    async with at.beside() as second:
        ended = await until(second, execution_id, COMPLETED)
    assert (ended.output, ended.attempts) == ("42", 2)


async def test_signals_are_taken_once_and_kept_until_they_are(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings, wait_held=0)
    await workflow(
        at,
        step("first", wait={"signal": "go"}),
        step("second", wait={"signal": "go"}),
        step("other", wait={"signal": "other"}),
        output="[steps.first, steps.second, steps.other]",
    )
    stream, execution_id = await begun(at, WAITING)
    await signal(at, execution_id, "other", "early", "a")
    assert (await at.get(execution_id)).status == WAITING
    for _ in range(3):
        await signal(at, execution_id, "go", 1, "b")
    await asyncio.gather(*(signal(at, execution_id, "go", 2, "c") for _ in range(3)))
    events = without_beats(await rest(stream))
    assert events[-1].execution_completed.output == '[1,2,"early"]'
    error = await refused(signal(at, execution_id, "go", 3, "b"))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    await signal(at, execution_id, "go", 2, "c")
    error = await refused(signal(at, execution_id, "go", 4, "d"))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_signals_for_others(bench: Bench) -> None:
    at = await bench(registry={"jwt_secret": SECRET}, jwt_secret=SECRET)
    at.metadata = bearer("acme")
    await workflow(at, step("w", wait={"signal": "go"}))
    stream, execution_id = await begun(at, WAITING)
    at.metadata = bearer("other")
    error = await refused(signal(at, execution_id, "go"))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    at.metadata = bearer("acme")
    error = await refused(signal(at, execution_id, "not a name"))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    await at.create()
    ended = await at.execute()
    error = await refused(signal(at, ended.execution_id, "go"))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    stream.cancel()


async def test_cancel_in_a_wait(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    await workflow(at, step("w", wait={"signal": "go"}))
    stream, execution_id = await begun(at, WAITING)
    ended = await at.cancel(execution_id, "no need")
    assert ended.status == CANCELLED
    assert (await rest(stream))[-1].execution_cancelled.reason == "no need"


async def test_approval_that_expires(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings, input_timeout=60)
    await at.create()
    await workflow(
        at,
        step("ok", approval={"question": "'Sure?'", "expires_after": "0.3s"}),
        step("end", input="steps.ok.expired", **AGENT),
    )
    events = without_beats(await at.run(**run_of()))
    assert kinds(events).count("input_required") == 1
    (done,) = [event.step_completed for event in events if event.step_completed.step_id == "ok"]
    assert MessageToDict(done.output) == {"approved": False, "note": "", "expired": True}
    assert events[-1].HasField("execution_completed")


async def test_input_that_nobody_gives_ends_the_run(bench: Bench) -> None:
    at = await bench(input_timeout=0.3)
    await workflow(at, step("ok", approval={"question": "'Sure?'"}))
    events = await at.run(**run_of())
    assert events[-1].execution_failed.error.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]


async def test_waits_beside_work_go_on_in_the_process(bench: Bench) -> None:
    at = await bench(wait_held=0)
    await at.create()
    at.router.turns = [[2.0, *text("slow")]]
    branches = [
        {"steps": [step("slow", **AGENT)]},
        {"steps": [step("w", wait={"signal": "go"}), calculated("a", "'1'")]},
        {"steps": [step("v", wait={"delay": "0.2s"}), calculated("b", "'2'")]},
    ]
    await workflow(at, step("p", parallel={"branches": branches}))
    stream = at.stream(**run_of())
    execution_id = (await stream.read()).execution_id
    await signal(at, execution_id, "go")
    events = without_beats(await rest(stream))
    done = [event.step_completed.step_id for event in events if event.HasField("step_completed")]
    assert max(done.index("a"), done.index("b")) < done.index("slow")
    assert (await at.get(execution_id)).attempts == 1


async def test_question_of_an_agent_beside_a_timer_is_put_once_more_but_said_once(bench: Bench) -> None:
    at = await bench(wait_held=0)
    await at.create(tools=[{"tool_id": "builtin/calculator", "requires_confirmation": True}])
    at.router.turns = [calls(call("calculator", '{"expression": "1 + 1"}')), text("done")]
    branches = [{"steps": [step("a", **AGENT)]}, {"steps": [step("w", wait={"delay": "0.4s"}), calculated("b", "'2'")]}]
    await workflow(at, step("p", parallel={"branches": branches}))
    stream, execution_id = await begun(at, INPUT_REQUIRED)
    async with asyncio.timeout(20):
        while not any(each.tool_id == "builtin/calculator" for each in (await at.get(execution_id)).steps):
            await asyncio.sleep(0.05)
    found = await until(at, execution_id, INPUT_REQUIRED)
    (asked,) = found.input_required.requests
    await go_on(at, execution_id, **{asked.input_id: YES})
    events = without_beats(await rest(stream))
    assert kinds(events).count("tool_call_started") == 2
    assert kinds(events).count("input_required") == 2
    assert events[-1].HasField("execution_completed")


async def test_taken_up_in_the_middle(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings, lease=0.5)
    await at.create()
    at.router.turns = [text("one"), [30.0, *text("never")], text("two")]
    await workflow(at, step("a", **AGENT), step("b", **AGENT), calculated("c", "'1 + 2'"))
    stream = at.stream(**run_of(on_disconnect=execution_service_pb2.ON_DISCONNECT_CONTINUE))
    events = [await stream.read()]
    while not (events[-1].HasField("member_started") and len(at.router.requests) >= 2):
        events.append(await stream.read())
    async with at.beside() as other:
        await take_away(at)
        ended = await until(other, events[0].execution_id, COMPLETED)
        whole = await other.watch(ended.execution_id)
    stream.cancel()
    assert ended.usage.tool_calls == 1
    assert kinds(whole).count("step_completed") == 3
    assert len(at.router.requests) == 3


async def test_replay(bench: Bench) -> None:
    at = await bench(wait_held=0)
    at.router.turns = [text("Hello there")]
    await at.create()
    body = {"steps": [calculated("n", "string(iteration) + ' + 1'")]}
    await workflow(
        at,
        step("a", **AGENT),
        step("l", loop={"body": body, "max_iterations": 5, "until": "iteration == 2"}),
        step("w", wait={"signal": "go"}),
        step("x", function={"tool_id": "builtin/calculator", "arguments": {}}, on_error="ON_ERROR_SKIP"),
        output="steps.n",
    )
    stream, execution_id = await begun(at, WAITING)
    await signal(at, execution_id, "go", "now")
    await rest(stream)
    events = await at.watch(execution_id)
    again = await replay(at, execution_id)
    assert [(e.source, e.WhichOneof("event")) for e in again] == [(e.source, e.WhichOneof("event")) for e in events]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"input_schema": {"type": "object"}}, "input"),
        ({"input_schema": {"type": "object", "required": ["n"]}}, "input"),
    ],
)
async def test_input_that_the_workflow_does_not_take(bench: Bench, spec: dict[str, Any], field: str) -> None:
    at = await bench()
    await workflow(at, calculated("a", "'1'"), **spec)
    text = "{}" if "required" in spec["input_schema"] else "no JSON"
    error = await refused(at.run(**run_of(input=text)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_what_workflows_do_not_take(bench: Bench) -> None:
    at = await bench()
    await workflow(at, calculated("a", "'1'"))
    error = await refused(at.run(**run_of(history=[{"role": chat_pb2.ROLE_USER, "content": "before"}])))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_output_that_the_caller_wants_otherwise(bench: Bench) -> None:
    at = await bench()
    await workflow(at, calculated("a", "'1'"), output="{'n': int(steps.a)}")
    ended = await at.execute(**run_of(output_schema={"type": "object", "required": ["n"]}))
    assert (ended.status, ended.output) == (COMPLETED, '{"n":1}')
    ended = await at.execute(**run_of(output_schema={"type": "object", "required": ["m"]}))
    assert ended.status == FAILED
    assert "OUTPUT_INVALID" in str(ended.error)


async def test_tool_that_there_is_not(bench: Bench) -> None:
    at = await bench()
    await workflow(at, step("a", function={"tool_id": "builtin/nothing"}))
    error = await refused(at.run(**run_of()))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_failure_is_typed_and_names_its_step(bench: Bench) -> None:
    at = await bench()
    await workflow(at, step("c", condition={"condition": "bool(input)", "then": {"steps": [calculated("a", "'1'")]}}))
    events = await at.run(**run_of())
    assert "EXPRESSION_FAILED" in str(events[-1].execution_failed.error)
    assert "step_id" in str(events[-1].execution_failed.error)
    assert (await at.get(events[0].execution_id)).status == FAILED


async def test_pinned_members_run_though_they_were_deleted(bench: Bench) -> None:
    from dynamicagents.registry.v1 import agent_service_pb2

    at = await bench(wait_held=0)
    made = await at.create()
    await workflow(at, step("w", wait={"signal": "go"}), step("a", **AGENT))
    stream, execution_id = await begun(at, WAITING)
    stub: Any = workflow_service_pb2_grpc.WorkflowServiceStub(at.registry)
    await stub.DeleteWorkflow(workflow_service_pb2.DeleteWorkflowRequest(workflow_id="flow"))
    await at.agents.DeleteAgent(agent_service_pb2.DeleteAgentRequest(agent_id="helper", etag=made.etag))
    await signal(at, execution_id, "go")
    events = without_beats(await rest(stream))
    assert events[-1].execution_completed.output == "Hello there"
