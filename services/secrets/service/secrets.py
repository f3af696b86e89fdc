"""Keep credentials, and answer who may have their values."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final
from weakref import WeakValueDictionary

import structlog

from libs import errors, pagination
from libs.identity import Caller
from services.secrets.model import Change, Draft, Owner, Scope, Secret, SecretValues, Values
from services.secrets.providers import BUILT_IN, BadSchema, Provider, Schema, check
from services.secrets.service import access
from services.secrets.service.access import READ, VALUES, WRITE
from services.secrets.service.audit import Trail
from services.secrets.service.backend import Backend, Memory
from services.secrets.service.cache import Hit

log = structlog.get_logger()
_ATTEMPTS: Final = 20
Announce = Callable[[str], Awaitable[None]]
"""Tells every process that something of a tenant changed."""


class Secrets:
    def __init__(
        self,
        backend: Backend,
        memory: Memory,
        trail: Trail,
        announce: Announce,
        *,
        strict_providers: bool = False,
        readers: Collection[str] | None = None,
    ) -> None:
        self._backend, self._memory, self._trail, self._announce = backend, memory, trail, announce
        self._strict, self._readers = strict_providers, readers
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def create(self, caller: Caller, scope: Scope, draft: Draft, request_id: str) -> Secret:
        if not draft.provider:
            raise errors.invalid("secret.provider", "is required")
        await self._permit(caller, WRITE, "create", scope=scope, provider=draft.provider)
        owner = access.user(caller) if scope is Scope.USER else access.system(caller)
        await self._check(draft.provider, draft.values)
        await self._intend(caller, "create", scope=scope, provider=draft.provider)
        made = await self._backend.create(owner, draft, request_id)
        await self._changed(caller, "create", made, draft.values)
        return made

    async def get(self, caller: Caller, secret_id: str) -> Secret:
        await self._permit_any(caller, READ, "get")
        _, secret = await self._find(caller, secret_id)
        await self._permit(caller, READ, "get", secret=secret)
        await self._trail.write([self._trail.record(caller, "get", "allow", **_of(secret))])
        return secret

    async def list(
        self, caller: Caller, page_size: int, page_token: str, provider: str, scope: Scope | None
    ) -> tuple[Sequence[Secret], str]:
        await self._permit_any(caller, READ, "list", provider=provider)
        query = {"tenant": caller.tenant, "provider": provider}
        query |= {"scope": scope.name, "subject": caller.subject} if scope else {}
        after, size = pagination.from_token(page_token, query), pagination.page_size(page_size)
        found: Sequence[Secret] = ()
        while True:
            asked = [await self._page(owner, provider, after, size + 1) for owner in self._owners(caller, scope)]
            page = sorted((secret for each in asked for secret in each), key=lambda secret: secret.secret_id)
            page = page[: size + 1]
            found = [*found, *(secret for secret in page if access.allows(caller, READ, secret.provider))]
            if len(found) > size or len(page) <= size:
                break
            after = page[-1].secret_id
        await self._trail.write([self._trail.record(caller, "list", "allow", provider=provider)])
        more = len(found) > size
        return found[:size], pagination.to_token(found[size - 1].secret_id, query) if more else ""

    async def _page(self, owner: Owner, provider: str, after: str, limit: int) -> Sequence[Secret]:
        try:
            return await self._backend.page(owner, provider, after=after, limit=limit)
        except errors.PermissionDenied:
            if owner.subject:
                return ()  # a caller without a token of its own has no secrets of its own
            raise

    async def update(self, caller: Caller, secret_id: str, change: Change, etag: str) -> Secret:
        """A change that names no etag is made again where another one came first."""
        await self._permit_any(caller, WRITE, "update")
        lock = asyncio.Lock() if etag else self._locks.setdefault((caller.tenant, secret_id), asyncio.Lock())
        async with lock:
            for attempt in range(_ATTEMPTS):
                owner, current = await self._find(caller, secret_id)
                await self._permit(caller, WRITE, "update", secret=current)
                _require(current, etag)
                values = await self._new_values(owner, current, change)
                name = current.display_name if change.display_name is None else change.display_name
                labels = current.labels if change.labels is None else change.labels
                if attempt == 0:
                    await self._intend(caller, "update", **_of(current))
                try:
                    made = await self._backend.update(owner, current, name, labels, values)
                    break
                except errors.Aborted:
                    if etag or attempt == _ATTEMPTS - 1:
                        raise
                # Two processes in step would let the same one lose each time.
                await asyncio.sleep(random.uniform(0, 0.01 * (attempt + 1)))  # noqa: S311
        await self._changed(caller, "update", made, values or {})
        return made

    async def _new_values(self, owner: Owner, current: Secret, change: Change) -> Values | None:
        if not change.changes_values:
            return None
        kept: Values = {}
        if change.replaced is None:
            kept = (await self._backend.values(owner, current.secret_id)).values
        values = change.values(kept)
        if not values:
            raise errors.invalid("values", "none would be left")
        await self._check(current.provider, values)
        return values

    async def delete(self, caller: Caller, secret_id: str, etag: str) -> None:
        await self._permit_any(caller, WRITE, "delete")
        for attempt in range(_ATTEMPTS):
            owner, current = await self._find(caller, secret_id)
            await self._permit(caller, WRITE, "delete", secret=current)
            _require(current, etag)
            if attempt == 0:
                await self._intend(caller, "delete", **_of(current))
            try:
                await self._backend.delete(owner, current)
                break
            except errors.Aborted:
                if etag or attempt == _ATTEMPTS - 1:
                    raise
            await asyncio.sleep(random.uniform(0, 0.01 * (attempt + 1)))  # noqa: S311
        await self._changed(caller, "delete", current, {})

    async def readable(self, caller: Caller, secret_id: str, action: str) -> tuple[Owner, Secret]:
        """A secret, for one who may have its values."""
        if not access.may_read(caller, self._readers):
            await self._trail.write([self._trail.record(caller, action, "deny")])
            raise access.no_reader()
        await self._permit_any(caller, VALUES, action)
        owner, secret = await self._find_or_remember(caller, secret_id)
        await self._permit(caller, VALUES, action, secret=secret)
        return owner, secret

    async def values(
        self, caller: Caller, secret_id: str, version: int, *, refresh: bool
    ) -> tuple[Secret, Hit[SecretValues]]:
        owner, secret = await self.readable(caller, secret_id, "values")
        if version and version != secret.version:
            hit = Hit(await self._backend.values(owner, secret_id, version))
        else:
            hit = await self._memory.values(owner, secret, refresh=refresh)
        outcome = "stale" if hit.stale else "hit" if hit.cached else "miss"
        of = {**_of(secret), "version": hit.value.version}
        await self._trail.write(
            self._trail.record(caller, "values", outcome, **of, field=name, value=value)
            for name, value in hit.value.values.items()
        )
        return secret, hit

    async def providers(self, caller: Caller) -> Sequence[Provider]:
        await self._permit_any(caller, READ, "providers")
        found = await self._backend.providers()
        known = BUILT_IN if found is None else {each.name: each for each in found}
        return [provider for name, provider in sorted(known.items()) if access.allows(caller, READ, name)]

    async def schema(self, caller: Caller, name: str) -> Schema:
        await self._permit(caller, READ, "providers", provider=name)
        if provider := await self._memory.provider(name):
            return provider.schema
        raise errors.NotFound("provider", name)

    async def _check(self, name: str, values: Values) -> None:
        provider = await self._memory.provider(name)
        if provider is None:
            if self._strict:
                raise errors.invalid("secret.provider", "is not known, and strict_providers wants it to be")
            return
        try:
            violations = check(provider.schema, values)
        except BadSchema:
            log.warning("the schema of a provider cannot be used", provider=name)
            return
        if violations:
            raise errors.InvalidArgument(violations)

    async def _find(self, caller: Caller, secret_id: str) -> tuple[Owner, Secret]:
        for owner in self._owners(caller, None):
            try:
                return owner, await self._backend.get(owner, secret_id)
            except (errors.NotFound, errors.PermissionDenied) as error:
                if isinstance(error, errors.PermissionDenied) and not owner.subject:
                    raise
        raise errors.NotFound("secret", secret_id)

    async def _find_or_remember(self, caller: Caller, secret_id: str) -> tuple[Owner, Secret]:
        owners = self._owners(caller, None)
        try:
            owner, secret = await self._find(caller, secret_id)
        except errors.Unavailable:
            for owner in owners:
                if seen := await self._memory.seen(owner, secret_id):
                    return owner, seen
            raise
        except errors.Error:
            for owner in owners:
                self._memory.unsee(owner, secret_id)
            raise
        self._memory.see(owner, secret)
        return owner, secret

    def _owners(self, caller: Caller, scope: Scope | None) -> Sequence[Owner]:
        owners = [access.system(caller), access.user(caller)]
        return [owner for owner in owners if scope in (None, owner.scope)]

    async def _intend(self, caller: Caller, action: str, **of: Any) -> None:
        """Before the change, so that none is made which the trail could not tell of."""
        await self._trail.write([self._trail.record(caller, action, "allow", **of)])

    async def _changed(self, caller: Caller, action: str, secret: Secret, values: Values) -> None:
        await self._announce(caller.tenant)
        records = [
            self._trail.record(caller, action, "done", **_of(secret), field=name, value=value)
            for name, value in values.items()
        ]
        await self._trail.write(records or [self._trail.record(caller, action, "done", **_of(secret))])

    async def _permit_any(self, caller: Caller, scope: str, action: str, *, provider: str = "") -> None:
        allowed = access.allows(caller, scope, provider) if provider else access.allows_any(caller, scope)
        if not allowed:
            await self._refuse(caller, scope, action, provider=provider)

    async def _permit(
        self,
        caller: Caller,
        needed: str,
        action: str,
        *,
        scope: Scope = Scope.SYSTEM,
        provider: str = "",
        secret: Secret | None = None,
    ) -> None:
        provider = secret.provider if secret else provider
        if not access.allows(caller, needed, provider):
            await self._refuse(caller, needed, action, provider=provider, scope=secret.scope if secret else scope)

    async def _refuse(
        self, caller: Caller, needed: str, action: str, *, provider: str = "", scope: Scope = Scope.SYSTEM
    ) -> None:
        await self._trail.write([self._trail.record(caller, action, "deny", scope=scope, provider=provider)])
        raise access.missing(needed)


def _of(secret: Secret) -> dict[str, Any]:
    return {
        "scope": secret.scope,
        "provider": secret.provider,
        "secret_id": secret.secret_id,
        "version": secret.version,
    }


def _require(secret: Secret, etag: str) -> None:
    if etag and etag != secret.etag:
        raise errors.Aborted("the secret was changed meanwhile", metadata={"current_etag": secret.etag})
