"""The MCP server's listener for streamable HTTP, beside the gRPC port, on the same address and under the same rules."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
import uvicorn
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs import errors, identity
from libs.config import Settings, StartError
from libs.identity import Caller
from libs.server import Drain
from services.execution.service.offers import Offers
from services.execution.servicer.mcp.changes import ListChanges
from services.execution.servicer.mcp.server import CALLER, OfferServer

log = structlog.get_logger()

PATH: Final = "/mcp"


@asynccontextmanager
async def listening(
    settings: Settings, port: int, offers: Offers, drain: Drain, *, timeout: float
) -> AsyncIterator[str]:
    """Listens until the block ends; gives the URL."""
    authenticator = identity.authenticator(settings)
    changes = ListChanges(offers)
    app = OfferServer(offers, changes, timeout=timeout).streamable_http_app(
        streamable_http_path=PATH,
        # Sessions live in one process, and the next request may come to another.
        stateless_http=settings.workers > 1,
        max_request_body_size=settings.max_message_bytes,
        host=settings.host,
    )
    host = settings.host.strip("[]")
    with _bound(settings, host, port) as bound:
        config = uvicorn.Config(
            _Door(app, authenticator, drain),
            log_config=None,
            access_log=False,
            ws="none",
            lifespan="on",
            server_header=False,
            timeout_graceful_shutdown=max(1, round(settings.drain_grace)),
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        closing = asyncio.create_task(_at_drain(drain, changes))
        try:
            await server.ready.wait()
            url = f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}{PATH}"
            log.info("MCP server listens", url=url)
            yield url
        finally:
            closing.cancel()
            changes.close()
            server.should_exit = True
            await asyncio.wait({serving})


async def _at_drain(drain: Drain, changes: ListChanges) -> None:
    await drain.begun()
    changes.close()


@contextlib.contextmanager
def _bound(settings: Settings, host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if settings.workers > 1:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            bound.bind((host, port))
        except OSError:
            raise StartError(f"{settings.service} cannot listen on {host}:{port} for MCP") from None
        yield bound


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the process's affair."""
        yield


class _Door:
    """Request log and authentication, as libs/server.py has them around gRPC."""

    def __init__(self, app: ASGIApp, authenticator: identity.Authenticator, drain: Drain) -> None:
        self._app, self._authenticator, self._drain = app, authenticator, drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 499

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._admit(scope, receive, noted)
        finally:
            caller: Caller | None = scope.get(CALLER)
            log.info(
                "call",
                method=f"{scope['method']} {scope['path']}",
                status=status,
                ms=round((time.perf_counter() - started) * 1000, 2),
                tenant=caller.tenant if caller else None,
                subject=caller.subject if caller else None,
            )

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._drain.check()
            caller = self._authenticator.authenticate(dict(Headers(scope=scope)))
        except errors.Error as error:
            await _refusal(error)(scope, receive, send)
            return
        scope[CALLER] = caller
        scope["user"] = _user(caller)
        await self._app(scope, self._until_drain(receive) if scope["method"] == "GET" else receive, send)

    def _until_drain(self, receive: Receive) -> Receive:
        """A stream of news has no end of its own."""

        async def received() -> Any:
            coming = asyncio.ensure_future(receive())
            stopping = asyncio.ensure_future(self._drain.begun())
            try:
                await asyncio.wait({coming, stopping}, return_when=asyncio.FIRST_COMPLETED)
                return coming.result() if coming.done() else {"type": "http.disconnect"}
            finally:
                coming.cancel()
                stopping.cancel()

        return received


def _user(caller: Caller) -> AuthenticatedUser:
    """A session belongs to who began it."""
    return AuthenticatedUser(
        AccessToken(token="", client_id=caller.tenant, subject=caller.subject, scopes=sorted(caller.scopes))
    )


def _refusal(error: errors.Error) -> JSONResponse:
    if isinstance(error, errors.Unauthenticated):
        challenge = 'Bearer error="invalid_token"'
        return JSONResponse(_body(error), status_code=401, headers={"WWW-Authenticate": challenge})
    return JSONResponse(_body(error), status_code=503, headers={"Retry-After": "1"})


def _body(error: errors.Error) -> dict[str, Any]:
    return {"error": {"message": error.message, "reason": error.reason_code}}
