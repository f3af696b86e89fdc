"""Who changed what, and that nobody changed that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import sqlalchemy as sa
from dynamicagents.registry.v1.audit_service_pb2 import ListAuditEntriesRequest

from libs import database
from services.registry.app import MIGRATIONS
from services.registry.config import RegistrySettings
from services.registry.model import Kind
from services.registry.store.tables import audit, revisions, tenants
from tests import harness
from tests.registry_client import OFFLINE, SECRET, Registry, as_tenants, invalid, resource, token

Make = Callable[..., Any]
AGENT, TEAM = Kind.AGENT, Kind.TEAM


@pytest.fixture
def settings(make_settings: Make, database_settings: dict[str, Any]) -> RegistrySettings:
    made: RegistrySettings = make_settings(RegistrySettings, **database_settings, jwt_secret=SECRET)
    return made


@pytest.fixture
async def registry(settings: RegistrySettings) -> AsyncIterator[Registry]:
    async with harness.registry(settings) as (_, channel):
        yield Registry(channel, token(scope="registry.force"))


async def some(registry: Registry) -> None:
    """Six writes."""
    await registry.create(AGENT, "member", spec={"model": {**OFFLINE, "temperature": 0.5}})
    await registry.create(TEAM, "crew")
    await registry.update(AGENT, "member", display_name="Two")
    await registry.call("UpdateRouterConfig", router_config={"num_retries": 3}, update_mask="numRetries")
    await registry.delete(TEAM, "crew")
    await registry.create(TEAM, "crew", display_name="Again")


async def test_one_entry_for_each_write(registry: Registry) -> None:
    await some(registry)
    found = (await registry.audit())[::-1]
    assert [(e.position, e.kind, e.resource_id, e.revision, e.deleted) for e in found] == [
        (1, 1, "member", 1, False),
        (2, 3, "crew", 1, False),
        (3, 1, "member", 2, False),
        (4, 2, "default", 1, False),
        (5, 3, "crew", 2, True),
        (6, 3, "crew", 3, False),
    ]
    assert {entry.author for entry in found} == {"ann"}
    assert found[2].before_digest == found[0].after_digest != found[2].after_digest
    assert found[4].before_digest == found[1].after_digest == found[4].after_digest
    assert [entry.before_digest for entry in (found[0], found[1], found[3], found[5])] == [""] * 4
    assert len({entry.hash for entry in found}) == 6
    assert all(len(entry.hash) == len(entry.after_digest) == 64 for entry in found)
    assert found[5].time == (await registry.get(TEAM, "crew")).update_time


async def test_what_fails_or_changes_nothing_leaves_no_entry(registry: Registry) -> None:
    await some(registry)
    await invalid(registry.create(TEAM, "x", spec={}))
    await registry.update(AGENT, "member", display_name="Two")
    await registry.create(AGENT, "y", validate_only=True)
    await registry.apply({"agent": resource(AGENT, "z")}, dry_run=True)
    assert len(await registry.audit()) == 6


async def test_entries_are_found_by_resource_and_time(registry: Registry) -> None:
    await some(registry)
    whole = await registry.audit()

    async def positions(**fields: Any) -> list[int]:
        return [entry.position for entry in await registry.audit(**fields)]

    assert await positions(kind="RESOURCE_KIND_TEAM") == [6, 5, 2]
    assert await positions(resource_id="member") == [3, 1]
    assert await positions(kind="RESOURCE_KIND_TEAM", resource_id="member") == []
    times = {entry.position: entry.time.ToJsonString() for entry in whole}
    assert await positions(start_time=times[3], end_time=times[5]) == [4, 3]
    assert await positions(start_time=times[5]) == [6, 5]
    assert await positions(end_time=times[2]) == [1]
    assert await positions(start_time="9999-12-31T23:59:59Z") == []


async def test_pages(registry: Registry) -> None:
    await some(registry)
    found: list[int] = []
    page = ""
    while not found or page:
        reply = await registry.call("ListAuditEntries", page_size=4, page_token=page)
        found += [entry.position for entry in reply.entries]
        page = reply.next_page_token
    assert found == [6, 5, 4, 3, 2, 1]
    page = (await registry.call("ListAuditEntries", page_size=4)).next_page_token
    for fields in ({"kind": "RESOURCE_KIND_TEAM"}, {"resource_id": "x"}, {"page_token": page[:-4] + "AAAA"}):
        assert await invalid(registry.audit(**{"page_token": page, **fields})) == ["page_token"]
    assert await invalid(registry.audit(page_size=1001)) == ["page_size"]
    far = ListAuditEntriesRequest()
    far.end_time.seconds = 10**15
    assert await invalid(registry.call("ListAuditEntries", far)) == ["end_time"]


# The chain


async def verdict(registry: Registry) -> tuple[bool, int, str]:
    found = await registry.call("VerifyAudit")
    return found.valid, found.broken_position, found.reason


async def test_the_chain_holds(registry: Registry) -> None:
    assert (await registry.call("VerifyAudit")).entries == 0
    assert await registry.verified()
    await some(registry)
    found = await registry.call("VerifyAudit")
    assert (found.valid, found.entries, found.broken_position, found.reason) == (True, 6, 0, "")


async def test_a_long_chain(registry: Registry) -> None:
    await registry.apply(*({"agent": resource(AGENT, f"a{n}")} for n in range(1200)))
    found = await registry.call("VerifyAudit")
    assert (found.valid, found.entries) == (True, 1200)


def at(table: sa.Table, tenant: str, *positions: int) -> Any:
    return sa.and_(table.c.tenant == tenant, table.c.position.in_(positions))


def changed(table: sa.Table, position: int, **values: Any) -> Callable[[str], Any]:
    return lambda tenant: table.update().where(at(table, tenant, position)).values(**values)


def removed(table: sa.Table, *positions: int) -> Callable[[str], Any]:
    return lambda tenant: table.delete().where(at(table, tenant, *positions))


TAMPERED: list[tuple[Callable[[str], Any], int, str]] = [
    (changed(audit, 2, author="mallory"), 2, "the entry was changed"),
    (changed(audit, 2, resource_id="other"), 2, "the entry was changed"),
    (changed(audit, 5, deleted=False), 5, "the entry was changed"),
    (changed(audit, 3, after_digest="0" * 64), 3, "the entry was changed"),
    (changed(audit, 1, hash="0" * 64), 1, "the entry was changed"),
    (changed(audit, 6, hash="0" * 64), 6, "the entry was changed"),
    (removed(audit, 1), 1, "the entry is missing"),
    (removed(audit, 3), 3, "the entry is missing"),
    (removed(audit, 6), 6, "entries are missing at the end"),
    (removed(audit, 4, 5, 6), 4, "entries are missing at the end"),
    (removed(audit, *range(1, 7)), 1, "entries are missing at the end"),
    (changed(revisions, 1, spec={"model": {"model": "other"}}), 1, "the revision was changed"),
    (changed(revisions, 3, display_name="Other"), 3, "the revision was changed"),
    (changed(revisions, 3, labels={"a": "1"}), 3, "the revision was changed"),
    (changed(revisions, 2, author="mallory"), 2, "the revision was changed"),
    (changed(revisions, 5, deleted=False), 5, "the revision was changed"),
    (changed(revisions, 2, resource_id="other"), 2, "the revision was changed"),
    (removed(revisions, 4), 4, "the revision is missing"),
    (
        lambda tenant: tenants.update().where(tenants.c.tenant == tenant).values(position=5),
        6,
        "entries are missing at the end",
    ),
]


async def test_what_is_tampered_with_is_found(settings: RegistrySettings, registry: Registry) -> None:
    async with database.opened(settings, MIGRATIONS) as db:
        for number, (statement, position, reason) in enumerate(TAMPERED):
            victim = Registry(registry.channel, token(f"t{number}"))
            await some(victim)
            assert await verdict(victim) == (True, 0, "")
            async with db.write() as connection:
                assert (await connection.execute(statement(f"t{number}"))).rowcount
            valid, broken, said = await verdict(victim)
            assert (number, valid, broken) == (number, False, position)
            assert said.startswith(reason), number


async def test_each_tenant_has_its_own_chain(settings: RegistrySettings) -> None:
    async with as_tenants(settings) as (acme, globex):
        await some(acme)
        await globex.create(AGENT, "own")
        (entry,) = await globex.audit()
        assert (entry.position, entry.resource_id) == (1, "own")
        async with database.opened(settings, MIGRATIONS) as db, db.write() as connection:
            await connection.execute(changed(audit, 1, author="mallory")("acme"))
        assert await verdict(acme) == (False, 1, "the entry was changed, or one before it")
        assert await verdict(globex) == (True, 0, "")
