"""Connections that are dead though nobody has said so, that the server ends, and that take little at a time."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from dynamicagents.execution.v1 import event_pb2, execution_service_pb2, execution_service_pb2_grpc
from dynamicagents.router.v1 import chat_pb2

from services.execution.model.events import LoggedEvent
from tests.rpc.conftest import COMPLETED, execute, kinds, rest, sequences, text_of
from tests.scripted_router import text

Bench = Callable[..., Any]


class Hole:
    """A way to an address over TCP that may begin to swallow everything; both ends take it for open."""

    def __init__(self) -> None:
        self.black = False

    @asynccontextmanager
    async def to(self, address: str) -> AsyncIterator[str]:
        host, port = address.rsplit(":", 1)
        writers: list[asyncio.StreamWriter] = []

        async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await reader.read(65536):
                    if not self.black:
                        writer.write(data)
                        await writer.drain()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            writers.extend((writer, far_writer))
            await asyncio.gather(pipe(reader, far_writer), pipe(far_reader, writer))

        async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            for writer in writers:
                writer.transport.abort()
            for writer in writers:
                with contextlib.suppress(OSError):
                    await writer.wait_closed()


@pytest.fixture
def server_options(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Options for the servers that are made from now on, before those of the suite."""
    made = grpc.aio.server

    def server(more: list[tuple[str, int]], *, options: Any, **kwargs: Any) -> Any:
        names = {name for name, _ in more}
        return made(options=[*more, *(one for one in options if one[0] not in names)], **kwargs)

    def give(*more: tuple[str, int]) -> None:
        monkeypatch.setattr(grpc.aio, "server", functools.partial(server, list(more)))

    return give


@asynccontextmanager
async def through(address: str) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield execution_service_pb2_grpc.ExecutionServiceStub(channel)


# Half-open


async def test_run_whose_client_has_gone_dark_goes_on_and_is_resumed(bench: Bench) -> None:
    at = await bench()
    words = [f"{n} " for n in range(40)]
    at.router.turns = [[step for word in text(*words) for step in (0.02, word)]]
    await at.create()
    hole = Hole()
    async with hole.to(at.server.address) as address, through(address) as stub:
        dark = stub.ExecuteStream(execute(), timeout=20)
        seen = [await dark.read() for _ in range(4)]
        hole.black = True
        seen += await at.watch(seen[-1].execution_id, seen[-1].sequence)
        assert not dark.done()
        dark.cancel()
    assert sequences(seen) == list(range(1, len(seen) + 1))
    assert text_of(seen) == seen[-1].execution_completed.output == "".join(words)
    assert seen == await at.watch(seen[0].execution_id)


# GOAWAY


async def test_connections_that_the_server_ends_cost_nothing(bench: Bench, server_options: Callable[..., None]) -> None:
    at = await bench()
    server_options(("grpc.max_connection_age_ms", 200), ("grpc.max_connection_age_grace_ms", 100))
    words = [f"{n} " for n in range(60)]
    at.router.turns = [[step for word in text(*words) for step in (0.03, word)]]
    await at.create()
    async with at.beside() as beside, through(beside.server.address) as stub:
        seen: list[event_pb2.ExecuteEvent] = []
        codes: list[grpc.StatusCode] = []
        stream = stub.ExecuteStream(execute(), timeout=20)
        while not seen or kinds(seen)[-1] != "execution_completed":
            try:
                while (read := await stream.read()) is not grpc.aio.EOF:
                    seen.append(getattr(read, "event", read) if codes else read)
            except grpc.aio.AioRpcError as error:
                codes.append(error.code())
                asked = execution_service_pb2.WatchExecutionRequest(
                    execution_id=seen[-1].execution_id, after_sequence=seen[-1].sequence
                )
                stream = stub.WatchExecution(asked, timeout=20)
        assert len(codes) > 1
        assert {*codes} <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        assert (await at.get(seen[0].execution_id)).attempts == 1
    assert sequences(seen) == list(range(1, len(seen) + 1))
    assert text_of(seen) == seen[-1].execution_completed.output == "".join(words)


# Slow readers


def kept() -> int:
    return sum(isinstance(one, LoggedEvent) for one in gc.get_objects())


async def test_slow_readers_of_a_long_run_keep_little_and_hold_nobody_up(bench: Bench) -> None:
    at = await bench()
    words = [f"{n:05} " * 80 for n in range(3000)]
    long = [one for word in words for one in (chat_pb2.ChatChunk(reasoning=word), chat_pb2.ChatChunk(text=word))]
    at.router.turns = [[*long, *text("end")], text("quick")]
    await at.create()
    async with contextlib.AsyncExitStack() as stack:
        first, execution_id = await at.begin()
        stubs = [await stack.enter_async_context(through(at.server.address)) for _ in range(3)]
        watch = execution_service_pb2.WatchExecutionRequest(execution_id=execution_id, after_sequence=1)
        slow = [stub.WatchExecution(watch, timeout=60) for stub in stubs]
        read: list[list[event_pb2.ExecuteEvent]] = [[], [], []]
        fast, most = [], 0
        while (event := await first.read()) is not grpc.aio.EOF:
            fast.append(event)
            if len(fast) % 300 == 0:
                most = max(most, kept())
                for events, stream in zip(read, slow, strict=True):
                    events.append((await stream.read()).event)
        assert kinds(fast)[-1] == "execution_completed"
        assert (await at.execute()).output == "quick"
        assert len(fast) > 6000
        assert most < 3500, "each reader keeps no more than a page, the run no more than its tail and one commit"
        for events, stream in zip(read, slow, strict=True):
            events += [answer.event for answer in await rest(stream)]
            assert events == fast
    assert (await at.get(execution_id)).status == COMPLETED
