"""Channels to the other services: deadline, identity, trace, keepalive and retries."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import grpc
from opentelemetry.sdk.trace import TracerProvider

from libs import correlation, deadline, identity, status, telemetry
from libs.config import Settings

DEFAULT_TIMEOUT: Final = 30.0
_RETRY: Final = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


class _Outgoing:
    """Gives each call its deadline and its caller."""

    def __init__(self, settings: Settings) -> None:
        token = settings.service_token
        self._service_token = token.get_secret_value() if token else None

    def details(self, details: grpc.aio.ClientCallDetails, timeout: float | None) -> grpc.aio.ClientCallDetails:
        limit = details.timeout if details.timeout is not None else timeout
        return details._replace(  # type: ignore[attr-defined, no-any-return]
            timeout=deadline.narrowed(limit), metadata=self._metadata(details.metadata)
        )

    def _metadata(self, given: Any) -> grpc.aio.Metadata:
        metadata = grpc.aio.Metadata(*(given or ()))
        if execution := correlation.current():
            metadata.add(correlation.KEY, execution)
        caller = identity.current_or_none()
        if self._service_token:
            metadata.add("authorization", f"Bearer {self._service_token}")
            if caller:
                for key, value in identity.acting_for(caller).items():
                    metadata.add(key, value)
        elif caller and caller.token:
            metadata.add("authorization", f"Bearer {caller.token}")
        return metadata


class _Unary(_Outgoing, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self.details(client_call_details, DEFAULT_TIMEOUT), request)


class _Stream(_Outgoing, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self.details(client_call_details, None), request)


@asynccontextmanager
async def channel(
    address: str, settings: Settings, provider: TracerProvider | None, *, retried: Sequence[str] = ()
) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to `address`; calls of the `retried` services are repeated when the peer is UNAVAILABLE."""
    config = {
        "methodConfig": [{"name": [{"service": name} for name in retried], "retryPolicy": _RETRY}] if retried else [],
        "loadBalancingConfig": [{"round_robin": {}}],
    }
    opened = grpc.aio.insecure_channel(
        address,
        interceptors=[*telemetry.client_interceptors(provider), _Unary(settings), _Stream(settings)],
        options=[
            ("grpc.service_config", json.dumps(config)),
            ("grpc.enable_retries", 1),
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_send_message_length", settings.max_message_bytes),
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.keepalive_timeout_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2_000),
        ],
    )
    try:
        yield opened
    finally:
        await opened.close()


@contextmanager
def translated(service: str) -> Iterator[None]:
    """Turns what a call to `service` fails with into an error of the domain."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise status.from_rpc_error(error, service) from None
