"""A service's process: settings, logs, workers, signals, exit code."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from typing import Any, Final

import structlog
import uvloop

from libs import identity, logs, telemetry
from libs.config import Settings, StartError
from libs.supervisor import PARENT, START_FAILED, Child, Supervisor

WORKER: Final = "DYNAMIC_AGENTS_WORKER"
_PR_SET_DUMPABLE: Final = 4
log = structlog.get_logger()

App = Callable[[Any, Any], AbstractAsyncContextManager[Any]]


def main(kind: type[Settings], app: App, **overrides: Any) -> int:
    """Runs a service until SIGTERM or SIGINT. 0: drained; 2: could not start, with one line on standard error."""
    try:
        settings = kind.load(**overrides)
        logs.configure(settings)
        identity.authenticator(settings)
        if WORKER not in os.environ:
            with _port_errors(settings):
                port = _free_port(settings)
            if settings.workers > 1:
                return uvloop.run(_supervise(settings, port))
        return uvloop.run(_serve(settings, app))
    except StartError as error:
        print(f"dynamic-agents: {error}", file=sys.stderr)
        return START_FAILED


def no_dumps() -> None:
    """For a process that holds keys: no core file, and on Linux no debugger of another process of the same user."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


async def _serve(settings: Settings, app: App) -> int:
    stopping = _stop_signal()
    with telemetry.exporting(settings) as provider:
        async with app(settings, provider), _parent_watched(stopping):
            _settle()
            await stopping.wait()
            log.info("draining", grace=settings.drain_grace)
    return 0


def _settle() -> None:
    """What was made by now stays: the garbage collector need not go through it again and again."""
    gc.collect()
    gc.freeze()


@asynccontextmanager
async def _parent_watched(stopping: asyncio.Event) -> AsyncIterator[None]:
    """Stops when the supervisor has been killed, for nobody else would end us."""
    parent = os.environ.get(PARENT)

    async def watch() -> None:
        while str(os.getppid()) == parent:  # noqa: ASYNC110  a parent that is killed tells nobody
            await asyncio.sleep(1)
        log.warning("the supervisor is gone")
        stopping.set()

    watching = asyncio.create_task(watch()) if parent else None
    try:
        yield
    finally:
        if watching:
            watching.cancel()


async def _supervise(settings: Settings, port: int) -> int:
    """N processes on one port. The parent holds the port, so that no stranger can join it."""
    stopping = _stop_signal()
    with _held(settings, port):
        argv = (sys.executable, "-m", f"services.{settings.service}")
        prefix = f"DYNAMIC_AGENTS_{settings.service.upper()}_"
        env = {WORKER: "1", f"{prefix}PORT": str(port), f"{prefix}WORKERS": str(settings.workers)}
        children = [
            Child(f"{settings.service}[{n}]", argv, {**env, **_metrics_port(settings, prefix, n)})
            for n in range(settings.workers)
        ]
        supervisor = Supervisor(children, lambda line: log.warning("worker", what=line), grace=settings.drain_grace + 5)
        await supervisor.start()
        waits: set[asyncio.Future[Any]] = {asyncio.ensure_future(stopping.wait()), supervisor.failed}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        await supervisor.stop(at_once=True)
        return START_FAILED if supervisor.failed.done() else 0


def _metrics_port(settings: Settings, prefix: str, worker: int) -> dict[str, str]:
    """Each worker counts for itself, so each has an endpoint of its own."""
    return {f"{prefix}METRICS_PORT": str(settings.metrics_port + worker)} if settings.metrics_port else {}


def _free_port(settings: Settings) -> int:
    """The port, found to be nobody's; asked of gRPC, one in use would also make it print lines of its own."""
    with _socket(settings) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((settings.host.strip("[]"), settings.port))
        probe.listen()
        return int(probe.getsockname()[1])


@contextmanager
def _held(settings: Settings, port: int) -> Iterator[None]:
    with _socket(settings) as held:
        with _port_errors(settings):
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind((settings.host.strip("[]"), port))
        yield


def _socket(settings: Settings) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET, socket.SOCK_STREAM)


@contextmanager
def _port_errors(settings: Settings) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StartError(
            f"{settings.service} cannot listen on {settings.host}:{settings.port}: {error.strerror}"
        ) from None


def _stop_signal() -> asyncio.Event:
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, event.set)
    return event
