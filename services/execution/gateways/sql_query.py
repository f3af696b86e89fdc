"""`builtin/sql_query`: databases that the operator names, read in transactions that cannot write."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, Self
from urllib.parse import quote

import asyncpg
import structlog

from libs import identity
from services.execution.service.builtin import sql
from services.execution.service.builtin.offers import Offer, declared, record
from services.execution.service.sources import ToolError

log = structlog.get_logger()
_CONNECTIONS: Final = 4
_STEPS: Final = 10_000
"""Of SQLite's machine, between looks at the clock."""
_READS: Final = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, 33}
"""33: a recursive SELECT."""


class References(Protocol):
    async def resolved(self, values: Mapping[str, str], *, refresh: bool = False) -> dict[str, str]:
        """The same with the value in place of each reference."""


@dataclass(frozen=True, slots=True)
class Limits:
    seconds: float
    rows: int
    most_bytes: int


@dataclass(slots=True)
class _Rows:
    """As many as there may be."""

    most: int
    most_bytes: int
    kept: list[list[Any]] = field(default_factory=list)
    truncated: bool = False
    size: int = 0

    def take(self, values: Sequence[Any]) -> bool:
        """Whether there is room for another one."""
        row = list(values)
        self.size += len(json.dumps(row, default=str))
        if len(self.kept) == self.most or self.size > self.most_bytes:
            self.truncated = True
            return False
        self.kept.append(row)
        return True


class SqlQuery:
    """`databases`: URLs or references by name; `tenants`: who may ask which one, all where it is not named."""

    def __init__(
        self,
        databases: Mapping[str, str],
        tenants: Mapping[str, Sequence[str]],
        references: References,
        limits: Limits,
    ) -> None:
        self._databases, self._tenants, self._references, self._limits = databases, tenants, references, limits
        self._pools: dict[str, asyncpg.Pool[Any]] = {}
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for pool in self._pools.values():
            pool.terminate()

    @property
    def offer(self) -> Offer:
        names = sorted(self._databases)
        tool = declared(
            "sql_query",
            "SQL query",
            "Runs one SELECT on a database and gives the rows; nothing can be changed.",
            {
                "query": {"type": "string", "minLength": 1, "maxLength": sql.LONGEST},
                "database": {"enum": names or [""], "description": "Its name. May be left out where there is one."},
                "max_rows": {"type": "integer", "minimum": 1, "maximum": self._limits.rows},
            },
            ["query"] if len(names) < 2 else ["query", "database"],
            output=record(
                {
                    "columns": {"type": "array", "items": {"type": "string"}},
                    "rows": {"type": "array", "items": {"type": "array"}},
                    "truncated": {"type": "boolean"},
                }
            ),
            examples=[{"query": "SELECT status, count(*) AS leads FROM leads GROUP BY status"}],
        )
        offer = Offer(tool, self.query)
        return offer if names else offer.off("the setting sql_databases names no database")

    async def query(self, query: str, database: str = "", max_rows: int = 0) -> str:
        url = await self._url(database or next(iter(self._databases)))
        rows = _Rows(min(max_rows or self._limits.rows, self._limits.rows), self._limits.most_bytes)
        if url.startswith("sqlite"):
            text = sql.checked(query, "sqlite")
            columns = await asyncio.to_thread(self._sqlite, _path(url), text, rows)
        else:
            columns = await self._postgres(url, sql.checked(query, "postgres"), rows)
        return json.dumps({"columns": columns, "rows": rows.kept, "truncated": rows.truncated}, ensure_ascii=False)

    async def _url(self, name: str) -> str:
        caller, allowed = identity.current_or_none(), self._tenants.get(name)
        if allowed is not None and (caller is None or caller.tenant not in allowed):
            raise ToolError(f"the database {name!r} is none of yours")
        return (await self._references.resolved({"url": self._databases[name]}))["url"]

    def _sqlite(self, path: str, text: str, rows: _Rows) -> list[str]:
        until = time.monotonic() + self._limits.seconds
        try:
            with contextlib.closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as connection:
                connection.execute("PRAGMA query_only = ON")
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, self._limits.most_bytes)
                connection.set_authorizer(_authorized)
                connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
                cursor = connection.execute(text)
                columns = [one[0] for one in cursor.description]
                for row in cursor:
                    if not rows.take([_shown(value) for value in row]):
                        break
                return columns
        except sqlite3.OperationalError as error:
            if time.monotonic() > until:
                raise ToolError(_too_slow(self._limits.seconds)) from None
            raise ToolError(f"the database refuses: {error}"[:300]) from None
        except sqlite3.Error as error:
            raise ToolError(f"the database refuses: {error}"[:300]) from None

    async def _postgres(self, url: str, text: str, rows: _Rows) -> list[str]:
        most = self._limits.most_bytes
        # Within another query nothing but a query can stand, and no row is longer than what fits.
        inner = f"SELECT left(row_to_json(_row)::text, {most + 1}) FROM ({text}) AS _row"  # noqa: S608
        with _told(self._limits.seconds):
            pool = await self._pool(url)
            async with (
                asyncio.timeout(self._limits.seconds + 1),
                pool.acquire() as connection,
                connection.transaction(readonly=True),
            ):
                columns = [one.name for one in (await connection.prepare(text)).get_attributes()]
                if len({*columns}) < len(columns):
                    raise ToolError("two columns have the same name: name them with AS")
                async for (row,) in connection.cursor(inner, prefetch=50):
                    if len(row) > most:
                        raise ToolError(f"a row has more than {most} bytes")
                    if not rows.take(list(json.loads(row).values())):
                        break
                return columns

    async def _pool(self, url: str) -> asyncpg.Pool[Any]:
        async with self._opening:
            if url not in self._pools:
                self._pools[url] = await asyncpg.create_pool(
                    url.replace("postgresql+asyncpg:", "postgresql:", 1),
                    min_size=0,
                    max_size=_CONNECTIONS,
                    timeout=self._limits.seconds,
                    max_inactive_connection_lifetime=60,
                    server_settings={
                        "default_transaction_read_only": "on",
                        "statement_timeout": str(int(self._limits.seconds * 1000)),
                        "application_name": "dynamic-agents sql_query",
                    },
                )
            return self._pools[url]


@contextlib.contextmanager
def _told(seconds: float) -> Iterator[None]:
    try:
        yield
    except (asyncpg.QueryCanceledError, TimeoutError):
        raise ToolError(_too_slow(seconds)) from None
    except asyncpg.PostgresError as error:
        raise ToolError(f"the database refuses: {error}"[:300]) from None
    except (OSError, asyncpg.InterfaceError) as error:
        log.warning("database of sql_query not reached", problem=str(error)[:200])
        raise ToolError("the database was not reached", passing=True) from None


def _authorized(action: int, *_: object) -> int:
    return sqlite3.SQLITE_OK if action in _READS else sqlite3.SQLITE_DENY


def _too_slow(seconds: float) -> str:
    return f"the query takes more than {seconds:.3g} s"


def _path(url: str) -> str:
    return url.partition("://")[2].removeprefix("/")


def _shown(value: Any) -> Any:
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else value
