from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from libs import database
from services.execution.app import MIGRATIONS
from services.execution.config import ExecutionSettings
from services.execution.model.events import (
    ContentDelta,
    Event,
    ExecutionCompleted,
    LoggedEvent,
    ReasoningDelta,
    UsageReported,
)
from services.execution.model.executions import ExecuteRequest, Execution, Status
from services.execution.model.journal import Step, StepKind
from services.execution.model.targets import Agent, Pinned
from services.execution.model.tool_calls import CallQuery, CallRecord, Outcome
from services.execution.model.turns import Assignment
from services.execution.service.log import first
from services.execution.service.record import Append
from services.execution.service.retention import Periods, Retention
from services.execution.store import SqlExecutionStore, SqlRetentionStore
from services.execution.store.tables import events
from services.execution.store.tool_calls import SqlCallRecords

NOW = datetime.now(UTC)
SAID: list[Event] = [
    ReasoningDelta("h"),
    ReasoningDelta("m"),
    ContentDelta("a"),
    ContentDelta("b"),
    ContentDelta(""),
    UsageReported(),
    ContentDelta("c"),
    ExecutionCompleted("abc", None, {}),
]


@pytest.fixture
async def db(database_settings: dict[str, Any]) -> AsyncIterator[database.Database]:
    settings = ExecutionSettings.load(**database_settings)
    await database.migrate(settings, MIGRATIONS)
    async with database.opened(settings, MIGRATIONS) as opened:
        yield opened


async def ended(store: SqlExecutionStore, execution_id: str, age: timedelta, tenant: str = "acme") -> list[LoggedEvent]:
    time = NOW - age
    made = Execution(tenant, execution_id, "helper", 1, Status.RUNNING, "hi", time, "me", last_sequence=1)
    assignment = Assignment(ExecuteRequest("helper", "hi"), Pinned.alone(Agent("helper", 1, "", {})), "me", time)
    assert await store.accept(made, first(made), assignment, 60)
    said = [LoggedEvent(n, time + timedelta(milliseconds=n), ("helper",), event) for n, event in enumerate(SAID, 2)]
    step = Step(1, StepKind.MODEL, "group", "digest", time, result={}, end_time=time)
    assert await store.append([Append(tenant, execution_id, 1, said, {}, [step])]) == set()
    return list(await store.events(tenant, execution_id, after=0, limit=99))


async def rows(db: database.Database, execution_id: str) -> int:
    count = sa.select(sa.func.count()).select_from(events).where(events.c.execution_id == execution_id)
    return int((await db.rows(count))[0][0])


async def oldest(store: SqlExecutionStore, execution_id: str, tenant: str = "acme") -> int:
    found = await store.get(tenant, execution_id)
    assert found is not None
    return found.oldest_sequence


async def test_text_that_is_put_together_reads_as_before(db: database.Database) -> None:
    store, retention = SqlExecutionStore(db), SqlRetentionStore(db)
    before = await ended(store, "old", timedelta(hours=2))
    await ended(store, "new", timedelta(0))
    assert await retention.compact(NOW - timedelta(hours=1), 9) == 1
    assert await retention.compact(NOW - timedelta(hours=1), 9) == 0
    assert (await rows(db, "old"), await rows(db, "new")) == (6, 9)
    for after in range(11):
        assert await store.events("acme", "old", after=after, limit=99) == before[after:]


async def test_events_and_journals_are_forgotten(db: database.Database) -> None:
    store, retention = SqlExecutionStore(db), SqlRetentionStore(db)
    said = await ended(store, "old", timedelta(days=2))
    await ended(store, "new", timedelta(0))
    before = NOW - timedelta(days=1)
    assert await retention.forget(before, 9, tenant=None, besides=[]) == 1
    assert await retention.forget(before, 9, tenant=None, besides=[]) == 0
    assert await store.events("acme", "old", after=0, limit=9) == said[-1:]
    assert await store.steps("acme", "old") == []
    assert await store.assignment("acme", "old") is None
    assert (await oldest(store, "old"), await oldest(store, "new")) == (9, 1)
    assert await store.assignment("acme", "new") is not None


async def test_tenants_have_their_own_periods_and_what_runs_is_kept(db: database.Database) -> None:
    store = SqlExecutionStore(db)
    for tenant in ("acme", "brief", "long"):
        await ended(store, f"{tenant}-run", timedelta(days=2), tenant)
    running = Execution("acme", "running", "helper", 1, Status.RUNNING, "hi", NOW - timedelta(days=9), "me")
    assignment = Assignment(ExecuteRequest("helper", "hi"), Pinned.alone(Agent("helper", 1, "", {})), "me", NOW)
    await store.accept(running, first(running), assignment, 60)
    by_tenant = {"brief": timedelta(days=1), "long": timedelta(days=9)}
    await Retention(SqlRetentionStore(db), Periods(timedelta(days=3), by_tenant, None)).round()
    assert [await oldest(store, f"{tenant}-run", tenant) for tenant in ("acme", "brief", "long")] == [1, 9, 1]
    await Retention(SqlRetentionStore(db), Periods(timedelta(days=1), by_tenant, timedelta(hours=1))).round()
    assert [await oldest(store, f"{tenant}-run", tenant) for tenant in ("acme", "brief", "long")] == [9, 9, 1]
    assert await rows(db, "long-run") == 6
    assert await store.assignment("acme", "running") is not None


async def test_many_are_forgotten_in_batches(db: database.Database) -> None:
    store = SqlExecutionStore(db)
    for n in range(60):
        await ended(store, f"run-{n}", timedelta(days=2))
    await Retention(SqlRetentionStore(db), Periods(timedelta(days=1), {}, None)).round()
    assert {await oldest(store, f"run-{n}") for n in range(60)} == {9}


async def test_records_of_calls_are_kept_as_long_as_events(db: database.Database) -> None:
    calls = SqlCallRecords(db)
    kept = CallRecord("1", "me", "some/tool", "1", "digest", Outcome.COMPLETED, False, 0.1, NOW)
    old = NOW - timedelta(days=2)
    for tenant in ("acme", "brief", "long"):
        await calls.add([(tenant, kept), (tenant, replace(kept, record_id="0", time=old))])
    by_tenant = {"brief": timedelta(hours=1), "long": timedelta(days=9)}
    await Retention(SqlRetentionStore(db), Periods(timedelta(days=1), by_tenant, None)).round()
    found = {tenant: await calls.list(tenant, CallQuery(), limit=9) for tenant in ("acme", "brief", "long")}
    assert {tenant: len(records) for tenant, records in found.items()} == {"acme": 1, "brief": 1, "long": 2}
    assert found["acme"] == [kept]
