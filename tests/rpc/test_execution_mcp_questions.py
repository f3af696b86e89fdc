"""MCP servers that ask something before they answer."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from dynamicagents.execution.v1 import execution_pb2, execution_service_pb2
from google.protobuf.json_format import MessageToDict

from tests import asking_server, harness, mcp_server
from tests.rpc.conftest import ExecutionBench, kinds
from tests.rpc.test_execution_mcp import register, until_listed, use
from tests.scripted_router import call, calls, text

Bench = Callable[..., Any]
Code = grpc.StatusCode
STDIO = {"command": sys.executable, "arguments": [asking_server.ASKING_SERVER]}
WAITING = execution_pb2.EXECUTION_STATUS_INPUT_REQUIRED


async def asking(bench: Bench, **settings: Any) -> ExecutionBench:
    at: ExecutionBench = await bench(mcp_commands=(f"{sys.executable} {asking_server.ASKING_SERVER}",), **settings)
    await register(at, stdio=STDIO)
    await until_listed(at, "mcp/tests/book")
    await at.create(tools=[{"tool_id": "mcp/tests/*"}])
    return at


async def answer(at: ExecutionBench, execution_id: str, **user_input: Any) -> None:
    """Answers the one open question."""
    (asked,) = (await at.get(execution_id)).input_required.requests
    given = execution_service_pb2.InputAnswer(input_id=asked.input_id, user_input=user_input)
    request = execution_service_pb2.ContinueExecutionRequest(execution_id=execution_id, answers=[given])
    await at.executions.ContinueExecution(request, metadata=at.metadata)


async def settled(at: ExecutionBench, execution_id: str, asked: str = "") -> execution_pb2.Execution:
    """The run once it asks something, or has ended."""
    async with asyncio.timeout(30):
        while True:
            found = await at.get(execution_id)
            if found.status == WAITING and prompts(found) == [asked]:
                return found
            if found.HasField("end_time"):
                assert not asked, found
                return found
            await asyncio.sleep(0.02)


def prompts(found: execution_pb2.Execution) -> list[str]:
    return [one.user_input.prompt for one in found.input_required.requests]


async def test_a_run_puts_the_questions_to_its_user(bench: Bench) -> None:
    at = await asking(bench)
    at.router.turns = [calls(call("book", '{"table": "7"}', "c1")), text("done")]
    first = await at.execute()
    (asked,) = first.input_required.requests
    assert asked.user_input.prompt == "How many guests?"
    assert MessageToDict(asked.user_input.schema)["required"] == ["guests"]
    execution_id = first.execution_id
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer(at, execution_id, values={"guests": 0})
    assert harness.fields_of(caught.value) == ["answers[0].user_input.values"]
    await answer(at, execution_id, values={"guests": 4})
    await settled(at, execution_id, "Are you sure?")
    await answer(at, execution_id, values={"sure": True})
    await settled(at, execution_id)
    events = await at.watch(execution_id)
    assert kinds(events).count("tool_call_started") == kinds(events).count("tool_call_completed") == 1
    done = next(event.tool_call_completed for event in events if event.HasField("tool_call_completed"))
    assert (done.output, done.is_error, done.call_id) == ("table 7 for 4, booking 1", False, "c1")
    assert kinds(events)[-1] == "execution_completed"
    assert len(at.router.requests) == 2


async def test_another_process_goes_on_with_the_answers(bench: Bench) -> None:
    at = await asking(bench)
    at.router.turns = [calls(call("book", '{"table": "7"}', "c1"), call("consent", "{}", "c2")), text("done")]
    first = await at.execute()
    assert len(first.input_required.requests) == 2
    book, consent = sorted(first.input_required.requests, key=lambda one: one.user_input.prompt)
    assert "https://example.com/agree" in consent.user_input.prompt
    given = [
        execution_service_pb2.InputAnswer(input_id=consent.input_id, user_input={"text": "yes"}),
        execution_service_pb2.InputAnswer(input_id=book.input_id, user_input={"declined": True}),
    ]
    request = execution_service_pb2.ContinueExecutionRequest(execution_id=first.execution_id, answers=given)
    async with at.beside() as beside:
        await beside.executions.ContinueExecution(request)
        events = await beside.watch(first.execution_id)
    done = [event.tool_call_completed for event in events if event.HasField("tool_call_completed")]
    assert {one.call_id: one.output for one in done} == {"c1": "not booked: decline", "c2": "thank you"}


async def test_what_no_run_can_pass_on(bench: Bench) -> None:
    at = await asking(bench)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await use(at, "book", table="7")
    assert (caught.value.code(), harness.reason_of(caught.value)) == (Code.FAILED_PRECONDITION, "TOOL_ASKS")
    assert (await use(at, "again")).output == "at last"


async def test_a_server_with_a_handshake_is_told_that_nobody_answers(bench: Bench) -> None:
    async with mcp_server.running("sse", asking_server.ASKING_SERVER) as server:
        at = await bench()
        await register(at, sse={"url": server.url})
        await until_listed(at, "mcp/tests/book")
        assert (await use(at, "ask_now")).output == "cancel"
