"""Runs that wait, and what ends a wait: an answer, a signal, the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from libs import errors
from libs.database import Database, aware
from services.execution.model.executions import Status
from services.execution.model.workflows import Parking, Signal
from services.execution.service.journal import LONG_AGO
from services.execution.store.tables import executions, jobs, signals

PARKED: Final = (Status.INPUT_REQUIRED.value, Status.WAITING.value)
_NEVER: Final = datetime(9000, 1, 1, tzinfo=UTC)


def clock(database: Database) -> Any:
    """The database's clock where it has one: those of several machines differ, and any of them may jump."""
    return datetime.now(UTC) if database.is_sqlite else sa.func.clock_timestamp(type_=sa.DateTime(timezone=True))


def parked(parking: Parking, values: Mapping[str, Any]) -> dict[str, Any]:
    """What changes in the row of a run that leaves its process; `values` are those of its question, if it has one."""
    until = parking.until or _NEVER
    waiting = {
        "since": datetime.now(UTC).isoformat(),
        **(values.get("waiting") or {}),
        "until": parking.until.isoformat() if parking.until else None,
        "signals": list(parking.signals),
    }
    expires = values.get("lease_time", _NEVER)
    wanted_gone = executions.c.cancel_reason.is_not(None)
    return {
        "status": values.get("status", Status.WAITING.value),
        "waiting": waiting,
        "owner": "",
        "lease_time": sa.case((wanted_gone, LONG_AGO), else_=min(until, expires)),
    }


async def wake_for_mail(connection: AsyncConnection, tenant: str, execution_id: str, parking: Parking) -> None:
    """A signal may have come while the run was about to leave its process."""
    if parking.signals and await _came(connection, tenant, execution_id, parking):
        await connection.execute(of_run(tenant, execution_id).values(lease_time=LONG_AGO))


async def _came(connection: AsyncConnection, tenant: str, execution_id: str, parking: Parking) -> bool:
    query = sa.select(signals.c.number).where(
        signals.c.tenant == tenant,
        signals.c.execution_id == execution_id,
        signals.c.number > parking.seen,
        signals.c.name.in_(parking.signals),
    )
    return (await connection.execute(query.limit(1))).first() is not None


async def locked(connection: AsyncConnection, tenant: str, execution_id: str, now: Any = None) -> Any:
    """The row of a run that nobody else changes meanwhile; with the time as `now`."""
    of = sa.and_(executions.c.tenant == tenant, executions.c.execution_id == execution_id)
    now = sa.literal(now, sa.DateTime(timezone=True)) if isinstance(now, datetime) else now
    what = sa.select(executions) if now is None else sa.select(executions, now.label("now"))
    row = (await connection.execute(what.where(of).with_for_update())).first()
    if row is None:
        raise errors.NotFound("execution", execution_id)
    return row


async def queue(connection: AsyncConnection, row: Any) -> None:
    """The run goes on where a process takes it up; the time that it has waited is none of its own. What it had asked
    and the time for which it is woken stay with it.
    """
    now, waiting = datetime.now(UTC), row.waiting
    since = datetime.fromisoformat(waiting["since"])
    asked = [question["input_id"] for question in waiting.get("requests", ())]
    kept = {"asked": asked, "woken": waiting.get("until") if _is_due(row) else None}
    queued = {"status": Status.QUEUED.value, "owner": "", "lease_time": LONG_AGO, "waiting": kept}
    await connection.execute(of_run(row.tenant, row.execution_id).values(**queued))
    job = sa.and_(jobs.c.tenant == row.tenant, jobs.c.execution_id == row.execution_id)
    (deadline,) = (await connection.execute(sa.select(jobs.c.deadline).where(job))).one()
    waited = max(now - since, timedelta())
    await connection.execute(jobs.update().where(job).values(deadline=aware(deadline) + waited))


def _is_due(row: Any) -> bool:
    """Whether the time has come, by the clock that has set `now` beside the row."""
    until = row.waiting.get("until")
    return bool(until) and "now" in row._mapping and datetime.fromisoformat(until) <= aware(row.now)


def is_for_nothing(row: Any) -> bool:
    """Nobody has answered, and neither a time nor a signal lets the run go on."""
    return row.status == Status.INPUT_REQUIRED and not _is_due(row) and aware(row.lease_time) > LONG_AGO


def of_run(tenant: str, execution_id: str) -> sa.Update:
    return executions.update().where(executions.c.tenant == tenant, executions.c.execution_id == execution_id)


def signal_row(tenant: str, execution_id: str, signal: Signal) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "execution_id": execution_id,
        "number": signal.number,
        "signal_id": signal.signal_id,
        "name": signal.name,
        "payload": {"value": signal.payload},
        "subject": signal.subject,
        "create_time": datetime.now(UTC),
    }


def to_signals(rows: Sequence[Any]) -> list[Signal]:
    return [Signal(row.number, row.name, row.payload["value"], row.signal_id, row.subject) for row in rows]
