"""What is forgotten, in SQL: never a revision, nor an entry of the audit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import Database, aware
from services.registry.store.tables import requests, revisions, tenants, upkeep

_TASK: Final = "retention"


class SqlRetentionStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def claim(self, now: datetime, every: timedelta) -> bool:
        return await self._db.finished(self._claim(now, every))

    async def _claim(self, now: datetime, every: timedelta) -> bool:
        insert: Any = (sqlite if self._db.is_sqlite else postgresql).insert(upkeep)
        # A time far ahead was written by a clock that was wrong.
        due = sa.or_(upkeep.c.time <= now - every, upkeep.c.time > now + every)
        upsert = insert.values(task=_TASK, time=now).on_conflict_do_update(
            index_elements=[upkeep.c.task], set_={"time": now}, where=due
        )
        async with self._db.write() as connection:
            return (await connection.execute(upsert.returning(upkeep.c.task))).first() is not None

    async def forget_requests(self, before: datetime, limit: int) -> int:
        return await self._db.finished(self._forget_requests(before, limit))

    async def _forget_requests(self, before: datetime, limit: int) -> int:
        key = list(requests.primary_key)
        oldest = sa.select(*key).where(requests.c.create_time < before).order_by(requests.c.create_time).limit(limit)
        async with self._db.write() as connection:
            result = await connection.execute(requests.delete().where(sa.tuple_(*key).in_(oldest)))
            return result.rowcount

    async def longer_than(self, kept: int, *, after: str, limit: int) -> Sequence[str]:
        query = sa.select(tenants.c.tenant).where(tenants.c.tenant > after)
        query = query.where(tenants.c.position - tenants.c.history_start > kept)
        return [row.tenant for row in await self._db.rows(query.order_by(tenants.c.tenant).limit(limit))]

    async def forget_changes(self, tenant: str, before: datetime, kept: int, limit: int) -> int:
        return await self._db.finished(self._forget_changes(tenant, before, kept, limit))

    async def _forget_changes(self, tenant: str, before: datetime, kept: int, limit: int) -> int:
        async with self._db.write() as connection:
            start = await _end_of_old(connection, tenant, before, kept, limit)
            if start is None:
                return 0
            later = tenants.update().where(tenants.c.tenant == tenant, tenants.c.history_start < start)
            return (await connection.execute(later.values(history_start=start))).rowcount


async def _end_of_old(connection: AsyncConnection, tenant: str, before: datetime, kept: int, limit: int) -> int | None:
    """The last of the oldest changes, one after the other, that are all old enough: a clock may have gone back."""
    query = (
        sa.select(revisions.c.position, revisions.c.update_time)
        .join(tenants, tenants.c.tenant == revisions.c.tenant)
        .where(revisions.c.tenant == tenant, revisions.c.position > tenants.c.history_start)
        .where(revisions.c.position <= tenants.c.position - kept)
        .order_by(revisions.c.position)
        .limit(limit)
    )
    end = None
    for row in await connection.execute(query):
        if aware(row.update_time) >= before:
            break
        end = row.position
    return end
