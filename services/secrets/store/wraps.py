"""Wrapping tokens in SQL: by their digests, without a value."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from libs.database import Database, aware
from services.secrets.model import Holder, Owner, Wrap
from services.secrets.store.tables import wraps


class SqlWrapStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def add(self, wrap: Wrap) -> None:
        columns = {
            "tenant": wrap.owner.tenant,
            "digest": wrap.digest,
            "maker_service": wrap.maker.service,
            "maker_subject": wrap.maker.subject,
            "subject": wrap.owner.subject,
            "provider": wrap.provider,
            "secret_id": wrap.secret_id,
            "spent": wrap.spent,
            "create_time": wrap.create_time,
            "expire_time": wrap.expire_time,
        }
        await self._db.finished(self._execute(wraps.insert().values(columns)))

    async def get(self, tenant: str, digest: str) -> Wrap | None:
        rows = await self._db.rows(sa.select(wraps).where(wraps.c.tenant == tenant, wraps.c.digest == digest))
        return _wrap(rows[0]) if rows else None

    async def spend(self, wrap: Wrap) -> bool:
        here = (wraps.c.tenant == wrap.owner.tenant) & (wraps.c.digest == wrap.digest) & ~wraps.c.spent
        return await self._db.finished(self._execute(wraps.update().where(here).values(spent=True))) == 1

    async def forget(self, before: datetime) -> None:
        await self._execute(wraps.delete().where(wraps.c.expire_time < before))

    async def _execute(self, statement: sa.Executable) -> int:
        async with self._db.write() as connection:
            return int((await connection.execute(statement)).rowcount)


def _wrap(row: Any) -> Wrap:
    return Wrap(
        digest=row.digest,
        maker=Holder(row.maker_service, row.maker_subject),
        owner=Owner(row.tenant, row.subject),
        provider=row.provider,
        secret_id=row.secret_id,
        create_time=aware(row.create_time),
        expire_time=aware(row.expire_time),
        spent=row.spent,
    )
