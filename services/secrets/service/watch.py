"""Watches: what a caller may see, then each change; and the news of other processes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Collection
from dataclasses import dataclass
from typing import Final, Protocol, Self

import structlog

from libs import errors
from libs.identity import Caller
from services.secrets.model import Secret
from services.secrets.service import access
from services.secrets.service.access import READ
from services.secrets.service.audit import Trail
from services.secrets.service.backend import Backend, Memory
from services.secrets.service.cache import Clock

log = structlog.get_logger()
_MOST_TENANTS: Final = 100_000


class PositionStore(Protocol):
    async def positions(self, of: Collection[str]) -> dict[str, int]: ...

    async def touch(self, tenant: str) -> None: ...


class Drain(Protocol):
    async def wait_for(self, awaitable: Awaitable[bool], seconds: float) -> bool | None: ...


class Feed:
    """Wakes watchers and empties the cache: at once for a change of this process, by polling for one of another."""

    def __init__(self, store: PositionStore, memory: Memory, *, poll: float) -> None:
        self._store, self._memory, self._poll = store, memory, poll
        self._wakers: dict[str, asyncio.Event] = {}
        self._seen: dict[str, int] = {}
        memory.observe = self.observe

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def announce(self, tenant: str) -> None:
        self._memory.forget(tenant)
        if waker := self._wakers.pop(tenant, None):
            waker.set()

    async def announced(self, tenant: str) -> None:
        """For a store that moves the position itself."""
        self.announce(tenant)

    async def touched(self, tenant: str) -> None:
        """For a backend elsewhere: the other processes learn of it through the position."""
        self.announce(tenant)
        with contextlib.suppress(errors.Unavailable):  # then they learn of it when their cache is old
            await self._store.touch(tenant)

    async def observe(self, tenant: str) -> None:
        """Notes where a tenant is, before the first of its secrets is remembered."""
        if tenant not in self._seen:
            with contextlib.suppress(errors.Unavailable):  # then its first position is news
                position = (await self._store.positions([tenant])).get(tenant, 0)
                self._seen.setdefault(tenant, position)

    async def changed(self, tenant: str) -> bool:
        """Returns after the next change; call it before looking whether there is one already."""
        return await self._wakers.setdefault(tenant, asyncio.Event()).wait()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._poll)
            if not (tenants := {*self._wakers, *self._memory.tenants()}):
                continue
            try:
                positions = await self._store.positions(tenants)
            except errors.Unavailable:  # it is logged where it was found
                continue
            except Exception:
                log.exception("the feed of changes goes on after an error")
                continue
            if len(self._seen) > _MOST_TENANTS:
                self._seen.clear()
            for tenant in tenants:
                position = positions.get(tenant, 0)
                if self._seen.get(tenant) != position:
                    self._seen[tenant] = position
                    self.announce(tenant)


@dataclass(frozen=True, slots=True)
class Seen:
    secret: Secret
    deleted: bool = False


class SnapshotComplete: ...


class Heartbeat: ...


class Watches:
    def __init__(
        self,
        backend: Backend,
        feed: Feed,
        drain: Drain,
        trail: Trail,
        *,
        heartbeat: float,
        poll: float | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        """`poll` is how often to look at a backend that does not tell when it changes."""
        self._backend, self._feed, self._drain, self._trail = backend, feed, drain, trail
        self._heartbeat, self._poll, self._clock = heartbeat, poll, clock

    async def watch(self, caller: Caller, provider: str) -> AsyncGenerator[Seen | SnapshotComplete | Heartbeat, None]:
        allowed = access.allows(caller, READ, provider) if provider else access.allows_any(caller, READ)
        outcome = "allow" if allowed else "deny"
        await self._trail.write([self._trail.record(caller, "watch", outcome, provider=provider)])
        if not allowed:
            raise access.missing(READ)
        seen: dict[str, Secret] | None = None
        while True:
            waiting = asyncio.ensure_future(self._feed.changed(caller.tenant))
            await asyncio.sleep(0)  # lets it register before we look
            try:
                try:
                    present = await self._present(caller, provider)
                except errors.Unavailable:
                    if seen is None:
                        raise
                    present = seen
                for item in _difference(seen or {}, present):
                    yield item
                if seen is None:
                    yield SnapshotComplete()
                seen = present
                async for beat in self._quiet(waiting):
                    yield beat
            finally:
                waiting.cancel()

    async def _quiet(self, waiting: asyncio.Future[bool]) -> AsyncGenerator[Heartbeat, None]:
        """Until there is a reason to look again. The splay keeps the looks of many watchers apart."""
        until = self._clock() + (self._poll * random.uniform(0.8, 1.0) if self._poll else float("inf"))  # noqa: S311
        while (left := until - self._clock()) > 0:
            if await self._drain.wait_for(asyncio.shield(waiting), min(left, self._heartbeat)):
                return
            if left > self._heartbeat:
                yield Heartbeat()

    async def _present(self, caller: Caller, provider: str) -> dict[str, Secret]:
        found = list(await self._backend.inventory(access.system(caller), provider))
        with contextlib.suppress(errors.PermissionDenied):  # without a token of its own a caller has none of its own
            found += await self._backend.inventory(access.user(caller), provider)
        return {secret.secret_id: secret for secret in found if access.allows(caller, READ, secret.provider)}


def _difference(before: dict[str, Secret], now: dict[str, Secret]) -> list[Seen]:
    gone = [Seen(secret, deleted=True) for secret_id, secret in before.items() if secret_id not in now]
    changed = [secret for secret in now.values() if _is_news(secret, before.get(secret.secret_id))]
    return gone + [Seen(secret) for secret in sorted(changed, key=lambda each: (each.update_time, each.secret_id))]


def _is_news(secret: Secret, before: Secret | None) -> bool:
    return before is None or (before.etag, before.version) != (secret.etag, secret.version)
