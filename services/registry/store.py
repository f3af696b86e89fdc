"""Resources in SQL. Each commit takes the next position of its tenant under a row lock, so positions follow commits."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from libs import errors
from libs.database import Database, aware
from services.registry.model import Change, Kind, Request, Resource, Spec
from services.registry.model.references import references as model_references
from services.registry.service.audit import AuditEntry, AuditFilter, content_digest, entry_for
from services.registry.service.filters import Condition, Order
from services.registry.service.resources import Verify

metadata = sa.MetaData()
_json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_time = sa.DateTime(timezone=True)

tenants = sa.Table(
    "tenants",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("audit_hash", sa.Text, nullable=False),
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

references = sa.Table(
    "resource_references",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("resource_id", sa.Text, primary_key=True),
    sa.Column("to_kind", sa.Text, primary_key=True),
    sa.Column("to_id", sa.Text, primary_key=True),
    sa.Index("resource_references_to", "tenant", "to_kind", "to_id"),
)
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("position", sa.BigInteger, primary_key=True),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("time", _time, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("resource_id", sa.Text, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("deleted", sa.Boolean, nullable=False),
    sa.Column("before_digest", sa.Text, nullable=False),
    sa.Column("after_digest", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Index("audit_resource", "tenant", "kind", "resource_id"),
)
CHANNEL: Final = "registry_changes"
_PAUSE: Final = 0.5
log = structlog.get_logger()

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
        if after and column is revisions.c.resource_id:  # told of both tables, so that PostgreSQL begins there in both
            ids = (column, resources.c.resource_id)
            query = query.where(*(c < after if order.descending else c > after for c in ids))
        elif after:
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
            return self._of_type(column, condition, ("boolean", "true", "false"), inside.as_boolean())
        if isinstance(condition.value, float):
            return self._of_type(column, condition, ("number", "integer", "real"), inside.as_float())
        return _compare(inside.as_string(), condition)

    def _of_type(self, column: Any, condition: Condition, types: Collection[str], value: Any) -> sa.ColumnElement[bool]:
        """Compares values of the condition's own type; PostgreSQL has no number of a text."""
        if self._db.is_sqlite:
            path = "$" + "".join(f'."{name}"' for name in condition.path)
            found: Any = sa.func.json_type(column, path)
        else:
            found = sa.func.jsonb_typeof(column[condition.path])
        return sa.case((found.in_(types), _compare(value, condition)), else_=sa.false())

    async def many(self, tenant: str, kind: Kind, ids: Sequence[str]) -> Mapping[str, Resource]:
        query = _of(tenant).join(resources, _current).where(revisions.c.kind == kind, ~resources.c.deleted)
        rows = await self._db.rows(query.where(revisions.c.resource_id.in_(ids)))
        return {row.resource_id: _resource(row) for row in rows}

    async def history(
        self, tenant: str, kind: Kind, resource_id: str, *, before: int, limit: int
    ) -> Sequence[Resource]:
        query = _of(tenant).where(revisions.c.kind == kind, revisions.c.resource_id == resource_id)
        query = query.where(revisions.c.revision < before) if before else query
        rows = await self._db.rows(query.order_by(revisions.c.revision.desc()).limit(limit))
        return [_resource(row) for row in rows]

    async def put(
        self, tenant: str, resource: Resource, *, request: Request | None = None, verify: Verify | None = None
    ) -> bool:
        async def work(transaction: _Transaction) -> None:
            if verify:
                await verify(transaction)
            await transaction.put(resource, request)

        try:
            await self.transact(tenant, work)
        except (IntegrityError, _Overtaken):
            return False
        return True

    async def transact(self, tenant: str, work: Callable[[_Transaction], Awaitable[None]]) -> None:
        await self._db.finished(self._transact(tenant, work))

    async def _transact(self, tenant: str, work: Callable[[_Transaction], Awaitable[None]]) -> None:
        async with self._db.write() as connection:
            transaction = await _Transaction.begin(connection, tenant)
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

    async def positions(self, of: Collection[str]) -> dict[str, int]:
        query = sa.select(tenants).where(tenants.c.tenant.in_(of))
        return {row.tenant: row.position for row in await self._db.rows(query)}

    async def notified(self, changed: Callable[[str], None], begins: Callable[[], None]) -> None:
        """On PostgreSQL, by LISTEN on a connection of its own; a lost one is opened again."""
        while not self._db.is_sqlite:
            try:
                await self._listen(changed, begins)
            except errors.Unavailable:  # it is logged where it was found
                pass
            except Exception:
                log.exception("listening for changes goes on after an error")
            await asyncio.sleep(_PAUSE)

    async def _listen(self, changed: Callable[[str], None], begins: Callable[[], None]) -> None:
        """Returns when the connection is lost."""
        async with self._db.read() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            await connection.run_sync(lambda sync: sync.detach())  # the pool is for the calls
            lost = asyncio.Event()
            driver.add_termination_listener(lambda _: lost.set())
            await driver.add_listener(CHANNEL, lambda *received: changed(received[-1]))
            begins()
            if not driver.is_closed():
                await lost.wait()

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
        found = await self._db.rows(_of(tenant).where(revisions.c.position.in_(positions)))
        by_position = {row.position: _resource(row) for row in found}
        return [(_entry(row), by_position.get(row.position)) for row in rows]

    async def head(self, tenant: str) -> tuple[int, str]:
        rows = await self._db.rows(sa.select(tenants).where(tenants.c.tenant == tenant))
        return (rows[0].position, rows[0].audit_hash) if rows else (0, "")


