"""Transactions in the driver's own words, on SQLite: at once where they can be, elsewhere where they have to wait."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libs import database
from libs.database import Database
from services.registry.app import MIGRATIONS
from services.registry.config import RegistrySettings

KEEP = "INSERT INTO kept VALUES (?)"


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    settings = RegistrySettings.load(data_dir=tmp_path / "data")
    async with database.opened(settings, MIGRATIONS) as opened:
        await opened.transact(lambda cursor: cursor.execute("CREATE TABLE kept (value)"))
        yield opened


def other(db: Database) -> sqlite3.Connection:
    """Of another process, for all that SQLite knows."""
    return sqlite3.connect(str(db.engine.url.database), isolation_level=None)


def count(db: Database) -> int:
    return int(other(db).execute("SELECT count(*) FROM kept").fetchone()[0])


async def test_who_waits_for_the_lock_of_another_process_holds_up_nobody(db: Database) -> None:
    holder = other(db)
    holder.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(db.transact(lambda cursor: cursor.execute(KEEP, (1,))))
    for _ in range(20):
        await asyncio.sleep(0.01)
    assert not waiting.done()
    holder.execute("COMMIT")
    async with asyncio.timeout(20):
        await waiting
    assert count(db) == 1


async def test_what_fails_leaves_nothing_and_no_lock(db: Database) -> None:
    def fail(cursor: sqlite3.Cursor) -> None:
        cursor.execute(KEEP, (1,))
        raise ValueError

    with pytest.raises(ValueError):
        await db.transact(fail)
    assert count(db) == 0
    other(db).execute(KEEP, (2,))
    await db.transact(lambda cursor: cursor.execute(KEEP, (3,)))
    assert count(db) == 2


async def test_the_log_of_writes_is_moved_into_the_database(db: Database) -> None:
    log = Path(f"{db.engine.url.database}-wal")
    for _ in range(3_000):
        await db.transact(lambda cursor: cursor.execute(KEEP, ("x" * 4_096,)))
    assert count(db) == 3_000
    assert log.stat().st_size < 3_000 * 4_096
