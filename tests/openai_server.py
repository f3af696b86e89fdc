"""An OpenAI-compatible server on loopback that answers as told, with faults on demand, and remembers who asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Reply:
    """An answer, and what goes wrong with it."""

    words: Sequence[str] = ("Hello", " from", " upstream")
    tool_calls: Sequence[tuple[str, str, str]] = ()
    """Id, name and arguments; streamed in pieces of a few characters."""
    reasoning: str = ""
    usage: dict[str, Any] = field(
        default_factory=lambda: {
            "prompt_tokens": 11,
            "completion_tokens": 7,
            "total_tokens": 18,
            "prompt_tokens_details": {"cached_tokens": 3},
            "completion_tokens_details": {"reasoning_tokens": 2},
        }
    )
    status: int = 200
    retry_after: float | None = None
    error: str = "no"
    first_byte_delay: float = 0.0
    word_delay: float = 0.0
    endless: bool = False
    cut_after: int | None = None
    """Words after which the connection breaks."""
    end_after: int | None = None
    """Words after which the stream ends as if all were said."""
    malformed: bool = False

    @property
    def finish_reason(self) -> str:
        return "tool_calls" if self.tool_calls else "stop"


@dataclass
class Asked:
    authorization: str | None
    body: dict[str, Any]


class OpenAIServer:
    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.reply = Reply()
        self.disconnected = asyncio.Event()
        """Set when a client went away before its answer was whole."""

        self.called = asyncio.Event()

    @property
    def keys(self) -> list[str | None]:
        return [asked.authorization for asked in self.asked]

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(Asked(request.headers.get("Authorization"), body))
        self.called.set()
        reply = self.reply
        try:
            await asyncio.sleep(reply.first_byte_delay)
            if reply.status != 200:
                return _refusal(reply, self.asked[-1])
            if not body.get("stream"):
                return web.json_response(_whole(body, reply))
            return await _stream(request, body, reply)
        except (asyncio.CancelledError, ConnectionResetError):
            self.disconnected.set()
            raise


@asynccontextmanager
async def serving() -> AsyncIterator[OpenAIServer]:
    server = OpenAIServer()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.completions)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}/v1"
    try:
        yield server
    finally:
        await runner.cleanup()


def _refusal(reply: Reply, asked: Asked) -> web.Response:
    headers = {"Retry-After": str(reply.retry_after)} if reply.retry_after is not None else {}
    # As some providers do, it repeats the key that it was given.
    message = f"{reply.error} (you sent {asked.authorization})"
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": reply.error}}
    return web.json_response(body, status=reply.status, headers=headers)


def _whole(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(reply.words) or None}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if reply.tool_calls:
        message["tool_calls"] = [
            {"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a in reply.tool_calls
        ]
    choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason}
    return {**_head(body, "chat.completion"), "choices": [choice], "usage": reply.usage}


def _head(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": body["model"]}


async def _stream(request: web.Request, body: dict[str, Any], reply: Reply) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)

    async def send(delta: dict[str, Any], finish_reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        event = {**_head(body, "chat.completion.chunk"), "choices": [choice]}
        await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")

    await send({"role": "assistant", "content": ""})
    if reply.reasoning:
        await send({"reasoning_content": reply.reasoning})
    sent = 0
    while reply.endless or sent < len(reply.words):
        if sent == reply.cut_after:
            assert request.transport is not None
            request.transport.abort()
            return response
        if sent == reply.end_after:
            return response
        await send({"content": f"{sent} {reply.words[0]}" if reply.endless else reply.words[sent]})
        sent += 1
        await asyncio.sleep(reply.word_delay)
    if reply.malformed:
        await response.write(b"data: {this is no JSON\n\n")
        return response
    for index, (call_id, name, arguments) in enumerate(reply.tool_calls):
        function = {"name": name, "arguments": ""}
        await send({"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]})
        for at in range(0, len(arguments), 5):
            await send({"tool_calls": [{"index": index, "function": {"arguments": arguments[at : at + 5]}}]})
    await send({}, reply.finish_reason)
    if (body.get("stream_options") or {}).get("include_usage"):
        event = {**_head(body, "chat.completion.chunk"), "choices": [], "usage": reply.usage}
        await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
    await response.write(b"data: [DONE]\n\n")
    return response
