"""A server of Google's model_context_protocol.Mcp, in a process of its own: `python google_mcp_server.py [TOKEN]`.
It prints where it listens.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from mcp_grpc_transport_proto import mcp_messages_pb2 as mcp_pb2
from mcp_grpc_transport_proto import mcp_pb2_grpc

SERVER = str(Path(__file__))


class Servicer(mcp_pb2_grpc.McpServicer):
    def __init__(self, token: str) -> None:
        self._token = token

    async def ListTools(self, request: Any, context: Any) -> Any:
        await self._admitted(context)
        response = mcp_pb2.ListToolsResponse()
        response.ttl.seconds = 60
        add = response.tools.add(name="add", title="Addition", description="Adds two numbers.")
        add.annotations.read_only_hint = True
        numbers = {"a": {"type": "integer"}, "b": {"type": "integer"}}
        add.input_schema.update({"type": "object", "properties": numbers, "required": ["a", "b"]})
        add.output_schema.update({"type": "object", "properties": {"sum": {"type": "integer"}}})
        for name in ("picture", "fail", "told", "ask"):
            response.tools.add(name=name).input_schema.update({"type": "object"})
        return response

    async def CallTool(self, request: Any, context: Any) -> Any:
        await self._admitted(context)
        response = mcp_pb2.CallToolResponse()
        arguments = MessageToDict(request.request.arguments)
        match request.request.name:
            case "add":
                response.structured_content.update({"sum": arguments["a"] + arguments["b"]})
            case "picture":
                response.content.add().image.CopyFrom(mcp_pb2.ImageContent(data=b"1234567", mime_type="image/png"))
                response.content.add().text.text = "a picture"
            case "fail":
                response.content.add().text.text = "it went wrong"
                response.is_error = True
            case "told":
                metadata = dict(context.invocation_metadata())
                response.content.add().text.text = f"{metadata.get('mcp_tool')} {MessageToDict(request.common)}"
            case "ask":
                response.common.input_requests["name"].elicit_request.message = "who?"
            case other:
                await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"no {other}")
        return response

    async def _admitted(self, context: Any) -> None:
        if self._token and dict(context.invocation_metadata()).get("authorization") != f"Bearer {self._token}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no")


async def main(token: str = "") -> None:
    server = grpc.aio.server()
    mcp_pb2_grpc.add_McpServicer_to_server(Servicer(token), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[str]:
    """Its address."""
    child = await asyncio.create_subprocess_exec(sys.executable, SERVER, *arguments, stdout=asyncio.subprocess.PIPE)
    try:
        assert child.stdout is not None
        yield (await asyncio.wait_for(child.stdout.readline(), 60)).decode().strip()
    finally:
        child.kill()
        await child.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
