"""A backend that hosts tools: what it is asked is in `calls`, and it says what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from dynamicagents.tools.v1 import host_pb2, tool_service_pb2

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
Request = tool_service_pb2.HostToolsRequest


def tool(name: str, schema: Any = None, **fields: Any) -> host_pb2.HostedTool:
    made = host_pb2.HostedTool(name=name, **fields)
    made.input_schema.update(TEXT if schema is None else schema)
    return made


class ToolHost:
    def __init__(self, stub: Any, metadata: Sequence[tuple[str, str]] = ()) -> None:
        self.stream: Any = stub.HostTools(metadata=metadata)
        self.registered: asyncio.Queue[host_pb2.HostRegistered] = asyncio.Queue()
        self.calls: asyncio.Queue[host_pb2.HostCall] = asyncio.Queue()
        self.cancels: asyncio.Queue[host_pb2.HostCancel] = asyncio.Queue()
        self.draining = asyncio.Event()
        self.beats = 0
        self.answers_beats = True
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        """Ends as the stream does."""
        while (message := await self.stream.read()) is not grpc.aio.EOF:
            match message.WhichOneof("message"):
                case "registered":
                    self.registered.put_nowait(message.registered)
                case "call":
                    self.calls.put_nowait(message.call)
                case "cancel":
                    self.cancels.put_nowait(message.cancel)
                case "draining":
                    self.draining.set()
                case "heartbeat":
                    self.beats += 1
                    if self.answers_beats:
                        await self.send(heartbeat={})

    async def send(self, **message: Any) -> None:
        await self.stream.write(Request(**message))

    async def register(self, *tools: host_pb2.HostedTool, **fields: Any) -> host_pb2.HostRegistered:
        await self.send(register=host_pb2.HostRegistration(tools=tools, **fields))
        return await self.soon(self.registered.get())

    async def call(self) -> host_pb2.HostCall:
        return await self.soon(self.calls.get())

    async def answer(self, call: host_pb2.HostCall, output: str = "done", **fields: Any) -> None:
        await self.send(result=host_pb2.HostCallResult(call_id=call.call_id, output=output, **fields))

    async def echo(self, delay: float = 0.0) -> None:
        """Answers every call with its text, until the task is cancelled."""
        while True:
            call = await self.calls.get()
            await asyncio.sleep(delay)
            await self.answer(call, call.arguments["text"])

    async def ended(self) -> grpc.aio.AioRpcError | None:
        """What the stream ended with; None for OK."""
        try:
            await self.soon(self.reading)
        except grpc.aio.AioRpcError as error:
            return error
        return None

    def vanish(self) -> None:
        """As a process does that is killed."""
        self.stream.cancel()

    @staticmethod
    async def soon(awaitable: Any) -> Any:
        async with asyncio.timeout(20):
            return await awaitable


@asynccontextmanager
async def hosting(
    stub: Any, *tools: host_pb2.HostedTool, metadata: Sequence[tuple[str, str]] = (), **fields: Any
) -> AsyncIterator[ToolHost]:
    """A host whose tools are registered."""
    host = ToolHost(stub, metadata)
    try:
        if tools:
            await host.register(*tools, **fields)
        yield host
    finally:
        host.vanish()
        host.reading.cancel()
        await asyncio.gather(host.reading, return_exceptions=True)
