"""Executions and the leases on them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.exc import IntegrityError

from libs.drivers import Prepared
from services.execution.model.events import ContentDelta, LoggedEvent, ReasoningDelta
from services.execution.model.executions import Execution, Status
from services.execution.model.journal import Step
from services.execution.model.turns import Assignment
from services.execution.service.journal import LONG_AGO
from services.execution.store import accepting, sessions
from services.execution.store.calls import call_out
from services.execution.store.events import LIVE, SqlEventStore, running
from services.execution.store.rows import columns, event_row, job_row, to_assignment, to_execution, to_step
from services.execution.store.tables import events, executions, jobs, journal
from services.execution.store.waits import PARKED


class SqlExecutionStore(SqlEventStore):
    async def accept(
        self, execution: Execution, started: LoggedEvent | None, assignment: Assignment, lease: float
    ) -> bool:
        of = (execution.tenant, execution.execution_id)
        rows: dict[str, Any] = {"executions": columns(execution), "jobs": job_row(*of, assignment)}
        if started:
            rows["events"] = event_row(*of, started)
        try:
            await accepting.insert(self._db, {**rows, **sessions.begun(execution)}, timedelta(seconds=lease))
        except IntegrityError:
            return False
        return True

    async def get(self, tenant: str, execution_id: str) -> Execution | None:
        return await self._one(_of(tenant).where(executions.c.execution_id == execution_id))

    async def by_request(self, tenant: str, request_id: str) -> Execution | None:
        return await self._one(_of(tenant).where(executions.c.request_id == request_id))

    async def _one(self, query: sa.Select[Any]) -> Execution | None:
        rows = await self._db.rows(query)
        return to_execution(rows[0]) if rows else None

    async def request_cancel(self, tenant: str, execution_id: str, reason: str) -> None:
        """One that holds no process is found by its lease."""
        lease = sa.case((executions.c.status.in_(PARKED), LONG_AGO), else_=executions.c.lease_time)
        await self._change(tenant, execution_id, cancel_reason=reason, lease_time=lease)

    async def touch(self, tenant: str, execution_id: str, at: datetime) -> None:
        await self._change(tenant, execution_id, watch_time=at)

    async def _change(self, tenant: str, execution_id: str, **values: Any) -> None:
        of = (executions.c.tenant == tenant, executions.c.execution_id == execution_id)
        not_ended = executions.update().where(*of, executions.c.end_time.is_(None))
        await self._db.finished(self._write(not_ended.values(values)))

    async def _write(self, statement: sa.Update) -> None:
        async with self._db.write() as connection:
            await connection.execute(statement)

    async def assignment(self, tenant: str, execution_id: str) -> Assignment | None:
        query = sa.select(jobs).where(jobs.c.tenant == tenant, jobs.c.execution_id == execution_id)
        rows = await self._db.rows(query)
        return to_assignment(rows[0]) if rows else None

    async def steps(self, tenant: str, execution_id: str) -> Sequence[Step]:
        of = sa.and_(journal.c.tenant == tenant, journal.c.execution_id == execution_id)
        return [to_step(row) for row in await self._db.rows(sa.select(journal).where(of).order_by(journal.c.step))]

    async def partial_from(self, tenant: str, execution_id: str) -> Mapping[str, int]:
        """By scope, the first text or reasoning after its last completed step."""
        last = sa.func.max(journal.c.end_sequence).label("last")
        completed = (
            sa.select(journal.c.scope, last)
            .where(journal.c.tenant == tenant, journal.c.execution_id == execution_id, journal.c.end_time.is_not(None))
            .group_by(journal.c.scope)
            .subquery()
        )
        query = (
            sa.select(events.c.scope, sa.func.min(events.c.sequence).label("first"))
            .outerjoin(completed, completed.c.scope == events.c.scope)
            .where(
                events.c.tenant == tenant,
                events.c.execution_id == execution_id,
                events.c.sequence > sa.func.coalesce(completed.c.last, 0),
                events.c.kind.in_([ContentDelta.kind, ReasoningDelta.kind]),
            )
            .group_by(events.c.scope)
        )
        return {row.scope: row.first for row in await self._db.rows(query)}

    async def renew(self, owner: str, execution_ids: Collection[str], lease: float) -> Mapping[str, str | None]:
        if not execution_ids:
            return {}
        wanted, seconds, renewed = list(execution_ids), timedelta(seconds=lease), _renewed(self._db.is_sqlite)
        async with self._many:
            if self._db.is_sqlite:
                row = renewed.row({"ids": orjson.dumps(wanted).decode(), "until": self._now() + seconds, "by": owner})
                found: Sequence[Any] = await self._db.transact(
                    lambda cursor: cursor.execute(renewed.sql, row).fetchall()
                )
            else:
                row = renewed.row({"ids": wanted, "until": seconds, "by": owner})
                found = await self._db.fetch(renewed.sql, *row)
        return {one[0]: one[1] for one in found}

    async def claim(self, owner: str, lease: float, *, besides: Collection[str], limit: int) -> Sequence[Execution]:
        lapsed = (
            sa.select(executions.c.tenant, executions.c.execution_id)
            .where(executions.c.status.in_(LIVE), executions.c.lease_time < self._now())
            .where(executions.c.execution_id.not_in(besides))
            .order_by(executions.c.lease_time)
            .limit(limit)
        )
        if not await self._db.rows(lapsed):
            return []
        async with self._many, self._db.write() as connection:
            found = (await connection.execute(lapsed.with_for_update(skip_locked=True))).all()
            until = self._now() + timedelta(seconds=lease)
            return [
                to_execution((await connection.execute(_claimed(row, owner, until).returning(executions))).one())
                for row in found
            ]

    async def release(self, execution: Execution) -> None:
        mine = running(execution.tenant, execution.execution_id).where(executions.c.attempts == execution.attempts)
        async with self._db.write() as connection:
            await connection.execute(mine.values(owner="", lease_time=LONG_AGO))
            await call_out(self._db, connection)


@cache
def _renewed(is_sqlite: bool) -> Prepared:
    """Twice a second, as long as anything runs."""
    if is_sqlite:
        until: Any = sa.bindparam("until", type_=executions.c.lease_time.type)
        ids: Any = sa.select(sa.func.json_each(sa.bindparam("ids", type_=sa.Text)).table_valued("value").c.value)
    else:
        until = sa.func.clock_timestamp() + sa.bindparam("until", type_=sa.Interval)
        ids = sa.select(sa.func.unnest(sa.bindparam("ids", type_=postgresql.ARRAY(sa.Text))))
    mine = executions.update().where(
        executions.c.owner == sa.bindparam("by"),
        sa.text("executions.status IN ('queued', 'running')"),
        executions.c.execution_id.in_(ids),
    )
    told = mine.values(lease_time=until).returning(executions.c.execution_id, executions.c.cancel_reason)
    return Prepared(told, sqlite.dialect() if is_sqlite else asyncpg.dialect())  # type: ignore[no-untyped-call]


def _claimed(row: Any, owner: str, until: Any) -> sa.Update:
    """A run that was handed over, or waited, has killed nobody."""
    died = sa.and_(executions.c.owner != "", executions.c.status == Status.RUNNING)
    return (
        executions.update()
        .where(executions.c.tenant == row.tenant, executions.c.execution_id == row.execution_id)
        .values(
            owner=owner,
            lease_time=until,
            attempts=executions.c.attempts + 1,
            deaths=executions.c.deaths + sa.case((died, 1), else_=0),
        )
    )


def _of(tenant: str) -> sa.Select[Any]:
    return sa.select(executions).where(executions.c.tenant == tenant)
