"""A gRPC server of the suite: health, reflection, the interceptors, and a stop that drains."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider

from libs import errors, identity, interceptors, reflection, telemetry
from libs.config import Settings, StartError
from libs.metrics import Metrics, Requests, exposed

log = structlog.get_logger()
T = TypeVar("T")
_LAST_WORDS: Final = 0.1
"""Seconds for NOT_SERVING to reach those who watch health."""
_UNBOUNDED: Final = nullcontext()

SERVING: Final = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING


class Drain:
    """Tells long-lived streams that the server is stopping, so that they end themselves and hold nothing up."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._limits: set[asyncio.Timeout] = set()

    def start(self) -> None:
        self._event.set()
        for limit in self._limits:
            limit.reschedule(asyncio.get_running_loop().time() + _LAST_WORDS)

    @property
    def started(self) -> bool:
        return self._event.is_set()

    async def begun(self) -> None:
        """Waits for it."""
        await self._event.wait()

    def check(self) -> None:
        if self._event.is_set():
            raise errors.Unavailable("the server is stopping, connect again", reason="SHUTTING_DOWN", retry_after=0.1)

    def bounding(self, call: interceptors.Call) -> AbstractAsyncContextManager[None]:
        """Watches of health and open reflection streams have no end of their own, so the drain ends them."""
        return self._bounded() if call.is_open else _UNBOUNDED

    @asynccontextmanager
    async def _bounded(self) -> AsyncIterator[None]:
        async with asyncio.timeout(_LAST_WORDS if self.started else None) as limit:
            self._limits.add(limit)
            try:
                yield
            except asyncio.CancelledError:
                if limit.when() is not None:
                    self.check()
                raise
            finally:
                self._limits.discard(limit)

    async def wait_for(self, awaitable: Awaitable[T], seconds: float) -> T | None:
        """The result, or None after `seconds`; Unavailable as soon as the server stops."""
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
    metrics_port: int | None = None

    async def set_serving(self, serving: bool) -> None:
        for name in ("", *self.names):
            await self.health.set(name, SERVING if serving else NOT_SERVING)


class _ByName:
    """Takes methods to be found by their names. Of those that are registered grpc.aio waits for a call of each, all
    anew with every call: the more methods a server has, the more costs any of them.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, name: str, handlers: Mapping[str, Any]) -> None:
        """They are among the generic ones."""


@asynccontextmanager
async def listening(
    settings: Settings,
    servicers: Sequence[Servicer],
    *,
    drain: Drain,
    provider: TracerProvider | None,
    metrics: Metrics | None = None,
    ready: bool = True,
) -> AsyncIterator[Server]:
    """Listens until the block ends, then drains; with `ready` false health says NOT_SERVING until told otherwise."""
    authenticator = identity.authenticator(settings)
    server = grpc.aio.server(
        interceptors=[
            *telemetry.server_interceptors(provider),
            interceptors.Pipeline(
                Requests(metrics) if metrics else None,
                drain.bounding,
                [interceptors.authentication(authenticator), interceptors.validation],
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
    by_name: Any = _ByName(server)
    health_pb2_grpc.add_HealthServicer_to_server(checks, by_name)
    for servicer in servicers:
        servicer.add(servicer.implementation, by_name)
    reflection.enable([*names, health.SERVICE_NAME], by_name)
    host = f"[{settings.host.strip('[]')}]" if ":" in settings.host else settings.host
    try:
        port = server.add_insecure_port(f"{host}:{settings.port}")
    except RuntimeError:
        port = 0
    if port == 0:
        raise StartError(f"{settings.service} cannot listen on {host}:{settings.port}: address in use or not ours")
    async with exposed(settings, metrics) as metrics_port:
        await server.start()
        running = Server(port, f"{host}:{port}", drain, checks, names, metrics_port)
        if ready:
            await running.set_serving(True)
        log.info("listening", address=running.address, metrics_port=metrics_port)
        try:
            yield running
        finally:
            drain.start()
            await checks.enter_graceful_shutdown()
            await server.stop(settings.drain_grace)
            log.info("stopped")
