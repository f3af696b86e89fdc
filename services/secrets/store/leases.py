"""Leases in SQL, where every process sees the same."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import Database, aware, whole
from services.secrets.model import Holder, Lease, Owner
from services.secrets.store.tables import leases


class SqlLeaseStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def add(self, lease: Lease) -> bool:
        async def change(connection: AsyncConnection) -> bool:
            if lease.parent_id and not await _keep(connection, lease):
                return False
            await connection.execute(leases.insert().values(_columns(lease)))
            return True

        return await self._db.finished(self._change(change))

    async def get(self, tenant: str, lease_id: str) -> Lease | None:
        rows = await self._db.rows(sa.select(leases).where(_at(tenant, lease_id)))
        return _lease(rows[0]) if rows else None

    async def prolong(self, lease: Lease) -> bool:
        async def change(connection: AsyncConnection) -> bool:
            here = _at(lease.owner.tenant, lease.lease_id) & (leases.c.expire_time <= lease.expire_time)
            times = {"renew_time": lease.renew_time, "expire_time": lease.expire_time}
            return (await connection.execute(leases.update().where(here).values(times))).rowcount == 1

        return await self._db.finished(self._change(change))

    async def revoke(self, tenant: str, prefix: str, holder: Holder | None) -> int:
        named = leases.c.lease_id
        here = (leases.c.tenant == tenant) & (
            (named == prefix) | (sa.func.substr(named, 1, len(prefix) + 1) == f"{prefix}/")
        )
        if holder:
            here &= (leases.c.holder_service == holder.service) & (leases.c.holder_subject == holder.subject)
        parents = leases.alias()
        kept = sa.exists().where(parents.c.tenant == leases.c.tenant, parents.c.lease_id == leases.c.parent_id)
        orphans = (leases.c.tenant == tenant) & (leases.c.parent_id != "") & ~kept

        async def change(connection: AsyncConnection) -> int:
            count = last = (await connection.execute(leases.delete().where(here))).rowcount
            while last:
                last = (await connection.execute(leases.delete().where(orphans))).rowcount
                count += last
            return int(count)

        return await self._db.finished(self._change(change))

    async def ended(self, after: datetime, until: datetime) -> Sequence[Lease]:
        between = (leases.c.expire_time > after) & (leases.c.expire_time <= until)
        return [_lease(row) for row in await self._db.rows(sa.select(leases).where(between))]

    @whole
    async def forget(self, before: datetime) -> None:
        async with self._db.write() as connection:
            await connection.execute(leases.delete().where(leases.c.expire_time < before))

    async def _change(self, change: Any) -> Any:
        async with self._db.write() as connection:
            return await change(connection)


async def _keep(connection: AsyncConnection, child: Lease) -> bool:
    """Whether the parent is there; who revokes it waits until the child is there too."""
    here = _at(child.owner.tenant, child.parent_id)
    query = sa.select(leases.c.lease_id).where(here).with_for_update(read=True)
    return (await connection.execute(query)).first() is not None


def _at(tenant: str, lease_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(leases.c.tenant == tenant, leases.c.lease_id == lease_id)


def _columns(lease: Lease) -> dict[str, Any]:
    return {
        "tenant": lease.owner.tenant,
        "lease_id": lease.lease_id,
        "parent_id": lease.parent_id,
        "holder_service": lease.holder.service,
        "holder_subject": lease.holder.subject,
        "subject": lease.owner.subject,
        "provider": lease.provider,
        "secret_id": lease.secret_id,
        "state": lease.state,
        "renew_time": lease.renew_time,
        "expire_time": lease.expire_time,
        "max_expire_time": lease.max_expire_time,
    }


def _lease(row: Any) -> Lease:
    return Lease(
        lease_id=row.lease_id,
        holder=Holder(row.holder_service, row.holder_subject),
        owner=Owner(row.tenant, row.subject),
        provider=row.provider,
        secret_id=row.secret_id,
        state=row.state,
        renew_time=aware(row.renew_time),
        expire_time=aware(row.expire_time),
        max_expire_time=aware(row.max_expire_time),
        parent_id=row.parent_id,
    )
