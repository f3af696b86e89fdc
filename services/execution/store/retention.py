"""Events and journals of executions that ended long ago: put together, and forgotten."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import Database, whole
from services.execution.store.rows import compacted_row, is_text
from services.execution.store.session_tables import pins
from services.execution.store.tables import answers, events, executions, jobs, journal, signals, tool_calls


class SqlRetentionStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    @whole
    async def forget(self, before: datetime, limit: int, *, tenant: str | None, besides: Collection[str]) -> int:
        """The last event is kept, for it says how the execution ended."""
        wanted = _ended(before, tenant, besides).where(
            sa.exists().where(jobs.c.tenant == executions.c.tenant, jobs.c.execution_id == executions.c.execution_id)
        )
        if not await self._db.rows(wanted.limit(1)):
            return 0
        async with self._db.write() as connection:
            found = await connection.execute(wanted.limit(limit).with_for_update(skip_locked=True, of=executions))
            return sum([await _forgotten(connection, row) for row in found.all()])

    @whole
    async def forget_calls(self, before: datetime, *, tenant: str | None, besides: Collection[str]) -> None:
        old = tool_calls.c.time < before
        mine = tool_calls.c.tenant == tenant if tenant else tool_calls.c.tenant.not_in(besides)
        if await self._db.rows(sa.select(tool_calls.c.record_id).where(old, mine).limit(1)):
            async with self._db.write() as connection:
                await connection.execute(tool_calls.delete().where(old, mine))

    @whole
    async def compact(self, before: datetime, limit: int) -> int:
        wanted = _ended(before, None, ()).where(executions.c.compacted.is_(False))
        if not await self._db.rows(wanted.limit(1)):
            return 0
        async with self._db.write() as connection:
            found = await connection.execute(wanted.limit(limit).with_for_update(skip_locked=True))
            return sum([await _compacted(connection, row) for row in found.all()])


def _ended(before: datetime, tenant: str | None, besides: Collection[str]) -> sa.Select[Any]:
    query = sa.select(executions.c.tenant, executions.c.execution_id, executions.c.last_sequence)
    query = query.where(executions.c.end_time < before).order_by(executions.c.end_time)
    return query.where(executions.c.tenant == tenant if tenant else executions.c.tenant.not_in(besides))


def _of(table: sa.Table, row: Any) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.tenant == row.tenant, table.c.execution_id == row.execution_id)


async def _forgotten(connection: AsyncConnection, row: Any) -> int:
    await connection.execute(events.delete().where(_of(events, row), events.c.sequence < row.last_sequence))
    for table in (journal, jobs, answers, signals, pins):
        await connection.execute(table.delete().where(_of(table, row)))
    oldest = executions.update().where(_of(executions, row)).values(oldest_sequence=row.last_sequence)
    await connection.execute(oldest)
    return 1


async def _compacted(connection: AsyncConnection, row: Any) -> int:
    query = sa.select(events).where(_of(events, row)).order_by(events.c.sequence)
    for key, group in groupby(await connection.execute(query), lambda one: (one.kind, one.scope, tuple(one.path))):
        if is_text(key[0]):
            await _put_together(connection, row, list(group))
    await connection.execute(executions.update().where(_of(executions, row)).values(compacted=True))
    return 1


async def _put_together(connection: AsyncConnection, row: Any, group: Sequence[Any]) -> None:
    if len(group) < 2:
        return
    first, last = group[0].sequence, group[-1].sequence
    await connection.execute(events.delete().where(_of(events, row), events.c.sequence.between(first, last)))
    await connection.execute(events.insert().values(compacted_row(group)))
