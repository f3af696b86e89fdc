"""What Registry forgets and what it keeps, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from libs import database
from libs.database import Database
from libs.identity import Caller
from services.registry import model
from services.registry.app import MIGRATIONS
from services.registry.config import RegistrySettings
from services.registry.model import Draft, Kind, Request, Resource
from services.registry.service.audit import Audit
from services.registry.service.retention import Limits, Retention
from services.registry.store import SqlAuditStore, SqlResourceStore, SqlRetentionStore
from services.registry.store.tables import requests, revisions, tenants, upkeep

HOUR = timedelta(hours=1)
NOW = datetime.now(UTC)


@pytest.fixture
def settings(database_settings: dict[str, Any]) -> RegistrySettings:
    return RegistrySettings.load(**database_settings)


@pytest.fixture
async def opened(settings: RegistrySettings) -> AsyncIterator[Database]:
    await database.migrate(settings, MIGRATIONS)
    async with database.opened(settings, MIGRATIONS) as db:
        yield db


def retention(opened: Database, *, kept: int = 0, batch: int = 3, every: timedelta = HOUR) -> Retention:
    return Retention(SqlRetentionStore(opened), Limits(every, HOUR, kept, HOUR), batch=batch)


async def write(opened: Database, count: int, tenant: str = "acme") -> list[Resource]:
    """So many revisions of one agent, each with the request id of its number."""
    store = SqlResourceStore(opened)
    made = [model.first(Kind.AGENT, Draft("helper", "0", spec={"model": {"model": "offline"}}), "ann")]
    while len(made) < count:
        made.append(made[-1].next(Draft("helper", str(len(made)), spec=made[-1].spec), "ann"))
    for number, one in enumerate(made):
        assert await store.put(tenant, one, request=Request(str(number), "digest"))
    return made


async def make_old(opened: Database, *positions: int, tenant: str = "acme") -> None:
    """As if these changes, with their requests, had been made two hours ago."""
    old = NOW - 2 * HOUR
    of = revisions.c.tenant == tenant, revisions.c.position.in_(positions)
    async with opened.write() as connection:
        await connection.execute(revisions.update().where(*of).values(update_time=old))
        numbers = sa.select(revisions.c.revision).where(*of)
        its = requests.update().where(requests.c.tenant == tenant, requests.c.revision.in_(numbers))
        await connection.execute(its.values(create_time=old))


async def span(opened: Database, tenant: str = "acme") -> tuple[int, int]:
    return await SqlResourceStore(opened).span(tenant)


async def known(opened: Database) -> list[str]:
    rows = await opened.rows(sa.select(requests).order_by(requests.c.tenant, requests.c.revision))
    return [row.request_id for row in rows]


async def test_what_is_old_is_forgotten(opened: Database) -> None:
    await write(opened, 10)
    await make_old(opened, *range(1, 8))
    assert await span(opened) == (0, 10)
    assert await retention(opened).round()
    assert await span(opened) == (7, 10)
    assert await known(opened) == ["7", "8", "9"]


async def test_the_newest_changes_stay_however_old_they_are(opened: Database) -> None:
    await write(opened, 10)
    await make_old(opened, *range(1, 11))
    assert await retention(opened, kept=4).round()
    assert await span(opened) == (6, 10)
    assert await known(opened) == []


async def test_nothing_old_nothing_forgotten(opened: Database) -> None:
    await write(opened, 4)
    assert await retention(opened).round()
    assert await span(opened) == (0, 4)
    assert len(await known(opened)) == 4


async def test_revisions_and_the_audit_stay(opened: Database) -> None:
    made = await write(opened, 8)
    audit, store = Audit(SqlAuditStore(opened)), SqlResourceStore(opened)
    async with opened.write() as connection:
        await connection.execute(tenants.update().values(history_start=7))
    assert (await audit.verify(Caller("acme", "ann", frozenset()))).entries == 8
    assert [await store.get("acme", Kind.AGENT, "helper", n + 1) for n in range(8)] == made
    changes, complete = await store.changes("acme", list(Kind), after=0, limit=100)
    assert ([change.resource for change in changes], complete) == (made, 8)


async def test_a_clock_that_went_back_shortens_no_history(opened: Database) -> None:
    """The fifth change has an old time, but comes after younger ones."""
    await write(opened, 6)
    await make_old(opened, 1, 2, 5)
    assert await retention(opened).round()
    assert await span(opened) == (2, 6)


async def test_each_tenant_for_itself(opened: Database) -> None:
    for number in range(7):
        await write(opened, 2 + number % 3, f"tenant-{number}")
    await make_old(opened, 1, 2, tenant="tenant-4")
    await make_old(opened, 1, tenant="tenant-6")
    assert await retention(opened).round()
    found = [await span(opened, f"tenant-{number}") for number in range(7)]
    assert found == [(0, 2), (0, 3), (0, 4), (0, 2), (2, 3), (0, 4), (1, 2)]


async def test_one_process_does_the_round(opened: Database, settings: RegistrySettings) -> None:
    async with database.opened(settings, MIGRATIONS) as other:
        both = [retention(each) for each in (opened, other) for _ in range(4)]
        did = await asyncio.gather(*(each.round() for each in both))
    assert sorted(did) == [False] * 7 + [True]
    assert not await retention(opened).round()


async def test_the_next_round_comes_in_its_time(opened: Database) -> None:
    assert await retention(opened).round()
    async with opened.write() as connection:
        await connection.execute(upkeep.update().values(time=NOW - 2 * HOUR))
    assert await retention(opened).round()


async def test_a_claim_from_the_future_holds_nobody_up(opened: Database) -> None:
    """Its process had a clock that was wrong."""
    assert await retention(opened).round()
    async with opened.write() as connection:
        await connection.execute(upkeep.update().values(time=NOW + 2 * HOUR))
    assert await retention(opened).round()


async def test_rounds_at_once_and_while_others_write(opened: Database, settings: RegistrySettings) -> None:
    """Nothing is lost, whoever forgets what."""
    await write(opened, 20)
    await make_old(opened, *range(1, 16))
    async with database.opened(settings, MIGRATIONS) as other:
        rounds = [retention(each, every=timedelta(0)) for each in (opened, other) for _ in range(3)]
        writing = [write(opened, 6, f"other-{n}") for n in range(3)]
        await asyncio.gather(*(each.round() for each in rounds), *writing)
    assert await span(opened) == (15, 20)
    assert [await span(opened, f"other-{n}") for n in range(3)] == [(0, 6)] * 3
    assert len(await known(opened)) == 5 + 18


async def test_it_runs_by_itself(opened: Database) -> None:
    await write(opened, 3)
    await make_old(opened, 1, 2)
    async with retention(opened, every=timedelta(seconds=0.05)), asyncio.timeout(20):
        while await span(opened) != (2, 3):
            await asyncio.sleep(0.02)
