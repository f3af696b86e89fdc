"""Runs that wait for a time or a signal, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from libs import database, errors
from services.execution.app import MIGRATIONS
from services.execution.config import ExecutionSettings
from services.execution.model.executions import ExecuteRequest, Execution, Status
from services.execution.model.targets import Pinned, TargetKind, Workflow
from services.execution.model.turns import Assignment
from services.execution.model.workflows import Parking, Signal
from services.execution.service.record import Append
from services.execution.store import SqlExecutionStore
from services.execution.store.inputs import SqlInputStore
from services.execution.store.tables import executions, jobs

HOUR = timedelta(hours=1)
SOON = datetime(2100, 1, 1, tzinfo=UTC)
PAST = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
async def db(database_settings: dict[str, Any]) -> AsyncIterator[database.Database]:
    settings = ExecutionSettings.load(**database_settings)
    await database.migrate(settings, MIGRATIONS)
    async with database.opened(settings, MIGRATIONS) as opened:
        yield opened


async def running(db: database.Database, execution_id: str) -> Execution:
    execution = Execution(
        tenant="acme",
        execution_id=execution_id,
        target_id="flow",
        target_kind=TargetKind.WORKFLOW,
        revision=1,
        status=Status.RUNNING,
        input="hi",
        create_time=datetime.now(UTC),
        owner="me",
    )
    pinned = Pinned.alone(Workflow("flow", 1, "", {"steps": []}))
    request = ExecuteRequest("flow", "hi", target_kind=TargetKind.WORKFLOW)
    assignment = Assignment(request, pinned, "ann", datetime.now(UTC) + HOUR)
    assert await SqlExecutionStore(db).accept(execution, None, assignment, 60)
    return execution


async def park(db: database.Database, execution_id: str, parking: Parking) -> None:
    await running(db, execution_id)
    append = Append("acme", execution_id, 1, [], {}, parking=parking)
    assert await SqlExecutionStore(db).append([append]) == set()


async def status(db: database.Database, execution_id: str) -> Status:
    found = await SqlExecutionStore(db).get("acme", execution_id)
    assert found
    return found.status


def sent(name: str = "go", signal_id: str = "s", payload: Any = None) -> Signal:
    return Signal(0, name, payload, signal_id, "ann")


async def test_time_that_has_come(db: database.Database) -> None:
    inputs, store = SqlInputStore(db), SqlExecutionStore(db)
    await park(db, "late", Parking(SOON, (), 0))
    await park(db, "due", Parking(PAST, (), 0))
    assert await status(db, "due") is Status.WAITING
    assert await store.claim("other", 60, besides=[], limit=10) == [], "nobody takes up a run that waits"
    (found,) = await inputs.due()
    assert found.execution_id == "due"
    assert await inputs.wake("acme", "due")
    (claimed,) = await store.claim("other", 60, besides=[], limit=10)
    assert (claimed.execution_id, claimed.status, claimed.deaths) == ("due", Status.QUEUED, 0)
    assert claimed.input_required == {"asked": [], "woken": PAST.isoformat()}
    assert await inputs.due() == []


async def test_waiting_is_no_time_of_the_run(db: database.Database) -> None:
    await park(db, "1", Parking(PAST, (), 0))
    (before,) = await db.rows(sa.select(jobs.c.deadline))
    async with db.write() as connection:
        (row,) = (await connection.execute(sa.select(executions.c.waiting))).all()
        since = (datetime.fromisoformat(row.waiting["since"]) - HOUR).isoformat()
        await connection.execute(executions.update().values(waiting={**row.waiting, "since": since}))
    await SqlInputStore(db).wake("acme", "1")
    (after,) = await db.rows(sa.select(jobs.c.deadline))
    assert HOUR <= after.deadline - before.deadline < HOUR + timedelta(minutes=1)


async def test_clock_that_went_back_takes_no_time_from_the_run(db: database.Database) -> None:
    await park(db, "1", Parking(PAST, (), 0))
    (before,) = await db.rows(sa.select(jobs.c.deadline))
    async with db.write() as connection:
        (row,) = (await connection.execute(sa.select(executions.c.waiting))).all()
        waiting = {**row.waiting, "since": (datetime.now(UTC) + HOUR).isoformat()}
        await connection.execute(executions.update().values(waiting=waiting))
    await SqlInputStore(db).wake("acme", "1")
    (after,) = await db.rows(sa.select(jobs.c.deadline))
    assert after.deadline == before.deadline


async def test_signal_wakes_who_waits_for_it_and_is_kept_for_who_does_not(db: database.Database) -> None:
    inputs = SqlInputStore(db)
    await park(db, "1", Parking(None, ("go",), 0))
    assert not await inputs.signal("acme", "1", sent("other", "a"))
    assert await status(db, "1") is Status.WAITING
    results = await asyncio.gather(*(inputs.signal("acme", "1", sent("go", "b", {"n": None})) for _ in range(5)))
    assert sorted(results) == [False] * 4 + [True]
    assert await status(db, "1") is Status.QUEUED
    kept = await inputs.signals("acme", "1", 0)
    assert [(one.number, one.name, one.payload) for one in kept] == [(1, "other", None), (2, "go", {"n": None})]
    assert [one.number for one in await inputs.signals("acme", "1", 1)] == [2]


async def test_signal_that_came_as_the_run_left_its_process(db: database.Database) -> None:
    inputs = SqlInputStore(db)
    await running(db, "1")
    await inputs.signal("acme", "1", sent("go", "a"))
    append = Append("acme", "1", 1, [], {}, parking=Parking(None, ("go",), 0))
    await SqlExecutionStore(db).append([append])
    (found,) = await inputs.due()
    assert await inputs.wake("acme", found.execution_id)
    await running(db, "2")
    await inputs.signal("acme", "2", sent("go", "a"))
    seen = Append("acme", "2", 1, [], {}, parking=Parking(None, ("go",), 1))
    await SqlExecutionStore(db).append([seen])
    assert await inputs.due() == [], "it was seen, and taken by another step"


async def test_signals_for_nobody(db: database.Database) -> None:
    inputs = SqlInputStore(db)
    await park(db, "1", Parking(None, ("go",), 0))
    with pytest.raises(errors.NotFound):
        await inputs.signal("other", "1", sent())
    await inputs.signal("acme", "1", sent("go", "a", 1))
    with pytest.raises(errors.InvalidArgument):
        await inputs.signal("acme", "1", sent("go", "a", 2))


async def test_run_that_was_to_be_cancelled_as_it_left_its_process(db: database.Database) -> None:
    store, inputs = SqlExecutionStore(db), SqlInputStore(db)
    await running(db, "1")
    await store.request_cancel("acme", "1", "enough")
    await store.append([Append("acme", "1", 1, [], {}, parking=Parking(SOON, (), 0))])
    await park(db, "2", Parking(SOON, (), 0))
    await store.request_cancel("acme", "2", "enough too")
    found = {one.execution_id: one.cancel_reason for one in await inputs.due()}
    assert found == {"1": "enough", "2": "enough too"}


async def test_a_thousand_that_wait_are_not_looked_at(db: database.Database) -> None:
    for n in range(20):
        await park(db, str(n), Parking(SOON, (), 0))
    async with db.write() as connection:
        (row,) = (await connection.execute(sa.select(executions).limit(1))).all()
        many = [{**row._mapping, "execution_id": f"w{n}", "request_id": None} for n in range(1000)]
        await connection.execute(executions.insert(), many)
        if not db.is_sqlite:
            await connection.execute(sa.text("ANALYZE executions"))
    assert await SqlInputStore(db).due() == []
    now = datetime.now(UTC)
    wanted = "status IN ('input_required', 'waiting') AND lease_time < :now"
    explained = "EXPLAIN QUERY PLAN" if db.is_sqlite else "EXPLAIN"
    async with db.read() as connection:
        plan = (
            await connection.execute(sa.text(f"{explained} SELECT * FROM executions WHERE {wanted}"), {"now": now})
        ).all()
    assert "executions_running" in str(plan), plan
