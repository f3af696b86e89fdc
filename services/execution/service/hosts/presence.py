"""Hosts of other processes, as the database has them, and the sign of life of those that are here."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, Protocol

from services.execution.model.hosts import Errand, Presence, Registration
from services.execution.service.hosts.stream import Full, Lost

_MOST_TENANTS: Final = 1024
_REST: Final = 0.1
"""Seconds for which a host of another process is left alone that had no room."""
_LONG_REST: Final = 2.0
"""The same after it was lost; it is no longer there, or connects again under another registration."""


class HostStore(Protocol):
    async def put(self, presence: Presence, lease: float) -> None:
        """Makes a host known for so many seconds, in place of another stream of its name."""

    async def keep(self, presence: Presence, lease: float) -> bool:
        """The same, unless there is another stream of its name; False if there is."""

    async def renew(self, owner: str, lease: float) -> Collection[str]:
        """Renews the owner's leases; gives the streams that still have theirs."""

    async def drop(self, tenant: str, stream_id: str) -> None: ...

    async def others(self, owner: str, tenants: Sequence[str]) -> Mapping[str, str]:
        """Registrations of other processes that are alive, with their tenants."""

    async def read(self, registration_ids: Collection[str]) -> Sequence[Presence]: ...


class Relay(Protocol):
    async def call(self, address: str, stream_id: str, errand: Errand) -> str:
        """Has a host of another process make a call; raises as Seat.call does."""


class RemoteHost:
    """A host that is connected to another process."""

    def __init__(self, presence: Presence, relay: Relay, freed: Callable[[str], None]) -> None:
        self.presence, self._relay, self._freed = presence, relay, freed
        self._forwarded, self._full_until, self._lost_until = 0, 0.0, 0.0
        self._loop = asyncio.get_running_loop()

    @property
    def registration(self) -> Registration:
        return self.presence.registration

    @property
    def is_there(self) -> bool:
        return self._loop.time() >= self._lost_until

    @property
    def is_free(self) -> bool:
        has_room = self._forwarded < self.registration.max_concurrency and self._loop.time() >= self._full_until
        return has_room and self.is_there

    @property
    def load(self) -> float:
        """As far as it is known here."""
        return self._forwarded / self.registration.max_concurrency

    async def call(self, errand: Errand) -> str:
        self._forwarded += 1
        try:
            return await self._relay.call(self.presence.address, self.presence.stream_id, errand)
        except Full:
            self._full_until = self._later(_REST)
            raise
        except Lost:
            self._lost_until = self._later(_LONG_REST)
            raise
        finally:
            self._forwarded -= 1
            self._freed(self.presence.tenant)

    def _later(self, seconds: float) -> float:
        self._loop.call_later(seconds, self._freed, self.presence.tenant)
        return self._loop.time() + seconds


class Elsewhere:
    """Hosts of other processes, of those tenants that were asked for here."""

    def __init__(self, store: HostStore, relay: Relay, owner: str, freed: Callable[[str], None]) -> None:
        self._store, self._relay, self._owner, self._freed = store, relay, owner, freed
        self._tenants: OrderedDict[str, dict[str, RemoteHost]] = OrderedDict()
        self._looking: asyncio.Task[set[str]] | None = None

    def of(self, tenant: str) -> Collection[RemoteHost]:
        return self._tenants.get(tenant, {}).values()

    async def follow(self, tenant: str) -> set[str]:
        """Knows the tenant's hosts from now on; gives the tenants whose hosts are not what they were."""
        if tenant in self._tenants:
            self._tenants.move_to_end(tenant)
            return set()
        self._tenants[tenant] = {}
        if len(self._tenants) > _MOST_TENANTS:
            self._tenants.popitem(last=False)
        return await self.look()

    async def look(self) -> set[str]:
        """Looks into the database; several at once look once, those that come later once more."""
        if self._looking is not None:
            await asyncio.wait({self._looking})
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        return await asyncio.shield(self._looking)

    async def _look(self) -> set[str]:
        tenants = list(self._tenants)
        if not tenants:
            return set()
        there = await self._store.others(self._owner, tenants)
        known = {registration_id for hosts in self._tenants.values() for registration_id in hosts}
        changed = set()
        for tenant, hosts in self._tenants.items():
            for registration_id in [one for one in hosts if one not in there]:
                del hosts[registration_id]
                changed.add(tenant)
        for presence in await self._store.read(new) if (new := [one for one in there if one not in known]) else ():
            if presence.tenant in self._tenants:
                remote = RemoteHost(presence, self._relay, self._freed)
                self._tenants[presence.tenant][presence.registration.registration_id] = remote
                changed.add(presence.tenant)
        return changed
