"""Accepting an execution: a row in each of a few tables, in one hop or one round trip."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import asyncpg

from libs.database import Database
from libs.drivers import Prepared
from services.execution.store.tables import metadata

Rows = Mapping[str, Mapping[str, Any]]
"""By the name of the table."""

_CHANGED: Final[Mapping[str, tuple[str, ...]]] = {"sessions": ("update_time",), "session_agents": ()}
"""What changes of a row that may be there already."""


async def insert(database: Database, rows: Rows, lease: timedelta) -> None:
    """Commits the rows; the execution's gets its lease, by the database's clock where it has one."""
    if database.is_sqlite:
        execution = {**rows["executions"], "lease_time": datetime.now(UTC) + lease}
        await database.transact(partial(_on_sqlite, {**rows, "executions": execution}))
        return
    rows = {**rows, "executions": {**rows["executions"], "lease_time": lease}}
    statement = _together(tuple((table, tuple(row)) for table, row in rows.items()))
    given = {name: value for table, row in rows.items() for name, value in _named(table, row).items()}
    await database.fetch(statement.sql, *statement.row(given))


def _on_sqlite(rows: Rows, cursor: sqlite3.Cursor) -> None:
    for table, row in rows.items():
        statement = _alone(table, tuple(row))
        cursor.execute(statement.sql, statement.row(_named(table, row)))


@cache
def _alone(table: str, columns: tuple[str, ...]) -> Prepared:
    return Prepared(_inserted(sqlite.insert, table, columns), sqlite.dialect())


@cache
def _together(tables: tuple[tuple[str, tuple[str, ...]], ...]) -> Prepared:
    first, *others = (_inserted(postgresql.insert, table, columns) for table, columns in tables)
    ctes = (other.cte(f"other_{number}") for number, other in enumerate(others))
    return Prepared(first.add_cte(*ctes), asyncpg.dialect())  # type: ignore[no-untyped-call]


def _inserted(insert: Any, name: str, columns: tuple[str, ...]) -> Any:
    table = metadata.tables[name]
    values: dict[str, Any] = {one: sa.bindparam(f"{name}_{one}", type_=table.c[one].type) for one in columns}
    if insert is postgresql.insert and "lease_time" in values:
        values["lease_time"] = sa.func.clock_timestamp() + sa.bindparam(f"{name}_lease_time", type_=sa.Interval)
    made = insert(table).values(values)
    if name not in _CHANGED:
        return made
    changed = {one: made.excluded[one] for one in _CHANGED[name]}
    if not changed:
        return made.on_conflict_do_nothing()
    return made.on_conflict_do_update(index_elements=list(table.primary_key), set_=changed)


def _named(table: str, row: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{table}_{name}": value for name, value in row.items()}
