"""Calls to A8N Identity: bounded, tried again where that may help, and not made while it is known to be down.

Nothing of what it answers reaches an error message or a log, since it may hold values.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx
import structlog
from opentelemetry import propagate
from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import OpenedState
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
from libs.config import StartError
from services.secrets.gateways import reading

log = structlog.get_logger()

UPSTREAM: Final = {"upstream": "a8n"}
_MAX_BODY: Final = 4 * 1024 * 1024
_LONGEST_WAIT: Final = 5.0
_LONGEST_RETRY_AFTER: Final = 3600.0
_jittered: Final = wait_random_exponential(multiplier=0.1, max=2.0)


class _Failed(Exception):
    """A call that may be tried again; `sent` if A8N may have acted on it, `ill` if it shows A8N to be so."""

    def __init__(self, *, sent: bool, retry_after: float | None = None, ill: bool = True) -> None:
        super().__init__()
        self.sent, self.retry_after, self.ill = sent, retry_after, ill


@dataclass(frozen=True, slots=True)
class Limits:
    timeout: float = 10.0
    retries: int = 3
    breaker_failures: int = 5
    breaker_seconds: float = 15.0


@dataclass(slots=True)
class Call:
    method: str
    path: str
    fields: Mapping[str, str] = field(default_factory=dict)
    """The request's fields as A8N names them, and as we do."""
    whole: str = "secret"
    """The field of a refusal that names none."""
    token: str = ""
    """The end user's; empty is the suite's own."""
    json: Any = None
    params: Mapping[str, str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Transport:
    def __init__(self, client: httpx.AsyncClient, token: Callable[[], str], limits: Limits) -> None:
        self._client, self._renew, self._limits = client, token, limits
        self._token = token()
        # Only what shows A8N to be ill opens it: not a call that was cut short, nor one that limits the rate.
        self._breakers = AsyncCircuitBreakerFactory(
            default_threshold=limits.breaker_failures,
            default_ttl=limits.breaker_seconds,
            exclude=[(BaseException, lambda error: not (isinstance(error, _Failed) and error.ill))],
        )

    async def call(self, call: Call) -> Any:
        """The answer's JSON; None if there is no such thing."""
        status, body = await self._sent(call)
        if status == 401 and not call.token and self._is_renewed():
            status, body = await self._sent(call)
        if status in (400, 422):
            raise _rejected(body, call)
        if status in (404, 405):
            return None
        if status not in (200, 201, 202, 204):
            raise _refused(status, user=bool(call.token))
        if status == 204 or (call.method != "GET" and body.strip() in (b"", b"null")):
            return {}  # it is done, and there is nothing to say
        if (read := _parsed(body, strict=True)) is None:
            raise unintelligible()
        return read

    def _is_renewed(self) -> bool:
        try:
            before, self._token = self._token, self._renew()
        except StartError as error:
            log.error("the token for A8N Identity cannot be read again", error=str(error))
            return False
        return before != self._token

    async def _sent(self, call: Call) -> tuple[int, bytes]:
        tries = AsyncRetrying(
            stop=self._stop(),
            wait=_wait,
            retry=retry_if_exception(lambda error: _worth_another_try(error, repeatable=call.method == "GET")),
            reraise=True,
        )
        try:
            async with await self._breakers.get_breaker("a8n"):
                async for attempt in tries:
                    with attempt:
                        answer = await self._attempt(call)
                return answer
        except _Failed as error:
            raise _unavailable(error.retry_after) from None
        except OpenedState as opened:
            left = opened.opened_at + self._limits.breaker_seconds - time.time()
            raise _unavailable(max(left, 0.1)) from None

    def _stop(self) -> stop_base:
        enough = stop_after_attempt(1 + self._limits.retries)
        left = deadline.remaining()
        return enough if left is None else enough | stop_before_delay(left)

    async def _attempt(self, call: Call) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {call.token or self._token}", **call.headers}
        propagate.inject(headers)
        failed = _Failed(sent=True)
        try:
            async with (
                asyncio.timeout(deadline.narrowed(self._limits.timeout)),
                self._client.stream(
                    call.method, call.path, headers=headers, json=call.json, params=call.params
                ) as response,
            ):
                if response.status_code != 429 and response.status_code < 500:
                    return response.status_code, await _read(response)
                limited = response.status_code == 429
                failed = _Failed(sent=not limited, retry_after=_retry_after(response), ill=not limited)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            failed = _Failed(sent=False)
        except (httpx.HTTPError, httpx.StreamError, TimeoutError):
            pass
        raise failed  # outside, so that it carries no request with it


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
            raise unintelligible()
    return bytes(body)


def _parsed(body: bytes, *, strict: bool = False) -> Any:
    with suppress(ValueError, RecursionError):
        return json.loads(body)
    if strict:
        raise unintelligible()  # outside, since the parser's error holds the whole text
    return {}


def _refused(status: int, *, user: bool) -> errors.Error:
    log.error("A8N Identity refuses a call", status=status, user=user)
    if user and status in (401, 403):
        return errors.PermissionDenied(
            "A8N Identity refuses the caller's token", reason="UPSTREAM_AUTH", metadata=UPSTREAM
        )
    if status in (401, 403):
        return errors.Internal("A8N Identity refuses the token of the suite", reason="UPSTREAM_AUTH", metadata=UPSTREAM)
    return errors.Internal(f"A8N Identity answers with status {status}", metadata=UPSTREAM)


def _rejected(body: bytes, call: Call) -> errors.InvalidArgument:
    named = {call.fields[name] for name in reading.named_fields(_parsed(body)) if name in call.fields} or {call.whole}
    return errors.InvalidArgument([errors.Violation(name, "is refused by A8N Identity") for name in sorted(named)])


def _unavailable(retry_after: float | None) -> errors.Unavailable:
    return errors.Unavailable(
        "A8N Identity does not answer",
        reason="UPSTREAM_UNAVAILABLE",
        metadata=UPSTREAM,
        retry_after=1.0 if retry_after is None else min(retry_after, _LONGEST_RETRY_AFTER),
    )


def unintelligible() -> errors.Unavailable:
    return errors.Unavailable(
        "A8N Identity answers in an unknown form", reason="UPSTREAM_UNAVAILABLE", metadata=UPSTREAM, retry_after=5.0
    )
