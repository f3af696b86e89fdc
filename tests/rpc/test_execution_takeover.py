"""Connections that break, readers that are slow, databases that are full, and runs that are taken away."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from dynamicagents.execution.v1 import execution_service_pb2_grpc
from dynamicagents.router.v1 import chat_pb2
from google.rpc import error_details_pb2

from libs import database
from libs.drivers import SqliteLane
from services.execution.app import MIGRATIONS
from services.execution.service.retention import Periods, Retention
from services.execution.store import SqlRetentionStore
from services.execution.store.tables import executions
from tests import harness
from tests.rpc.conftest import COMPLETED, execute, kinds, rest, sequences, text_of
from tests.rpc.test_execution_faults import breakable
from tests.scripted_router import call, calls, text

Bench = Callable[..., Any]


async def take_away(at: Any) -> None:
    """Lets all leases lapse, as if a process had died."""
    async with database.opened(at.settings, MIGRATIONS) as db, db.write() as connection:
        past = datetime(2000, 1, 1, tzinfo=UTC)
        await connection.execute(executions.update().values(lease_time=past, owner="another"))


async def test_reset_connection_costs_nothing(bench: Bench) -> None:
    at = await bench()
    words = [f"{n} " for n in range(40)]
    at.router.turns = [[step for word in text(*words) for step in (0.005, word)]]
    await at.create()
    async with breakable(at.server.address) as (address, break_it), grpc.aio.insecure_channel(address) as channel:
        stub: Any = execution_service_pb2_grpc.ExecutionServiceStub(channel)
        stream = stub.ExecuteStream(execute(), timeout=20)
        seen = [await stream.read() for _ in range(4)]
        break_it()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            seen += await rest(stream)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    seen += await at.watch(seen[-1].execution_id, seen[-1].sequence)
    assert sequences(seen) == list(range(1, len(seen) + 1))
    assert text_of(seen) == seen[-1].execution_completed.output == "".join(words)
    assert seen == await at.watch(seen[0].execution_id)


async def test_slow_reader_of_a_long_run_holds_nobody_up(bench: Bench) -> None:
    at = await bench(commit_window=0)
    long = [chat_pb2.ChatChunk(text=f"{n} ") for n in range(5000)]
    at.router.turns = [[step for n, chunk in enumerate(long) for step in ((chunk, 0.0) if n % 5 else (chunk, 0.001))]]
    await at.create()
    stream, execution_id = await at.begin()
    slow = [await stream.read() for _ in range(3)]
    assert (await at.settled(execution_id, within=30)).status == COMPLETED
    at.router.turns = [text("quick")]
    assert (await at.execute()).output == "quick"
    slow += await rest(stream)
    assert text_of(slow) == "".join(chunk.text for chunk in long)
    assert sequences(slow) == list(range(2, len(slow) + 2))


async def test_tool_call_that_may_have_been_made(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(tool_sources=("tests.waiting_tool:Waiting",), **database_settings)
    at.router.turns = [calls(call("wait", "{}")), text("never")]
    await at.create(tools=[{"tool_id": "test/wait"}])
    stream, execution_id = await at.begin()
    while not (await stream.read()).HasField("tool_call_started"):
        pass
    await take_away(at)
    events = await rest(stream)
    assert kinds(events) == ["execution_failed"]
    info = harness.detail_of_event(events[-1])
    assert info.reason == "TOOL_CALL_IN_DOUBT"
    assert dict(info.metadata) == {"tool_id": "test/wait", "call_id": "call-1"}
    found = await at.get(execution_id)
    assert [(step.tool_id, step.completed) for step in found.steps] == [("", True), ("test/wait", False)]
    assert sequences(await at.watch(execution_id)) == list(range(1, found.last_sequence + 1))


async def test_tool_that_may_not_be_called_twice_is_not_begun_by_a_process_that_stops(bench: Bench) -> None:
    at = await bench(tool_sources=("tests.waiting_tool:Waiting",), lease=600)
    stopping = asyncio.Event()
    at.router.turns = [[stopping.set, 2.0, *calls(call("wait", '{"seconds": 0}'))], text("done")]
    await at.create(tools=[{"tool_id": "test/wait"}])
    async with at.beside(drain_grace=3.0) as beside:
        _, execution_id = await beside.begin()
        await stopping.wait()
    events = await at.watch(execution_id)
    assert [kind for kind in kinds(events) if kind.startswith("tool")] == ["tool_call_started", "tool_call_completed"]
    assert kinds(events)[-1] == "execution_completed"
    found = await at.get(execution_id)
    assert (found.attempts, len(at.router.requests)) == (2, 2)


async def test_idempotent_tool_call_is_made_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from services.execution.service.builtin import Builtin

    made, waiting, quick = 0, asyncio.Event(), Builtin.call

    async def slow_at_first(self: Builtin, *args: Any) -> str:
        nonlocal made
        made += 1
        if made == 1:
            waiting.set()
            await asyncio.sleep(30)
        return await quick(self, *args)

    monkeypatch.setattr(Builtin, "call", slow_at_first)
    at = await bench()
    at.router.turns = [calls(call("calculator", '{"expression": "6*7"}')), text("42")]
    await at.create(tools=[{"tool_id": "builtin/calculator"}])
    stream, _ = await at.begin()
    await waiting.wait()
    await take_away(at)
    events = await rest(stream)
    assert [kind for kind in kinds(events) if kind.startswith("tool")] == ["tool_call_started", "tool_call_completed"]
    assert kinds(events)[-1] == "execution_completed"
    assert made == len(at.router.requests) == 2


async def test_cancelling_what_nobody_runs(bench: Bench) -> None:
    at = await bench(lease=60)
    at.router.turns = [[30.0]]
    await at.create()
    stream, execution_id = await at.begin()
    async with database.opened(at.settings, MIGRATIONS) as db, db.write() as connection:
        past = datetime(2000, 1, 1, tzinfo=UTC)
        gone = {"lease_time": past, "owner": "another", "cancel_reason": "enough"}
        await connection.execute(executions.update().values(**gone))
    assert (await rest(stream))[-1].execution_cancelled.reason == "enough"
    assert (await at.get(execution_id)).attempts == 2


async def test_events_that_are_no_longer_kept(bench: Bench) -> None:
    at = await bench()
    await at.create()
    events = await at.run()
    execution_id, last = events[0].execution_id, events[-1].sequence
    async with database.opened(at.settings, MIGRATIONS) as db:
        await Retention(SqlRetentionStore(db), Periods(timedelta(0), {}, None)).round()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await at.watch(execution_id, 1)
    assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE
    info = harness.detail(harness.status_of(caught.value), error_details_pb2.ErrorInfo)
    assert (info.reason, dict(info.metadata)) == ("EVENTS_EXPIRED", {"oldest_sequence": str(last)})
    assert await at.watch(execution_id, last - 1) == events[-1:]
    assert await at.watch(execution_id, last) == []
    assert (await at.get(execution_id)).output == "Hello there"


async def test_full_disk_pauses_the_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    at = await bench(database_patience=20)
    at.router.turns = [[chat_pb2.ChatChunk(text="a"), 0.1, *text("b")]]
    await at.create()
    stream, execution_id = await at.begin()
    assert (await stream.read()).content_delta.text == "a"
    full, tried, transact = [True], asyncio.Event(), SqliteLane.transact

    async def fails(self: Any, work: Any) -> Any:
        if full[0]:
            tried.set()
            raise sqlite3.OperationalError("database or disk is full")
        return await transact(self, work)

    monkeypatch.setattr(SqliteLane, "transact", fails)
    await asyncio.wait_for(tried.wait(), 20)
    assert (await at.get(execution_id)).last_sequence == 2
    full[0] = False
    events = await rest(stream)
    assert kinds(events) == ["content_delta", "usage_reported", "execution_completed"]
    assert events[-1].execution_completed.output == "ab"
    assert sequences(events) == [3, 4, 5]
