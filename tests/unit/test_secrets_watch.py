"""When watchers look at a backend that does not tell of changes: on a clock of ours."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from libs import errors
from libs.identity import Caller
from services.secrets.model import Owner, Secret
from services.secrets.service.audit import Record, Trail
from services.secrets.service.backend import Memory
from services.secrets.service.cache import Policy
from services.secrets.service.watch import Feed, Heartbeat, Watches

ANN = Caller("acme", "ann", frozenset({"secrets.read"}))
POLL = 300.0
WATCHERS = 1000
NOW = datetime(2026, 11, 21, tzinfo=UTC)


@dataclass
class World:
    """A clock, a backend that is looked at so many times, and a drain that lets time pass."""

    looks: int = 3
    now: float = 0.0
    looked: list[float] = field(default_factory=list)

    async def inventory(self, owner: Owner, provider: str) -> Sequence[Secret]:
        if owner.subject:
            return []
        self.looked.append(self.now)
        version = len(self.looked)
        if version > self.looks:
            raise errors.Internal("enough")
        return [Secret("one", "openai", "", {}, (), version, NOW, NOW, etag=str(version))]

    async def wait_for(self, awaitable: Awaitable[bool], seconds: float) -> bool | None:
        asyncio.ensure_future(awaitable).cancel()
        self.now += seconds
        return None

    async def append(self, records: Sequence[Record]) -> None: ...

    async def forget(self, before: datetime) -> None: ...

    async def positions(self, of: Collection[str]) -> dict[str, int]:
        return {}

    async def touch(self, tenant: str) -> None: ...

    def watches(self, heartbeat: float) -> Watches:
        backend: Any = self
        feed = Feed(self, Memory(backend, Policy()), poll=1)
        trail = Trail(self, lambda value: ("", ""))
        return Watches(backend, feed, self, trail, heartbeat=heartbeat, poll=POLL, clock=lambda: self.now)

    async def watched(self, heartbeat: float = POLL) -> list[Any]:
        seen: list[Any] = []
        with suppress(errors.Internal):  # that there were looks enough
            async for item in self.watches(heartbeat).watch(ANN, ""):
                seen.append(item)
        return seen


async def test_looks_are_splayed_within_their_bound() -> None:
    worlds = [World() for _ in range(WATCHERS)]
    for world in worlds:
        await world.watched()
    pauses = [later - sooner for world in worlds for sooner, later in zip(world.looked, world.looked[1:], strict=False)]
    assert len(pauses) == 3 * WATCHERS
    assert min(pauses) >= 0.8 * POLL
    assert max(pauses) <= POLL
    first_second_looks = Counter(int(world.looked[1]) for world in worlds)
    assert max(first_second_looks.values()) < WATCHERS * 0.1


async def test_each_version_once_and_in_order_with_heartbeats_between() -> None:
    seen = await World(looks=4).watched(heartbeat=60)
    versions = [item.secret.version for item in seen if hasattr(item, "secret")]
    assert versions == [1, 2, 3, 4]
    beats = sum(isinstance(item, Heartbeat) for item in seen)
    assert 4 * 3 <= beats <= 4 * 5
