"""A tool provider of the tests, which speaks dynamicagents.tools.v1.ToolProviderService."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from dynamicagents.tools.v1 import tool_provider_service_pb2 as provider_pb2
from dynamicagents.tools.v1 import tool_provider_service_pb2_grpc as provider_grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Value

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
TOOLS: dict[str, dict[str, Any]] = {
    "say": {"input_schema": TEXT, "annotations": {"idempotent": True}, "title": "Say", "description": "Says it again."},
    "once": {"input_schema": TEXT, "examples": [{"text": "now"}]},
    "keyed": {"input_schema": TEXT, "takes_idempotency_key": True},
    "count": {"output_schema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
    "wrong": {"output_schema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
    "fail": {},
    "huge": {},
    "never": {"timeout": {"seconds": 1}},
    "told": {},
    "broken": {"input_schema": {"type": "object", "properties": {"x": {"type": "nonsense"}}}},
    "not a name": {},
}


@dataclass
class Provider(provider_grpc.ToolProviderServiceServicer):
    tools: dict[str, dict[str, Any]] = field(default_factory=lambda: dict(TOOLS))
    token: str = ""
    ttl: float = 0.0
    mute: bool = False
    """Lists nothing, and says nothing."""
    requests: list[provider_pb2.ExecuteToolRequest] = field(default_factory=list)
    metadata: list[Mapping[str, Any]] = field(default_factory=list)
    listings: int = 0
    failures: list[grpc.StatusCode] = field(default_factory=list)
    """What the next calls end with."""
    called: asyncio.Event = field(default_factory=asyncio.Event)
    server: grpc.aio.Server | None = None
    port: int = 0
    credentials: grpc.ServerCredentials | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        provider_grpc.add_ToolProviderServiceServicer_to_server(self, self.server)
        if self.credentials:
            self.port = self.server.add_secure_port(f"127.0.0.1:{self.port}", self.credentials)
        else:
            self.port = self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self.server.start()

    async def stop(self) -> None:
        if self.server is not None:
            await self.server.stop(0)

    async def ListTools(self, request: Any, context: Any) -> Any:
        await self._admitted(context)
        self.listings += 1
        if self.mute:
            await asyncio.Event().wait()
        names = sorted(self.tools)
        page = names[int(request.page_token or 0) :][:4]
        after = int(request.page_token or 0) + len(page)
        response = provider_pb2.ToolProviderServiceListToolsResponse(
            tools=[_tool(name, self.tools[name]) for name in page],
            next_page_token=str(after) if after < len(names) else "",
        )
        if self.ttl:
            response.ttl.FromMilliseconds(int(self.ttl * 1000))
        return response

    async def ExecuteTool(self, request: Any, context: Any) -> Any:
        await self._admitted(context)
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        self.called.set()
        if self.failures:
            await context.abort(self.failures.pop(0), "as it was told")
        if request.tool_name not in self.tools:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such tool")
        return await self._answer(request, context)

    async def _admitted(self, context: Any) -> None:
        given = dict(context.invocation_metadata()).get("authorization")
        if self.token and given != f"Bearer {self.token}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, f"not {given}")

    async def _answer(self, request: Any, context: Any) -> Any:
        arguments = MessageToDict(request.arguments)
        match request.tool_name:
            case "count":
                return _structured({"n": 42, "of": [1, 2.5, None]})
            case "wrong":
                return _structured({"n": "many"})
            case "fail":
                failed = provider_pb2.ExecuteToolResponse(text=f"not with {self.token}", is_error=True)
                failed.retry_after.FromMilliseconds(1500)
                return failed
            case "huge":
                return provider_pb2.ExecuteToolResponse(text="x" * int(arguments["size"]))
            case "never":
                await asyncio.Event().wait()
            case "told":
                seconds = context.time_remaining()
                return _structured({"metadata": sorted(dict(context.invocation_metadata())), "seconds": seconds})
        return provider_pb2.ExecuteToolResponse(text=arguments.get("text", ""))


def _tool(name: str, described: Mapping[str, Any]) -> provider_pb2.ProvidedTool:
    made = provider_pb2.ProvidedTool(name=name, **{k: v for k, v in described.items() if k not in _STRUCTS})
    for schema in ("input_schema", "output_schema"):
        if schema in described:
            getattr(made, schema).update(described[schema])
    for example in described.get("examples", ()):
        made.examples.add().update(example)
    return made


_STRUCTS = ("input_schema", "output_schema", "examples")


def _structured(data: Any) -> provider_pb2.ExecuteToolResponse:
    value = Value()
    value.struct_value.update(data)
    return provider_pb2.ExecuteToolResponse(structured=value)


@asynccontextmanager
async def serving(**how: Any) -> AsyncIterator[Provider]:
    made = Provider(**how)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
