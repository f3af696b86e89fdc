"""The changes of a tenant in SQL, for who follows them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import sqlalchemy as sa
import structlog

from libs import errors
from libs.database import Database
from services.registry.model import Change, Kind
from services.registry.store.rows import revisions_of, to_resource
from services.registry.store.tables import resources, revisions, tenants
from services.registry.store.transactions import CHANNEL

_PAUSE: Final = 0.5
log = structlog.get_logger()


class SqlChangeStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def positions(self, of: Collection[str]) -> dict[str, int]:
        query = sa.select(tenants).where(tenants.c.tenant.in_(of))
        return {row.tenant: row.position for row in await self._db.rows(query)}

    async def span(self, tenant: str) -> tuple[int, int]:
        rows = await self._db.rows(sa.select(tenants).where(tenants.c.tenant == tenant))
        return (rows[0].history_start, rows[0].position) if rows else (0, 0)

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
        query = revisions_of(tenant).where(revisions.c.position > after).order_by(revisions.c.position).limit(limit)
        rows = await self._db.rows(query)
        found = [Change(row.position, to_resource(row)) for row in rows if row.kind in kinds]
        return found, rows[-1].position if rows else after

    async def state(
        self, tenant: str, kinds: Sequence[Kind], *, position: int, after: tuple[str, str], limit: int
    ) -> Sequence[Change]:
        found: list[Change] = []
        for kind in sorted(set(kinds)):
            if kind >= after[0] and len(found) < limit:
                past = after[1] if kind == after[0] else ""
                found += await self._of_kind(tenant, kind, position, past, limit - len(found))
        return found

    async def _of_kind(self, tenant: str, kind: Kind, position: int, after: str, limit: int) -> Sequence[Change]:
        found: list[Change] = []
        while len(found) < limit:
            rows = await self._db.rows(_then(tenant, kind, position, after, limit))
            found += [Change(row.position, to_resource(row)) for row in rows if row.position and not row.deleted]
            if len(rows) < limit:
                break
            after = rows[-1].name
        return found[:limit]


def _then(tenant: str, kind: Kind, position: int, after: str, limit: int) -> sa.Select[Any]:
    """The next of a kind, each as it was; without a revision where it was not yet. Which they are is known before the
    first revision is read, and of each one alone is.
    """
    named = (
        sa.select(resources.c.resource_id.label("name"))
        .where(resources.c.tenant == tenant, resources.c.kind == kind, resources.c.resource_id > after)
        .order_by(resources.c.resource_id)
        .limit(limit)
        .subquery()
    )
    then = revisions.alias("then")
    newest = (
        sa.select(then.c.revision)
        .where(then.c.tenant == tenant, then.c.kind == kind, then.c.resource_id == named.c.name)
        .where(then.c.position <= position)
        .order_by(then.c.revision.desc())
        .limit(1)
        .correlate(named)
        .scalar_subquery()
    )
    of = (revisions.c.tenant == tenant, revisions.c.kind == kind, revisions.c.resource_id == named.c.name)
    joined = named.outerjoin(revisions, sa.and_(*of, revisions.c.revision == newest))
    return sa.select(named.c.name, revisions).select_from(joined).order_by(named.c.name)
