"""What CallTool adds to a tool of an MCP server.

The same server, on stdio and on streamable HTTP, is called by the bare client of MCP's SDK and through Execution, in
rounds that alternate, in one run. Execution, Registry, the server and the load are processes of their own.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
from dynamicagents.registry.v1 import mcp_server_pb2, mcp_server_service_pb2, mcp_server_service_pb2_grpc
from dynamicagents.tools.v1 import tool_service_pb2, tool_service_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from bench.report import Report
from bench.streams import free_port, process

_SERVER: Final = ["-P", str(Path(__file__).with_name("mcp_server.py"))]
"""Without its folder on the path, where a module is called as one of the standard library."""
_AIM: Final = 3.0
"""Milliseconds that may be added to a call over stdio, at the median."""
_AT_ONCE: Final = 16
_BARE: Final = "MCP's own client"
_IDS: Final = {"stdio": "mcp/stdio/say", "streamable HTTP": "mcp/http/say"}
Call = Callable[[], Awaitable[Any]]


async def run(report: Report, *, quick: bool) -> None:
    rounds, calls = (2, 200) if quick else (5, 500)
    async with AsyncExitStack() as stack:
        port = free_port()
        await stack.enter_async_context(process(sys.executable, *_SERVER, str(port)))
        url = f"http://127.0.0.1:{port}/mcp"
        await _until_open(port)
        tools = await stack.enter_async_context(_execution(url))
        stdio = StdioServerParameters(command=sys.executable, args=_SERVER)
        for transport, target in (("stdio", stdio_client(stdio)), ("streamable HTTP", url)):
            bare = await stack.enter_async_context(Client(target, cache=None))
            await _compare(report, transport, _bare(bare), _through(tools, _IDS[transport]), rounds, calls)


async def _compare(report: Report, transport: str, bare: Call, ours: Call, rounds: int, calls: int) -> None:
    taken: dict[Call, list[float]] = {bare: [], ours: []}
    rates: dict[Call, list[float]] = {bare: [], ours: []}
    for call in taken:
        await _median(call, 50)
    for _ in range(rounds):
        for call in taken:
            taken[call].append(await _median(call, calls))
        for call in rates:
            rates[call].append(await _rate(call, calls))
    name = f"CallTool over {transport}"
    report.note("mcp_tools", f"{name}, p50", "ms", taken[ours], against=_BARE, baseline=taken[bare])
    report.note("mcp_tools", f"{name}, {_AT_ONCE} at once", "calls/s", rates[ours], against=_BARE, baseline=rates[bare])
    added = [one - other for one, other in zip(taken[ours], taken[bare], strict=True)]
    report.note("mcp_tools", f"{name}, p50 added", "ms", added, most=_AIM if transport == "stdio" else None)


def _bare(client: Any) -> Call:
    async def call() -> None:
        assert (await client.call_tool("say", {"text": "hello"})).content[0].text == "hello"

    return call


def _through(tools: tool_service_pb2_grpc.ToolServiceAsyncStub, tool_id: str) -> Call:
    request = tool_service_pb2.CallToolRequest(tool_id=tool_id)
    request.arguments.update({"text": "hello"})

    async def call() -> None:
        assert (await tools.CallTool(request, timeout=30)).output == "hello"

    return call


async def _median(call: Call, calls: int) -> float:
    """Milliseconds, one call after the other."""
    taken = []
    for _ in range(calls):
        started = time.perf_counter()
        await call()
        taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken)


async def _rate(call: Call, calls: int) -> float:
    """Calls a second, some at once."""
    started = time.perf_counter()

    async def some() -> None:
        for _ in range(calls // _AT_ONCE):
            await call()

    await asyncio.gather(*(some() for _ in range(_AT_ONCE)))
    return calls // _AT_ONCE * _AT_ONCE / (time.perf_counter() - started)


@asynccontextmanager
async def _execution(url: str) -> AsyncIterator[tool_service_pb2_grpc.ToolServiceAsyncStub]:
    """Execution with the server under the ids `stdio` and `http`."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        registry, execution = free_port(), free_port()
        environment = {
            "DYNAMIC_AGENTS_DATA_DIR": folder,
            "DYNAMIC_AGENTS_LOG_LEVEL": "warning",
            "DYNAMIC_AGENTS_REGISTRY_ADDRESS": f"127.0.0.1:{registry}",
            "DYNAMIC_AGENTS_REGISTRY_PORT": str(registry),
            "DYNAMIC_AGENTS_EXECUTION_PORT": str(execution),
            "DYNAMIC_AGENTS_EXECUTION_MCP_COMMANDS": f'["{" ".join([sys.executable, *_SERVER])}"]',
        }
        for service in ("registry", "execution"):
            await stack.enter_async_context(process(sys.executable, "-m", "services", service, **environment))
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
            for port in (registry, execution)
        ]
        for channel in channels:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), wait_for_ready=True)
        servers: mcp_server_service_pb2_grpc.McpServerServiceAsyncStub
        servers = mcp_server_service_pb2_grpc.McpServerServiceStub(channels[0])
        stdio = mcp_server_pb2.StdioTransport(command=sys.executable, arguments=_SERVER)
        for server_id, spec in (
            ("stdio", mcp_server_pb2.McpServerSpec(stdio=stdio)),
            ("http", mcp_server_pb2.McpServerSpec(http={"url": url})),
        ):
            made = mcp_server_pb2.McpServer(mcp_server_id=server_id, spec=spec)
            await servers.CreateMcpServer(mcp_server_service_pb2.CreateMcpServerRequest(mcp_server=made))
        tools: tool_service_pb2_grpc.ToolServiceAsyncStub = tool_service_pb2_grpc.ToolServiceStub(channels[1])
        await _until_listed(tools, 2)
        yield tools


async def _until_listed(tools: tool_service_pb2_grpc.ToolServiceAsyncStub, number: int) -> None:
    async with asyncio.timeout(60):
        while True:
            if len((await tools.ListTools(tool_service_pb2.ListToolsRequest(source="mcp"))).tools) == number:
                return
            await asyncio.sleep(0.1)


async def _until_open(port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return
