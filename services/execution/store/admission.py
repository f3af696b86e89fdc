"""Who runs next, as the database knows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from libs import errors
from libs.database import Database
from services.execution.model.executions import Execution, Status
from services.execution.store.rows import to_execution
from services.execution.store.tables import executions


class SqlAdmissionStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def begin(self, execution: Execution) -> bool:
        """Makes a queued execution a running one; False while its session has another one before it."""
        return await self._db.finished(self._begin(execution))

    async def _begin(self, execution: Execution) -> bool:
        try:
            async with self._db.write() as connection:
                begun = await connection.execute(_begun(execution))
                if begun.rowcount:
                    return True
                found = await connection.execute(_mine(execution))
        except IntegrityError:
            return False
        if found.first() is None:
            raise errors.Unavailable("another process owns this execution", reason="EXECUTION_LOST")
        return False

    async def unfinished(self, tenant: str, session_id: str) -> Sequence[Execution]:
        """Executions of a session that have not ended, the oldest first."""
        query = sa.select(executions).where(*_of_session(executions, tenant, session_id))
        rows = await self._db.rows(query.order_by(executions.c.execution_id))
        return [to_execution(row) for row in rows]

    async def queue_position(self, execution: Execution) -> int:
        """How many of its tenant are queued before it, plus one."""
        before = sa.or_(
            executions.c.priority > execution.priority,
            sa.and_(
                executions.c.priority == execution.priority,
                executions.c.execution_id < execution.execution_id,
            ),
        )
        columns = executions.c
        queued = sa.and_(
            columns.status == Status.QUEUED, columns.end_time.is_(None), columns.tenant == execution.tenant
        )
        rows = await self._db.rows(sa.select(sa.func.count()).select_from(executions).where(queued, before))
        return int(rows[0][0]) + 1


def _mine(execution: Execution) -> sa.Select[Any]:
    return sa.select(executions.c.execution_id).where(*_queued(execution))


def _queued(execution: Execution) -> Sequence[sa.ColumnElement[bool]]:
    return (
        executions.c.tenant == execution.tenant,
        executions.c.execution_id == execution.execution_id,
        executions.c.attempts == execution.attempts,
        executions.c.status == Status.QUEUED,
    )


def _begun(execution: Execution) -> sa.Update:
    session_id = execution.session_id
    update = executions.update().where(*_queued(execution))
    if not session_id:
        return update.values(status=Status.RUNNING.value)
    other = executions.alias()
    earlier = sa.exists().where(
        *_of_session(other, execution.tenant, session_id), other.c.execution_id < execution.execution_id
    )
    # One that was continued has the session already.
    free = sa.or_(executions.c.session_held.is_not(None), ~earlier)
    return update.where(free).values(status=Status.RUNNING.value, session_held=session_id)


def _of_session(table: Any, tenant: str, session_id: str) -> Sequence[sa.ColumnElement[bool]]:
    return (table.c.tenant == tenant, table.c.session_id == session_id, table.c.end_time.is_(None))
