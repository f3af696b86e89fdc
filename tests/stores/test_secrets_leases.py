"""Leases and wrapping tokens on each database, on a clock of ours."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
import structlog

from libs import database, errors
from libs.database import Database
from libs.identity import Caller
from services.secrets.app import MIGRATIONS
from services.secrets.config import SecretsSettings
from services.secrets.keys import MasterKey
from services.secrets.model import Change, Draft, Lease, Scope, Secret, Value
from services.secrets.service.audit import Trail
from services.secrets.service.backend import Memory
from services.secrets.service.cache import Policy
from services.secrets.service.leases import Leases
from services.secrets.service.secrets import Secrets
from services.secrets.service.wraps import Wraps
from services.secrets.store import tables
from services.secrets.store.audit import SqlAuditStore
from services.secrets.store.leases import SqlLeaseStore
from services.secrets.store.vault import SqlVaultStore
from services.secrets.store.wraps import SqlWrapStore
from services.secrets.vault import Vault

CANARY = "sk-canary-of-the-leases"
READERS = ("router", "execution")
ROUTER = Caller("acme", "ann", frozenset({"service"}), "t", "router")
EXECUTION = Caller("acme", "ann", frozenset({"service"}), "t", "execution")
ADMIN = Caller("acme", "eve", frozenset({"secrets.write"}))
WORKER = Caller("acme", "worker", frozenset())
STRANGER = Caller("rival", "worker", frozenset())


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 21, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Suite:
    """A Secrets process without its server."""

    db: Database
    clock: Clock
    memory: Memory
    secrets: Secrets
    leases: Leases
    wraps: Wraps

    async def create(self, provider: str = "openai", scope: Scope = Scope.SYSTEM) -> Secret:
        draft = Draft(provider, "Key", {}, {"api_key": Value(CANARY)})
        return await self.secrets.create(replace(ROUTER), scope, draft, "")

    async def lease(
        self, secret: Secret, seconds: float = 60, parent: Lease | None = None, caller: Caller = ROUTER
    ) -> Lease:
        found, _ = await self.secrets.values(caller, secret.secret_id, 0, refresh=False)
        return await self.leases.grant(caller, found, ttl(seconds), parent.lease_id if parent else "")

    async def ends(self, lease: Lease, caller: Caller = ROUTER) -> str:
        """Why a lease cannot be renewed; empty where it can."""
        try:
            await self.leases.renew(caller, lease.lease_id, ttl(1))
        except errors.FailedPrecondition as error:
            return error.metadata["cause"] if error.reason_code == "LEASE_ENDED" else error.reason_code
        except errors.NotFound:
            return "gone"
        return ""

    async def audited(self) -> list[Any]:
        columns = tables.audit.c
        query = sa.select(columns.action, columns.outcome, columns.service).order_by(columns.record_id)
        return [tuple(row) for row in await self.db.rows(query) if row.action not in ("create", "values")]


def ttl(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


@pytest.fixture
async def db(database_settings: dict[str, Any]) -> AsyncIterator[Database]:
    settings = SecretsSettings.load(**database_settings)
    await database.migrate(settings, MIGRATIONS)
    async with database.opened(settings, MIGRATIONS) as opened:
        yield opened


@pytest.fixture
async def suite(db: Database) -> AsyncIterator[Suite]:
    vault, clock = Vault(SqlVaultStore(db), MasterKey(os.urandom(32))), Clock()
    await vault.unlock()
    memory = Memory(vault, Policy())

    async def announce(tenant: str) -> None:
        memory.forget(tenant)

    async with AsyncExitStack() as stack:
        trail = await stack.enter_async_context(
            Trail(SqlAuditStore(db), lambda value: ("key", value.digest(b"key")), fail_closed=True)
        )
        secrets = Secrets(vault, memory, trail, announce, readers=READERS)
        leases = Leases(SqlLeaseStore(db), secrets, memory, trail, announce, max_ttl=300, now=clock)
        wraps = Wraps(SqlWrapStore(db), secrets, memory, trail, max_ttl=300, now=clock)
        yield Suite(db, clock, memory, secrets, leases, wraps)
        await memory.close()


async def test_renewal_extends_from_now_and_not_past_the_latest(suite: Suite) -> None:
    secret, began = await suite.create(), suite.clock.now
    lease = await suite.lease(secret, 60)
    assert lease.lease_id.startswith(f"openai/{secret.secret_id}/")
    assert (lease.expire_time, lease.max_expire_time) == (began + ttl(60), began + ttl(300))
    suite.clock.advance(50)
    assert (await suite.leases.renew(ROUTER, lease.lease_id, ttl(60))).expire_time == began + ttl(110)
    shorter = await suite.leases.renew(ROUTER, lease.lease_id, ttl(5))
    assert (shorter.expire_time, suite.leases.left(shorter)) == (began + ttl(110), ttl(60))
    for _ in range(5):
        suite.clock.advance(55)
        renewed = await suite.leases.renew(ROUTER, lease.lease_id, ttl(60))
        assert renewed.expire_time <= lease.max_expire_time
        if renewed.expire_time == lease.max_expire_time:
            break
    suite.clock.now = lease.max_expire_time
    assert await suite.ends(lease) == "expired"
    assert (await suite.lease(secret, 9999)).expire_time == suite.clock.now + ttl(300)


async def test_lease_is_its_holders(suite: Suite) -> None:
    lease = await suite.lease(await suite.create())
    for other in (EXECUTION, replace(ROUTER, subject="bob"), replace(ROUTER, tenant="rival")):
        assert await suite.ends(lease, other) == "gone"
        assert await suite.leases.revoke(replace(other, scopes=frozenset()), lease.lease_id) == 0
    assert await suite.ends(lease) == ""
    assert await suite.leases.revoke(ROUTER, lease.lease_id) == 1
    assert await suite.ends(lease) == "gone"


async def test_lease_ends_with_the_values(suite: Suite) -> None:
    rotated, renamed, deleted = [await suite.create() for _ in range(3)]
    leases = [await suite.lease(secret) for secret in (rotated, renamed, deleted)]
    change = Change(patched={"api_key": Value("sk-2")})
    await suite.secrets.update(ADMIN, rotated.secret_id, change, "")
    await suite.secrets.update(ADMIN, renamed.secret_id, Change(display_name="Other"), "")
    await suite.secrets.delete(ADMIN, deleted.secret_id, "")
    assert [await suite.ends(lease) for lease in leases] == ["changed", "", "changed"]


async def test_revocation_by_prefix(suite: Suite) -> None:
    one, two, other = await suite.create(), await suite.create(), await suite.create("openai_eu")
    leases = [await suite.lease(secret, caller=who) for secret in (one, two, other) for who in (ROUTER, EXECUTION)]

    async def alive() -> list[bool]:
        return [await suite.ends(lease, who) == "" for lease, who in zip(leases, [ROUTER, EXECUTION] * 3, strict=True)]

    assert await suite.leases.revoke(ADMIN, "open") == 0  # a part of the id is whole
    assert await suite.leases.revoke(ADMIN, "OPENAI") == 0
    assert await suite.leases.revoke(ADMIN, f"openai/{one.secret_id}/") == 2
    assert await alive() == [False, False, True, True, True, True]
    nobodys = replace(ROUTER, scopes=frozenset({"secrets.values"}))  # without secrets.write its own alone
    assert await suite.leases.revoke(nobodys, "openai") == 1
    assert await alive() == [False, False, False, True, True, True]
    assert await suite.leases.revoke(ADMIN, "openai") == 1
    assert await suite.leases.revoke(replace(ADMIN, tenant="rival"), "openai_eu") == 0
    assert await alive() == [False, False, False, False, True, True]
    with pytest.raises(errors.InvalidArgument):
        await suite.leases.revoke(ADMIN, "/")


async def test_revocation_of_a_parent_cascades(suite: Suite) -> None:
    secret = await suite.create()
    root = await suite.lease(secret, 120)
    child = await suite.lease(await suite.create("groq"), 999, root)
    grandchild = await suite.lease(secret, 30, child)
    bystander = await suite.lease(secret)
    assert (child.expire_time, grandchild.expire_time) == (root.expire_time, suite.clock.now + ttl(30))
    assert (await suite.leases.renew(ROUTER, child.lease_id, ttl(200))).expire_time == root.expire_time
    assert await suite.leases.revoke(ROUTER, root.lease_id) == 3
    assert [await suite.ends(lease) for lease in (root, child, grandchild)] == ["gone"] * 3
    assert await suite.ends(bystander) == ""
    with pytest.raises(errors.NotFound):
        await suite.lease(secret, 30, root)
    suite.clock.advance(61)
    with pytest.raises(errors.FailedPrecondition):
        await suite.lease(secret, 30, bystander)


async def test_children_that_come_meanwhile_end_too(suite: Suite) -> None:
    secret = await suite.create()
    root = await suite.lease(secret)
    outcomes = await asyncio.gather(
        *(suite.lease(secret, 30, root) for _ in range(8)),
        suite.leases.revoke(ROUTER, root.lease_id),
        *(suite.lease(secret, 30, root) for _ in range(8)),
        return_exceptions=True,
    )
    children = [outcome for outcome in outcomes if isinstance(outcome, Lease)]
    assert all(isinstance(outcome, Lease | int | errors.NotFound) for outcome in outcomes), outcomes
    assert {await suite.ends(child) for child in children} <= {"gone"}


async def test_clocks_that_disagree(suite: Suite) -> None:
    """A server that is behind neither revives a lease nor shortens it, and says no more than what was left."""
    lease = await suite.lease(await suite.create(), 60)
    suite.clock.advance(30)
    renewed = await suite.leases.renew(ROUTER, lease.lease_id, ttl(60))
    suite.clock.advance(-3600)
    assert suite.leases.left(renewed) == ttl(60)
    late = await suite.leases.renew(ROUTER, lease.lease_id, ttl(90))
    assert (late.renew_time, late.expire_time) == (renewed.renew_time, renewed.renew_time + ttl(90))
    assert late.expire_time <= lease.max_expire_time
    suite.clock.advance(3600 + 90)
    assert await suite.ends(lease) == "expired"
    assert suite.leases.left(late) == ttl(0)
    suite.clock.advance(-1)
    assert suite.leases.left(late) == ttl(1)


async def test_values_leave_the_cache_with_their_lease(suite: Suite) -> None:
    secret = await suite.create()
    lease = await suite.lease(secret, 60)
    held, hit = await suite.secrets.values(ROUTER, secret.secret_id, 0, refresh=False)
    assert hit.cached
    buffer = hit.value.values["api_key"]._bytes
    del hit
    await suite.leases.sweep()
    assert (await suite.secrets.values(ROUTER, held.secret_id, 0, refresh=False))[1].cached
    suite.clock.advance(30)
    await suite.leases.renew(ROUTER, lease.lease_id, ttl(60))
    suite.clock.advance(40)
    await suite.leases.sweep()
    assert bytes(buffer) == CANARY.encode()
    suite.clock.advance(20)
    await suite.leases.sweep()
    assert bytes(buffer) == bytes(len(CANARY))
    assert not (await suite.secrets.values(ROUTER, held.secret_id, 0, refresh=False))[1].cached
    await suite.lease(secret)
    await suite.leases.revoke(ROUTER, "openai")
    assert not (await suite.secrets.values(ROUTER, held.secret_id, 0, refresh=False))[1].cached


async def test_what_is_long_past_is_forgotten(suite: Suite) -> None:
    secret = await suite.create()
    await suite.lease(secret)
    await suite.wraps.wrap(ROUTER, secret.secret_id, ttl(60))
    suite.clock.advance(2 * 86400)
    await suite.leases.sweep()
    await suite.wraps.wrap(ROUTER, secret.secret_id, ttl(60))
    assert not await suite.db.rows(sa.select(tables.leases))
    assert len(await suite.db.rows(sa.select(tables.wraps))) == 1


async def unwrap(suite: Suite, token: Value, path: str, caller: Caller = WORKER) -> str:
    """The value, or why there is none."""
    try:
        found, _ = await suite.wraps.unwrap(caller, token, path)
    except errors.FailedPrecondition as error:
        return error.metadata["cause"] if error.reason_code == "WRAPPING_TOKEN_INVALID" else error.reason_code
    return found.values["api_key"].reveal()


async def test_token_is_good_once(suite: Suite) -> None:
    secret = await suite.create()
    token, wrap = await suite.wraps.wrap(ROUTER, secret.secret_id, ttl(60))
    assert wrap.path == f"openai/{secret.secret_id}"
    assert await unwrap(suite, token, wrap.path, STRANGER) == "unknown"
    assert await unwrap(suite, token, wrap.path) == CANARY
    with structlog.testing.capture_logs() as logs:
        assert await unwrap(suite, token, wrap.path) == "spent"
    alert = next(line for line in logs if line["event"].startswith("alert"))
    assert (alert["log_level"], alert["cause"], alert["maker"]) == ("error", "spent", "router")
    assert await suite.audited() == [
        ("wrap", "allow", "router"),
        ("unwrap", "deny", ""),
        ("unwrap", "allow", ""),
        ("unwrap", "alert", ""),
    ]
    kept = [repr(row) for table in tables.metadata.sorted_tables for row in await suite.db.rows(sa.select(table))]
    assert token.reveal() not in "".join([*kept, repr(logs)])
    assert CANARY not in "".join([*kept, repr(logs)])


async def test_of_many_who_unwrap_one_has_the_value(suite: Suite) -> None:
    token, wrap = await suite.wraps.wrap(ROUTER, (await suite.create()).secret_id, ttl(60))
    found = await asyncio.gather(*(unwrap(suite, token, wrap.path) for _ in range(16)))
    assert sorted(found) == [CANARY, *["spent"] * 15]


async def test_token_that_has_expired(suite: Suite) -> None:
    token, wrap = await suite.wraps.wrap(ROUTER, (await suite.create()).secret_id, ttl(9999))
    assert wrap.expire_time == suite.clock.now + ttl(300)
    suite.clock.advance(300)
    assert await unwrap(suite, token, wrap.path) == "expired"
    assert await suite.audited() == [("wrap", "allow", "router"), ("unwrap", "deny", "")]


async def test_token_of_another_path_is_spent(suite: Suite) -> None:
    mine, other = await suite.create(), await suite.create()
    token, wrap = await suite.wraps.wrap(ROUTER, other.secret_id, ttl(60))
    assert await unwrap(suite, token, f"openai/{mine.secret_id}") == "creation_path"
    assert await unwrap(suite, token, wrap.path) == "spent"
    assert [row[1] for row in await suite.audited()] == ["allow", "alert", "alert"]


async def test_token_is_not_spent_by_a_failure(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = await suite.create()
    token, wrap = await suite.wraps.wrap(ROUTER, secret.secret_id, ttl(60))
    await suite.memory.inventory(wrap.owner, "openai")  # which may be stale: not so what is given once

    async def silent(*_: Any) -> Any:
        raise errors.Unavailable("down")

    with monkeypatch.context() as patched:
        patched.setattr(SqlVaultStore, "inventory", silent)
        with pytest.raises(errors.Unavailable):
            await unwrap(suite, token, wrap.path)
    assert await unwrap(suite, token, wrap.path) == CANARY


async def test_token_of_a_secret_that_changed(suite: Suite) -> None:
    secret = await suite.create()
    token, wrap = await suite.wraps.wrap(ROUTER, secret.secret_id, ttl(60))
    await suite.secrets.update(ADMIN, secret.secret_id, Change(patched={"api_key": Value("sk-2")}), "")
    assert await unwrap(suite, token, wrap.path) == "sk-2"
    token, wrap = await suite.wraps.wrap(ROUTER, secret.secret_id, ttl(60))
    await suite.secrets.delete(ADMIN, secret.secret_id, "")
    with pytest.raises(errors.NotFound):
        await unwrap(suite, token, wrap.path)


async def test_readers_alone_lease_and_wrap(suite: Suite) -> None:
    secret = await suite.create()
    lease = await suite.lease(secret)
    for caller in (WORKER, ADMIN, replace(ROUTER, service="registry"), replace(ROUTER, service="")):
        with pytest.raises(errors.PermissionDenied):
            await suite.secrets.values(caller, secret.secret_id, 0, refresh=False)
        with pytest.raises(errors.PermissionDenied):
            await suite.wraps.wrap(caller, secret.secret_id, ttl(60))
        assert await suite.ends(lease, caller) == "gone"


async def test_users_own_secret_is_wrapped_for_a_worker(suite: Suite) -> None:
    secret = await suite.create(scope=Scope.USER)
    token, wrap = await suite.wraps.wrap(ROUTER, secret.secret_id, ttl(60))
    assert (wrap.owner.subject, await unwrap(suite, token, wrap.path)) == ("ann", CANARY)
    lease = await suite.lease(secret)
    assert lease.owner.subject == "ann"
