"""The local vault: secrets sealed with the master key, each bound to its tenant, id, provider and version."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final, Protocol

import orjson
import structlog

from libs import errors
from libs.config import StartError
from libs.ids import new_id
from services.secrets import model
from services.secrets.keys import MasterKey, Unreadable
from services.secrets.model import Draft, Request, Sealed, Secret, SecretValues, Value

log = structlog.get_logger()

_CHECK: Final = b"dynamic-agents vault check"


class VaultStore(Protocol):
    async def check(self) -> Sealed | None:
        """The text that only the vault's master key opens; None in a new vault."""

    async def put_check(self, check: Sealed) -> None:
        """Keeps it, unless there is one."""

    async def page(self, tenant: str, provider: str, *, after: str, limit: int) -> Sequence[Secret]: ...

    async def newest(self, tenant: str, provider: str) -> Sequence[Secret]: ...

    async def sealed(self, tenant: str, secret_id: str) -> tuple[Secret, Sealed] | None: ...

    async def put(self, tenant: str, secret: Secret, sealed: Sealed, *, request: Request | None = None) -> bool:
        """Keeps a new secret; False if the id or the request came before."""

    async def created_by(self, tenant: str, request_id: str) -> tuple[Request, Secret] | None: ...


class Vault:
    def __init__(self, store: VaultStore, key: MasterKey) -> None:
        self._store, self._key = store, key

    async def unlock(self) -> None:
        """Refuses a key that is not the one that the vault was made with."""
        check = await self._store.check()
        if check is None:
            await self._store.put_check(self._key.seal(_CHECK, _CHECK))
            return await self.unlock()  # against another process that was first, with its own key
        try:
            self._key.open(check, _CHECK)
        except Unreadable:
            raise StartError(
                "the vault was made with another key: set the vault_key or restore the key file that it had; "
                "nothing was changed"
            ) from None

    async def create(self, tenant: str, draft: Draft, request_id: str) -> Secret:
        request = Request(request_id, self._digest(tenant, draft)) if request_id else None
        if request and (earlier := await self._made_by(tenant, request)):
            return earlier
        secret = model.first(new_id(), draft)
        if await self._store.put(tenant, secret, self._seal(tenant, secret, draft), request=request):
            return secret
        if request and (earlier := await self._made_by(tenant, request)):
            return earlier
        raise errors.AlreadyExists("secret", secret.secret_id)

    async def page(self, tenant: str, provider: str, *, after: str, limit: int) -> Sequence[Secret]:
        return await self._store.page(tenant, provider, after=after, limit=limit)

    async def candidates(self, tenant: str, provider: str) -> Sequence[Secret]:
        return await self._store.newest(tenant, provider)

    async def values(self, tenant: str, secret_id: str) -> SecretValues:
        found = await self._store.sealed(tenant, secret_id)
        if found is None:
            raise errors.NotFound("secret", secret_id)
        secret, sealed = found
        try:
            opened = self._key.open(sealed, _place(tenant, secret))
        except Unreadable:
            log.error("damaged secret", tenant=tenant, secret_id=secret_id, version=secret.version)
            raise errors.Internal(f"secret {secret_id!r} is damaged", metadata={"secret_id": secret_id}) from None
        return SecretValues({name: Value(text) for name, text in orjson.loads(opened).items()}, secret.version)

    async def _made_by(self, tenant: str, request: Request) -> Secret | None:
        earlier = await self._store.created_by(tenant, request.request_id)
        if earlier is None:
            return None
        if not hmac.compare_digest(earlier[0].digest, request.digest):
            raise errors.invalid("request_id", "came before with another request", reason="REQUEST_ID_REUSED")
        return earlier[1]

    def _seal(self, tenant: str, secret: Secret, draft: Draft) -> Sealed:
        return self._key.seal(orjson.dumps(_revealed(draft)), _place(tenant, secret))

    def _digest(self, tenant: str, draft: Draft) -> str:
        content = [tenant, draft.provider, draft.display_name, dict(draft.labels), _revealed(draft)]
        return self._key.digest(orjson.dumps(content, option=orjson.OPT_SORT_KEYS))


def _revealed(draft: Draft) -> dict[str, str]:
    return {name: value.reveal() for name, value in draft.values.items()}


def _place(tenant: str, secret: Secret) -> bytes:
    return orjson.dumps(["secret", tenant, secret.secret_id, secret.provider, secret.version])
