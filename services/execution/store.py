"""Executions and their events in SQL."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError

from libs.database import Database, aware
from services.execution.model import (
    EVENTS,
    TERMINAL_STATUS,
    Event,
    Execution,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    LoggedEvent,
    Status,
)
from services.execution.service.log import Append

metadata = sa.MetaData()
_json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_time = sa.DateTime(timezone=True)

executions = sa.Table(
    "executions",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("execution_id", sa.Text, primary_key=True),
    sa.Column("agent_id", sa.Text, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("input", sa.Text, nullable=False),
    sa.Column("output", sa.Text, nullable=False),
    sa.Column("structured_output", _json),
    sa.Column("error", _json),
    sa.Column("usage", _json, nullable=False),
    sa.Column("session_id", sa.Text, nullable=False),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("metadata", _json, nullable=False),
    sa.Column("request_id", sa.Text),
    sa.Column("request_digest", sa.Text, nullable=False),
    sa.Column("last_sequence", sa.BigInteger, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("lease_time", _time, nullable=False),
    sa.Column("cancel_reason", sa.Text),
    sa.Column("watch_time", _time),
    sa.Column("create_time", _time, nullable=False),
    sa.Column("end_time", _time),
    sa.UniqueConstraint("tenant", "request_id", name="executions_request"),
    sa.Index("executions_running", "status", "lease_time"),
)
events = sa.Table(
    "events",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("execution_id", sa.Text, primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True),
    sa.Column("time", _time, nullable=False),
    sa.Column("path", _json, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("payload", _json, nullable=False),
)


class SqlExecutionStore:
    def __init__(self, database: Database) -> None:
        self._db = database
        # Both lock many rows, in no common order: side by side they could deadlock.
        self._many = asyncio.Lock()

    async def accept(self, execution: Execution, started: LoggedEvent, lease: datetime) -> bool:
        try:
            async with self._db.write() as connection:
                await connection.execute(executions.insert().values(lease_time=lease, **_columns(execution)))
                await connection.execute(
                    events.insert().values(_event_row(execution.tenant, execution.execution_id, started))
                )
        except IntegrityError:
            return False
        return True

    async def get(self, tenant: str, execution_id: str) -> Execution | None:
        return await self._one(_of(tenant).where(executions.c.execution_id == execution_id))

    async def by_request(self, tenant: str, request_id: str) -> Execution | None:
        return await self._one(_of(tenant).where(executions.c.request_id == request_id))

    async def _one(self, query: sa.Select[Any]) -> Execution | None:
        async with self._db.read() as connection:
            row = (await connection.execute(query)).first()
        return _execution(row) if row else None

    async def events(self, tenant: str, execution_id: str, *, after: int, limit: int) -> Sequence[LoggedEvent]:
        query = (
            sa.select(events)
            .where(events.c.tenant == tenant, events.c.execution_id == execution_id, events.c.sequence > after)
            .order_by(events.c.sequence)
            .limit(limit)
        )
        async with self._db.read() as connection:
            return [_event(row) for row in await connection.execute(query)]

    async def append(self, appends: Sequence[Append]) -> set[str]:
        lost: set[str] = set()
        rows: list[dict[str, Any]] = []
        async with self._many, self._db.write() as connection:
            for append in appends:
                if not append.events:
                    continue
                owned = await connection.execute(
                    _running(append.tenant, append.execution_id)
                    .where(executions.c.owner == append.owner)
                    .values(usage=append.usage, **_progress(append.events[-1]))
                )
                if owned.rowcount == 0:
                    lost.add(append.execution_id)
                    continue
                rows += [_event_row(append.tenant, append.execution_id, event) for event in append.events]
            if rows:
                await connection.execute(events.insert(), rows)
        return lost

    async def request_cancel(self, tenant: str, execution_id: str, reason: str) -> None:
        async with self._db.write() as connection:
            await connection.execute(_running(tenant, execution_id).values(cancel_reason=reason))

    async def touch(self, tenant: str, execution_id: str, at: datetime) -> None:
        async with self._db.write() as connection:
            await connection.execute(_running(tenant, execution_id).values(watch_time=at))

    async def renew(self, owner: str, execution_ids: Collection[str], lease: datetime) -> Sequence[Execution]:
        if not execution_ids:
            return []
        mine = sa.and_(
            executions.c.owner == owner,
            executions.c.status == Status.RUNNING,
            executions.c.execution_id.in_(execution_ids),
        )
        async with self._many, self._db.write() as connection:
            renewed = await connection.execute(executions.update().where(mine).values(lease_time=lease))
            if renewed.rowcount == 0:
                return []
            wanted = sa.select(executions).where(mine, executions.c.cancel_reason.is_not(None))
            return [_execution(row) for row in await connection.execute(wanted)]

    async def lapsed(self, now: datetime) -> Sequence[Execution]:
        query = sa.select(executions).where(executions.c.status == Status.RUNNING, executions.c.lease_time < now)
        async with self._db.read() as connection:
            return [_execution(row) for row in await connection.execute(query.limit(100))]

    async def close(self, execution: Execution, event: Event) -> None:
        last = LoggedEvent(execution.last_sequence + 1, datetime.now(UTC), (execution.agent_id,), event)
        async with self._db.write() as connection:
            closed = await connection.execute(
                _running(execution.tenant, execution.execution_id)
                .where(
                    executions.c.owner == execution.owner,
                    executions.c.last_sequence == execution.last_sequence,
                    executions.c.lease_time < last.time,
                )
                .values(**_progress(last))
            )
            if closed.rowcount:
                await connection.execute(
                    events.insert().values(_event_row(execution.tenant, execution.execution_id, last))
                )


def _of(tenant: str) -> sa.Select[Any]:
    return sa.select(executions).where(executions.c.tenant == tenant)


def _running(tenant: str, execution_id: str) -> sa.Update:
    return executions.update().where(
        executions.c.tenant == tenant,
        executions.c.execution_id == execution_id,
        executions.c.status == Status.RUNNING,
    )


def _progress(last: LoggedEvent) -> dict[str, Any]:
    """What the last event of a group changes in its execution's row."""
    values: dict[str, Any] = {"last_sequence": last.sequence}
    if last.event.terminal:
        values |= {"status": TERMINAL_STATUS[type(last.event)].value, "end_time": last.time}
    match last.event:
        case ExecutionCompleted(output=output, structured_output=structured):
            values |= {"output": output, "structured_output": structured}
        case ExecutionFailed(error=error):
            values["error"] = error
        case ExecutionCancelled(reason=reason):
            values["cancel_reason"] = reason
    return values


