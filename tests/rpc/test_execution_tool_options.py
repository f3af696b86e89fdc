"""How agents have their tools: approvals by policy, cached results, repeated calls, and what is kept of calls."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from dynamicagents.tools.v1 import tool_call_pb2, tool_service_pb2
from google.protobuf.duration_pb2 import Duration

from libs import errors
from services.execution.model.tools import Tool
from services.execution.service.sources import ToolError
from tests import harness
from tests.rpc.conftest import COMPLETED, FAILED, kinds, rest
from tests.rpc.test_execution import SECRET, token
from tests.rpc.test_execution_input import INPUT_REQUIRED, go_on, paused, refused
from tests.rpc.test_execution_tools import call as call_tool
from tests.scripted_router import call, calls, text

Bench = Callable[..., Any]
CALCULATOR = "builtin/calculator"
DEAR = {"condition": "arguments.expression.size() > 3"}
FINISHED = tool_call_pb2.TOOL_CALL_OUTCOME_COMPLETED
FAULTY = tool_call_pb2.TOOL_CALL_OUTCOME_FAILED
REFUSED = tool_call_pb2.TOOL_CALL_OUTCOME_REFUSED
MODULE = "tests.rpc.test_execution_tool_options"


class Counting:
    """Tools that say how often they were called."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
        read = Tool("count/read", "read", "", "", schema, "1", read_only=True)
        self._tools = [
            read,
            replace(read, tool_id="count/write", function_name="write", read_only=False),
            replace(read, tool_id="count/fail", function_name="fail"),
            replace(read, tool_id="count/huge", function_name="huge"),
        ]

    def tools(self) -> Sequence[Tool]:
        return self._tools

    async def call(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
        self.calls.append(tool.tool_id)
        if tool.tool_id == "count/fail" and len(self.calls) < 3:
            raise ToolError("busy", passing=True)
        return "x" * 5000 if tool.tool_id == "count/huge" else str(len(self.calls))


counting = Counting()


def make_counting() -> Counting:
    counting.calls.clear()
    return counting


def completed(events: Sequence[Any]) -> list[Any]:
    return [event.tool_call_completed for event in events if event.HasField("tool_call_completed")]


async def records(at: Any, **asked: Any) -> list[tool_call_pb2.ToolCallRecord]:
    request = tool_service_pb2.ListToolCallsRequest(**asked)
    return list((await at.tools.ListToolCalls(request, metadata=at.metadata)).tool_calls)


async def recorded(at: Any, count: int, **asked: Any) -> list[tool_call_pb2.ToolCallRecord]:
    async with asyncio.timeout(10):
        while len(found := await records(at, **asked)) < count:
            await asyncio.sleep(0.05)
    return found


async def test_policy_of_a_reference(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    at.router.turns = [
        calls(call("calculator", '{"expression": "1+1"}', "a"), call("calculator", '{"expression": "1 + 1"}', "b")),
        text("done"),
    ]
    await at.create(tools=[{"tool_id": CALCULATOR, "approval": DEAR}])
    asked = await at.execute()
    assert [one.input_id for one in asked.input_required.requests] == ["b"]
    await go_on(at, asked.execution_id, b={"approval": {"approved": True, "arguments": {"expression": "2 + 3"}}})
    events = await at.watch(asked.execution_id)
    assert [(one.call_id, one.output) for one in completed(events)] == [("a", "2"), ("b", "5")]
    first, second = sorted(await records(at, execution_id=asked.execution_id), key=lambda one: one.call_id)
    assert (first.outcome, first.HasField("decision"), first.step) == (FINISHED, False, 2)
    assert (second.outcome, second.decision.approved, second.decision.subject) == (FINISHED, True, "local")
    assert second.arguments_digest == hashlib.sha256(b'{"expression":"2 + 3"}').hexdigest()
    assert second.decision.time.ToDatetime() <= second.time.ToDatetime()


@pytest.mark.parametrize(
    ("condition", "asks"),
    [
        ("tool.read_only && tool.source == 'builtin'", True),
        ("tool.destructive", False),
        ("'*' in caller.scopes && caller.subject == 'local'", True),
        ("caller.user_id == 'u'", False),
        ("usage.model_calls >= 1 && usage.cost_usd > 0.1", True),
        ("arguments.amount > 100", True),
        ("has(arguments.amount) && arguments.amount > 100", False),
        ("bool(arguments.expression)", True),
        ("arguments.expression", True),
        ("", True),
    ],
)
async def test_policy_of_an_agent(bench: Bench, condition: str, asks: bool) -> None:
    """One that cannot be evaluated asks."""
    at = await bench()
    at.router.turns = [calls(call("calculator", '{"expression": "1"}')), text("done")]
    await at.create(tools=[{"tool_id": CALCULATOR}], approval={"condition": condition})
    assert (await at.execute()).status == (INPUT_REQUIRED if asks else COMPLETED)


async def test_agents_as_tools_wait_like_others(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [calls(call("ask_expert", '{"input": "a"}')), text("from the expert"), text("done")]
    await at.create("expert")
    await at.create(tools=[{"tool_id": "agent/expert", "requires_confirmation": True}])
    asked = await at.execute()
    assert asked.input_required.requests[0].approval.tool_id == "agent/expert"
    edited = {"approved": True, "arguments": {"input": "b"}}
    await go_on(at, asked.execution_id, call_1={"approval": edited})
    events = await at.watch(asked.execution_id)
    assert completed(events)[-1].output == "from the expert"
    assert at.router.requests[1].messages[-1].content == "b"


async def test_policies_leave_alone_what_asks_anyway(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [
        calls(call("update_session_state", '{"set": {"a": 1}}'), call("ask_user", '{"prompt": "?"}', "b"))
    ]
    await at.create(tools=[{"tool_id": "builtin/ask_user"}], approval={}, session={"agentic_state": True})
    asked = await at.execute(session_id="s")
    assert [(one.input_id, one.WhichOneof("kind")) for one in asked.input_required.requests] == [("b", "user_input")]


@pytest.mark.parametrize("field", ["agent.spec.approval.condition", "agent.spec.tools[0].approval.condition"])
@pytest.mark.parametrize("condition", ["nothing.x", "1 +", "'text'", "arguments.s.matches('(')"])
async def test_policy_that_is_none_is_refused(bench: Bench, field: str, condition: str) -> None:
    at = await bench()
    approval = {"condition": condition}
    of_tool = "tools" in field
    tool = {"tool_id": CALCULATOR, **({"approval": approval} if of_tool else {})}
    error = await refused(at.create(tools=[tool], **({} if of_tool else {"approval": approval})))
    assert (error.code(), harness.fields_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"requires_confirmation": True, "cache_ttl": Duration(seconds=1)}, "cache_ttl"),
        ({"approval": {}, "cache_ttl": Duration(seconds=1)}, "cache_ttl"),
        ({"requires_confirmation": True, "approval": {"condition": "true"}}, "approval.condition"),
        ({"retry_backoff": Duration(seconds=1)}, "retry_backoff"),
        ({"retries": 6}, "retries"),
        ({"result_limit": -1}, "result_limit"),
        ({"cache_ttl": Duration(seconds=86_401)}, "cache_ttl"),
        ({"tool_id": "function/x", "retries": 1}, "retries"),
    ],
)
async def test_options_that_contradict_each_other(bench: Bench, options: dict[str, Any], field: str) -> None:
    at = await bench()
    error = await refused(at.create(tools=[{"tool_id": CALCULATOR, **options}]))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert harness.fields_of(error)[0].endswith(f"spec.tools[0].{field}")


async def test_approval_that_expires(bench: Bench, database_settings: dict[str, Any]) -> None:
    """It is a no; the other question of the turn is still open, and the run goes on when that is answered."""
    at = await bench(**database_settings, lease=1.0)
    at.router.turns = [
        calls(call("calculator", '{"expression": "1 + 1"}'), call("ask_user", '{"prompt": "?"}', "b")),
        text("done"),
    ]
    short = {**DEAR, "expires_after": Duration(nanos=200_000_000)}
    await at.create(tools=[{"tool_id": CALCULATOR, "approval": short}, {"tool_id": "builtin/ask_user"}])
    stream, events = await paused(at)
    approval, question = events[-1].input_required.requests
    assert approval.HasField("expire_time")
    assert not question.HasField("expire_time")
    while not events[-1].HasField("input_received"):
        events.append(await stream.read())
    received = events[-1].input_received
    assert (received.input_id, received.approved, received.expired, received.subject) == ("call-1", False, True, "")
    execution_id = events[0].execution_id
    late = await refused(go_on(at, execution_id, call_1={"approval": {"approved": True}}))
    assert late.code() is grpc.StatusCode.FAILED_PRECONDITION
    await go_on(at, execution_id, b={"user_input": {"text": "blue"}})
    events = await rest(stream)
    assert kinds(events)[-1] == "execution_completed"
    said = {one.call_id: (one.output, one.is_error) for one in completed(events)}
    assert said["call-1"] == ("the call was refused: nobody allowed it in time", True)
    by_id = {one.call_id: one for one in await records(at, execution_id=execution_id)}
    assert (by_id["call-1"].outcome, by_id["call-1"].decision.approved) == (REFUSED, False)
    assert (by_id["b"].outcome, by_id["b"].HasField("decision")) == (FINISHED, False)


async def test_approvals_need_a_scope(bench: Bench) -> None:
    at = await bench(registry={"jwt_secret": SECRET}, jwt_secret=SECRET)
    at.metadata = (("authorization", f"Bearer {token(tenant='acme', scope='')}"),)
    at.router.turns = [calls(call("calculator", '{"expression": "1"}')), text("done")]
    await at.create(tools=[{"tool_id": CALCULATOR, "requires_confirmation": True}])
    asked = await at.execute()
    answer = {"call_1": {"approval": {"approved": True}}}
    error = await refused(go_on(at, asked.execution_id, **answer))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    approver = token(tenant="acme", sub="bob", scope="executions.approve")
    at.metadata = (("authorization", f"Bearer {approver}"),)
    await go_on(at, asked.execution_id, **answer)
    await at.watch(asked.execution_id)
    (record,) = await records(at, execution_id=asked.execution_id)
    assert record.decision.subject == "bob"


async def test_two_approvers(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    at.router.turns = [calls(call("calculator", '{"expression": "1"}')), text("done")]
    await at.create(tools=[{"tool_id": CALCULATOR, "approval": {}}])
    asked = await at.execute()
    decisions = [{"call_1": {"approval": {"approved": approved}}} for approved in (True, False)]
    taken = await asyncio.gather(*(go_on(at, asked.execution_id, **one) for one in decisions), return_exceptions=True)
    (lost,) = [one for one in taken if isinstance(one, grpc.aio.AioRpcError)]
    assert lost.code() is grpc.StatusCode.FAILED_PRECONDITION
    events = await at.watch(asked.execution_id)
    assert kinds(events).count("input_received") == 1
    (record,) = await records(at, execution_id=asked.execution_id)
    assert record.decision.approved == (taken[1] is lost)


async def test_cached_result(bench: Bench, database_settings: dict[str, Any]) -> None:
    """It costs no call, and is journaled like one."""
    at = await bench(**database_settings, tool_sources=(f"{MODULE}:make_counting",))
    at.router.turns = [
        calls(call("read", '{"n": 1}', "a")),
        calls(call("read", '{"n":  1}', "b"), call("read", '{"n": 2}', "c")),
        text("done"),
    ]
    await at.create(tools=[{"tool_id": "count/*", "cache_ttl": Duration(seconds=60)}])
    run = await at.execute()
    answered = {one.call_id: (one.output, one.cached) for one in completed(await at.watch(run.execution_id))}
    assert answered == {"a": ("1", False), "b": ("1", True), "c": ("2", False)}
    assert run.usage.tool_calls == 2
    cached = {one.call_id: one.cached for one in await records(at, execution_id=run.execution_id)}
    assert cached == {"a": False, "b": True, "c": False}


async def test_what_changes_something_is_not_cached(bench: Bench) -> None:
    at = await bench(tool_sources=(f"{MODULE}:make_counting",))
    at.router.turns = [calls(call("write", "{}", "a")), calls(call("write", "{}", "b")), text("done")]
    await at.create(tools=[{"tool_id": "count/*", "cache_ttl": Duration(seconds=60)}])
    run = await at.execute()
    assert [(one.output, one.cached) for one in completed(await at.watch(run.execution_id))] == [
        ("1", False),
        ("2", False),
    ]


async def test_call_that_is_made_again(bench: Bench) -> None:
    at = await bench(tool_sources=(f"{MODULE}:make_counting",))
    at.router.turns = [calls(call("fail", "{}")), text("done")]
    again = {"retries": 2, "retry_backoff": Duration(nanos=1_000_000)}
    await at.create(tools=[{"tool_id": "count/fail", **again}])
    (answered,) = completed(await at.run())
    assert (answered.output, answered.is_error) == ("3", False)


async def test_limit_of_a_result(bench: Bench) -> None:
    at = await bench(tool_sources=(f"{MODULE}:make_counting",))
    at.router.turns = [calls(call("huge", "{}")), text("done")]
    await at.create(tools=[{"tool_id": "count/huge", "result_limit": 100}])
    (answered,) = completed(await at.run())
    assert answered.output == f"{'x' * 100}\n[cut off: the result has 5000 bytes, the limit is 100]"


async def test_records_of_direct_calls(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    began = datetime.now(UTC)
    await call_tool(at, CALCULATOR, expression="6 * 7")
    await call_tool(at, CALCULATOR, expression="1 / 0")
    await call_tool(at, "builtin/current_time")
    found = await recorded(at, 3)
    assert [(one.tool_id, one.outcome) for one in found] == [
        ("builtin/current_time", FINISHED),
        (CALCULATOR, FAULTY),
        (CALCULATOR, FINISHED),
    ]
    assert {(one.subject, one.execution_id) for one in found} == {("local", "")}
    assert found[2].arguments_digest == hashlib.sha256(b'{"expression":"6 * 7"}').hexdigest()
    assert found[2].tool_version
    assert len(await records(at, tool_id=CALCULATOR)) == 2
    assert len(await records(at, tool_id="builtin/c*")) == 3
    assert await records(at, tool_id="built_n*") == []
    assert await records(at, subject="ann") == []
    assert await records(at, before_time=began) == []
    assert len(await records(at, from_time=began - timedelta(seconds=1))) == 3


async def test_pages_of_records(bench: Bench) -> None:
    at = await bench()
    for n in range(3):
        await call_tool(at, CALCULATOR, expression=str(n))
    whole = await recorded(at, 3)
    first = await at.tools.ListToolCalls(tool_service_pb2.ListToolCallsRequest(page_size=2))
    asked = tool_service_pb2.ListToolCallsRequest(page_size=2, page_token=first.next_page_token)
    second = await at.tools.ListToolCalls(asked)
    assert [*first.tool_calls, *second.tool_calls] == whole
    assert second.next_page_token == ""
    asked.subject = "ann"
    error = await refused(at.tools.ListToolCalls(asked))
    assert harness.fields_of(error) == ["page_token"]


async def test_records_outlive_the_server(bench: Bench) -> None:
    at = await bench()
    async with at.beside() as other:
        await call_tool(other, CALCULATOR, expression="1")
    assert len(await records(at)) == 1


async def test_failed_run_keeps_its_records(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [calls(call("calculator", '{"x": 1}')), [errors.Internal("no")]]
    await at.create(tools=[{"tool_id": CALCULATOR}])
    run = await at.execute()
    assert run.status == FAILED
    (record,) = await records(at, execution_id=run.execution_id)
    assert (record.outcome, record.call_id) == (FAULTY, "call-1")
