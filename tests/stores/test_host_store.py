from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from libs import database, ids
from libs.database import Database
from services.execution.app import MIGRATIONS
from services.execution.config import ExecutionSettings
from services.execution.model.hosts import Presence, Registration
from services.execution.model.tools import Tool
from services.execution.service.news import News
from services.execution.store.calls import SqlCalls
from services.execution.store.hosts import SqlHosts
from tests import harness


@pytest.fixture
async def db(database_settings: dict[str, Any]) -> AsyncIterator[Database]:
    settings = ExecutionSettings.load(**database_settings)
    await database.migrate(settings, MIGRATIONS)
    async with database.opened(settings, MIGRATIONS) as opened:
        yield opened


@pytest.fixture
def store(db: Database) -> SqlHosts:
    return SqlHosts(db)


SCHEMA = {"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "number", "maximum": 1.5}}}


def presence(host_id: str = "crm", *, tenant: str = "one", owner: str = "p1") -> Presence:
    tool = Tool("host/say", "say", "Say", "Says.", SCHEMA, "v1", output_schema={"type": "object"}, examples=[{}])
    registration = Registration(host_id, ids.new_id(), {"say": tool}, 4, datetime.now(UTC))
    return Presence(tenant, ids.new_id(), owner, "127.0.0.1:1", registration)


async def seen(store: SqlHosts, owner: str = "p2", *tenants: str) -> dict[str, Presence]:
    found = await store.others(owner, list(tenants or ("one",)))
    return {one.stream_id: one for one in await store.read(list(found))}


async def test_a_host_is_seen_by_others(store: SqlHosts) -> None:
    made = presence()
    await store.put(made, 60)
    assert await seen(store) == {made.stream_id: made}
    (read,) = (await seen(store)).values()
    assert list(read.registration.tools["say"].input_schema["properties"]) == ["z", "a"]
    assert await seen(store, "p1") == {}
    assert await seen(store, "p2", "two") == {}
    await store.drop("two", made.stream_id)
    assert await seen(store)
    await store.drop("one", made.stream_id)
    assert await seen(store) == {}


async def test_a_name_is_that_of_the_last_stream(store: SqlHosts) -> None:
    old, new, other = presence(), presence(owner="p3"), presence(tenant="two")
    for one in (old, new, other):
        await store.put(one, 60)
    assert set(await seen(store)) == {new.stream_id}
    assert set(await seen(store, "p2", "one", "two")) == {new.stream_id, other.stream_id}
    await store.drop("one", old.stream_id)  # which comes late
    assert set(await seen(store)) == {new.stream_id}
    assert await store.renew("p1", 60) == {other.stream_id}
    assert not await store.keep(old, 60)
    assert set(await seen(store)) == {new.stream_id}


async def test_leases(store: SqlHosts) -> None:
    lapsed, alive = presence("lapsed"), presence("alive")
    await store.put(lapsed, -1)
    await store.put(alive, 60)
    assert set(await seen(store)) == {alive.stream_id}
    # One that is over can still be renewed, while nobody else has the name.
    assert await store.renew("p1", 60) == {lapsed.stream_id, alive.stream_id}
    assert set(await seen(store)) == {lapsed.stream_id, alive.stream_id}
    await store.put(lapsed, -1)
    taker = presence("lapsed", owner="p3")
    assert await store.keep(taker, 60)
    assert await store.renew("p1", 60) == {alive.stream_id}


async def test_hosts_of_dead_processes_are_forgotten(store: SqlHosts) -> None:
    dead = presence("dead")
    await store.put(dead, -timedelta(hours=1).total_seconds())
    await store.renew("p2", 1)
    assert await store.read([dead.registration.registration_id]) == []


@harness.only_postgres
async def test_changes_are_told_of(db: Database, store: SqlHosts) -> None:
    told = asyncio.Event()
    hearing = asyncio.create_task(SqlCalls(db, News(), told.set).hear(lambda: None))
    try:
        made = presence()
        for change in (None, store.put(made, 60), store.drop("one", made.stream_id)):
            if change is not None:
                await change
            async with asyncio.timeout(20):
                await told.wait()
            told.clear()
    finally:
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
