"""What the providers of the tests share: a real HTTP server on loopback that answers as told, with faults on demand."""

from __future__ import annotations

import asyncio
import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web


@dataclass
class Reply:
    """An answer, and what goes wrong with it."""

    words: Sequence[str] = ("Hello", " from", " upstream")
    tool_calls: Sequence[tuple[str, str, str]] = ()
    """Id, name and arguments; streamed in pieces of a few characters."""
    reasoning: str = ""
    citations: Sequence[tuple[str, str]] = ()
    """URL and title."""
    logprobs: bool = False
    usage: dict[str, Any] = field(
        default_factory=lambda: {
            "prompt_tokens": 11,
            "completion_tokens": 7,
            "total_tokens": 18,
            "prompt_tokens_details": {"cached_tokens": 3},
            "completion_tokens_details": {"reasoning_tokens": 2},
        }
    )
    """As OpenAI tells it; empty where the provider does not tell."""
    truncated: bool = False
    """The longest answer was reached."""
    status: int = 200
    retry_after: float | str | None = None
    error: str = "no"
    first_byte_delay: float = 0.0
    word_delay: float = 0.0
    endless: bool = False
    cut_after: int | None = None
    """Words after which the connection breaks."""
    end_after: int | None = None
    """Words after which the stream ends as if all were said."""
    malformed: bool = False
    """After the words comes what is no JSON."""
    broken: str = ""
    """After the words comes an error of this type."""
    content_type: str | None = None
    raw: bytes | None = None
    """The body, in place of an answer."""
    split: int = 0
    """Bytes of each write; 0 is an event a write."""
    newline: str = "\n"
    comments: bool = False
    """Between the events."""


@dataclass
class Asked:
    authorization: str | None
    body: dict[str, Any]
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass
class Event:
    data: Any
    """JSON, or text as it is."""
    name: str = ""
    word: bool = False


class ProviderServer(ABC):
    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.reply = Reply()
        self.replies: list[Reply] = []
        """Given before it, one a call."""
        self.disconnected = asyncio.Event()
        """Set when a client went away before its answer was whole."""
        self.gone = 0
        """How many did so."""
        self.called = asyncio.Event()

    @property
    def keys(self) -> list[str | None]:
        return [asked.authorization for asked in self.asked]

    @abstractmethod
    def routes(self) -> dict[str, Any]: ...

    @abstractmethod
    def base(self, root: str) -> str: ...

    @abstractmethod
    def key(self, request: web.Request) -> str | None: ...

    @abstractmethod
    def streams(self, request: web.Request, body: dict[str, Any]) -> bool: ...

    @abstractmethod
    def whole(self, body: dict[str, Any], reply: Reply) -> dict[str, Any]: ...

    @abstractmethod
    def events(self, body: dict[str, Any], reply: Reply) -> Iterator[Event]: ...

    @abstractmethod
    def refusal(self, reply: Reply, message: str) -> dict[str, Any]: ...

    async def answer(self, request: web.Request) -> web.StreamResponse:
        reply = await self.noted(request)
        try:
            await asyncio.sleep(reply.first_byte_delay)
            if reply.status != 200:
                return self._refuse(reply)
            body = self.asked[-1].body
            if not self.streams(request, body):
                return self._tell(body, reply)
            return await self._stream(request, body, reply)
        except (asyncio.CancelledError, ConnectionResetError):
            self.gone += 1
            self.disconnected.set()
            raise

    async def noted(self, request: web.Request) -> Reply:
        key = self.key(request)
        self.asked.append(Asked(key, await request.json(), str(request.rel_url), dict(request.headers)))
        self.called.set()
        return self.replies.pop(0) if self.replies else self.reply

    def _tell(self, body: dict[str, Any], reply: Reply) -> web.Response:
        text = json.dumps(self.whole(body, reply)).encode() if reply.raw is None else reply.raw
        return web.Response(body=text, headers={"Content-Type": reply.content_type or "application/json"})

    def _refuse(self, reply: Reply) -> web.Response:
        headers = {"Retry-After": str(reply.retry_after)} if reply.retry_after is not None else {}
        # As some providers do, it repeats the key that it was given.
        message = f"{reply.error} (you sent {self.asked[-1].authorization})"
        return web.json_response(self.refusal(reply, message), status=reply.status, headers=headers)

    async def _stream(self, request: web.Request, body: dict[str, Any], reply: Reply) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": reply.content_type or "text/event-stream"})
        await response.prepare(request)
        if reply.raw is not None:
            await _write(response, reply.raw, reply.split)
            return response
        sent = 0
        for event in self.events(body, reply):
            if event.word and sent == reply.cut_after:
                assert request.transport is not None
                request.transport.abort()
                return response
            if event.word and sent == reply.end_after:
                return response
            await _write(response, _written(event, reply), reply.split)
            if event.word:
                sent += 1
                await asyncio.sleep(reply.word_delay)
        return response


def words_of(reply: Reply) -> Iterator[str]:
    if reply.endless:
        yield from (f"{count} {reply.words[0]}" for count in itertools.count())
    yield from reply.words


def pieces_of(text: str) -> Iterator[str]:
    yield from (text[at : at + 5] for at in range(0, len(text), 5))


def faults_of(reply: Reply, error: Any) -> Iterator[Event]:
    """What comes after the words in place of the end."""
    if reply.malformed:
        yield Event("{this is no JSON")
    if reply.broken:
        yield Event(error, "error")


def _written(event: Event, reply: Reply) -> bytes:
    data = event.data if isinstance(event.data, str) else json.dumps(event.data, ensure_ascii=False)
    lines = [f"event: {event.name}"] if event.name else []
    lines += [": a comment", "id: 1"] if reply.comments else []
    return reply.newline.join([*lines, f"data: {data}", "", ""]).encode()


async def _write(response: web.StreamResponse, data: bytes, split: int) -> None:
    for at in range(0, len(data), split or len(data) or 1):
        await response.write(data[at : at + split] if split else data)
        if split:
            await asyncio.sleep(0)


S = TypeVar("S", bound=ProviderServer)


@asynccontextmanager
async def serving(server: S) -> AsyncIterator[S]:
    app = web.Application(client_max_size=64 * 2**20)
    for path, handler in server.routes().items():
        app.router.add_post(path, handler)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = server.base(f"http://{host}:{port}")
    try:
        yield server
    finally:
        await runner.cleanup()