def _entry(row: Any) -> AuditEntry:
    values = {f.name: getattr(row, f.name) for f in fields(AuditEntry)}
    return AuditEntry(**{**values, "kind": Kind(row.kind), "time": aware(row.time)})


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


class _Overtaken(Exception):
    """Another revision was committed first."""


class _Transaction:
    """Holds the tenant's row: its commits come one after the other, and their positions in that order."""

    def __init__(self, connection: AsyncConnection, tenant: str, position: int, audit_hash: str) -> None:
        self._connection, self._tenant = connection, tenant
        self._position, self._hash = position, audit_hash

    @classmethod
    async def begin(cls, connection: AsyncConnection, tenant: str) -> _Transaction:
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
        columns = {"position": self._position, **key, **_columns(resource)}
        await self._connection.execute(revisions.insert().values(**columns))
        entered = {f.name: getattr(entry, f.name) for f in fields(entry)}
        await self._connection.execute(audit.insert().values(tenant=self._tenant, **entered))
        await _refer(self._connection, key, resource)
        if request:
            await self._connection.execute(requests.insert().values(_request_row(key, resource, request)))

    async def current(self, kind: Kind, resource_id: str) -> Resource | None:
        query = _of(self._tenant).join(resources, _current)
        query = query.where(revisions.c.kind == kind, revisions.c.resource_id == resource_id)
        row = (await self._connection.execute(query)).first()
        return _resource(row) if row else None

    async def labelled(self, labels: Mapping[str, str]) -> Sequence[Resource]:
        query = _of(self._tenant).join(resources, _current).where(~resources.c.deleted)
        rows = await self._connection.execute(query.order_by(revisions.c.kind, revisions.c.resource_id))
        return [_resource(row) for row in rows if labels.items() <= row.labels.items()]

    async def specs(self, kind: Kind, ids: Collection[str]) -> Mapping[str, Spec]:
        query = _of(self._tenant).join(resources, _current).where(revisions.c.kind == kind, ~resources.c.deleted)
        rows = await self._connection.execute(query.where(revisions.c.resource_id.in_(ids)))
        return {row.resource_id: row.spec for row in rows}

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
        raise _Overtaken
    query = _of(key["tenant"]).where(revisions.c.kind == key["kind"], revisions.c.resource_id == key["resource_id"])
    row = (await connection.execute(query.where(revisions.c.revision == before))).one()
    return "" if row.deleted else content_digest(_resource(row))


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
        create_time=aware(row.create_time),
        update_time=aware(row.update_time),
        deleted=row.deleted,
    )
