"""The journal as callers see it: steps of an execution, and executions that are run again from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from dynamicagents.execution.v1 import event_pb2, execution_service_pb2
from dynamicagents.router.v1 import chat_pb2

from libs import errors
from tests import harness
from tests.rpc.conftest import kinds, sequences
from tests.scripted_router import call, calls, text

Bench = Callable[..., Any]
TOOLS = [{"tool_id": "builtin/calculator"}]


async def replay(at: Any, execution_id: str) -> list[event_pb2.ExecuteEvent]:
    asked = execution_service_pb2.ReplayExecutionRequest(execution_id=execution_id)
    return [answer.event async for answer in at.executions.ReplayExecution(asked, timeout=20, metadata=at.metadata)]


def comparable(events: list[event_pb2.ExecuteEvent]) -> list[event_pb2.ExecuteEvent]:
    """Without times and numbers, and with the text of each turn in one piece."""
    joined: list[event_pb2.ExecuteEvent] = []
    for event in events:
        event = event_pb2.ExecuteEvent.FromString(event.SerializeToString())
        event.ClearField("time")
        event.ClearField("sequence")
        if event.HasField("content_delta") and joined and joined[-1].HasField("content_delta"):
            joined[-1].content_delta.text += event.content_delta.text
        else:
            joined.append(event)
    return joined


async def with_tools(bench: Bench) -> Any:
    at = await bench()
    at.router.turns = [
        [
            chat_pb2.ChatChunk(text="let me see"),
            *calls(call("calculator", '{"expression": "6*7"}'), call("nope", "{}", "c2")),
        ],
        calls(call("calculator", '{"expression": "1/0"}', "c3")),
        text("4", "2"),
    ]
    await at.create(tools=TOOLS, add_datetime_to_context=True)
    return at


async def test_steps_of_an_execution(bench: Bench) -> None:
    at = await with_tools(bench)
    found = await at.get((await at.execute()).execution_id)
    assert [(s.step, s.model, s.tool_id, s.call_id, s.completed, s.is_error) for s in found.steps] == [
        (1, "any", "", "", True, False),
        (2, "", "builtin/calculator", "call-1", True, False),
        (3, "any", "", "", True, False),
        (4, "", "builtin/calculator", "c3", True, True),
        (5, "any", "", "", True, False),
    ]
    assert all(
        len(s.request_digest) == 64 and s.end_time.ToNanoseconds() >= s.start_time.ToNanoseconds() for s in found.steps
    )
    assert found.attempts == 1


async def test_execution_is_run_again_from_its_journal_alone(bench: Bench) -> None:
    at = await with_tools(bench)
    events = await at.run()
    asked, before = len(at.router.requests), await at.get(events[0].execution_id)
    again = await replay(at, events[0].execution_id)
    assert comparable(again) == comparable(events)
    assert sequences(again) == list(range(1, len(again) + 1))
    assert len(at.router.requests) == asked
    assert await at.get(events[0].execution_id) == before


async def test_failed_and_cancelled_executions_end_as_they_did(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [[chat_pb2.ChatChunk(text="so"), errors.Unavailable("down", reason="UPSTREAM_UNAVAILABLE")]]
    await at.create()
    failed = await at.run()
    assert kinds(await replay(at, failed[0].execution_id)) == ["execution_started", "execution_failed"]
    assert (await replay(at, failed[0].execution_id))[-1].execution_failed == failed[-1].execution_failed
    at.router.turns = [[30.0]]
    _, execution_id = await at.begin()
    await at.cancel(execution_id, "enough")
    again = await replay(at, execution_id)
    assert again[-1].execution_cancelled.reason == "enough"


async def test_what_cannot_be_run_again(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [[30.0]]
    await at.create()
    _, execution_id = await at.begin()
    for asked, code in ((execution_id, grpc.StatusCode.FAILED_PRECONDITION), ("none", grpc.StatusCode.NOT_FOUND)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await replay(at, asked)
        assert caught.value.code() is code
    await at.cancel(execution_id)


async def test_journal_that_is_another_runs(bench: Bench) -> None:
    from libs import database
    from services.execution.app import MIGRATIONS
    from services.execution.store.tables import journal

    at = await bench()
    await at.create()
    done = await at.execute()
    async with database.opened(at.settings, MIGRATIONS) as db, db.write() as connection:
        await connection.execute(journal.update().values(digest="another"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await replay(at, done.execution_id)
    assert caught.value.code() is grpc.StatusCode.ABORTED
    assert harness.reason_of(caught.value) == "JOURNAL_MISMATCH"
