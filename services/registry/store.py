"""Resources in SQL. Each commit takes the next position of its tenant under a row lock, so positions follow commits."""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import Database
from services.registry.model import Change, Kind, Request, Resource
from services.registry.service.filters import Condition, Order

metadata = sa.MetaData()
_json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_time = sa.DateTime(timezone=True)

tenants = sa.Table(
    "tenants",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
)
resources = sa.Table(
    "resources",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("resource_id", sa.Text, primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("deleted", sa.Boolean, nullable=False),
)
revisions = sa.Table(
    "revisions",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("resource_id", sa.Text, primary_key=True),
    sa.Column("revision", sa.BigInteger, primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("labels", _json, nullable=False),
    sa.Column("spec", _json, nullable=False),
    sa.Column("etag", sa.Text, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("create_time", _time, nullable=False),
    sa.Column("update_time", _time, nullable=False),
    sa.Column("deleted", sa.Boolean, nullable=False),
    sa.UniqueConstraint("tenant", "position", name="revisions_position"),
)
requests = sa.Table(
    "requests",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("resource_id", sa.Text, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("create_time", _time, nullable=False),
)

_OPERATORS: Final = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_current = sa.and_(
    resources.c.tenant == revisions.c.tenant,
    resources.c.kind == revisions.c.kind,
    resources.c.resource_id == revisions.c.resource_id,
    resources.c.revision == revisions.c.revision,
)


class SqlResourceStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def get(self, tenant: str, kind: Kind, resource_id: str, revision: int = 0) -> Resource | None:
        query = _of(tenant).where(revisions.c.kind == kind, revisions.c.resource_id == resource_id)
        query = query.where(revisions.c.revision == revision) if revision else query.join(resources, _current)
        rows = await self._db.rows(query)
        return _resource(rows[0]) if rows else None

    async def page(
        self, tenant: str, kind: Kind, where: Sequence[Condition], order: Order, *, after: str, limit: int
    ) -> Sequence[Resource]:
        column = revisions.c[order.column]
        query = (
            _of(tenant)
            .join(resources, _current)
            .where(revisions.c.kind == kind, ~resources.c.deleted, *map(self._matches, where))
            .order_by(*(c.desc() if order.descending else c for c in (column, revisions.c.resource_id)))
            .limit(limit)
        )
        if after:
            last = (
                sa.select(column)
                .join(resources, _current)
                .where(revisions.c.tenant == tenant, revisions.c.kind == kind, revisions.c.resource_id == after)
                .scalar_subquery()
            )
            here, there = sa.tuple_(column, revisions.c.resource_id), sa.tuple_(last, sa.literal(after))
            query = query.where(here < there if order.descending else here > there)
        return [_resource(row) for row in await self._db.rows(query)]

    def _matches(self, condition: Condition) -> sa.ColumnElement[bool]:
        if condition.column == "labels" and self._db.is_sqlite:
            # A JSON path of SQLite cannot name every key.
            each = sa.func.json_each(revisions.c.labels).table_valued("key", "value")
            holds = _compare(each.c.value, condition)
            return sa.select(1).select_from(each).where(each.c.key == condition.path[0], holds).exists()
        column = revisions.c[condition.column]
        if not condition.path:
            return _compare(column, condition)
        inside = column[condition.path]
        if isinstance(condition.value, bool):
            return _compare(inside.as_boolean(), condition)
        return _compare(inside.as_float() if isinstance(condition.value, float) else inside.as_string(), condition)

    async def put(self, tenant: str, resource: Resource, *, request: Request | None = None) -> bool:
        return await self._db.finished(self._put(tenant, resource, request))

    async def _put(self, tenant: str, resource: Resource, request: Request | None) -> bool:
        key = {"tenant": tenant, "kind": resource.kind.value, "resource_id": resource.resource_id}
        try:
            async with self._db.write() as connection:
                position = await self._next_position(connection, tenant)
                if not await _advance(connection, key, resource):
                    await connection.rollback()
                    return False
                await connection.execute(revisions.insert().values(position=position, **key, **_columns(resource)))
                if request:
                    await connection.execute(
                        requests.insert().values(
                            tenant=tenant,
                            kind=resource.kind.value,
                            request_id=request.request_id,
                            digest=request.digest,
                            resource_id=resource.resource_id,
                            revision=resource.revision,
                            create_time=resource.update_time,
                        )
                    )
        except IntegrityError:
            return False
        return True

    async def _next_position(self, connection: AsyncConnection, tenant: str) -> int:
        insert: Any = (sqlite if self._db.is_sqlite else postgresql).insert(tenants)
        upsert = insert.values(tenant=tenant, position=1).on_conflict_do_update(
            index_elements=[tenants.c.tenant], set_={"position": tenants.c.position + 1}
        )
        return int((await connection.execute(upsert.returning(tenants.c.position))).scalar_one())

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

    async def positions(self, of: Collection[str]) -> dict[str, int]:
        query = sa.select(tenants).where(tenants.c.tenant.in_(of))
        return {row.tenant: row.position for row in await self._db.rows(query)}

    async def changes(
        self, tenant: str, kinds: Sequence[Kind], *, after: int, limit: int
    ) -> tuple[Sequence[Change], int]:
        query = _of(tenant).where(revisions.c.position > after).order_by(revisions.c.position).limit(limit)
        rows = await self._db.rows(query)
        found = [Change(row.position, _resource(row)) for row in rows if row.kind in kinds]
        return found, rows[-1].position if rows else after

    async def state(
        self, tenant: str, kinds: Sequence[Kind], *, position: int, after: tuple[str, str], limit: int
    ) -> Sequence[Change]:
        later = revisions.alias("later")
        superseded = (
            sa.exists()
            .where(
                later.c.tenant == revisions.c.tenant,
                later.c.kind == revisions.c.kind,
                later.c.resource_id == revisions.c.resource_id,
                later.c.revision > revisions.c.revision,
                later.c.position <= position,
            )
            .correlate(revisions)
        )
        query = (
            _of(tenant)
            .where(
                revisions.c.kind.in_(kinds),
                revisions.c.position <= position,
                ~revisions.c.deleted,
                ~superseded,
                sa.tuple_(revisions.c.kind, revisions.c.resource_id)
                > sa.tuple_(sa.literal(after[0]), sa.literal(after[1])),
            )
            .order_by(revisions.c.kind, revisions.c.resource_id)
            .limit(limit)
        )
        return [Change(row.position, _resource(row)) for row in await self._db.rows(query)]


def _of(tenant: str) -> sa.Select[Any]:
    """Every query begins here, within one tenant."""
    return sa.select(revisions).where(revisions.c.tenant == tenant)


def _compare(column: Any, condition: Condition) -> sa.ColumnElement[bool]:
    value = condition.value
    if isinstance(value, str) and value.endswith("*") and condition.op in ("=", "!="):
        begins: sa.ColumnElement[bool] = column.startswith(value[:-1], autoescape=True)
        return begins if condition.op == "=" else ~begins
    compared: sa.ColumnElement[bool] = _OPERATORS[condition.op](column, value)
    return compared


async def _advance(connection: AsyncConnection, key: Mapping[str, str], resource: Resource) -> bool:
    values = {"revision": resource.revision, "deleted": resource.deleted}
    if resource.revision == 1:
        await connection.execute(resources.insert().values(**key, **values))
        return True
    result = await connection.execute(
        resources.update()
        .where(*(resources.c[name] == value for name, value in key.items()))
        .where(resources.c.revision == resource.revision - 1)
        .values(**values)
    )
    return result.rowcount == 1


def _columns(resource: Resource) -> dict[str, Any]:
    return {
        "revision": resource.revision,
        "display_name": resource.display_name,
        "description": resource.description,
        "labels": dict(resource.labels),
        "spec": dict(resource.spec),
        "etag": resource.etag,
        "author": resource.author,
        "create_time": resource.create_time,
        "update_time": resource.update_time,
        "deleted": resource.deleted,
    }


def _resource(row: Any) -> Resource:
    return Resource(
        kind=Kind(row.kind),
        resource_id=row.resource_id,
        display_name=row.display_name,
        description=row.description,
        labels=row.labels,
        spec=row.spec,
        revision=row.revision,
        etag=row.etag,
        author=row.author,
        create_time=_aware(row.create_time),
        update_time=_aware(row.update_time),
        deleted=row.deleted,
    )


def _aware(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)  # SQLite keeps no zone
