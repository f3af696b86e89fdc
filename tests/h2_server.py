"""A small HTTP/2 server over TLS, which a client has to choose by ALPN."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import orjson
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

Answer = Callable[[str, str, bytes], tuple[int, object]]


@dataclass
class H2Server:
    """Answers `(method, path, body)` with a status and JSON; None for a status resets the stream."""

    answer: Answer
    url: str = ""
    protocols: list[str | None] = field(default_factory=list)
    """What ALPN came to, connection by connection."""
    calls: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.protocols.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        connection.initiate_connection()
        asked: dict[int, tuple[str, str]] = {}
        bodies: dict[int, bytes] = {}
        with suppress(ConnectionError):
            writer.write(connection.data_to_send())
            while data := await reader.read(65536):
                for event in connection.receive_data(data):
                    match event:
                        case RequestReceived(stream_id=stream, headers=headers):
                            named = dict(headers)
                            asked[stream], bodies[stream] = (named[":method"], named[":path"]), b""
                        case DataReceived(stream_id=stream, data=part):
                            bodies[stream] += part
                        case StreamEnded(stream_id=stream):
                            self._answer(connection, stream, *asked.pop(stream), bodies.pop(stream))
                writer.write(connection.data_to_send())
                await writer.drain()
        writer.close()

    def _answer(self, connection: H2Connection, stream: int, method: str, path: str, body: bytes) -> None:
        self.calls.append(f"{method} {path}")
        status, answer = self.answer(method, path, body)
        if not status:
            connection.reset_stream(stream)
            return
        connection.send_headers(stream, [(":status", str(status)), ("content-type", "application/json")])
        connection.send_data(stream, orjson.dumps(answer), end_stream=True)


@asynccontextmanager
async def serving(answer: Answer, tls: ssl.SSLContext) -> AsyncIterator[H2Server]:
    tls.set_alpn_protocols(["h2"])
    served = H2Server(answer)
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0, ssl=tls)
    served.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield served
    finally:
        server.close()
