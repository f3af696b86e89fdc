"""The local vault: secrets sealed with the master key, each bound to its owner, id, provider and version."""

from __future__ import annotations

import hmac
import os
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import orjson
import structlog

from libs import errors
from libs.config import StartError
from libs.ids import new_id
from services.secrets import model
from services.secrets.keys import KeyChanged, MasterKey, Rewrap, Unreadable
from services.secrets.model import Draft, Owner, Request, Sealed, Secret, SecretValues, Value, Values
from services.secrets.providers import Provider

log = structlog.get_logger()

_CHECK: Final = b"dynamic-agents vault check"
Keep = Callable[[Sealed], Awaitable[bool]]


class VaultStore(Protocol):
    async def check(self) -> Sealed | None:
        """The text that only the vault's master key opens; None in a new vault."""

    async def put_check(self, check: Sealed) -> None:
        """Keeps it, unless there is one."""

    async def rewrap(self, rewrap: Rewrap) -> int:
        """Applies `rewrap` to all that is sealed, in one transaction; how many versions there were."""

    async def get(self, owner: Owner, secret_id: str) -> Secret | None: ...

    async def page(self, owner: Owner, provider: str, *, after: str, limit: int) -> Sequence[Secret]: ...

    async def inventory(self, owner: Owner, provider: str) -> Sequence[Secret]: ...

    async def sealed(self, owner: Owner, secret_id: str, version: int) -> tuple[Secret, Sealed] | None: ...

    async def put(self, owner: Owner, secret: Secret, sealed: Sealed, *, request: Request | None = None) -> bool:
        """Keeps a new secret; False if the id or the request came before."""

    async def update(self, owner: Owner, secret: Secret, sealed: Sealed | None, *, etag: str, keep: int) -> bool:
        """Keeps a change, with the newest `keep` versions; False if the etag is not the current one."""

    async def delete(self, owner: Owner, secret_id: str, *, etag: str) -> bool: ...

    async def created_by(self, owner: Owner, request_id: str) -> tuple[Request, str] | None: ...

    async def touch(self, tenant: str) -> None: ...

    async def positions(self, of: Collection[str]) -> dict[str, int]: ...


