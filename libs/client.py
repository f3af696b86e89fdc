"""Channels to the other services: deadline, identity, trace, keepalive and retries."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, cast

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

    def calling(self, make: Callable[..., Any], default_timeout: float | None) -> Callable[..., Any]:
        def call(request: Any, *, timeout: float | None = None, metadata: Any = None, **options: Any) -> Any:
            limit = default_timeout if timeout is None else timeout
            return make(request, timeout=deadline.narrowed(limit), metadata=self._metadata(metadata), **options)

        return call

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


class _Channel:
    """As a channel with an interceptor would be, without the tasks that gRPC makes for each call of one, which take a
    tenth of what an open stream holds.
    """

    def __init__(self, channel: grpc.aio.Channel, outgoing: _Outgoing) -> None:
        self._channel, self._outgoing = channel, outgoing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def unary_unary(self, *method: Any, **named: Any) -> Callable[..., Any]:
        return self._outgoing.calling(self._channel.unary_unary(*method, **named), DEFAULT_TIMEOUT)

    def unary_stream(self, *method: Any, **named: Any) -> Callable[..., Any]:
        return self._outgoing.calling(self._channel.unary_stream(*method, **named), None)


@asynccontextmanager
async def channel(
    address: str,
    settings: Settings,
    provider: TracerProvider | None,
    *,
    retried: Sequence[str] = (),
    repeats: bool = True,
) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to `address`; calls of the `retried` services are repeated when the peer is UNAVAILABLE. gRPC repeats
    those of the others too that reached no server, unless `repeats` is false: whoever repeats calls of its own saves
    an eighth of what a stream that is open holds.
    """
    config = {
        "methodConfig": [{"name": [{"service": name} for name in retried], "retryPolicy": _RETRY}] if retried else [],
        "loadBalancingConfig": [{"round_robin": {}}],
    }
    opened = grpc.aio.insecure_channel(
        address,
        interceptors=telemetry.client_interceptors(provider),
        options=[
            ("grpc.service_config", json.dumps(config)),
            ("grpc.enable_retries", int(repeats)),
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
        yield cast("grpc.aio.Channel", _Channel(opened, _Outgoing(settings)))
    finally:
        await opened.close()


@contextmanager
def translated(service: str) -> Iterator[None]:
    """Turns what a call to `service` fails with into an error of the domain."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise status.from_rpc_error(error, service) from None
