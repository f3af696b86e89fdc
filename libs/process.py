"""A service's process: settings, logs, workers, signals, exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from typing import Any, Final

import structlog
import uvloop

from libs import identity, logs, telemetry
from libs.config import Settings, StartError
from libs.supervisor import START_FAILED, Child, Supervisor

WORKER: Final = "DYNAMIC_AGENTS_WORKER"
log = structlog.get_logger()

App = Callable[[Any, Any], AbstractAsyncContextManager[Any]]


def main(kind: type[Settings], app: App, **overrides: Any) -> int:
    """Runs a service until SIGTERM or SIGINT. 0: drained; 2: could not start, with one line on standard error."""
    try:
        settings = kind.load(**overrides)
        logs.configure(settings)
        identity.authenticator(settings)
        if settings.workers > 1 and WORKER not in os.environ:
            return uvloop.run(_supervise(settings))
        return uvloop.run(_serve(settings, app))
    except StartError as error:
        print(f"dynamic-agents: {error}", file=sys.stderr)
        return START_FAILED


async def _serve(settings: Settings, app: App) -> int:
    stopping = _stop_signal()
    with telemetry.exporting(settings) as provider:
        async with app(settings, provider):
            await stopping.wait()
            log.info("draining", grace=settings.drain_grace)
    return 0


async def _supervise(settings: Settings) -> int:
    """N processes on one port. The parent holds the port, so that no stranger can join it."""
    stopping = _stop_signal()
    with _held_port(settings) as port:
        argv = (sys.executable, "-m", f"services.{settings.service}")
        prefix = f"DYNAMIC_AGENTS_{settings.service.upper()}_"
        env = {WORKER: "1", f"{prefix}PORT": str(port), f"{prefix}WORKERS": str(settings.workers)}
        children = [Child(f"{settings.service}[{n}]", argv, env) for n in range(settings.workers)]
        supervisor = Supervisor(children, lambda line: log.warning("worker", what=line), grace=settings.drain_grace + 5)
        await supervisor.start()
        waits: set[asyncio.Future[Any]] = {asyncio.ensure_future(stopping.wait()), supervisor.failed}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        await supervisor.stop(at_once=True)
        return START_FAILED if supervisor.failed.done() else 0


@contextmanager
def _held_port(settings: Settings) -> Iterator[int]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with ExitStack() as stack:
        try:
            probe = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.port))
            probe.listen()
            port = probe.getsockname()[1]
            probe.close()
            held = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind((settings.host, port))
        except OSError as error:
            raise StartError(
                f"{settings.service} cannot listen on {settings.host}:{settings.port}: {error.strerror}"
            ) from None
        yield port


def _stop_signal() -> asyncio.Event:
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, event.set)
    return event
