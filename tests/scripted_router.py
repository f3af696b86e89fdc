"""A Router that answers as the test says, on a real grpc.aio server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from dynamicagents.router.v1 import chat_pb2, router_service_pb2, router_service_pb2_grpc

from libs import errors, status

Step = chat_pb2.ChatChunk | errors.Error | float | Callable[[], Any]
"""A chunk to send, an error to end with, seconds to wait, or something to do."""


def text(*words: str) -> list[Step]:
    return [*(chat_pb2.ChatChunk(text=word) for word in words), last()]


def call(name: str, arguments: str, call_id: str = "call-1") -> chat_pb2.ToolCall:
    return chat_pb2.ToolCall(call_id=call_id, name=name, arguments=arguments)


def calls(*tool_calls: chat_pb2.ToolCall) -> list[Step]:
    return [chat_pb2.ChatChunk(tool_calls=tool_calls), last(chat_pb2.FINISH_REASON_TOOL_CALLS)]


def last(reason: chat_pb2.FinishReason = chat_pb2.FINISH_REASON_STOP) -> chat_pb2.ChatChunk:
    return chat_pb2.ChatChunk(
        finish_reason=reason,
        usage=chat_pb2.Usage(input_tokens=10, output_tokens=5, total_tokens=15),
        cost_usd=0.25,
        answered_by=chat_pb2.AnsweredBy(deployment_id="d1", model="openai/scripted", provider="openai"),
    )


@dataclass
class ScriptedRouter(router_service_pb2_grpc.RouterServiceServicer):
    """Plays one turn of the script a call; the last turn again when the script is over."""

    turns: list[list[Step]] = field(default_factory=lambda: [text("Hello", " there")])
    scripts: dict[str, list[list[Step]]] = field(default_factory=dict)
    """Scripts of their own for the models named."""
    requests: list[router_service_pb2.ChatStreamRequest] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    remaining: list[float | None] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def ChatStream(
        self, request: router_service_pb2.ChatStreamRequest, context: Any
    ) -> AsyncIterator[router_service_pb2.ChatStreamResponse]:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        self.remaining.append(context.time_remaining())
        script, count = self.scripts.get(request.model, self.turns), len(self.requests)
        if request.model in self.scripts:
            count = sum(one.model == request.model for one in self.requests)
        turn = script[min(count, len(script)) - 1]
        try:
            for step in turn:
                if isinstance(step, chat_pb2.ChatChunk):
                    yield router_service_pb2.ChatStreamResponse(chunk=step)
                elif isinstance(step, errors.Error):
                    described = status.to_status(step)
                    details = ((status.DETAILS_KEY, described.SerializeToString()),)
                    await context.abort(status.grpc_code(described), step.message, details)
                elif callable(step):
                    step()
                else:
                    await asyncio.sleep(step)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    @asynccontextmanager
    async def serving(self, address: str = "127.0.0.1:0") -> AsyncIterator[str]:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        router_service_pb2_grpc.add_RouterServiceServicer_to_server(self, server)
        port = server.add_insecure_port(address)
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(None)
