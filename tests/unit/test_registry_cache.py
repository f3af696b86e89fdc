"""The cache of current revisions: what it keeps, and when it forgets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import pytest

from libs import errors
from services.registry.service import cache as module
from services.registry.service.cache import Cache


@dataclass
class Database:
    position: int = 1
    reads: int = 0
    down: bool = False
    listeners: list[Callable[[str], None]] = field(default_factory=list)

    async def positions(self, tenants: Collection[str]) -> dict[str, int]:
        if self.down:
            raise errors.Unavailable("gone")
        return dict.fromkeys(tenants, self.position)

    async def load(self) -> tuple[Any, int]:
        self.reads += 1
        return self.position, 10

    def listen(self, listener: Callable[[str], None]) -> None:
        self.listeners.append(listener)


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
async def cache(database: Database) -> AsyncIterator[Cache]:
    async with Cache(database, database, poll=0.01, most_bytes=30) as running:
        yield running


async def settled(cache: Cache, database: Database) -> None:
    await cache.get("t", ("a",), database.load)
    await asyncio.sleep(0.05)
    await cache.get("t", ("a",), database.load)
    database.reads = 0


async def test_reads_once(cache: Cache, database: Database) -> None:
    await settled(cache, database)
    assert [await cache.get("t", ("a",), database.load) for _ in range(9)] == [1] * 9
    assert database.reads == 0


async def test_a_commit_of_this_process_is_seen_at_once(cache: Cache, database: Database) -> None:
    await settled(cache, database)
    database.position = 2
    database.listeners[0]("other")
    assert await cache.get("t", ("a",), database.load) == 1
    database.listeners[0]("t")
    assert await cache.get("t", ("a",), database.load) == 2


async def test_a_commit_of_another_process_is_seen_by_the_next_look(cache: Cache, database: Database) -> None:
    await settled(cache, database)
    database.position = 2
    await asyncio.sleep(0.05)
    assert await cache.get("t", ("a",), database.load) == 2


async def test_what_was_read_before_a_commit_is_not_kept(cache: Cache, database: Database) -> None:
    async def overtaken() -> tuple[Any, int]:
        found = await database.load()
        database.position = 2
        database.listeners[0]("t")
        return found

    assert await cache.get("t", ("a",), overtaken) == 1
    assert await cache.get("t", ("a",), database.load) == 2


async def test_nothing_is_older_than_the_bound(
    cache: Cache, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STALENESS", 0.05)
    await settled(cache, database)
    database.down, database.position = True, 2
    await asyncio.sleep(0.1)
    assert await cache.get("t", ("a",), database.load) == 2


async def test_tenants_are_apart_and_errors_are_not_kept(cache: Cache, database: Database) -> None:
    async def missing() -> tuple[Any, int]:
        raise errors.NotFound("agent", "a")

    with pytest.raises(errors.NotFound):
        await cache.get("t", ("a",), missing)
    await settled(cache, database)
    await cache.get("u", ("a",), database.load)
    assert database.reads == 1


async def test_the_least_used_go_first(cache: Cache, database: Database) -> None:
    await settled(cache, database)
    for name in ("b", "c", "a", "d"):
        await cache.get("t", (name,), database.load)
    database.reads = 0
    await cache.get("t", ("a",), database.load)
    assert database.reads == 0
    await cache.get("t", ("b",), database.load)
    assert database.reads == 1
