"""Runs that ask: approvals, questions to the user, tools of the caller."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from dynamicagents.execution.v1 import event_pb2, execution_pb2, execution_service_pb2
from dynamicagents.registry.v1 import (
    tool_definition_pb2,
    tool_definition_service_pb2,
    tool_definition_service_pb2_grpc,
)
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict

from tests import harness
from tests.rpc.conftest import CANCELLED, COMPLETED, FAILED, execute, kinds, rest, sequences
from tests.rpc.test_execution import SECRET, bearer
from tests.rpc.test_execution_replay import replay
from tests.rpc.test_execution_takeover import take_away
from tests.scripted_router import call, calls, text

Bench = Callable[..., Any]
INPUT_REQUIRED = execution_pb2.EXECUTION_STATUS_INPUT_REQUIRED
CONFIRMED = [{"tool_id": "builtin/calculator", "requires_confirmation": True}]
ASK = [{"tool_id": "builtin/ask_user"}]
FOREVER = 30.0
YES = {"approval": {"approved": True}}


async def paused(at: Any, **request: Any) -> tuple[Any, list[event_pb2.ExecuteEvent]]:
    """An open ExecuteStream and its events up to the one that asks."""
    stream = at.stream(**request)
    events = [await stream.read()]
    while not events[-1].HasField("input_required"):
        events.append(await stream.read())
    return stream, events


async def go_on(at: Any, execution_id: str, request_id: str = "", **answers: Any) -> execution_pb2.Execution:
    request = execution_service_pb2.ContinueExecutionRequest(execution_id=execution_id, request_id=request_id)
    for input_id, answer in answers.items():
        request.answers.add(input_id=input_id.replace("_", "-"), **answer)
    return (await at.executions.ContinueExecution(request, timeout=20, metadata=at.metadata)).execution


async def until_it_asks(at: Any, execution_id: str) -> execution_pb2.Execution:
    async with asyncio.timeout(10):
        while True:
            found = await at.get(execution_id)
            if found.status == INPUT_REQUIRED:
                return found
            await asyncio.sleep(0.02)


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_call_that_is_allowed(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    at.router.turns = [calls(call("calculator", '{"expression": "17 * 23"}')), text("done")]
    await at.create(tools=CONFIRMED)
    stream, events = await paused(at)
    assert kinds(events) == ["execution_started", "usage_reported", "tool_call_started", "input_required"]
    (asked,) = events[-1].input_required.requests
    assert (asked.input_id, asked.approval.call_id, asked.approval.tool_id) == (
        "call-1",
        "call-1",
        "builtin/calculator",
    )
    assert MessageToDict(asked.approval.arguments) == {"expression": "17 * 23"}
    wait = events[-1].input_required.expire_time.ToNanoseconds() - events[-1].time.ToNanoseconds()
    assert 86_390e9 < wait < 86_410e9
    found = await at.get(events[0].execution_id)
    assert (found.status, found.last_sequence, found.input_required) == (INPUT_REQUIRED, 4, events[-1].input_required)
    assert not found.HasField("end_time")
    after = await go_on(at, found.execution_id, call_1=YES)
    assert not after.HasField("input_required")
    events += [event for event in await rest(stream) if not event.HasField("heartbeat")]
    assert kinds(events)[4:] == [
        "input_received",
        "tool_call_completed",
        "content_delta",
        "usage_reported",
        "execution_completed",
    ]
    assert sequences(events) == list(range(1, len(events) + 1))
    received = events[4].input_received
    assert (received.input_id, received.approved, received.subject) == ("call-1", True, "local")
    assert (events[5].tool_call_completed.output, events[5].tool_call_completed.is_error) == ("391", False)
    assert len(at.router.requests) == 2, "the turn before the question is not asked again"
    assert at.router.requests[1].messages[-1].content == "391"
    ended = await at.get(found.execution_id)
    assert (ended.status, ended.usage.model_calls, ended.usage.tool_calls) == (COMPLETED, 2, 1)
    assert (ended.usage.cost_usd, ended.attempts) == (0.5, 2)
    assert await at.watch(found.execution_id) == events


async def test_call_that_is_refused(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [calls(call("calculator", '{"expression": "1"}')), text("done")]
    await at.create(tools=CONFIRMED)
    stream, events = await paused(at)
    await go_on(at, events[0].execution_id, call_1={"approval": {"approved": False, "note": "too dear"}})
    events = await rest(stream)
    (answered,) = [event.tool_call_completed for event in events if event.HasField("tool_call_completed")]
    assert (answered.output, answered.is_error) == ("the call was refused: too dear", True)
    assert at.router.requests[1].messages[-1].content == "the call was refused: too dear"
    (received,) = [event.input_received for event in events if event.HasField("input_received")]
    assert received.HasField("approved")
    assert not received.approved


async def test_call_with_other_arguments(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [calls(call("calculator", '{"expression": "1"}')), text("done")]
    await at.create(tools=CONFIRMED)
    asked = await at.execute()
    assert asked.status == INPUT_REQUIRED
    edited = {"approved": True, "arguments": {"expression": "6 * 7"}, "note": "better so"}
    await go_on(at, asked.execution_id, call_1={"approval": edited})
    events = await at.watch(asked.execution_id, asked.last_sequence)
    assert "42\n\nbetter so" in [event.tool_call_completed.output for event in events]
    assert (await at.get(asked.execution_id)).status == COMPLETED


async def test_question_to_the_user(bench: Bench) -> None:
    at = await bench()
    schema = '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}'
    at.router.turns = [
        calls(call("ask_user", '{"prompt": "Which colour?"}', "a")),
        calls(call("ask_user", f'{{"prompt": "How many?", "schema": {schema}}}', "b")),
        text("done"),
    ]
    await at.create(tools=ASK)
    first = await at.execute()
    (asked,) = first.input_required.requests
    assert (asked.user_input.prompt, asked.user_input.HasField("schema")) == ("Which colour?", False)
    await go_on(at, first.execution_id, a={"user_input": {"text": "blue"}})
    second = await until_it_asks(at, first.execution_id)
    (asked,) = second.input_required.requests
    assert asked.user_input.schema["required"][0] == "n"
    for values in ({"n": "x"}, {}, {"n": float("nan")}):
        error = await refused(go_on(at, first.execution_id, b={"user_input": {"values": values}}))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert harness.fields_of(error) == ["answers[0].user_input.values"]
    await go_on(at, first.execution_id, b={"user_input": {"values": {"n": 3}}})
    assert (await at.watch(first.execution_id))[-1].HasField("execution_completed")
    told = [request.messages[-1].content for request in at.router.requests[1:]]
    assert told == ["blue", '{"n":3}']


async def test_question_that_cannot_be_put(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [
        calls(call("ask_user", '{"prompt": "?", "schema": {"type": "object", "required": 3}}')),
        text("ok"),
    ]
    await at.create(tools=ASK)
    assert (await at.execute()).status == COMPLETED
    assert "arguments.schema" in at.router.requests[1].messages[-1].content


async def test_tool_of_the_caller(bench: Bench) -> None:
    at = await bench()
    schema = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
    spec = tool_definition_pb2.ToolDefinitionSpec(input_schema=schema)
    made = tool_definition_pb2.ToolDefinition(tool_definition_id="find-order", description="Finds an order.", spec=spec)
    definitions = tool_definition_service_pb2_grpc.ToolDefinitionServiceStub(at.registry)
    await definitions.CreateToolDefinition(
        tool_definition_service_pb2.CreateToolDefinitionRequest(tool_definition=made)
    )
    at.router.turns = [
        calls(call("find_order", '{"id": 7}', "bad"), call("find_order", '{"id": "7"}', "good")),
        text("done"),
    ]
    await at.create(tools=[{"tool_id": "function/find-*"}])
    asked = await at.execute()
    (offered,) = at.router.requests[0].tools
    assert (offered.name, offered.description) == ("find_order", "Finds an order.")
    (question,) = asked.input_required.requests
    assert (question.input_id, question.external_tool.tool_id) == ("good", "function/find-order")
    await go_on(at, asked.execution_id, good={"tool_result": {"output": "shipped", "is_error": True}})
    events = await at.watch(asked.execution_id)
    answered = [event.tool_call_completed for event in events if event.HasField("tool_call_completed")]
    assert [(one.call_id, one.is_error) for one in answered] == [("bad", True), ("good", True)]
    assert [message.content for message in at.router.requests[1].messages][-1] == "shipped"


async def test_siblings_of_a_call_that_asks_are_made_once(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [
        calls(call("current_time", "{}", "a"), call("calculator", '{"expression": "1"}', "b")),
        text("done"),
    ]
    await at.create(tools=[{"tool_id": "builtin/current_time"}, *CONFIRMED])
    stream, events = await paused(at)
    assert "tool_call_completed" in kinds(events)
    await go_on(at, events[0].execution_id, b=YES)
    events += await rest(stream)
    ids = [event.tool_call_started.call_id for event in events if event.HasField("tool_call_started")]
    done = [event.tool_call_completed.call_id for event in events if event.HasField("tool_call_completed")]
    assert sorted(ids) == sorted(done) == ["a", "b"]


async def test_questions_are_answered_one_by_one(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [
        calls(call("calculator", '{"expression": "1"}', "a"), call("calculator", '{"expression": "2"}', "b")),
        text("done"),
    ]
    await at.create(tools=CONFIRMED)
    asked = await at.execute()
    assert [one.input_id for one in asked.input_required.requests] == ["a", "b"]
    assert (await go_on(at, asked.execution_id, b=YES)).status == INPUT_REQUIRED
    await go_on(at, asked.execution_id, a=YES)
    assert (await at.watch(asked.execution_id))[-1].HasField("execution_completed")


async def test_of_two_approvers_one_is_heard(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    at.router.turns = [calls(call("calculator", '{"expression": "1"}')), text("done")]
    await at.create(tools=CONFIRMED)
    asked = await at.execute()
    async with at.beside() as other:
        both = [go_on(side, asked.execution_id, call_1=YES) for side in (at, other) * 2]
        results = await asyncio.gather(*both, return_exceptions=True)
        failed = [one for one in results if isinstance(one, grpc.aio.AioRpcError)]
        assert len(failed) == 3
        assert {harness.reason_of(one) for one in failed} == {"NOT_WAITING"}
        events = await at.watch(asked.execution_id)
    assert kinds(events).count("tool_call_completed") == kinds(events).count("input_received") == 1


async def test_repeat_of_an_answer(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [calls(call("calculator", '{"expression": "1"}')), text("done")]
    await at.create(tools=CONFIRMED)
    asked = await at.execute()
    for _ in range(2):
        assert (await go_on(at, asked.execution_id, "r", call_1=YES)).execution_id == asked.execution_id
    events = await at.watch(asked.execution_id)
    assert kinds(events).count("input_received") == 1
    assert (await go_on(at, asked.execution_id, "r", call_1=YES)).status == COMPLETED
    error = await refused(go_on(at, asked.execution_id, "another", call_1=YES))
    assert (error.code(), harness.reason_of(error)) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_WAITING")


async def test_bad_continuations(bench: Bench) -> None:
    at = await bench(jwt_secret=SECRET, registry={"jwt_secret": SECRET})
    at.metadata = bearer("acme")
    at.router.turns = [calls(call("calculator", '{"expression": "1"}')), text("done")]
    await at.create(tools=CONFIRMED)
    asked = await at.execute()
    for execution_id in ("nobody", asked.execution_id):
        at.metadata = bearer("other")
        error = await refused(go_on(at, execution_id, call_1=YES))
        assert error.code() is grpc.StatusCode.NOT_FOUND
    at.metadata = bearer("acme")
    error = await refused(go_on(at, asked.execution_id, call_1=YES, nobody=YES))
    assert harness.fields_of(error) == ["answers[1].input_id"]
    error = await refused(go_on(at, asked.execution_id, call_1={"user_input": {"text": "yes"}}))
    assert harness.fields_of(error) == ["answers[0].answer"]
    error = await refused(go_on(at, asked.execution_id))
    assert harness.fields_of(error) == ["answers"]
    error = await refused(go_on(at, asked.execution_id, call_1={}))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (await at.get(asked.execution_id)).status == INPUT_REQUIRED


async def test_nobody_answers(bench: Bench) -> None:
    at = await bench(input_timeout=0.3)
    at.router.turns = [calls(call("calculator", '{"expression": "1"}'))]
    await at.create(tools=CONFIRMED)
    stream, events = await paused(at)
    last = (await rest(stream))[-1]
    assert harness.detail_of_event(last).reason == "INPUT_EXPIRED"
    assert (last.sequence, last.execution_failed.usage.model_calls) == (5, 1)
    assert (await at.get(events[0].execution_id)).status == FAILED
    error = await refused(go_on(at, events[0].execution_id, call_1=YES))
    assert harness.reason_of(error) == "NOT_WAITING"


async def test_cancel_while_it_waits(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [calls(call("calculator", '{"expression": "1"}'))]
    await at.create(tools=CONFIRMED)
    stream, events = await paused(at)
    ended = await at.cancel(events[0].execution_id, "never mind")
    assert (ended.status, ended.HasField("input_required")) == (CANCELLED, False)
    assert [event.execution_cancelled.reason for event in await rest(stream)] == ["never mind"]


async def test_cancel_as_it_begins_to_wait(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    at.router.turns = [calls(call("calculator", '{"expression": "1"}'))]
    await at.create(tools=CONFIRMED)
    async with at.beside() as other:
        for number in range(12):
            _, execution_id = await at.begin()
            await asyncio.sleep(number / 1000)
            ended = await (at, other)[number % 2].cancel(execution_id)
            assert ended.status == CANCELLED
            events = await at.watch(execution_id)
            assert sequences(events) == list(range(1, len(events) + 1))
            assert kinds(events).count("execution_cancelled") == 1


async def test_session_of_a_run_that_waits_is_deleted(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [calls(call("calculator", '{"expression": "1"}'))]
    await at.create(tools=CONFIRMED)
    asked = await at.execute(session_id="s")
    deleted = await at.executions.DeleteSession(execution_service_pb2.DeleteSessionRequest(session_id="s"), timeout=20)
    assert deleted.deleted_executions == 1
    assert (await refused(at.get(asked.execution_id))).code() is grpc.StatusCode.NOT_FOUND


async def test_another_process_goes_on(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    at.router.turns = [calls(call("calculator", '{"expression": "1"}')), text("done")]
    await at.create(tools=CONFIRMED)
    async with at.beside() as other:
        asked = await other.execute(session_id="s")
    watched = at.watching(asked.execution_id, asked.last_sequence)
    await go_on(at, asked.execution_id, call_1=YES)
    events = [answer.event for answer in await rest(watched) if not answer.event.HasField("heartbeat")]
    assert sequences(events)[0] == asked.last_sequence + 1
    assert kinds(events)[-1] == "execution_completed"
    assert len(at.router.requests) == 2


async def test_time_of_the_wait_is_none_of_the_run(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [calls(call("calculator", '{"expression": "1"}')), text("done")]
    await at.create(tools=CONFIRMED)
    stream, events = await paused(at, timeout=Duration(seconds=3))
    await asyncio.sleep(3)
    await go_on(at, events[0].execution_id, call_1=YES)
    assert (await rest(stream))[-1].HasField("execution_completed")


async def test_waiting_run_holds_its_session(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [calls(call("calculator", '{"expression": "1"}')), text("done")]
    await at.create(tools=CONFIRMED)
    asked = await at.execute(session_id="s")
    later = at.stream(session_id="s")
    assert (await later.read()).heartbeat.queue_position == 1
    await go_on(at, asked.execution_id, call_1=YES)
    begun = next(event for event in await rest(later) if event.HasField("execution_started"))
    ended = await at.get(asked.execution_id)
    assert ended.status == COMPLETED
    assert ended.end_time.ToNanoseconds() <= begun.time.ToNanoseconds()


async def test_nobody_has_to_watch_meanwhile(bench: Bench) -> None:
    at = await bench(resume_grace=0.0)
    at.router.turns = [calls(call("calculator", '{"expression": "1"}')), [0.3, *text("done")]]
    await at.create(tools=CONFIRMED)
    stream, events = await paused(at)
    stream.cancel()
    await go_on(at, events[0].execution_id, call_1=YES)
    async with asyncio.timeout(10):
        while not (found := await at.get(events[0].execution_id)).HasField("end_time"):
            await asyncio.sleep(0.02)
    assert found.status == COMPLETED


async def test_waiting_runs_hold_no_slot(bench: Bench) -> None:
    at = await bench(max_executions=1)
    at.router.turns = [calls(call("calculator", '{"expression": "1"}'))] * 3 + [text("done")]
    await at.create(tools=CONFIRMED)
    asked = [await at.execute() for _ in range(3)]
    assert [one.status for one in asked] == [INPUT_REQUIRED] * 3
    await asyncio.gather(*(go_on(at, one.execution_id, call_1=YES) for one in asked))
    for one in asked:
        assert (await at.watch(one.execution_id))[-1].HasField("execution_completed")


async def test_continuation_past_its_deadline_answers_nothing(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [calls(call("calculator", '{"expression": "1"}'))]
    await at.create(tools=CONFIRMED)
    asked = await at.execute()
    request = execution_service_pb2.ContinueExecutionRequest(execution_id=asked.execution_id)
    request.answers.add(input_id="call-1", **YES)
    error = await refused(at.executions.ContinueExecution(request, timeout=0))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (await at.get(asked.execution_id)).status == INPUT_REQUIRED
    assert execute().agent_id == "helper"


async def test_run_that_has_asked_is_taken_up(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    at.router.turns = [calls(call("calculator", '{"expression": "6 * 7"}')), [FOREVER], text("done")]
    await at.create(tools=CONFIRMED)
    stream, events = await paused(at)
    await go_on(at, events[0].execution_id, call_1=YES)
    while not events[-1].HasField("tool_call_completed"):
        events.append(await stream.read())
    async with asyncio.timeout(10):
        while len(at.router.requests) < 2:
            await asyncio.sleep(0.01)
    await take_away(at)
    events = [event for event in [*events, *await rest(stream)] if not event.HasField("heartbeat")]
    assert sequences(events) == list(range(1, len(events) + 1))
    for once in ("input_required", "input_received", "tool_call_started", "tool_call_completed", "execution_completed"):
        assert kinds(events).count(once) == 1
    assert (await at.get(events[0].execution_id)).usage.tool_calls == 1


async def test_allowed_call_that_may_have_been_made(bench: Bench) -> None:
    at = await bench(tool_sources=("tests.waiting_tool:Waiting",))
    at.router.turns = [calls(call("wait", "{}")), text("never")]
    await at.create(tools=[{"tool_id": "test/wait", "requires_confirmation": True}])
    stream, events = await paused(at)
    await go_on(at, events[0].execution_id, call_1=YES)
    async with asyncio.timeout(10):
        while not (found := await at.get(events[0].execution_id)).steps[1:]:
            await asyncio.sleep(0.01)
    assert not found.steps[1].completed
    await take_away(at)
    assert harness.detail_of_event((await rest(stream))[-1]).reason == "TOOL_CALL_IN_DOUBT"


async def test_replay_of_a_run_that_has_asked(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [calls(call("calculator", '{"expression": "1"}')), text("done")]
    await at.create(tools=CONFIRMED)
    stream, events = await paused(at)
    await go_on(at, events[0].execution_id, call_1={"approval": {"approved": True, "arguments": {"expression": "2"}}})
    events += await rest(stream)
    asking = ("input_required", "input_received", "heartbeat")
    again = await replay(at, events[0].execution_id)
    assert kinds(again) == [kind for kind in kinds(events) if kind not in asking]
    assert [e.tool_call_completed.output for e in again if e.HasField("tool_call_completed")] == ["2"]
