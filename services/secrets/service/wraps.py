"""Tokens that give the values of a secret once, to whoever has them."""

from __future__ import annotations

import secrets as randomness
from datetime import datetime, timedelta
from typing import Any, Final, NoReturn, Protocol

import structlog

from libs import errors
from libs.identity import Caller
from services.secrets.model import Holder, Owner, SecretValues, Value, Wrap
from services.secrets.service.audit import Trail
from services.secrets.service.backend import Memory
from services.secrets.service.leases import Now, utc_now
from services.secrets.service.secrets import Secrets

log = structlog.get_logger()
_KEPT: Final = timedelta(days=1)
"""For so long after its end a token is still known as spent."""


class WrapStore(Protocol):
    async def add(self, wrap: Wrap) -> None: ...

    async def get(self, tenant: str, digest: str) -> Wrap | None: ...

    async def spend(self, wrap: Wrap) -> bool:
        """False if it was spent before; of several at once one is true."""

    async def forget(self, before: datetime) -> None: ...


class Wraps:
    """Of a token the database has the digest, and which secret it is for: the values are read when it is spent."""

    def __init__(
        self, store: WrapStore, secrets: Secrets, memory: Memory, trail: Trail, *, max_ttl: float, now: Now = utc_now
    ) -> None:
        self._store, self._secrets, self._memory, self._trail = store, secrets, memory, trail
        self._max_ttl, self._now = timedelta(seconds=max_ttl), now

    async def wrap(self, caller: Caller, secret_id: str, ttl: timedelta) -> tuple[Value, Wrap]:
        owner, secret = await self._secrets.readable(caller, secret_id, "wrap")
        token, now = Value(randomness.token_urlsafe(32)), self._now()
        wrap = Wrap(
            digest=_digest(token),
            maker=Holder(caller.service, caller.subject),
            owner=owner,
            provider=secret.provider,
            secret_id=secret.secret_id,
            create_time=now,
            expire_time=now + min(ttl, self._max_ttl),
        )
        await self._store.forget(now - _KEPT)
        await self._store.add(wrap)
        await self._record(caller, "wrap", "allow", wrap)
        return token, wrap

    async def unwrap(self, caller: Caller, token: Value, path: str) -> tuple[SecretValues, Wrap]:
        wrap = await self._store.get(caller.tenant, _digest(token))
        if wrap is None:
            await self._trail.write([self._trail.record(caller, "unwrap", "deny")])
            raise _invalid("unknown")
        await self._require_good(caller, wrap, path)
        theirs = caller.own_token if wrap.owner.subject == caller.subject else ""
        owner = Owner(wrap.owner.tenant, wrap.owner.subject, theirs)
        found = await self._current(owner, wrap)
        if not await self._store.spend(wrap):
            await self._alert(caller, wrap, "spent")
        await self._trail.write(
            self._trail.record(caller, "unwrap", "allow", **_of(wrap), version=found.version, field=name, value=value)
            for name, value in found.values.items()
        )
        return found, wrap

    async def _require_good(self, caller: Caller, wrap: Wrap, path: str) -> None:
        if wrap.spent:
            await self._alert(caller, wrap, "spent")
        if wrap.expire_time <= self._now():
            await self._record(caller, "unwrap", "deny", wrap)
            raise _invalid("expired")
        if wrap.path != path:
            await self._store.spend(wrap)
            await self._alert(caller, wrap, "creation_path")

    async def _current(self, owner: Owner, wrap: Wrap) -> SecretValues:
        """As the backend has them now: who has one answer alone gets no old one."""
        await self._memory.admit(owner)
        inventory = await self._memory.inventory(owner, wrap.provider, refresh=True)
        for secret in inventory.value:
            if secret.secret_id == wrap.secret_id:
                hit = await self._memory.values(owner, secret, refresh=True)
                if inventory.stale or hit.stale:
                    raise errors.Unavailable("the backend does not answer", retry_after=1.0)
                return hit.value
        raise errors.NotFound("secret", wrap.secret_id)

    async def _alert(self, caller: Caller, wrap: Wrap, cause: str) -> NoReturn:
        """Somebody has a token that he should not have."""
        log.error(
            "alert: a wrapping token is misused",
            cause=cause,
            tenant=caller.tenant,
            subject=caller.subject,
            provider=wrap.provider,
            secret_id=wrap.secret_id,
            maker=wrap.maker.service or wrap.maker.subject,
        )
        await self._record(caller, "unwrap", "alert", wrap)
        raise _invalid(cause)

    async def _record(self, caller: Caller, action: str, outcome: str, wrap: Wrap) -> None:
        await self._trail.write([self._trail.record(caller, action, outcome, **_of(wrap))])


def _digest(token: Value) -> str:
    return token.digest(b"wrapping token")


def _of(wrap: Wrap) -> dict[str, Any]:
    return {"scope": wrap.owner.scope, "provider": wrap.provider, "secret_id": wrap.secret_id}


def _invalid(cause: str) -> errors.FailedPrecondition:
    why = {
        "unknown": "is not known",
        "expired": "has expired",
        "spent": "was spent before: somebody else may have the values",
        "creation_path": "is of another creation_path",
    }[cause]
    return errors.FailedPrecondition(
        f"the wrapping token {why}", reason="WRAPPING_TOKEN_INVALID", metadata={"cause": cause}
    )
