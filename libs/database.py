"""A service's own database: SQLite embedded, PostgreSQL otherwise, one schema per service there."""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import asyncpg
import orjson
import sqlalchemy as sa
import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from libs import errors
from libs.config import Settings, StartError
from libs.drivers import PRAGMAS, PostgresLane, SqliteLane

_DRIVERS: Final = ("postgresql+asyncpg", "sqlite+aiosqlite")
_UNSTORABLE: Final = ("22021", "22P05")
_LOST: Final = ("08", "28", "3D", "53", "57")
"""Classes of SQLSTATE: no connection, refused, no such database, out of resources, shutting down."""
_UNWRITABLE: Final = ("SQLITE_READONLY", "SQLITE_FULL", "SQLITE_IOERR")
"""A disk that is full, read-only or ill."""
_NO_ANSWER: Final = (
    *(sa.exc.TimeoutError, OSError, sqlite3.OperationalError),
    *(asyncpg.InterfaceError, asyncpg.InternalClientError),
)
"""The last is what a connection raises that has heard of its end, but has not come to it."""
log = structlog.get_logger()
T = TypeVar("T")


class Database:
    """Connections for reading (each statement alone) and for writing (one transaction)."""

    def __init__(self, engine: AsyncEngine, *, quiet: bool = False) -> None:
        self.engine, self._quiet = engine, quiet
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._reads = engine.execution_options(isolation_level="AUTOCOMMIT")
        # SQLite has one writer: queue for it here rather than busy-wait in the library.
        self._writer: Any = asyncio.Lock() if self.is_sqlite else nullcontext()
        self._unfinished: set[asyncio.Task[Any]] = set()
        self._sqlite, self._postgres = SqliteLane(engine), PostgresLane(engine)

    async def finished(self, work: Coroutine[Any, Any, T]) -> T:
        """Finishes `work` though its caller be cancelled: cut off in the middle, it may keep the lock of SQLite."""
        task = asyncio.ensure_future(work)
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        return await asyncio.shield(task)

    async def rows(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        return await self.finished(self._rows(query))

    async def _rows(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        async with self.read() as connection:
            rows: Sequence[sa.Row[Any]] = (await connection.execute(query)).all()
            return rows

    async def close(self) -> None:
        await asyncio.gather(*self._unfinished, return_exceptions=True)
        await self._sqlite.close()
        await self._postgres.close()
        await self.engine.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        with _translated(self._quiet):
            async with self._reads.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        with _translated(self._quiet):
            async with self._writer, self.engine.begin() as connection:
                yield connection

    async def transact(self, work: Callable[[sqlite3.Cursor], T]) -> T:
        """On SQLite: a transaction in the driver's own words, far cheaper than `write`."""
        return await self.finished(self._transact(work))

    async def _transact(self, work: Callable[[sqlite3.Cursor], T]) -> T:
        with _translated(self._quiet):
            async with self._writer:
                return await self._sqlite.transact(work)

    async def fetch(self, sql: str, *values: Any) -> Sequence[Any]:
        """On PostgreSQL: a statement in the driver's own words, a transaction of its own."""
        return await self.finished(self._fetch(sql, *values))

    async def _fetch(self, sql: str, *values: Any) -> Sequence[Any]:
        with _translated(self._quiet):
            return await self._postgres.fetch(sql, *values)


class Store(Protocol):
    _db: Database


S = TypeVar("S", bound=Store)
P = ParamSpec("P")


def whole(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Of a store: what it has begun is finished though its caller be cancelled."""

    @wraps(method)
    async def finished(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._db.finished(method(self, *args, **kwargs))

    return finished


class _translated:
    """A database that does not answer is Unavailable; a broken rule of the schema stays what it is."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, _trace: Any) -> None:
        if isinstance(error, sa.exc.IntegrityError):
            return
        if isinstance(error, sqlite3.IntegrityError | asyncpg.IntegrityConstraintViolationError):
            raise sa.exc.IntegrityError("", None, error) from None
        cause = getattr(error, "orig", None) or error
        state = str(getattr(cause, "sqlstate", None))
        if state in _UNSTORABLE:
            raise errors.invalid("request", "has a text with a NUL character, which cannot be stored") from None
        lost = state.startswith(_LOST)
        if isinstance(error, DBAPIError):
            lost = lost or error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
        if lost or isinstance(error, _NO_ANSWER):
            name = str(getattr(cause, "sqlite_errorname", ""))
            what = "the database cannot be written" if name.startswith(_UNWRITABLE) else "the database does not answer"
            if not self._quiet:
                log.warning(what, error=f"{type(cause).__name__}: {cause}")
            raise errors.Unavailable(what, reason="DATABASE_UNAVAILABLE", retry_after=1.0) from error


def aware(time: datetime) -> datetime:
    """A time as it was stored: SQLite keeps no zone, and ours are all UTC."""
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def make_engine(settings: Settings, *, pooled: bool = True) -> AsyncEngine:
    try:
        url = sa.make_url(settings.database)
    except (ArgumentError, ValueError):
        raise StartError(f"bad setting database_url of {settings.service}: not a database URL") from None
    if url.drivername not in _DRIVERS:
        raise StartError(
            f"bad setting database_url of {settings.service}: {url.drivername!r} is not one of {', '.join(_DRIVERS)}"
        )
    if url.drivername.startswith("sqlite") and url.database in (None, "", ":memory:"):
        raise StartError(f"bad setting database_url of {settings.service}: names no file")
    # orjson reads an integer of more than 64 bits as the double that it was: JSONB writes 1e300 out.
    options: dict[str, Any] = {"hide_parameters": True, "json_deserializer": orjson.loads}
    if url.drivername.startswith("sqlite"):
        engine = create_async_engine(url, connect_args={"timeout": 30}, **options)
        _configure_sqlite(engine)
        return engine
    options |= {"pool_size": settings.database_pool_size, "max_overflow": 0, "pool_pre_ping": True} if pooled else {}
    if not pooled:
        options["poolclass"] = NullPool
    return create_async_engine(
        url,
        connect_args={"timeout": 10, "server_settings": {"search_path": settings.service}},
        **options,
    )


def _configure_sqlite(engine: AsyncEngine) -> None:
    @sa.event.listens_for(engine.sync_engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are ours, see _on_begin
        cursor = connection.cursor()
        for pragma in PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @sa.event.listens_for(engine.sync_engine, "begin")
    def _on_begin(connection: sa.Connection) -> None:
        # Reads run in AUTOCOMMIT; a transaction is there to write, so it takes the lock at once.
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql("BEGIN IMMEDIATE")


@asynccontextmanager
async def opened(settings: Settings, migrations: Path) -> AsyncIterator[Database]:
    """The migrated database: an embedded one is migrated here, another must have been."""
    database = Database(make_engine(settings))
    try:
        with _start_errors(settings):
            if settings.embedded:
                await migrate(settings, migrations)
            else:
                await _check_revision(database.engine, settings, migrations)
        yield database
    finally:
        await database.close()


async def migrate(settings: Settings, migrations: Path) -> None:
    """Brings the database to the newest revision; safe to run from several processes at once."""
    engine = make_engine(settings, pooled=False)
    try:
        if settings.embedded:
            prepare_folder(settings)
        with _start_errors(settings):
            async with _alone(settings), Database(engine, quiet=True).write() as connection:
                if engine.dialect.name == "postgresql":
                    await connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('dynamic-agents migrate'))")
                    await connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{settings.service}"')
                await connection.run_sync(_upgrade, migrations)
    finally:
        await engine.dispose()


@asynccontextmanager
async def _alone(settings: Settings) -> AsyncIterator[None]:
    """One process at a time: SQLite does not wait for another that is switching the same new file to WAL."""
    if not settings.embedded:
        yield
        return
    with (settings.data_dir / f".{settings.service}.lock").open("w") as file:
        await asyncio.to_thread(fcntl.flock, file, fcntl.LOCK_EX)
        yield


def prepare_folder(settings: Settings) -> None:
    """Makes the data folder, readable by its owner alone."""
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = settings.data_dir / f".{settings.service}.writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StartError(f"cannot write to data_dir {settings.data_dir}: {error.strerror}") from None


def _script(migrations: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("version_locations", str(migrations))
    config.set_main_option("path_separator", "newline")
    return config


def _upgrade(connection: sa.Connection, migrations: Path) -> None:
    config = _script(migrations)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


async def _check_revision(engine: AsyncEngine, settings: Settings, migrations: Path) -> None:
    head = ScriptDirectory.from_config(_script(migrations)).get_current_head()

    def current(connection: sa.Connection) -> str | None:
        return MigrationContext.configure(connection).get_current_revision()

    async with Database(engine, quiet=True).read() as connection:
        found = await connection.run_sync(current)
    if found != head:
        raise StartError(
            f"the database of {settings.service} is at revision {found or 'none'}, this version needs {head}: "
            "run dynamic-agents migrate"
        )


class _start_errors:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, _trace: Any) -> None:
        if isinstance(error, errors.Unavailable | OSError | DBAPIError | sqlite3.Error | CommandError | TypeError):
            cause: Any = error.__cause__ or error
            text = str(getattr(cause, "orig", cause)).splitlines()[0]
            raise StartError(f"cannot open the database of {self._settings.service}: {text}") from None
