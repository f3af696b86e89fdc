"""Resources in SQL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from services.registry.model import Kind, Request, Resource
from services.registry.service.filters import Condition, Order
from services.registry.service.verification import Verify
from services.registry.store.changes import SqlChangeStore
from services.registry.store.conditions import matches
from services.registry.store.rows import CURRENT, current, current_of, revisions_of, to_resource
from services.registry.store.tables import requests, resources, revisions
from services.registry.store.transactions import Overtaken, Transaction


class SqlResourceStore(SqlChangeStore):
    async def get(self, tenant: str, kind: Kind, resource_id: str, revision: int = 0) -> Resource | None:
        query = revisions_of(tenant).where(revisions.c.kind == kind, revisions.c.resource_id == resource_id)
        query = query.where(revisions.c.revision == revision) if revision else query.join(resources, CURRENT)
        rows = await self._db.rows(query)
        return to_resource(rows[0]) if rows else None

    async def page(
        self, tenant: str, kind: Kind, where: Sequence[Condition], order: Order, *, after: str, limit: int
    ) -> Sequence[Resource]:
        column = revisions.c[order.column]
        if not where and column is revisions.c.resource_id:
            return await self._by_id(tenant, kind, order, after, limit)
        fulfilled = [matches(each, sqlite=self._db.is_sqlite) for each in where]
        query = (
            current_of(tenant)
            .where(revisions.c.kind == kind, ~resources.c.deleted, *fulfilled)
            .order_by(*(c.desc() if order.descending else c for c in (column, revisions.c.resource_id)))
            .limit(limit)
        )
        if after and column is revisions.c.resource_id:  # told of both tables, so that PostgreSQL begins there in both
            ids = (column, resources.c.resource_id)
            query = query.where(*(c < after if order.descending else c > after for c in ids))
        elif after:
            last_id, _, revision = after.rpartition("@")
            then = revisions.alias()
            last = (
                sa.select(then.c[order.column])
                .where(then.c.tenant == tenant, then.c.kind == kind)
                .where(then.c.resource_id == last_id, then.c.revision == int(revision))
                .scalar_subquery()
            )
            here, there = sa.tuple_(column, revisions.c.resource_id), sa.tuple_(last, sa.literal(last_id))
            query = query.where(here < there if order.descending else here > there)
        return [to_resource(row) for row in await self._db.rows(query)]

    async def _by_id(self, tenant: str, kind: Kind, order: Order, after: str, limit: int) -> Sequence[Resource]:
        """Which they are is known before the first revision is read: older revisions cost nothing."""
        resource_id = resources.c.resource_id
        named = sa.select(resources).where(resources.c.tenant == tenant, resources.c.kind == kind, ~resources.c.deleted)
        if after:
            named = named.where(resource_id < after if order.descending else resource_id > after)
        those = named.order_by(resource_id.desc() if order.descending else resource_id).limit(limit).subquery()
        query = revisions_of(tenant).join(those, current(those))
        ordered = query.order_by(those.c.resource_id.desc() if order.descending else those.c.resource_id)
        return [to_resource(row) for row in await self._db.rows(ordered)]

    async def many(self, tenant: str, kind: Kind, ids: Sequence[str]) -> Mapping[str, Resource]:
        query = current_of(tenant).where(revisions.c.kind == kind, ~resources.c.deleted)
        rows = await self._db.rows(query.where(revisions.c.resource_id.in_(ids)))
        return {row.resource_id: to_resource(row) for row in rows}

    async def history(
        self, tenant: str, kind: Kind, resource_id: str, *, before: int, limit: int
    ) -> Sequence[Resource]:
        query = revisions_of(tenant).where(revisions.c.kind == kind, revisions.c.resource_id == resource_id)
        query = query.where(revisions.c.revision < before) if before else query
        rows = await self._db.rows(query.order_by(revisions.c.revision.desc()).limit(limit))
        return [to_resource(row) for row in rows]

    async def put(
        self, tenant: str, resource: Resource, *, request: Request | None = None, verify: Verify | None = None
    ) -> bool:
        async def work(transaction: Transaction) -> None:
            if verify:
                await verify(transaction)
            await transaction.put(resource, request)

        try:
            await self.transact(tenant, work)
        except (IntegrityError, Overtaken):
            return False
        return True

    async def transact(self, tenant: str, work: Callable[[Transaction], Awaitable[None]]) -> None:
        await self._db.finished(self._transact(tenant, work))

    async def _transact(self, tenant: str, work: Callable[[Transaction], Awaitable[None]]) -> None:
        async with self._db.write() as connection:
            transaction = await Transaction.begin(connection, tenant)
            await work(transaction)
            await transaction.end()

    async def created_by(self, tenant: str, kind: Kind, request_id: str) -> tuple[Request, Resource] | None:
        query = sa.select(requests).where(
            requests.c.tenant == tenant, requests.c.kind == kind, requests.c.request_id == request_id
        )
        rows = await self._db.rows(query)
        if not rows:
            return None
        row = rows[0]
        resource = await self.get(tenant, kind, row.resource_id, row.revision)
        return (Request(row.request_id, row.digest), resource) if resource else None
