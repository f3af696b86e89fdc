"""Resources <-> rows."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from libs.database import aware
from services.registry.model import Kind, Resource
from services.registry.store.tables import resources, revisions


def current(of: sa.FromClause) -> sa.ColumnElement[bool]:
    """The revisions that `of` names, which are resources or some of them."""
    key = ("tenant", "kind", "resource_id", "revision")
    return sa.and_(*(of.c[name] == revisions.c[name] for name in key))


CURRENT: Final = current(resources)


def revisions_of(tenant: str) -> sa.Select[Any]:
    """Every query begins here, within one tenant."""
    return sa.select(revisions).where(revisions.c.tenant == tenant)


def current_of(tenant: str) -> sa.Select[Any]:
    return revisions_of(tenant).join(resources, CURRENT)


def to_columns(resource: Resource) -> dict[str, Any]:
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


def to_resource(row: Any) -> Resource:
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
