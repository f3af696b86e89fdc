"""Answers to reads of current revisions, kept by this process until the tenant's next commit.

A commit of this process drops what its tenant has at once; one of another as soon as the database tells of it
(PostgreSQL), or when the next look at the tenant's position finds it (every `watch_poll` seconds). What could not be
confirmed for `STALENESS` seconds is read again, so no answer is older than that, whatever becomes of the database.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

import structlog

from libs import errors

STALENESS: Final = 1.0
_IDLE: Final = 60.0
MOST_BYTES: Final = 64 * 1024 * 1024
log = structlog.get_logger()

Key = tuple[str, ...]


class PositionStore(Protocol):
    async def positions(self, tenants: Collection[str]) -> dict[str, int]: ...


class Announcements(Protocol):
    def listen(self, listener: Callable[[str], None]) -> None: ...


@dataclass(slots=True)
class _Tenant:
    """What was read while its tenant stayed at one position; the first look at that forgets what came before it."""

    confirmed: float
    asked: float
    position: int | None = None


class Cache:
    def __init__(self, store: PositionStore, feed: Announcements, *, poll: float, most_bytes: int = MOST_BYTES) -> None:
        self._store, self._poll, self._most_bytes = store, poll, most_bytes
        self._tenants: dict[str, _Tenant] = {}
        self._entries: OrderedDict[Key, tuple[_Tenant, Any, int]] = OrderedDict()
        self._bytes = 0
        self.lookups = {"hit": 0, "miss": 0}
        self._task: asyncio.Task[None] | None = None
        feed.listen(self.forget)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def get(self, tenant: str, key: Key, load: Callable[[], Awaitable[tuple[Any, int]]]) -> Any:
        """What `load` gave, with its size in bytes, when it was last called for this key; an error is not kept."""
        now = time.monotonic()
        state = self._tenants.get(tenant)
        if state is None or now - state.confirmed > STALENESS:
            state = self._tenants[tenant] = _Tenant(now, now)
        state.asked = now
        full_key = (tenant, *key)
        if (entry := self._entries.get(full_key)) and entry[0] is state:
            self._entries.move_to_end(full_key)
            self.lookups["hit"] += 1
            return entry[1]
        self.lookups["miss"] += 1
        value, size = await load()
        if self._tenants.get(tenant) is state:
            self._keep(full_key, state, value, size)
        return value

    def forget(self, tenant: str) -> None:
        self._tenants.pop(tenant, None)

    def _keep(self, key: Key, state: _Tenant, value: Any, size: int) -> None:
        self._remove(key)
        self._entries[key] = (state, value, size)
        self._bytes += size
        while self._bytes > self._most_bytes:
            self._remove(next(iter(self._entries)))

    def _remove(self, key: Key) -> None:
        if entry := self._entries.pop(key, None):
            self._bytes -= entry[2]

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._poll)
            began = time.monotonic()
            self._tenants = {name: state for name, state in self._tenants.items() if began - state.asked < _IDLE}
            if not self._tenants:
                continue
            looked = dict(self._tenants)
            try:
                positions = await self._store.positions(list(looked))
            except errors.Unavailable:  # it is logged where it was found
                continue
            except Exception:
                log.exception("the cache goes on after an error")
                continue
            for tenant, state in looked.items():
                if self._tenants.get(tenant) is state:
                    self._confirm(tenant, state, positions.get(tenant, 0), began)

    def _confirm(self, tenant: str, state: _Tenant, position: int, began: float) -> None:
        if state.position == position:
            state.confirmed = began
        else:
            self._tenants[tenant] = _Tenant(began, state.asked, position)
