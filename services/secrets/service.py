"""Keep credentials, and answer who may have their values."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import groupby
from typing import Final, Protocol

import structlog

from libs import errors, pagination
from libs.identity import Caller
from services.secrets import model
from services.secrets.model import (
    Draft,
    Environment,
    EnvironmentReference,
    Failure,
    Reference,
    Resolution,
    Secret,
    SecretReference,
    SecretValues,
    Value,
)

log = structlog.get_logger()

VALUES_SCOPE: Final = "secrets.values"
WRITE_SCOPE: Final = "secrets.write"


class Backend(Protocol):
    """Where secrets are kept: the local vault or A8N Identity."""

    async def create(self, tenant: str, draft: Draft, request_id: str) -> Secret: ...

    async def page(self, tenant: str, provider: str, *, after: str, limit: int) -> Sequence[Secret]:
        """By id; an empty provider is every one."""

    async def candidates(self, tenant: str, provider: str) -> Sequence[Secret]:
        """The provider's secrets that are in use, newest first."""

    async def values(self, tenant: str, secret_id: str) -> SecretValues: ...


class Secrets:
    def __init__(self, backend: Backend, environment: Environment) -> None:
        self._backend, self._environment = backend, environment

    async def create(self, caller: Caller, draft: Draft, request_id: str) -> Secret:
        caller.require(WRITE_SCOPE)
        return await self._backend.create(caller.tenant, draft, request_id)

    async def list(
        self, caller: Caller, page_size: int, page_token: str, provider: str
    ) -> tuple[Sequence[Secret], str]:
        query = {"tenant": caller.tenant, "provider": provider}
        after = pagination.from_token(page_token, query)
        size = pagination.page_size(page_size)
        found = await self._backend.page(caller.tenant, provider, after=after, limit=size + 1)
        more = len(found) > size
        return found[:size], pagination.to_token(found[size - 1].secret_id, query) if more else ""

    async def values(self, caller: Caller, secret_id: str) -> SecretValues:
        caller.require(VALUES_SCOPE)
        return await self._backend.values(caller.tenant, secret_id)

    async def resolve(self, caller: Caller, references: Sequence[str]) -> Sequence[Resolution]:
        caller.require(VALUES_SCOPE)
        parsed = {text: model.parse(text) for text in references}
        wanted = {reference for reference in parsed.values() if isinstance(reference, SecretReference)}
        kept = await self._resolve_secrets(caller, wanted)

        def outcome(reference: Reference | None) -> Value | Failure:
            match reference:
                case None:
                    return Failure.MALFORMED
                case EnvironmentReference(name):
                    return self._environment.get(caller.tenant, name)
                case SecretReference():
                    return kept.get(reference, Failure.NOT_FOUND)

        return [Resolution(text, outcome(parsed[text])) for text in references]

    async def _resolve_secrets(
        self, caller: Caller, wanted: set[SecretReference]
    ) -> dict[SecretReference, Value | Failure]:
        """Each provider is asked once, whatever the number of its fields."""
        by_provider = groupby(sorted(wanted, key=lambda each: each.provider), key=lambda each: each.provider)
        asked = [(provider, {each.field for each in group}) for provider, group in by_provider]
        found = await asyncio.gather(*(self._fields(caller, provider, fields) for provider, fields in asked))
        return {
            SecretReference(provider, field): outcome
            for (provider, _), fields in zip(asked, found, strict=True)
            for field, outcome in fields.items()
        }

    async def _fields(self, caller: Caller, provider: str, wanted: set[str]) -> dict[str, Value | Failure]:
        """The fields as the newest secrets have them. A secret that cannot be read hides older ones: they are stale."""
        found: dict[str, Value | Failure] = {}
        try:
            candidates = await self._backend.candidates(caller.tenant, provider)
        except errors.Error as error:
            _log_failure(caller, provider, error)
            return dict.fromkeys(wanted, Failure.UNAVAILABLE)
        for secret in candidates:
            sought = {name for name in wanted - found.keys() if secret.may_have(name)}
            if not sought:
                continue
            try:
                values = (await self._backend.values(caller.tenant, secret.secret_id)).values
            except errors.NotFound:
                continue
            except errors.Error as error:
                _log_failure(caller, provider, error)
                found |= dict.fromkeys(sought, Failure.UNAVAILABLE)
            else:
                found |= {name: values[name] for name in sought & values.keys()}
        return found


def _log_failure(caller: Caller, provider: str, error: errors.Error) -> None:
    log.warning("unresolved", tenant=caller.tenant, provider=provider, reason=error.reason_code, what=error.message)
