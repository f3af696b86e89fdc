"""The states of sessions: each change is a row, so that a state can be had as it was at any time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import aware
from services.execution.model.sessions import Author, MadeChange, State, StateChange, change_of, replayed
from services.execution.service.sessions import ChangeQuery
from services.execution.store.session_tables import session_changes


async def record(
    connection: AsyncConnection, tenant: str, session_id: str, version: int, before: State, after: State, by: Author
) -> None:
    """Writes down that `before` has become `after`."""
    change = change_of(before, after, version)
    await connection.execute(
        session_changes.insert().values(
            tenant=tenant,
            session_id=session_id,
            version=version,
            set=dict(change.set),
            removed=list(change.removed),
            snapshot=None if change.snapshot is None else dict(change.snapshot),
            subject=by.subject,
            agent_id=by.agent_id,
            execution_id=by.execution_id or None,
            call_id=by.call_id or None,
            create_time=datetime.now(UTC),
        )
    )


async def made_by(connection: AsyncConnection, tenant: str, session_id: str, by: Author) -> int | None:
    """The version that this call has made before."""
    query = sa.select(session_changes.c.version).where(
        *_of(tenant, session_id),
        session_changes.c.execution_id == by.execution_id,
        session_changes.c.call_id == by.call_id,
    )
    version: int | None = await connection.scalar(query)
    return version


async def version_at(connection: AsyncConnection, tenant: str, session_id: str, time: datetime) -> int:
    version = session_changes.c.version
    of = (*_of(tenant, session_id), version > 0)  # said so that SQLite reads by session, not by time
    query = sa.select(version).where(*of, session_changes.c.create_time <= time)
    return await connection.scalar(query.order_by(version.desc()).limit(1)) or 0


async def state_of(connection: AsyncConnection, tenant: str, session_id: str, version: int) -> State:
    up_to = (*_of(tenant, session_id), session_changes.c.version <= version)
    snapshot = sa.select(sa.func.max(session_changes.c.version)).where(*up_to, session_changes.c.snapshot.is_not(None))
    first = await connection.scalar(snapshot) or 1
    query = sa.select(session_changes).where(*up_to, session_changes.c.version >= first)
    rows = await connection.execute(query.order_by(session_changes.c.version))
    return replayed([_change(row) for row in rows])


async def changes(connection: AsyncConnection, tenant: str, query: ChangeQuery, limit: int) -> Sequence[MadeChange]:
    """The newest first: within a session by their number, which needs no other order."""
    columns = session_changes.c
    statement = sa.select(session_changes).where(columns.tenant == tenant)
    if query.agent_id:
        statement = statement.where(columns.agent_id == query.agent_id)
    if query.session_id:
        statement = statement.where(columns.session_id == query.session_id).order_by(columns.version.desc())
        statement = statement.where(columns.version < query.before[2]) if query.before else statement
    else:
        place = (columns.create_time, columns.session_id, columns.version)
        statement = statement.order_by(*(column.desc() for column in place))
        statement = statement.where(*_older(*query.before)) if query.before else statement
    return [_made(row) for row in await connection.execute(statement.limit(limit))]


def _older(time: datetime, session_id: str, version: int) -> Sequence[sa.ColumnElement[bool]]:
    """The first says of the second where in the index to begin."""
    columns = session_changes.c
    earlier = sa.and_(columns.session_id == session_id, columns.version < version)
    sooner = sa.and_(columns.create_time == time, sa.or_(columns.session_id < session_id, earlier))
    return columns.create_time <= time, sa.or_(columns.create_time < time, sooner)


def _made(row: Any) -> MadeChange:
    by = Author(row.subject, row.execution_id or "", row.agent_id, row.call_id or "")
    return MadeChange(row.session_id, _change(row), by, aware(row.create_time))


def _of(tenant: str, session_id: str) -> tuple[Any, Any]:
    return session_changes.c.tenant == tenant, session_changes.c.session_id == session_id


def _change(row: Any) -> StateChange:
    columns = row._mapping
    return StateChange(row.version, columns["set"], row.removed, row.snapshot)