def _event_row(tenant: str, execution_id: str, logged: LoggedEvent) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "execution_id": execution_id,
        "sequence": logged.sequence,
        "time": logged.time,
        "path": list(logged.path),
        "kind": logged.event.kind,
        "payload": logged.event.to_dict(),
    }


def _event(row: Any) -> LoggedEvent:
    return LoggedEvent(row.sequence, aware(row.time), tuple(row.path), EVENTS[row.kind](**row.payload))


def _columns(execution: Execution) -> dict[str, Any]:
    return {
        "tenant": execution.tenant,
        "execution_id": execution.execution_id,
        "agent_id": execution.agent_id,
        "revision": execution.revision,
        "status": execution.status.value,
        "input": execution.input,
        "output": "",
        "usage": dict(execution.usage),
        "session_id": execution.session_id,
        "user_id": execution.user_id,
        "metadata": dict(execution.metadata),
        "request_id": execution.request_id or None,
        "request_digest": execution.request_digest,
        "last_sequence": execution.last_sequence,
        "owner": execution.owner,
        "create_time": execution.create_time,
    }


def _execution(row: Any) -> Execution:
    columns = row._mapping
    return Execution(
        tenant=row.tenant,
        execution_id=row.execution_id,
        agent_id=row.agent_id,
        revision=row.revision,
        status=Status(row.status),
        input=row.input,
        create_time=aware(row.create_time),
        owner=row.owner,
        session_id=row.session_id,
        user_id=row.user_id,
        metadata=columns["metadata"],
        request_id=row.request_id or "",
        request_digest=row.request_digest,
        output=row.output,
        structured_output=row.structured_output,
        error=row.error,
        usage=row.usage,
        last_sequence=row.last_sequence,
        end_time=aware(row.end_time) if row.end_time else None,
        cancel_reason=row.cancel_reason,
        watch_time=aware(row.watch_time) if row.watch_time else None,
    )