class Vault:
    def __init__(
        self, store: VaultStore, key: MasterKey, *, keep: int = 10, reload: Callable[[], MasterKey] | None = None
    ) -> None:
        self._store, self.key, self._keep, self._reload = store, key, keep, reload

    async def unlock(self) -> None:
        """Refuses a key that is not the one that the vault was made with."""
        if await self._store.check() is None:  # another process may be first, with its own key
            await self._store.put_check(self.key.seal(_CHECK, _CHECK))
        if not await self.opens():
            raise StartError(
                "the vault was made with another key: set the vault_key or restore the key file that it had; "
                "nothing was changed"
            )

    async def opens(self) -> bool:
        try:
            check = await self._store.check()
            return check is not None and bool(self.key.open(check, _CHECK))
        except Unreadable:
            return False

    async def rotate(self, new: MasterKey) -> int:
        """Wraps every data key with another master key. What is damaged stops it, and nothing is changed."""

        def rewrap(owner: Owner, secret: Secret | None, sealed: Sealed) -> Sealed:
            place = _place(owner, secret) if secret else _CHECK
            try:
                return self.key.rewrap(sealed, place, new)
            except Unreadable:
                what = f"secret {secret.secret_id!r} of tenant {owner.tenant}" if secret else "the vault's check"
                raise StartError(f"{what} is damaged: delete it first; nothing was changed") from None

        count = await self._store.rewrap(rewrap)
        self.key = new
        return count

    async def admit(self, owner: Owner) -> None:
        """The vault itself refuses nobody."""

    async def create(self, owner: Owner, draft: Draft, request_id: str) -> Secret:
        request = Request(request_id, self._digest(owner, draft)) if request_id else None
        if request and (earlier := await self._made_by(owner, request)):
            return earlier
        secret = model.first(new_id(), draft, etag=_etag(), scope=owner.scope)

        async def keep(sealed: Sealed) -> bool:
            return await self._store.put(owner, secret, sealed, request=request)

        if await self._sealing(owner, secret, draft.values, keep):
            return secret
        if request and (earlier := await self._made_by(owner, request)):
            return earlier
        raise errors.AlreadyExists("secret", secret.secret_id)

    async def get(self, owner: Owner, secret_id: str) -> Secret:
        if secret := await self._store.get(owner, secret_id):
            return secret
        raise errors.NotFound("secret", secret_id)

    async def page(self, owner: Owner, provider: str, *, after: str, limit: int) -> Sequence[Secret]:
        return await self._store.page(owner, provider, after=after, limit=limit)

    async def inventory(self, owner: Owner, provider: str) -> Sequence[Secret]:
        return await self._store.inventory(owner, provider)

    async def values(self, owner: Owner, secret_id: str, version: int = 0) -> SecretValues:
        found = await self._store.sealed(owner, secret_id, version)
        if found is None:
            raise errors.NotFound("secret", secret_id)
        secret, sealed = found
        if sealed.key_id != self.key.key_id:
            self._another_key()
        try:
            opened = self.key.open(sealed, _place(owner, secret))
        except Unreadable:
            log.error("damaged secret", tenant=owner.tenant, secret_id=secret_id, version=secret.version)
            raise errors.Internal(f"secret {secret_id!r} is damaged", metadata={"secret_id": secret_id}) from None
        return SecretValues({name: Value(text) for name, text in orjson.loads(opened).items()}, secret.version)

    async def update(
        self, owner: Owner, current: Secret, display_name: str, labels: Any, values: Values | None
    ) -> Secret:
        now = datetime.now(UTC)
        new = replace(current, display_name=display_name, labels=dict(labels), update_time=now, etag=_etag())
        if values is None:
            done = await self._store.update(owner, new, None, etag=current.etag, keep=self._keep)
        else:
            new = replace(new, fields=tuple(sorted(values)), version=current.version + 1, value_time=now)
            done = await self._sealing(
                owner, new, values, lambda s: self._store.update(owner, new, s, etag=current.etag, keep=self._keep)
            )
        if not done:
            raise errors.Aborted("the secret was changed meanwhile")
        return new

    async def delete(self, owner: Owner, current: Secret) -> None:
        if not await self._store.delete(owner, current.secret_id, etag=current.etag):
            raise errors.Aborted("the secret was changed meanwhile")

    async def providers(self) -> Sequence[Provider] | None:
        return None

    async def provider(self, name: str) -> Provider | None:
        return None

    async def _sealing(self, owner: Owner, secret: Secret, values: Values, keep: Keep) -> bool:
        place, text = _place(owner, secret), orjson.dumps(_revealed(values))
        try:
            return await keep(self.key.seal(text, place))
        except KeyChanged:
            self._another_key()
            return await keep(self.key.seal(text, place))

    def _another_key(self) -> None:
        """Takes the key of now, where there is a file to take it from."""
        if self._reload is None:
            return
        try:
            self.key = self._reload()
        except StartError:
            log.error("the vault's key was rotated and cannot be read")

    async def _made_by(self, owner: Owner, request: Request) -> Secret | None:
        earlier = await self._store.created_by(owner, request.request_id)
        if earlier is None:
            return None
        if not hmac.compare_digest(earlier[0].digest, request.digest):
            raise errors.invalid("request_id", "came before with another request", reason="REQUEST_ID_REUSED")
        if secret := await self._store.get(owner, earlier[1]):
            return secret
        raise errors.AlreadyExists("secret", earlier[1], message="the request made a secret that was deleted since")

    def _digest(self, owner: Owner, draft: Draft) -> str:
        content = [owner.tenant, draft.provider, draft.display_name, dict(draft.labels), _revealed(draft.values)]
        if owner.subject:
            content.append(owner.subject)
        return self.key.digest(orjson.dumps(content, option=orjson.OPT_SORT_KEYS))


def _revealed(values: Values) -> dict[str, str]:
    return {name: value.reveal() for name, value in values.items()}


def _place(owner: Owner, secret: Secret) -> bytes:
    place = ["secret", owner.tenant, secret.secret_id, secret.provider, secret.version]
    return orjson.dumps([*place, owner.subject] if owner.subject else place)


def _etag() -> str:
    return os.urandom(8).hex()
