"""A gRPC server of the suite: health, reflection, the interceptors, and a stop that drains."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from opentelemetry.sdk.trace import TracerProvider

from libs import errors, identity, interceptors, telemetry
from libs.config import Settings, StartError

log = structlog.get_logger()
T = TypeVar("T")

SERVING: Final = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING


class Drain:
    """Tells long-lived streams that the server is stopping, so that they end themselves and hold nothing up."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def start(self) -> None:
        self._event.set()

    @property
    def started(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        if self._event.is_set():
            raise errors.Unavailable("the server is stopping, connect again", reason="SHUTTING_DOWN", retry_after=0.1)

    async def wait_for(self, awaitable: Coroutine[Any, Any, T], seconds: float) -> T | None:
        """The result, or None after `seconds`; Unavailable as soon as the server stops."""
        self.check()
        work = asyncio.ensure_future(awaitable)
        stopping = asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait({work, stopping}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            self.check()
            return work.result() if work.done() else None
        finally:
            work.cancel()
            stopping.cancel()


@dataclass(frozen=True)
class Servicer:
    """A generated `add_..._to_server` with the object that answers, under its full proto name."""

    add: Callable[[Any, grpc.Server | grpc.aio.Server], None]
    implementation: Any
    name: str


@dataclass(frozen=True)
class Server:
    port: int
    address: str
    drain: Drain
    health: health.aio.HealthServicer
    names: tuple[str, ...]

    async def set_serving(self, serving: bool) -> None:
        for name in ("", *self.names):
            await self.health.set(name, SERVING if serving else NOT_SERVING)


@asynccontextmanager
async def listening(
    settings: Settings,
    servicers: Sequence[Servicer],
    *,
    drain: Drain,
    provider: TracerProvider | None,
    ready: bool = True,
) -> AsyncIterator[Server]:
    """Listens until the block ends, then drains; with `ready` false health says NOT_SERVING until told otherwise."""
    authenticator = identity.authenticator(settings)
    server = grpc.aio.server(
        interceptors=[
            *telemetry.server_interceptors(provider),
            interceptors.Pipeline(
                [
                    interceptors.request_log,
                    interceptors.error_mapping,
                    interceptors.authentication(authenticator),
                    interceptors.validation,
                ]
            ),
        ],
        options=[
            ("grpc.so_reuseport", int(settings.workers > 1)),
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_send_message_length", settings.max_message_bytes),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
        ],
    )
    names = tuple(servicer.name for servicer in servicers)
    checks = health.aio.HealthServicer()
    for name in ("", *names):
        await checks.set(name, NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    for servicer in servicers:
        servicer.add(servicer.implementation, server)
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    try:
        port = server.add_insecure_port(f"{settings.host}:{settings.port}")
    except RuntimeError:
        port = 0
    if port == 0:
        raise StartError(
            f"{settings.service} cannot listen on {settings.host}:{settings.port}: address in use or not ours"
        )
    await server.start()
    running = Server(port, f"{settings.host}:{port}", drain, checks, names)
    if ready:
        await running.set_serving(True)
    log.info("listening", address=running.address)
    try:
        yield running
    finally:
        drain.start()
        await checks.enter_graceful_shutdown()
        await server.stop(settings.drain_grace)
        log.info("stopped")
