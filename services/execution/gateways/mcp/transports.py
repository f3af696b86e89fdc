"""The ways to an MCP server."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
from mcp.client._transport import TransportStreams
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from services.execution.gateways.mcp.targets import Bounds, Target

_LIMITED: Final = 'ulimit -c 0; ulimit -n "$1"; shift; exec nice -n "$@"'
_TIMEOUT: Final = 10.0
_MOST_BYTES: Final = 64 * 1024 * 1024
"""Of one message in a stream of events."""
_TLS: Final = httpx2.create_ssl_context()
"""Made once, with the import: each takes a third of a second."""
REJECTED: Final = (401, 403)
Lost = Callable[[], None]


@asynccontextmanager
async def opened(
    target: Target, values: Mapping[str, str], bounds: Bounds, lost: Lost, rejected: Lost
) -> AsyncIterator[TransportStreams]:
    """Tells of the end of the connection, and of credentials that are not taken."""
    async with AsyncExitStack() as stack:
        if target.transport == "stdio":
            way = await stack.enter_async_context(_process(target, values, bounds))
        else:
            way = _http(target, values, rejected)
        read, write = await stack.enter_async_context(way)
        yield _Noticing(read, lost), write


@asynccontextmanager
async def _process(
    target: Target, environment: Mapping[str, str], bounds: Bounds
) -> AsyncIterator[AbstractAsyncContextManager[TransportStreams]]:
    """A process of its own group, folder and environment, with fewer rights to files and time than this one has."""
    limits = [str(bounds.open_files), str(bounds.niceness)]
    with tempfile.TemporaryDirectory(prefix="mcp-") as folder, Path(os.devnull).open("w") as nowhere:  # noqa: ASYNC230
        parameters = StdioServerParameters(
            command="/bin/sh",
            args=["-c", _LIMITED, "sh", *limits, *target.address],
            env=dict(environment),
            cwd=folder,
            encoding_error_handler="replace",
        )
        yield stdio_client(parameters, errlog=nowhere)


def _http(target: Target, headers: Mapping[str, str], rejected: Lost) -> AbstractAsyncContextManager[TransportStreams]:
    # Calls have deadlines of their own, and a stream of changes may be silent for ever.
    patience = httpx2.Timeout(_TIMEOUT, read=None)
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=20)

    async def note(response: httpx2.Response) -> None:
        if response.status_code in REJECTED:
            rejected()

    def made(*_: Any, **__: Any) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            headers=dict(headers), verify=_TLS, timeout=patience, limits=limits, event_hooks={"response": [note]}
        )

    url = target.address[0]
    return sse_client(url, httpx_client_factory=made) if target.transport == "sse" else _streamable(url, made())


@asynccontextmanager
async def _streamable(url: str, client: httpx2.AsyncClient) -> AsyncIterator[TransportStreams]:
    async with client, streamable_http_client(url, http_client=client, max_sse_event_size=_MOST_BYTES) as streams:
        yield streams


class _Noticing:
    """A stream that says when it has ended."""

    def __init__(self, stream: Any, lost: Lost) -> None:
        self._stream, self._lost = stream, lost

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def __aenter__(self) -> _Noticing:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> Any:
        return await self._stream.__aexit__(*error)

    def __aiter__(self) -> _Noticing:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except BaseException:
            self._lost()
            raise

    async def receive(self) -> Any:
        try:
            return await self._stream.receive()
        except BaseException:
            self._lost()
            raise
