"""Watching runs of another process on PostgreSQL, which tells of their commits: nobody waits for the next look."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set
from typing import Any

import pytest
import sqlalchemy as sa
from dynamicagents.execution.v1 import event_pb2

from libs import database
from services.execution.app import MIGRATIONS
from tests import harness
from tests.rpc.conftest import kinds, rest, sequences, text_of
from tests.rpc.test_execution_input import CONFIRMED, YES, go_on, paused
from tests.scripted_router import call, calls, text

Bench = Callable[..., Any]
RARELY = {"watch_poll": 10.0, "heartbeat": 300.0}
"""Looks come later than the end of any call of these tests."""
_LISTENING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"


async def listeners(at: Any) -> set[int]:
    async with database.opened(at.settings, MIGRATIONS) as db, db.read() as connection:
        return set((await connection.execute(sa.text(_LISTENING))).scalars())


async def listening(at: Any, *, besides: Set[int] = frozenset()) -> set[int]:
    """The connections that listen, once there is one for each of two processes."""
    async with asyncio.timeout(10):
        while len(found := await listeners(at) - besides) < 2:
            await asyncio.sleep(0.05)
    return found


def numbered(events: list[event_pb2.ExecuteEvent]) -> list[event_pb2.ExecuteEvent]:
    return [event for event in events if not event.HasField("heartbeat")]


async def end(at: Any, pids: Set[int]) -> None:
    async with database.opened(at.settings, MIGRATIONS) as db, db.read() as connection:
        for pid in pids:
            await connection.execute(sa.select(sa.func.pg_terminate_backend(pid)))


@harness.only_postgres
async def test_events_come_as_they_are_committed(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**RARELY, **database_settings)
    at.router.turns = [[step for word in text("a", "b", "c", "d") for step in (0.05, word)]]
    await at.create()
    async with at.beside() as beside:
        assert len(await listening(at)) == 2
        stream, execution_id = await at.begin()
        there, here = await asyncio.gather(beside.watch(execution_id), rest(stream))
    assert there[1:] == here
    assert text_of(there) == "abcd"
    assert sequences(there) == list(range(1, len(there) + 1))


@harness.only_postgres
@pytest.mark.parametrize("lost", [False, True])
async def test_answers_are_told_of(bench: Bench, database_settings: dict[str, Any], lost: bool) -> None:
    at = await bench(**RARELY, **database_settings)
    at.router.turns = [calls(call("calculator", '{"expression": "1"}')), text("done")]
    await at.create(tools=CONFIRMED)
    async with at.beside() as beside:
        listen = await listening(at)
        stream, events = await paused(at)
        watching = beside.watching(events[0].execution_id, events[-1].sequence - 1)
        assert (await watching.read()).event == events[-1]
        if lost:
            await end(at, listen)
            await listening(at, besides=listen)
        await go_on(at, events[0].execution_id, call_1=YES)
        there, here = [numbered(read) for read in ([a.event for a in await rest(watching)], await rest(stream))]
        assert kinds(there)[-1] == "execution_completed"
        assert there == here
