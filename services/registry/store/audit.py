"""The audit in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from libs.database import Database, aware
from services.registry.model import Kind, Resource
from services.registry.service.audit import AuditEntry, AuditFilter
from services.registry.store.rows import revisions_of, to_resource
from services.registry.store.tables import audit, revisions, tenants


class SqlAuditStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def entries(self, tenant: str, where: AuditFilter, *, before: int, limit: int) -> Sequence[AuditEntry]:
        query = sa.select(audit).where(audit.c.tenant == tenant)
        query = query.where(audit.c.position < before) if before else query
        query = query.where(audit.c.kind == where.kind) if where.kind else query
        query = query.where(audit.c.resource_id == where.resource_id) if where.resource_id else query
        query = query.where(audit.c.time >= where.start_time) if where.start_time else query
        query = query.where(audit.c.time < where.end_time) if where.end_time else query
        rows = await self._db.rows(query.order_by(audit.c.position.desc()).limit(limit))
        return [_entry(row) for row in rows]

    async def chain(self, tenant: str, *, after: int, limit: int) -> Sequence[tuple[AuditEntry, Resource | None]]:
        query = sa.select(audit).where(audit.c.tenant == tenant, audit.c.position > after)
        rows = await self._db.rows(query.order_by(audit.c.position).limit(limit))
        positions = [row.position for row in rows]
        found = await self._db.rows(revisions_of(tenant).where(revisions.c.position.in_(positions)))
        by_position = {row.position: to_resource(row) for row in found}
        return [(_entry(row), by_position.get(row.position)) for row in rows]

    async def head(self, tenant: str) -> tuple[int, str]:
        rows = await self._db.rows(sa.select(tenants).where(tenants.c.tenant == tenant))
        return (rows[0].position, rows[0].audit_hash) if rows else (0, "")


def _entry(row: Any) -> AuditEntry:
    values = {f.name: getattr(row, f.name) for f in fields(AuditEntry)}
    return AuditEntry(**{**values, "kind": Kind(row.kind), "time": aware(row.time)})
