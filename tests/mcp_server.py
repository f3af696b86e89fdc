"""An MCP server of the tests, in a process of its own: `python mcp_server.py stdio`, or `http PORT`, or `sse PORT`."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the tests themselves need not have it
    from mcp.server.mcpserver import Context

SERVER = str(Path(__file__))


def main(transport: str, *arguments: str) -> None:
    if transport == "stdio":
        _made().run("stdio")
    elif transport == "sse":
        _made().run("sse", port=int(arguments[0]))
    else:
        _serve(int(arguments[0]))


def _made() -> Any:
    from mcp.server import MCPServer
    from mcp.server.mcpserver import Image
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp_types import ToolAnnotations

    server = MCPServer("tests", log_level="CRITICAL")

    @server.tool(title="Addition", annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))
    def add(a: int, b: int) -> int:
        """Adds two numbers."""
        return a + b

    @server.tool(structured_output=False)
    def say(text: str) -> str:
        return text

    @server.tool()
    def fail() -> str:
        raise ToolError("it went wrong")

    @server.tool(structured_output=False)
    def picture() -> Any:
        return [Image(data=b"1234567", format="png"), "a picture"]

    @server.tool(structured_output=False)
    def huge(size: int) -> str:
        return "x" * size

    @server.tool(structured_output=False)
    async def never() -> str:
        await asyncio.Event().wait()
        return ""

    @server.tool(structured_output=False)
    async def flood(times: int, ctx: Context) -> str:
        for done in range(times):
            await ctx.report_progress(done, times, f"step {done}")
        return "done"

    @server.tool(structured_output=False)
    async def grow(ctx: Context) -> str:
        server.add_tool(add, name="grown")
        await ctx.notify_tools_changed()
        await ctx.request_context.session.send_tool_list_changed()
        return "grown"

    @server.tool(structured_output=False)
    async def forget() -> str:
        """Without telling anybody."""
        server.remove_tool("say")
        return "forgotten"

    @server.tool(structured_output=False)
    def vanish() -> str:
        os._exit(1)

    @server.tool(structured_output=False)
    def told(name: str, ctx: Context) -> str:
        """A variable of its environment, or a header of the request."""
        request = ctx.request_context.request
        return str(request.headers.get(name) if request is not None else os.environ.get(name))

    @server.tool(structured_output=False)
    def key(ctx: Context) -> str:
        """The metadata of the call."""
        return str((ctx.request_context.meta or {}).get("dynamicagents.dev/idempotency-key"))

    @server.tool(structured_output=False)
    def trace(ctx: Context) -> str:
        """Where the call stands in its trace."""
        return str((ctx.request_context.meta or {}).get("traceparent"))

    @server.tool(structured_output=False)
    def calculator(expression: str) -> str:
        return f"not {expression}"

    @server.tool()
    def broken(x: int) -> int:
        return x

    tools = server._tool_manager._tools
    tools["broken"].parameters = {"type": "object", "properties": {"x": {"type": "nonsense"}}}
    tools["add"].parameters["examples"] = [{"a": 1, "b": 2}]
    return server


def _serve(port: int) -> None:
    import uvicorn
    from starlette.requests import Request
    from starlette.responses import Response

    app = _made().streamable_http_app()
    wanted = os.environ.get("WANTED_KEY")

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and wanted and Request(scope).headers.get("x-api-key") != wanted:
            await Response(status_code=401)(scope, receive, send)
        else:
            await app(scope, receive, send)

    uvicorn.run(guarded, host="127.0.0.1", port=port, log_level="error", timeout_graceful_shutdown=0)


@dataclass
class HttpServer:
    """One that can be killed and started again where it was."""

    port: int
    transport: str = "http"
    script: str = SERVER
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{'sse' if self.transport == 'sse' else 'mcp'}"

    async def start(self, **environment: str) -> None:
        command = [sys.executable, self.script, self.transport, str(self.port)]
        self.process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **environment})
        async with asyncio.timeout(60):
            while not await self._answers():
                assert self.process.returncode is None
                await asyncio.sleep(0.05)

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    async def kill(self) -> None:
        if self.process and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


@asynccontextmanager
async def running(transport: str = "http", script: str = SERVER, **environment: str) -> AsyncIterator[HttpServer]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = HttpServer(probe.getsockname()[1], transport, script)
    try:
        await server.start(**environment)
        yield server
    finally:
        await server.kill()


if __name__ == "__main__":
    main(*sys.argv[1:])
