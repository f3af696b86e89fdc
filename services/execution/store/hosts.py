"""Hosts of tools, each under a lease of the process that holds its stream."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from libs.database import Database, aware
from services.execution.model.hosts import Presence, Registration
from services.execution.model.tools import Tool
from services.execution.store.calls import tell_of_hosts
from services.execution.store.tables import hosts

_FORGOTTEN: Final = 10
"""Leases after which the host of a process that has died is forgotten."""


class SqlHosts:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def put(self, presence: Presence, lease: float) -> None:
        await self._db.finished(self._write(presence, lease, replace=True))

    async def keep(self, presence: Presence, lease: float) -> bool:
        return await self._db.finished(self._write(presence, lease, replace=False))

    async def _write(self, presence: Presence, lease: float, *, replace: bool) -> bool:
        row = _row(presence, lease)
        insert: Any = sqlite.insert(hosts) if self._db.is_sqlite else postgresql.insert(hosts)
        insert = insert.values(row)
        key = [hosts.c.tenant, hosts.c.host_id]
        others = {name: insert.excluded[name] for name in row}
        # A lease that is over is nobody's.
        free = sa.true() if replace else hosts.c.lease_time < datetime.now(UTC)
        async with self._db.write() as connection:
            done = await connection.execute(
                insert.on_conflict_do_update(index_elements=key, set_=others, where=free).returning(hosts.c.stream_id)
            )
            written = done.first() is not None
            if written:
                await tell_of_hosts(self._db, connection)
        return written

    async def renew(self, owner: str, lease: float) -> Collection[str]:
        return await self._db.finished(self._renew(owner, lease))

    async def _renew(self, owner: str, lease: float) -> Collection[str]:
        now = datetime.now(UTC)
        forgotten = hosts.c.lease_time < now - timedelta(seconds=_FORGOTTEN * lease)
        renewed = hosts.update().where(hosts.c.owner == owner).values(lease_time=now + timedelta(seconds=lease))
        async with self._db.write() as connection:
            await connection.execute(hosts.delete().where(forgotten, hosts.c.owner != owner))
            return set((await connection.scalars(renewed.returning(hosts.c.stream_id))).all())

    async def drop(self, tenant: str, stream_id: str) -> None:
        await self._db.finished(self._drop(tenant, stream_id))

    async def _drop(self, tenant: str, stream_id: str) -> None:
        async with self._db.write() as connection:
            await connection.execute(hosts.delete().where(hosts.c.tenant == tenant, hosts.c.stream_id == stream_id))
            await tell_of_hosts(self._db, connection)

    async def others(self, owner: str, tenants: Sequence[str]) -> Mapping[str, str]:
        alive = (hosts.c.owner != owner, hosts.c.lease_time >= datetime.now(UTC), hosts.c.tenant.in_(tenants))
        rows = await self._db.rows(sa.select(hosts.c.registration_id, hosts.c.tenant).where(*alive))
        return {row.registration_id: row.tenant for row in rows}

    async def read(self, registration_ids: Collection[str]) -> Sequence[Presence]:
        rows = await self._db.rows(sa.select(hosts).where(hosts.c.registration_id.in_(registration_ids)))
        return [_presence(row) for row in rows]


def _row(presence: Presence, lease: float) -> dict[str, Any]:
    registration = presence.registration
    tools = {name: asdict(tool) for name, tool in registration.tools.items()}
    return {
        "tenant": presence.tenant,
        "host_id": registration.host_id,
        "registration_id": registration.registration_id,
        "stream_id": presence.stream_id,
        "owner": presence.owner,
        "address": presence.address,
        "tools": orjson.dumps(tools).decode(),
        "max_concurrency": registration.max_concurrency,
        "register_time": registration.time,
        "lease_time": datetime.now(UTC) + timedelta(seconds=lease),
    }


def _presence(row: Any) -> Presence:
    registration = Registration(
        host_id=row.host_id,
        registration_id=row.registration_id,
        tools={name: Tool(**tool) for name, tool in orjson.loads(row.tools).items()},
        max_concurrency=row.max_concurrency,
        time=aware(row.register_time),
    )
    return Presence(row.tenant, row.stream_id, row.owner, row.address, registration)
