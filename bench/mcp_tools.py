"""What CallTool adds to a tool of an MCP server: `.venv/bin/python -m bench.mcp_tools [--quick]`.

The same server, on stdio and on streamable HTTP, is called by the bare client of MCP's SDK and through Execution, in
rounds that alternate, in one run. Execution, Registry, the server and the load are processes of their own.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
from dynamicagents.registry.v1 import mcp_server_pb2, mcp_server_service_pb2, mcp_server_service_pb2_grpc
from dynamicagents.tools.v1 import tool_service_pb2, tool_service_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from bench.streams import free_port, process

_SERVER: Final = ["-P", str(Path(__file__).with_name("mcp_server.py"))]
"""Without its folder on the path, where a module is called as one of the standard library."""
_AIM: Final = 3.0
"""Milliseconds that may be added to a call over stdio, at the median."""
_AT_ONCE: Final = 16
Call = Callable[[], Awaitable[Any]]


async def main(rounds: int, calls: int) -> None:
    async with AsyncExitStack() as stack:
        port = free_port()
        await stack.enter_async_context(process(sys.executable, *_SERVER, str(port)))
        url = f"http://127.0.0.1:{port}/mcp"
        await _until_open(port)
        tools = await stack.enter_async_context(_execution(url))
        stdio = StdioServerParameters(command=sys.executable, args=_SERVER)
        ways: dict[str, Call] = {}
        for transport, target in (("stdio", stdio_client(stdio)), ("http", url)):
            bare: Any = await stack.enter_async_context(Client(target, cache=None))
            ways[f"{transport}, bare"] = _bare(bare)
            ways[f"{transport}, CallTool"] = _through(tools, f"mcp/{transport}/say")
        for call in ways.values():
            await _measured(call, 50)
        found: dict[str, list[float]] = {name: [] for name in ways}
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, call in ways.items():
                found[name] += await _measured(call, calls)
            for name, call in ways.items():
                rates[name].append(await _rate(call, calls))
    _report(found, rates)


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


async def _measured(call: Call, calls: int) -> list[float]:
    """Milliseconds of each, one after the other."""
    taken = []
    for _ in range(calls):
        started = time.perf_counter()
        await call()
        taken.append((time.perf_counter() - started) * 1000)
    return taken


async def _rate(call: Call, calls: int) -> float:
    """Calls a second, some at once."""
    started = time.perf_counter()

    async def some() -> None:
        for _ in range(calls // _AT_ONCE):
            await call()

    await asyncio.gather(*(some() for _ in range(_AT_ONCE)))
    return calls // _AT_ONCE * _AT_ONCE / (time.perf_counter() - started)


def _report(found: Mapping[str, list[float]], rates: Mapping[str, list[float]]) -> None:
    print(f"{'':18}{'p50 ms':>9}{'p99 ms':>9}{'calls/s':>9}")
    for name, taken in found.items():
        p99 = statistics.quantiles(taken, n=100)[98]
        print(f"{name:18}{statistics.median(taken):9.2f}{p99:9.2f}{statistics.median(rates[name]):9.0f}")
    for transport in ("stdio", "http"):
        added = statistics.median(found[f"{transport}, CallTool"]) - statistics.median(found[f"{transport}, bare"])
        aim = f", aim under {_AIM:g} ms: {'met' if added < _AIM else 'missed'}" if transport == "stdio" else ""
        print(f"added over {transport}: {added:.2f} ms at the median{aim}")


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


if __name__ == "__main__":
    asyncio.run(main(*((2, 200) if "--quick" in sys.argv else (5, 500))))
