"""Where secrets are kept, and what of it is remembered."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from libs import errors
from services.secrets.model import Draft, Owner, Secret, SecretValues, Values
from services.secrets.providers import BUILT_IN, Provider
from services.secrets.service.cache import Cache, Clock, Hit, Policy


class Backend(Protocol):
    """The local vault or A8N Identity."""

    async def admit(self, owner: Owner) -> None:
        """Refuses an owner whose token the backend does not take any more."""

    async def create(self, owner: Owner, draft: Draft, request_id: str) -> Secret: ...

    async def get(self, owner: Owner, secret_id: str) -> Secret: ...

    async def page(self, owner: Owner, provider: str, *, after: str, limit: int) -> Sequence[Secret]:
        """By id; an empty provider is every one."""

    async def inventory(self, owner: Owner, provider: str) -> Sequence[Secret]:
        """All that are in use; an empty provider is every one."""

    async def values(self, owner: Owner, secret_id: str, version: int = 0) -> SecretValues: ...

    async def update(
        self, owner: Owner, current: Secret, display_name: str, labels: Mapping[str, str], values: Values | None
    ) -> Secret:
        """Aborted where `current` is not current any more."""

    async def delete(self, owner: Owner, current: Secret) -> None: ...

    async def providers(self) -> Sequence[Provider] | None:
        """None where the backend knows no providers of its own."""

    async def provider(self, name: str) -> Provider | None: ...


Inventory = tuple[Owner, str]
Version = tuple[Owner, str, str, int, datetime]


class Memory:
    """A backend's answers in the cache, by owner, provider, secret and version."""

    def __init__(
        self,
        backend: Backend,
        policy: Policy,
        *,
        decision_ttl: float = 60.0,
        clock: Clock = time.monotonic,
    ) -> None:
        self._backend = backend
        self.observe: Callable[[str], Awaitable[None]] = _nobody
        self._inventories: Cache[Inventory, tuple[Secret, ...]] = Cache(policy, clock=clock)
        self._values: Cache[Version, SecretValues] = Cache(policy, clock=clock)
        decisions = replace(policy, ttl=decision_ttl, max_stale=decision_ttl, ahead=(0.5, 0.9))
        self._decisions: Cache[tuple[Owner, bytes], bool] = Cache(decisions, clock=clock)
        self._providers: Cache[str, Provider | None] = Cache(policy, clock=clock)
        self._seen: OrderedDict[tuple[Owner, str], Secret] = OrderedDict()
        self._size = policy.size

    def lookups(self) -> Mapping[tuple[str, ...], int]:
        """How often something was looked up, by what and by result."""
        caches: Mapping[str, Cache[Any, Any]] = {
            "inventory": self._inventories,
            "values": self._values,
            "decision": self._decisions,
            "provider": self._providers,
        }
        return {(name, result): n for name, cache in caches.items() for result, n in cache.lookups.items()}

    async def admit(self, owner: Owner) -> None:
        """Asks the backend anew after the decision's own time, whatever else is still fresh."""
        if not owner.subject:
            return

        async def ask() -> bool:
            await self._backend.admit(owner)
            return True

        try:
            await self._decisions.get((owner, hashlib.sha256(owner.token.encode()).digest()), ask)
        except errors.PermissionDenied:
            self.forget(owner.tenant, owner.subject)
            raise

    async def inventory(self, owner: Owner, provider: str, *, refresh: bool = False) -> Hit[tuple[Secret, ...]]:
        async def ask() -> tuple[Secret, ...]:
            found: tuple[Secret, ...] = ()
            await self.observe(owner.tenant)
            try:
                found = tuple(await self._backend.inventory(owner, provider))
            except (errors.Internal, errors.PermissionDenied) as error:
                if error.reason_code == "UPSTREAM_AUTH":  # whatever it let us have before, it does not now
                    self.forget(owner.tenant, owner.subject)
                raise
            known = {_version(owner, secret) for secret in found}
            self._values.discard(lambda key: key[:2] == (owner, provider) and key not in known)
            if not found:
                raise errors.NotFound("provider", provider)
            return found

        key = (owner, provider)
        if not refresh and (hit := self._inventories.peek(key, ask)):
            return hit
        return await self._inventories.get(key, ask, refresh=refresh)

    async def values(self, owner: Owner, secret: Secret, *, refresh: bool = False) -> Hit[SecretValues]:
        async def ask() -> SecretValues:
            await self.observe(owner.tenant)
            try:
                return await self._backend.values(owner, secret.secret_id)
            except (errors.Internal, errors.PermissionDenied) as error:
                if error.reason_code == "UPSTREAM_AUTH":
                    self.forget(owner.tenant, owner.subject)
                raise

        key = _version(owner, secret)
        if not refresh and (hit := self._values.peek(key, ask)):
            return hit
        return await self._values.get(key, ask, refresh=refresh)

    def see(self, owner: Owner, secret: Secret) -> None:
        self._seen[owner, secret.secret_id] = secret
        self._seen.move_to_end((owner, secret.secret_id))
        while len(self._seen) > self._size:
            self._seen.popitem(last=False)

    async def seen(self, owner: Owner, secret_id: str) -> Secret | None:
        """A secret as the backend last told of it, for while it is silent; its values have their own time."""
        secret = self._seen.get((owner, secret_id))
        if secret:
            await self.admit(owner)
        return secret

    def unsee(self, owner: Owner, secret_id: str) -> None:
        self._seen.pop((owner, secret_id), None)

    async def provider(self, name: str) -> Provider | None:
        async def ask() -> Provider | None:
            return await self._backend.provider(name) or BUILT_IN.get(name)

        return (await self._providers.get(name, ask)).value

    def forget(self, tenant: str, subject: str | None = None) -> None:
        """Of a whole tenant, or of one owner in it."""

        def is_theirs(owner: Owner) -> bool:
            return owner.tenant == tenant and subject in (None, owner.subject)

        self._inventories.discard(lambda key: is_theirs(key[0]))
        self._values.discard(lambda key: is_theirs(key[0]))
        for key in [key for key in self._seen if is_theirs(key[0])]:
            del self._seen[key]

    def drop(self, owner: Owner, provider: str, secret_id: str) -> None:
        """The values of one secret."""
        self._values.discard(lambda key: key[:3] == (owner, provider, secret_id))

    def tenants(self) -> set[str]:
        return {key[0].tenant for key in self._inventories.known()} | {key[0].tenant for key in self._values.known()}

    async def close(self) -> None:
        for cache in (self._inventories, self._values, self._decisions, self._providers):
            await cache.close()


def _version(owner: Owner, secret: Secret) -> Version:
    return owner, secret.provider, secret.secret_id, secret.version, secret.update_time


async def _nobody(tenant: str) -> None:
    """Nobody looks after other processes."""
