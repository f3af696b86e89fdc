"""The drivers under SQLAlchemy, for what is written again and again while a stream runs.

SQLAlchemy's way costs several times the statement: a checkout that asks whether the connection lives, a BEGIN and a
COMMIT of their own, and for each of them a greenlet and, with SQLite, a hop to another thread.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from asyncpg import PostgresError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

T = TypeVar("T")

PRAGMAS: Final = ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=30000")
_CONNECTIONS: Final = 4
_MANY: Final = 250


class Prepared:
    """A statement of SQLAlchemy as a driver takes it, compiled once."""

    def __init__(self, statement: sa.ClauseElement, dialect: sa.Dialect) -> None:
        compiled: Any = statement.compile(dialect=dialect)
        self.sql = str(compiled)
        kinds = {name: compiled.binds[name].type.dialect_impl(dialect) for name in compiled.positiontup}
        self._processed = [(name, kind.bind_processor(dialect)) for name, kind in kinds.items()]

    def row(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(process(values[name]) if process else values[name] for name, process in self._processed)


class SqliteLane:
    """Transactions at once, on the event loop's own thread: one that goes into the log of writes and need not reach the
    disk takes less than a hop to another thread does.

    What would have to wait for another process's lock goes to a thread; so does one of many, which moves the log into
    the database and waits for the disk.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._file = str(engine.url.database)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        self._here: sqlite3.Connection | None = None
        self._there: sqlite3.Connection | None = None
        self._since_there = 0

    async def transact(self, work: Callable[[sqlite3.Cursor], T]) -> T:
        self._since_there += 1
        if self._since_there < _MANY:
            if self._here is None:
                self._here = self._connect("busy_timeout=0", "wal_autocheckpoint=0")
            cursor = self._here.cursor()
            try:
                cursor.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
            else:
                return _commit(cursor, work)
        self._since_there = 0
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, work)

    def _transact(self, work: Callable[[sqlite3.Cursor], T]) -> T:
        if self._there is None:
            self._there = self._connect()
        cursor = self._there.cursor()
        cursor.execute("BEGIN IMMEDIATE")
        return _commit(cursor, work)

    def _connect(self, *more: str) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, isolation_level=None)
        for pragma in (*PRAGMAS, *more):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    async def close(self) -> None:
        def close() -> None:
            if self._there is not None:
                self._there.close()

        if self._here is not None:
            self._here.close()
        await asyncio.get_running_loop().run_in_executor(self._thread, close)
        self._thread.shutdown()


def _commit(cursor: sqlite3.Cursor, work: Callable[[sqlite3.Cursor], T]) -> T:
    try:
        done = work(cursor)
        cursor.execute("COMMIT")
    except BaseException:
        cursor.connection.rollback()
        raise
    return done


class PostgresLane:
    """A few connections beside the pool, for statements that commit themselves: each is one round trip."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._idle: list[_Opened] = []
        self._room = asyncio.Semaphore(_CONNECTIONS)

    async def fetch(self, sql: str, *values: Any) -> Sequence[Any]:
        async with self._room:
            opened = await self._open()
            try:
                found: Sequence[Any] = await opened.driver.fetch(sql, *values)
            except PostgresError:
                self._idle.append(opened)
                raise
            except BaseException:
                opened.driver.terminate()
                await opened.connection.close()
                raise
            self._idle.append(opened)
            return found

    async def _open(self) -> _Opened:
        while self._idle:
            opened = self._idle.pop()
            if not opened.driver.is_closed():
                return opened
            await opened.connection.close()
        connection = await self._engine.connect()
        driver = (await connection.get_raw_connection()).driver_connection
        await connection.run_sync(lambda sync: sync.detach())  # the pool is for the calls
        return _Opened(connection, driver)

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().connection.close()


@dataclass(frozen=True, slots=True)
class _Opened:
    connection: AsyncConnection
    driver: Any
