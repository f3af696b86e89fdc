"""What a database reads for an answer: the steps of SQLite's machine, or the rows of PostgreSQL's plans."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from typing import Any

import orjson
import sqlalchemy as sa

from libs.database import Database

_KINDS = ("SELECT", "UPDATE")


class Reads:
    def __init__(self, db: Database, said: list[tuple[str, Any]]) -> None:
        self._db, self._said = db, said

    async def of(self, asking: Awaitable[object]) -> int:
        """What all that is asked meanwhile reads when it is asked again, by itself."""
        self._said.clear()
        await asking
        said = [(text, values) for text, values in self._said if text.lstrip().startswith(_KINDS)]
        assert said
        return self._steps(said) if self._db.is_sqlite else sum([await self._rows(*one) for one in said])

    def _steps(self, said: list[tuple[str, Any]]) -> int:
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        with closing(sqlite3.connect(str(self._db.engine.url.database), isolation_level=None)) as connection:
            connection.set_progress_handler(step, 1)
            connection.execute("BEGIN")
            for text, values in said:
                connection.execute(text, values).fetchall()
            connection.rollback()
        return steps

    async def _rows(self, text: str, values: Any) -> int:
        async with self._db.engine.connect() as connection:
            found = (await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", values)).scalar_one()
            await connection.rollback()
        (plan,) = orjson.loads(found) if isinstance(found, str) else found
        return round(sum(map(_read, _nodes(plan["Plan"]))))


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


def _read(node: Mapping[str, Any]) -> float:
    if "Relation Name" not in node and "Index Name" not in node:
        return 0
    refused = [node.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck")]
    return float((node["Actual Rows"] + sum(refused)) * node["Actual Loops"])


@asynccontextmanager
async def counted(db: Database) -> AsyncIterator[Reads]:
    said: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, text: str, values: Any, _context: Any, _many: Any) -> None:
        said.append((text, values))

    sa.event.listen(db.engine.sync_engine, "before_cursor_execute", note)
    try:
        yield Reads(db, said)
    finally:
        sa.event.remove(db.engine.sync_engine, "before_cursor_execute", note)
