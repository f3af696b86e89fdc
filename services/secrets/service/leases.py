"""Leases: values for a time, which is prolonged from now, ends at its latest, and ends with its parent's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, Self

import structlog

from libs import errors
from libs.identity import Caller
from libs.ids import new_id
from services.secrets.model import Holder, Lease, Owner, Scope, Secret, path
from services.secrets.service import access
from services.secrets.service.access import WRITE
from services.secrets.service.audit import Trail
from services.secrets.service.backend import Memory
from services.secrets.service.secrets import Announce, Secrets

log = structlog.get_logger()
Now = Callable[[], datetime]
_KEPT: Final = timedelta(days=1)
_FORGET_EVERY: Final = timedelta(hours=1)


def utc_now() -> datetime:
    return datetime.now(UTC)


class LeaseStore(Protocol):
    async def add(self, lease: Lease) -> bool:
        """False if its parent is gone."""

    async def get(self, tenant: str, lease_id: str) -> Lease | None: ...

    async def prolong(self, lease: Lease) -> bool:
        """False if it is gone, or lasts longer already."""

    async def revoke(self, tenant: str, prefix: str, holder: Holder | None) -> int:
        """Of one holder or of all, with their descendants; how many."""

    async def ended(self, after: datetime, until: datetime) -> Sequence[Lease]: ...

    async def forget(self, before: datetime) -> None: ...


class Leases:
    def __init__(
        self,
        store: LeaseStore,
        secrets: Secrets,
        memory: Memory,
        trail: Trail,
        announce: Announce,
        *,
        max_ttl: float,
        now: Now = utc_now,
        interval: float = 1.0,
    ) -> None:
        self._store, self._secrets, self._memory, self._trail = store, secrets, memory, trail
        self._announce, self._max_ttl, self._now, self._interval = announce, timedelta(seconds=max_ttl), now, interval
        self._swept = self._forgotten = now()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def grant(self, caller: Caller, secret: Secret, ttl: timedelta, parent_id: str = "") -> Lease:
        now = self._now()
        latest = now + self._max_ttl
        if parent_id:
            parent = await self._held(caller, parent_id)
            if parent.expire_time <= self._at(parent):
                raise _ended("expired")
            latest = min(latest, parent.expire_time)
        lease = Lease(
            lease_id=path(secret.provider, secret.secret_id, new_id()),
            holder=_holder(caller),
            owner=Owner(caller.tenant, caller.subject if secret.scope is Scope.USER else ""),
            provider=secret.provider,
            secret_id=secret.secret_id,
            state=secret.state,
            renew_time=now,
            expire_time=min(now + ttl, latest),
            max_expire_time=now + self._max_ttl,
            parent_id=parent_id,
        )
        if not await self._store.add(lease):
            raise errors.NotFound("lease", parent_id)
        await self._record(caller, "lease", lease)
        return lease

    async def renew(self, caller: Caller, lease_id: str, ttl: timedelta) -> Lease:
        lease = await self._held(caller, lease_id)
        now = self._at(lease)
        if lease.expire_time <= now:
            raise _ended("expired")
        await self._require_unchanged(caller, lease)
        latest = lease.max_expire_time
        if lease.parent_id:
            parent = await self._store.get(caller.tenant, lease.parent_id)
            if parent is None:
                raise _ended("expired")
            latest = min(latest, parent.expire_time)
        renewed = replace(lease, renew_time=now, expire_time=max(lease.expire_time, min(now + ttl, latest)))
        if not await self._store.prolong(renewed):  # somebody was faster: as long as theirs, or gone
            renewed = await self._held(caller, lease_id)
        await self._record(caller, "renew", renewed)
        return renewed

    async def revoke(self, caller: Caller, prefix: str) -> int:
        prefix = prefix.rstrip("/")
        if not prefix:
            raise errors.invalid("prefix", "names no lease")
        provider = prefix.partition("/")[0]
        anybodys = access.allows(caller, WRITE, provider)
        count = await self._store.revoke(caller.tenant, prefix, None if anybodys else _holder(caller))
        if count:
            await self._announce(caller.tenant)
        await self._trail.write([self._trail.record(caller, "revoke", "done", provider=provider)])
        return count

    def left(self, lease: Lease) -> timedelta:
        return max(lease.expire_time - self._at(lease), timedelta())

    async def sweep(self) -> None:
        """Drops from the cache what nobody may use any more under a lease; whoever still may fetches it again."""
        now = self._now()
        if self._memory.tenants():
            for lease in await self._store.ended(self._swept, now):
                self._memory.drop(lease.owner, lease.provider, lease.secret_id)
        self._swept = max(self._swept, now)
        if now - self._forgotten >= _FORGET_EVERY:
            self._forgotten = now
            await self._store.forget(now - _KEPT)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.sweep()
            except errors.Unavailable:  # it is logged where it was found
                continue
            except Exception:
                log.exception("the sweep of leases goes on after an error")

    def _at(self, lease: Lease) -> datetime:
        """For a lease time never runs backwards, whichever server's clock was ahead."""
        return max(self._now(), lease.renew_time)

    async def _held(self, caller: Caller, lease_id: str) -> Lease:
        lease = await self._store.get(caller.tenant, lease_id)
        if lease is None or lease.holder != _holder(caller):
            raise errors.NotFound("lease", lease_id)
        return lease

    async def _require_unchanged(self, caller: Caller, lease: Lease) -> None:
        try:
            _, secret = await self._secrets.readable(caller, lease.secret_id, "renew")
        except errors.NotFound:
            raise _ended("changed") from None
        if secret.state != lease.state:
            raise _ended("changed")

    async def _record(self, caller: Caller, action: str, lease: Lease) -> None:
        record = self._trail.record(
            caller, action, "allow", scope=lease.owner.scope, provider=lease.provider, secret_id=lease.secret_id
        )
        await self._trail.write([record])


def _holder(caller: Caller) -> Holder:
    return Holder(caller.service, caller.subject)


def _ended(cause: str) -> errors.FailedPrecondition:
    why = "has expired" if cause == "expired" else "is of values that have changed"
    return errors.FailedPrecondition(f"the lease {why}", reason="LEASE_ENDED", metadata={"cause": cause})
