"""A8N Identity as a backend."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlsplit

import httpx
import structlog

from libs import errors
from services.secrets.gateways import reading
from services.secrets.gateways.http import UPSTREAM, Call, Limits, Transport, unintelligible
from services.secrets.model import Draft, Owner, Secret, SecretValues, Values
from services.secrets.providers import Provider

log = structlog.get_logger()

_SECRETS: Final = "api/v1/secrets"
_PROVIDERS: Final = "api/v1/providers"
_MOST_PAGES: Final = 100


class A8n:
    """The suite's token is one system scope, so the secrets are one tenant's; to every other tenant there are none.

    A user's own are asked for with that user's token. A create is as safe to repeat as A8N makes it: the request id
    travels as `Idempotency-Key`. A8N has no etags: ours are compared before a change is sent.
    """

    def __init__(self, transport: Transport, tenant: str) -> None:
        self._transport, self._tenant = transport, tenant

    async def admit(self, owner: Owner) -> None:
        if owner.tenant == self._tenant:
            await self._transport.call(Call("GET", _SECRETS, token=_token(owner), params={"limit": "1"}))

    async def create(self, owner: Owner, draft: Draft, request_id: str) -> Secret:
        self._require(owner)
        call = _change("POST", _SECRETS, owner, draft.provider, draft.display_name, draft.labels, draft.values)
        if request_id:
            call.headers = {"Idempotency-Key": quote(request_id)}
        if (made := reading.entry(await self._transport.call(call))) is None:
            raise unintelligible()
        asked = {"provider": draft.provider, "name": draft.display_name, "labels": draft.labels, "fields": draft.values}
        return _read({**asked, **made}, owner)

    async def get(self, owner: Owner, secret_id: str) -> Secret:
        path = self._path(owner, secret_id)
        body = await self._transport.call(Call("GET", path, {"id": "secret_id"}, "secret_id", _token(owner)))
        if body is None:  # perhaps it has no such method
            for secret in await self.inventory(owner, ""):
                if secret.secret_id == secret_id:
                    return secret
            raise errors.NotFound("secret", secret_id)
        if not (found := reading.entry(body)):
            raise unintelligible()
        if not reading.is_usable(found):
            raise errors.NotFound("secret", secret_id)
        return _read(found, owner)

    async def page(self, owner: Owner, provider: str, *, after: str, limit: int) -> Sequence[Secret]:
        found = sorted(await self.inventory(owner, provider), key=lambda secret: secret.secret_id)
        return [secret for secret in found if secret.secret_id > after][:limit]

    async def inventory(self, owner: Owner, provider: str) -> Sequence[Secret]:
        if owner.tenant != self._tenant:
            return []
        params = {"provider": provider} if provider else {}
        call = Call("GET", _SECRETS, {"provider": "provider"}, "provider", _token(owner), params=params)
        found: dict[str, Secret] = {}
        async for entry in self._entries(call):
            if reading.is_usable(entry) and (secret := reading.secret(entry, owner.scope)):
                found[secret.secret_id] = secret
        return [secret for secret in found.values() if provider in ("", secret.provider)]

    async def values(self, owner: Owner, secret_id: str, version: int = 0) -> SecretValues:
        path = f"{self._path(owner, secret_id)}/values"
        body = await self._transport.call(Call("GET", path, {"id": "secret_id"}, "secret_id", _token(owner)))
        if body is None or not reading.is_usable(body):
            raise errors.NotFound("secret", secret_id)
        if (values := reading.values(body)) is None:
            raise unintelligible()
        if version not in (0, found := reading.version(body)):
            raise errors.FailedPrecondition("A8N Identity keeps the current version alone", metadata=UPSTREAM)
        return SecretValues(values, found)

    async def update(
        self, owner: Owner, current: Secret, display_name: str, labels: Mapping[str, str], values: Values | None
    ) -> Secret:
        path = self._path(owner, current.secret_id)
        call = _change("PATCH", path, owner, current.provider, display_name, labels, values)
        call.json.pop("provider")
        if (body := await self._transport.call(call)) is None:
            raise errors.FailedPrecondition("A8N Identity does not change secrets", metadata=UPSTREAM)
        made = reading.entry(body) or {}
        if made.get("provider"):
            return _read(made, owner)
        return await self.get(owner, current.secret_id)

    async def delete(self, owner: Owner, current: Secret) -> None:
        path = self._path(owner, current.secret_id)
        if await self._transport.call(Call("DELETE", path, {}, "secret_id", _token(owner))) is None:
            raise errors.NotFound("secret", current.secret_id)

    async def providers(self) -> Sequence[Provider] | None:
        call = Call("GET", _PROVIDERS)
        if (body := await self._transport.call(call)) is None:
            return None
        if (entries := reading.entries(body)) is None:
            raise unintelligible()
        names = [
            str(each.get("name") or each.get("id") or "") if isinstance(each, dict) else str(each) for each in entries
        ]
        found = [await self.provider(name) for name in names if name]
        return [provider for provider in found if provider]

    async def provider(self, name: str) -> Provider | None:
        if name in (".", ".."):
            return None
        body = await self._transport.call(Call("GET", f"{_PROVIDERS}/{quote(name, safe='')}/schema"))
        if body is None:
            return None
        schema = body.get("schema", body) if isinstance(body, dict) else None
        if not isinstance(schema, dict):
            raise unintelligible()
        return Provider(name, str(schema.get("title") or name), schema)

    async def _entries(self, call: Call) -> AsyncIterator[Any]:
        seen: set[str] = set()
        for _ in range(_MOST_PAGES):
            body = await self._transport.call(call)
            if body is None:
                log.warning("A8N Identity has no such list")
                return
            if (entries := reading.entries(body)) is None:
                raise unintelligible()
            for entry in entries:
                yield entry
            where = reading.next_page(body)
            if where is None:
                return
            more = dict(parse_qsl(urlsplit(where).query)) if isinstance(where, str) else where
            call = replace(call, params={**(call.params or {}), **more})
            if not more or (key := repr(sorted(more.items()))) in seen:
                raise unintelligible()
            seen.add(key)
        raise unintelligible()

    def _path(self, owner: Owner, secret_id: str) -> str:
        if owner.tenant != self._tenant or secret_id in (".", ".."):
            raise errors.NotFound("secret", secret_id)
        return f"{_SECRETS}/{quote(secret_id, safe='')}"

    def _require(self, owner: Owner) -> None:
        if owner.tenant != self._tenant:
            raise errors.FailedPrecondition("A8N Identity keeps the secrets of another tenant", metadata=UPSTREAM)


@asynccontextmanager
async def a8n(
    url: str, token: Callable[[], str], tenant: str, limits: Limits, *, tls: ssl.SSLContext | bool = True
) -> AsyncIterator[A8n]:
    headers = {"Accept": "application/json"}
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=limits.timeout, http2=True, verify=tls, follow_redirects=False
    ) as client:
        yield A8n(Transport(client, token, limits), tenant)


def _token(owner: Owner) -> str:
    if owner.subject and not owner.token:
        raise errors.PermissionDenied(
            "A8N Identity gives a user's secrets for that user's token alone", reason="UPSTREAM_AUTH", metadata=UPSTREAM
        )
    return owner.token


def _change(
    method: str,
    path: str,
    owner: Owner,
    provider: str,
    display_name: str,
    labels: Mapping[str, str],
    values: Values | None,
) -> Call:
    body: dict[str, Any] = {"provider": provider, "name": display_name, "labels": dict(labels)}
    fields = {"provider": "secret.provider", "name": "secret.display_name", "labels": "secret.labels"}
    if values is not None:
        body["values"] = {name: value.reveal() for name, value in values.items()}
        fields |= {"values": "values"} | {f"values.{name}": f"values[{name!r}]" for name in values}
    return Call(method, path, fields, "secret", _token(owner), json=body)


def _read(entry: dict[str, Any], owner: Owner) -> Secret:
    if (secret := reading.secret(entry, owner.scope)) is None:
        raise unintelligible()
    return secret
