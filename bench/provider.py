"""A provider with OpenAI's API that answers at once, to measure what stands before it.

`python -m bench.provider` serves until it is stopped. What it is asked says what comes: `chunks-50` in the text
streams 50 pieces, each in a turn of the loop of its own, and with `paced-20` one each 20 ms, which says when it was
sent; `tool-first` has a call of the calculator before them; `silence` never ends. Without `stream` every answer is one
short sentence.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson
import uvloop

LISTENING: Final = "listening at "
_USAGE: Final = {"prompt_tokens": 9, "completion_tokens": 50, "total_tokens": 59}
_HEAD: Final = {"id": "chatcmpl-1", "created": 1, "model": "gpt-4o"}
_JSON: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
_STREAM: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_CHUNKS: Final = re.compile(rb"chunks-(\d+)")
_PACED: Final = re.compile(rb"paced-(\d+)")
_ANSWERED: Final = re.compile(rb'"role":\s*"tool"')
_STREAMED: Final = re.compile(rb'"stream":\s*true')
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length:\s*(\d+)")


def _whole() -> bytes:
    message = {"role": "assistant", "content": "This is a short sentence."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = orjson.dumps({**_HEAD, "object": "chat.completion", "choices": [choice], "usage": _USAGE})
    return _JSON % (len(body), body)


def _event(delta: dict[str, Any] | None, finish_reason: str | None = None) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    usage = {"usage": _USAGE} if delta is None else {}
    return _chunked(orjson.dumps({**_HEAD, "object": "chat.completion.chunk", "choices": choices, **usage}))


def _chunked(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(event), event)


WHOLE: Final = _whole()
PIECES: Final = [_event({"content": f" token{number}"}) for number in range(10)]
"""LiteLLM takes a hundred equal pieces for a fault."""
FIRST: Final = _STREAM + _event({"role": "assistant", "content": ""})
_CALL: Final = {"name": "calculator", "arguments": '{"expression": "6 * 7"}'}
_ASKS: Final = (
    _STREAM
    + _event({"role": "assistant", "tool_calls": [{"index": 0, "id": "call-1", "type": "function", "function": _CALL}]})
    + _event({}, "tool_calls")
    + _event(None)
    + _chunked(b"[DONE]")
    + b"0\r\n\r\n"
)
LAST: Final = _event({}, "stop") + _event(None) + _chunked(b"[DONE]") + b"0\r\n\r\n"


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._read = b""
        self._sending: asyncio.Task[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self._sending:
            self._sending.cancel()

    def data_received(self, data: bytes) -> None:
        self._read += data
        while (end := self._read.find(b"\r\n\r\n")) >= 0:
            found = _LENGTH.search(self._read, 0, end + 2)
            size = end + 4 + (int(found[1]) if found else 0)
            if len(self._read) < size:
                return
            body, self._read = self._read[end + 4 : size], self._read[size:]
            self._answer(body)

    def _answer(self, body: bytes) -> None:
        if not _STREAMED.search(body):
            self._transport.write(WHOLE)
        elif b"tool-first" in body and not _ANSWERED.search(body):
            self._transport.write(_ASKS)
        elif b"silence" in body:
            self._transport.write(FIRST)
        else:
            asked, paced = _CHUNKS.search(body), _PACED.search(body)
            self._sending = asyncio.ensure_future(
                self._stream(int(asked[1]) if asked else 20, int(paced[1]) / 1e3 if paced else 0)
            )

    async def _stream(self, chunks: int, pause: float) -> None:
        self._transport.write(FIRST)
        for number in range(chunks):
            await asyncio.sleep(pause)
            piece = _event({"content": f"{time.time_ns()} "}) if pause else PIECES[number % len(PIECES)]
            self._transport.write(piece)
        self._transport.write(LAST)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(f"{LISTENING}http://127.0.0.1:{port}/v1", file=sys.stderr, flush=True)
    await server.serve_forever()


@asynccontextmanager
async def started() -> AsyncIterator[str]:
    """A provider in a process of its own; gives its base URL."""
    arguments = (sys.executable, "-m", "bench.provider")
    child = await asyncio.create_subprocess_exec(*arguments, stderr=asyncio.subprocess.PIPE)
    try:
        assert child.stderr
        async with asyncio.timeout(30):
            line = (await child.stderr.readline()).decode()
        assert line.startswith(LISTENING), line
        yield line.removeprefix(LISTENING).strip()
    finally:
        child.terminate()
        await child.wait()


if __name__ == "__main__":
    uvloop.run(serve())
