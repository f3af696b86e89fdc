"""Events, committed in groups."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import Database
from services.execution.model.events import LoggedEvent
from services.execution.model.executions import Status
from services.execution.service.record import Append
from services.execution.store import appending, sessions
from services.execution.store.appending import is_plain, keep_steps
from services.execution.store.calls import is_watched, tell
from services.execution.store.rows import event_row, progress, step_row, to_events
from services.execution.store.tables import events, executions, tool_calls
from services.execution.store.tool_calls import record_row
from services.execution.store.waits import clock, parked, wake_for_mail

LIVE: Final = (Status.QUEUED.value, Status.RUNNING.value)


class SqlEventStore:
    def __init__(self, database: Database) -> None:
        self._db = database
        # Both lock many rows, in no common order: side by side they could deadlock.
        self._many = asyncio.Lock()

    def _now(self) -> Any:
        return clock(self._db)

    async def events(self, tenant: str, execution_id: str, *, after: int, limit: int) -> Sequence[LoggedEvent]:
        query = (
            sa.select(events)
            .where(events.c.tenant == tenant, events.c.execution_id == execution_id, events.c.sequence > after)
            .order_by(events.c.sequence)
            .limit(limit)
        )
        found = [event for row in await self._db.rows(query) for event in to_events(row)]
        return [event for event in found if event.sequence > after]

    async def append(self, appends: Sequence[Append]) -> set[str]:
        plain = [one for one in appends if is_plain(one)]
        async with self._many:
            lost = await appending.append(self._db, plain) if plain else set()
            if lost and not self._db.is_sqlite:
                lost = await self._db.finished(self._not_there([one for one in plain if one.execution_id in lost]))
            if whole := [one for one in appends if not is_plain(one)]:
                lost |= await self._db.finished(self._append(whole))
        return lost

    async def _not_there(self, appends: Sequence[Append]) -> set[str]:
        async with self._db.read() as connection:
            return {one.execution_id for one in appends if not await _is_there(connection, one)}

    async def _append(self, appends: Sequence[Append]) -> set[str]:
        lost: set[str] = set()
        rows: list[dict[str, Any]] = []
        steps: list[dict[str, Any]] = []
        records: list[dict[str, Any]] = []
        watched: list[str] = []
        async with self._db.write() as connection:
            for append in sorted(appends, key=lambda one: one.execution_id):
                if not await self._move_on(connection, append, watched):
                    if not await _is_there(connection, append):
                        lost.add(append.execution_id)
                    continue
                rows += [event_row(append.tenant, append.execution_id, event) for event in append.events]
                steps += [step_row(append.tenant, append.execution_id, step) for step in append.steps]
                records += [record_row(append.tenant, step.record) for step in append.steps if step.record]
                if append.parking:
                    await wake_for_mail(connection, append.tenant, append.execution_id, append.parking)
                if append.kept:
                    await sessions.keep(connection, append.tenant, append.execution_id, append.kept)
            if rows:
                await connection.execute(events.insert(), rows)
            if steps:
                insert = sqlite.insert if self._db.is_sqlite else postgresql.insert
                await connection.execute(keep_steps(insert), steps)
            if records:
                await connection.execute(tool_calls.insert(), records)
            if watched:
                await tell(connection, watched)
        return lost

    async def _move_on(self, connection: AsyncConnection, append: Append, watched: list[str]) -> bool:
        """False where another attempt has it, or has had it."""
        if self._db.is_sqlite:
            return (await connection.execute(_moved_on(append))).rowcount > 0
        row = (await connection.execute(_moved_on(append).returning(executions.c.watch_time))).first()
        if row is not None and append.events and is_watched(row):
            watched.append(append.execution_id)
        return row is not None


def _moved_on(append: Append) -> sa.Update:
    """Refuses who is no longer the one that runs it."""
    values = progress(append.events[-1]) if append.events else {}
    if any(step.end_time for step in append.steps):
        values["deaths"] = 0
    if append.parking:
        values |= parked(append.parking, values)
    mine = running(append.tenant, append.execution_id).where(executions.c.attempts == append.attempt)
    if append.events:
        mine = mine.where(executions.c.last_sequence == append.events[0].sequence - 1)
    return mine.values(usage=append.usage, **values)


async def _is_there(connection: AsyncConnection, append: Append) -> bool:
    """It may be: then the answer of the database got lost, and this is the second attempt."""
    if not append.events:
        return False
    query = sa.select(executions.c.last_sequence, executions.c.attempts).where(
        executions.c.tenant == append.tenant, executions.c.execution_id == append.execution_id
    )
    row = (await connection.execute(query)).first()
    return row is not None and tuple(row) == (append.events[-1].sequence, append.attempt)


def running(tenant: str, execution_id: str) -> sa.Update:
    return executions.update().where(
        executions.c.tenant == tenant,
        executions.c.execution_id == execution_id,
        executions.c.status.in_(LIVE),
    )
