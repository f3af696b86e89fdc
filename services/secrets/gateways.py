"""A8N Identity over REST. Nothing of what it answers reaches an error message or a log, since it may hold values."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote

import httpx
import structlog
from opentelemetry import propagate
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)
from tenacity.stop import stop_base

from libs import deadline, errors
from services.secrets.model import Draft, Secret, SecretValues, Value, is_text

log = structlog.get_logger()

_PATH: Final = "api/v1/secrets"
_UNUSABLE: Final = frozenset({"revoked", "disabled", "inactive", "expired", "deleted"})
_MAX_BODY: Final = 4 * 1024 * 1024
_LONGEST_WAIT: Final = 5.0
_LONGEST_RETRY_AFTER: Final = 3600.0
_UPSTREAM: Final = {"upstream": "a8n"}
_BEFORE_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)
_jittered: Final = wait_random_exponential(multiplier=0.1, max=2.0)


class _Failed(Exception):
    """A call that may be tried again; `sent` if A8N may have acted on it."""

    def __init__(self, *, sent: bool, retry_after: float | None = None) -> None:
        super().__init__()
        self.sent, self.retry_after = sent, retry_after


class A8n:
    """One token is one system scope, so the secrets are one tenant's; to every other tenant there are none.

    A create is as safe to repeat as A8N makes it: the request id travels as `Idempotency-Key`.
    """

    def __init__(self, client: httpx.AsyncClient, tenant: str, *, timeout: float, retries: int) -> None:
        self._client, self._tenant, self._timeout, self._retries = client, tenant, timeout, retries

    async def create(self, tenant: str, draft: Draft, request_id: str) -> Secret:
        if tenant != self._tenant:
            raise errors.FailedPrecondition("A8N Identity keeps the secrets of another tenant", metadata=_UPSTREAM)
        body = {
            "provider": draft.provider,
            "name": draft.display_name,
            "labels": dict(draft.labels),
            "values": {name: value.reveal() for name, value in draft.values.items()},
        }
        fields = {"provider": "secret.provider", "name": "secret.display_name", "labels": "secret.labels"}
        fields |= {"values": "values"} | {f"values.{name}": f"values[{name!r}]" for name in draft.values}
        headers = {"Idempotency-Key": quote(request_id)} if request_id else {}
        made = _entry(await self._call("POST", _PATH, fields, "secret", json=body, headers=headers))
        asked = {"provider": draft.provider, "name": draft.display_name, "labels": draft.labels, "fields": draft.values}
        if (secret := _secret({**asked, **made})) is None:
            raise _unintelligible()
        return secret

    async def page(self, tenant: str, provider: str, *, after: str, limit: int) -> Sequence[Secret]:
        found = sorted(await self._list(tenant, provider), key=lambda secret: secret.secret_id)
        return [secret for secret in found if secret.secret_id > after][:limit]

    async def candidates(self, tenant: str, provider: str) -> Sequence[Secret]:
        found = await self._list(tenant, provider)
        return sorted(found, key=lambda secret: (secret.update_time, secret.secret_id), reverse=True)

    async def values(self, tenant: str, secret_id: str) -> SecretValues:
        if tenant != self._tenant or secret_id in (".", ".."):
            raise errors.NotFound("secret", secret_id)
        path = f"{_PATH}/{quote(secret_id, safe='')}/values"
        body = await self._call("GET", path, {"id": "secret_id"}, "secret_id")
        if body is None or not _usable(body):
            raise errors.NotFound("secret", secret_id)
        values = body["values"] if isinstance(body, dict) and isinstance(body.get("values"), dict) else body
        if not isinstance(values, dict):
            raise _unintelligible()
        found = {name: Value(text) for name, value in values.items() if (text := _text(value))}
        return SecretValues(found, _version(body))

    async def _list(self, tenant: str, provider: str) -> list[Secret]:
        if tenant != self._tenant:
            return []
        params = {"provider": provider} if provider else {}
        body = await self._call("GET", _PATH, {"provider": "provider"}, "provider", params=params)
        if body is None:
            log.warning("A8N Identity has no such list", provider=provider)
            return []
        entries = body.get("items") if isinstance(body, dict) else body
        if not isinstance(entries, list):
            raise _unintelligible()
        found = [secret for entry in entries if _usable(entry) and (secret := _secret(entry))]
        return [secret for secret in found if provider in ("", secret.provider)]

    async def _call(self, method: str, path: str, fields: Mapping[str, str], field: str, **request: Any) -> Any:
        """The answer's JSON; None if there is no such thing. `fields` are the request's as A8N names them."""
        tries = AsyncRetrying(
            stop=self._stop(),
            wait=_wait,
            retry=retry_if_exception(lambda error: _worth_another_try(error, repeatable=method == "GET")),
            reraise=True,
        )
        headers = {**request.pop("headers", {})}
        propagate.inject(headers)
        try:
            async for attempt in tries:
                with attempt:
                    status, body = await self._attempt(method, path, headers=headers, **request)
        except _Failed as error:
            raise _unavailable(error.retry_after) from None
        if status in (400, 422):
            raise _rejected(body, fields, field)
        if status == 404:
            return None
        if status not in (200, 201):
            raise _refused(status)
        return _parsed(body, strict=True)

    def _stop(self) -> stop_base:
        enough = stop_after_attempt(1 + self._retries)
        left = deadline.remaining()
        return enough if left is None else enough | stop_before_delay(left)

    async def _attempt(self, method: str, path: str, **request: Any) -> tuple[int, bytes]:
        failed = _Failed(sent=True)
        try:
            async with (
                asyncio.timeout(deadline.narrowed(self._timeout)),
                self._client.stream(method, path, **request) as response,
            ):
                if response.status_code != 429 and response.status_code < 500:
                    return response.status_code, await _read(response)
                failed = _Failed(sent=response.status_code != 429, retry_after=_retry_after(response))
        except (httpx.ConnectError, httpx.ConnectTimeout):
            failed = _Failed(sent=False)
        except (httpx.HTTPError, httpx.StreamError, TimeoutError):
            pass
        raise failed  # outside, so that it carries no request with it


@asynccontextmanager
async def a8n(url: str, token: str, tenant: str, *, timeout: float, retries: int) -> AsyncIterator[A8n]:
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout) as client:
        yield A8n(client, tenant, timeout=timeout, retries=retries)


def _worth_another_try(error: BaseException, *, repeatable: bool) -> bool:
    return isinstance(error, _Failed) and (repeatable or not error.sent) and (error.retry_after or 0) <= _LONGEST_WAIT


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, _Failed) else None
    return (asked or 0.0) + _jittered(state)


def _retry_after(response: httpx.Response) -> float | None:
    text = response.headers.get("retry-after", "")
    if text.isdecimal():
        return float(text)
    with suppress(ValueError):
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    return None


async def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > _MAX_BODY:
            raise _unintelligible()
    return bytes(body)


def _parsed(body: bytes, *, strict: bool = False) -> Any:
    with suppress(ValueError, RecursionError):
        return json.loads(body)
    if strict:
        raise _unintelligible()  # outside, since the parser's error holds the whole text
    return {}


def _refused(status: int) -> errors.Internal:
    log.error("A8N Identity refuses a call", status=status)
    if status in (401, 403):
        return errors.Internal(
            "A8N Identity refuses the token of the suite", reason="UPSTREAM_AUTH", metadata=_UPSTREAM
        )
    return errors.Internal(f"A8N Identity answers with status {status}", metadata=_UPSTREAM)


def _rejected(body: bytes, fields: Mapping[str, str], field: str) -> errors.InvalidArgument:
    named = {fields[name] for name in _named_fields(_parsed(body)) if name in fields} or {field}
    return errors.InvalidArgument([errors.Violation(name, "is refused by A8N Identity") for name in sorted(named)])


def _unavailable(retry_after: float | None) -> errors.Unavailable:
    return errors.Unavailable(
        "A8N Identity does not answer",
        reason="UPSTREAM_UNAVAILABLE",
        metadata=_UPSTREAM,
        retry_after=1.0 if retry_after is None else min(retry_after, _LONGEST_RETRY_AFTER),
    )


def _unintelligible() -> errors.Unavailable:
    return errors.Unavailable(
        "A8N Identity answers in an unknown form", reason="UPSTREAM_UNAVAILABLE", metadata=_UPSTREAM, retry_after=5.0
    )


def _named_fields(body: Any) -> Iterator[str]:
    """The fields that a refusal names, in any of the usual forms."""
    match body:
        case {"loc": [*path]}:
            yield ".".join(str(part) for part in path if part not in ("body", "query", "path"))
        case {"field": str(field)}:
            yield field
        case {"detail": inner} | {"errors": inner}:
            yield from _named_fields(inner)
        case [*items]:
            for item in items:
                yield from _named_fields(item)
        case dict():
            yield from map(str, body)


def _usable(entry: Any) -> bool:
    return not (isinstance(entry, dict) and str(entry.get("status", "")).lower() in _UNUSABLE)


def _entry(body: Any) -> dict[str, Any]:
    """The entry, with or without an envelope around it."""
    if not isinstance(body, dict):
        raise _unintelligible()
    inner = (value for value in body.values() if isinstance(value, dict) and "id" in value)
    return body if "id" in body else next(inner, {})


def _secret(entry: Any) -> Secret | None:
    """None if the entry lacks what makes it one."""
    if not isinstance(entry, dict) or not entry.get("id") or not isinstance(entry.get("provider"), str):
        return None
    created = _time(entry.get("created_at"))
    labels = entry.get("labels")
    return Secret(
        secret_id=str(entry["id"]),
        provider=entry["provider"],
        display_name=str(entry.get("name") or ""),
        labels={key: str(value) for key, value in labels.items()} if isinstance(labels, dict) else {},
        fields=_field_names(entry.get("fields")),
        version=_version(entry),
        create_time=created,
        update_time=max(created, _time(entry.get("updated_at"))),
    )


def _field_names(fields: Any) -> tuple[str, ...]:
    if isinstance(fields, dict):
        return tuple(sorted(name for name, has in fields.items() if has is not False))
    return tuple(sorted(str(name) for name in fields)) if isinstance(fields, list) else ()


def _version(entry: Any) -> int:
    version = entry.get("version") if isinstance(entry, dict) else None
    return version if type(version) is int and version > 0 else 1


def _time(value: Any) -> datetime:
    with suppress(ValueError, TypeError):
        time = datetime.fromisoformat(value)
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    return _BEFORE_TIME


def _text(value: Any) -> str:
    """Empty for what is no value."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text if is_text(text) else ""
