"""Writing. Each commit takes the next position of its tenant under a row lock, so positions follow commits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from services.registry.model import Kind, Request, Resource, Spec
from services.registry.model.references import references as model_references
from services.registry.service.audit import content_digest, entry_for
from services.registry.store.rows import current_of, revisions_of, to_columns, to_resource
from services.registry.store.tables import audit, references, requests, resources, revisions, tenants

CHANNEL: Final = "registry_changes"


class Overtaken(Exception):
    """Another revision was committed first."""


class Transaction:
    """Holds the tenant's row: its commits come one after the other, and their positions in that order."""

    def __init__(self, connection: AsyncConnection, tenant: str, position: int, audit_hash: str) -> None:
        self._connection, self._tenant = connection, tenant
        self._position, self._hash = position, audit_hash

    @classmethod
    async def begin(cls, connection: AsyncConnection, tenant: str) -> Transaction:
        insert: Any = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(tenants)
        upsert = insert.values(tenant=tenant, position=0, audit_hash="").on_conflict_do_update(
            index_elements=[tenants.c.tenant], set_={"position": tenants.c.position}
        )
        row = (await connection.execute(upsert.returning(tenants.c.position, tenants.c.audit_hash))).one()
        return cls(connection, tenant, row.position, row.audit_hash)

    async def end(self) -> None:
        values = {"position": self._position, "audit_hash": self._hash}
        await self._connection.execute(tenants.update().where(tenants.c.tenant == self._tenant).values(**values))
        if self._connection.dialect.name == "postgresql":
            await self._connection.execute(sa.select(sa.func.pg_notify(CHANNEL, self._tenant)))

    async def put(self, resource: Resource, request: Request | None = None) -> None:
        key = {"tenant": self._tenant, "kind": resource.kind.value, "resource_id": resource.resource_id}
        before = await _advance(self._connection, key, resource)
        self._position += 1
        entry = entry_for(self._position, resource, before, self._hash)
        self._hash = entry.hash
        columns = {"position": self._position, **key, **to_columns(resource)}
        await self._connection.execute(revisions.insert().values(**columns))
        entered = {f.name: getattr(entry, f.name) for f in fields(entry)}
        await self._connection.execute(audit.insert().values(tenant=self._tenant, **entered))
        await _refer(self._connection, key, resource)
        if request:
            await self._connection.execute(requests.insert().values(_request_row(key, resource, request)))

    async def current(self, kind: Kind, resource_id: str) -> Resource | None:
        query = current_of(self._tenant)
        query = query.where(revisions.c.kind == kind, revisions.c.resource_id == resource_id)
        row = (await self._connection.execute(query)).first()
        return to_resource(row) if row else None

    async def labelled(self, labels: Mapping[str, str]) -> Sequence[Resource]:
        query = current_of(self._tenant).where(~resources.c.deleted)
        rows = await self._connection.execute(query.order_by(revisions.c.kind, revisions.c.resource_id))
        return [to_resource(row) for row in rows if labels.items() <= row.labels.items()]

    async def specs(self, kind: Kind, ids: Collection[str]) -> Mapping[str, Spec]:
        query = current_of(self._tenant).where(revisions.c.kind == kind, ~resources.c.deleted)
        rows = await self._connection.execute(query.where(revisions.c.resource_id.in_(ids)))
        return {row.resource_id: row.spec for row in rows}

    async def function_names(self, names: Collection[str]) -> Sequence[tuple[str, str]]:
        name = sa.func.coalesce(revisions.c.spec["function_name"].as_string(), revisions.c.resource_id)
        query = current_of(self._tenant).with_only_columns(revisions.c.resource_id, name.label("name"))
        query = query.where(revisions.c.kind == Kind.TOOL_DEFINITION, ~resources.c.deleted, name.in_(names))
        found = await self._connection.execute(query.order_by(revisions.c.resource_id))
        return [(row.resource_id, row.name) for row in found]

    async def referrers(self, kind: Kind, resource_id: str, limit: int) -> Sequence[tuple[Kind, str]]:
        to = references.c
        query = (
            sa.select(to.kind, to.resource_id)
            .where(to.tenant == self._tenant, to.to_kind == kind, to.to_id == resource_id)
            .where(sa.or_(to.kind != kind, to.resource_id != resource_id))
            .order_by(to.kind, to.resource_id)
        )
        return [(Kind(row.kind), row.resource_id) for row in await self._connection.execute(query.limit(limit))]


async def _advance(connection: AsyncConnection, key: Mapping[str, str], resource: Resource) -> str:
    """Moves the resource to its next revision; gives the digest of the content before."""
    values = {"revision": resource.revision, "deleted": resource.deleted}
    if resource.revision == 1:
        await connection.execute(resources.insert().values(**key, **values))
        return ""
    before = resource.revision - 1
    result = await connection.execute(
        resources.update()
        .where(*(resources.c[name] == value for name, value in key.items()), resources.c.revision == before)
        .values(**values)
    )
    if result.rowcount != 1:
        raise Overtaken
    query = revisions_of(key["tenant"]).where(
        revisions.c.kind == key["kind"], revisions.c.resource_id == key["resource_id"]
    )
    row = (await connection.execute(query.where(revisions.c.revision == before))).one()
    return "" if row.deleted else content_digest(to_resource(row))


async def _refer(connection: AsyncConnection, key: Mapping[str, str], resource: Resource) -> None:
    """Keeps what the current revision refers to, so that it can be asked who refers to something."""
    await connection.execute(references.delete().where(*(references.c[name] == value for name, value in key.items())))
    found = [] if resource.deleted else model_references(resource.kind, resource.spec)
    if targets := {(reference.kind, reference.resource_id) for reference in found}:
        rows = [{**key, "to_kind": kind.value, "to_id": name} for kind, name in sorted(targets)]
        await connection.execute(references.insert(), rows)


def _request_row(key: Mapping[str, str], resource: Resource, request: Request) -> dict[str, Any]:
    return {
        "tenant": key["tenant"],
        "kind": key["kind"],
        "request_id": request.request_id,
        "digest": request.digest,
        "resource_id": resource.resource_id,
        "revision": resource.revision,
        "create_time": resource.update_time,
    }
