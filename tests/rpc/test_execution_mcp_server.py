"""The suite's own MCP server, over streamable HTTP in both eras and over Google's gRPC service."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import httpx2
import pytest
from dynamicagents.registry.v1 import agent_pb2, agent_service_pb2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_grpc_transport_proto import mcp_messages_pb2 as messages
from mcp_grpc_transport_proto import mcp_pb2_grpc
from mcp_types import ToolListChangedNotification

from tests import harness
from tests.rpc.conftest import CANCELLED, ExecutionBench
from tests.rpc.test_execution import SECRET, bearer
from tests.rpc.test_execution_mcp import ALLOWED, STDIO, register, until, until_listed
from tests.scripted_router import call, calls, text

Bench = Callable[..., Any]
Code = grpc.StatusCode
ERAS = ["legacy", "2026-07-28"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def serving(bench: Bench, **settings: Any) -> ExecutionBench:
    at: ExecutionBench = await bench(mcp_port=free_port(), **settings)
    return at


def url(at: ExecutionBench) -> str:
    return f"http://127.0.0.1:{at.settings.mcp_port}/mcp"


@asynccontextmanager
async def client(at: ExecutionBench, mode: str, **options: Any) -> AsyncIterator[Client]:
    headers = dict(at.metadata)
    async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
        transport = streamable_http_client(url(at), http_client=http)
        async with Client(transport, mode=mode, cache=None, **options) as connected:
            yield connected


async def names(connected: Client) -> list[str]:
    found, cursor = [], None
    while True:
        page = await connected.list_tools(cursor=cursor)
        found += [tool.name for tool in page.tools]
        if page.next_cursor is None:
            return found
        cursor = page.next_cursor


def rpc(at: ExecutionBench) -> tuple[grpc.aio.Channel, Any]:
    channel = grpc.aio.insecure_channel(at.server.address)
    return channel, mcp_pb2_grpc.McpStub(channel)


@pytest.mark.parametrize("mode", ERAS)
async def test_listing_and_calling(bench: Bench, mode: str) -> None:
    at = await serving(bench)
    await at.create(output_schema={"type": "object", "properties": {"answer": {"type": "integer"}}})
    at.router.turns = [calls(call("calculator", '{"expression": "6*7"}')), text('{"answer": 42}')]
    async with client(at, mode) as connected:
        assert await names(connected) == ["builtin_calculator", "builtin_current_time", "agent_helper"]
        tools = {tool.name: tool for page in [await connected.list_tools()] for tool in page.tools}
        calculator = tools["builtin_calculator"]
        assert calculator.title == "Calculator"
        assert calculator.annotations
        assert calculator.annotations.read_only_hint
        sum_ = await connected.call_tool("builtin_calculator", {"expression": "17 + 4"})
        assert (sum_.content[0].text, sum_.is_error) == ("21", False)
        wrong = await connected.call_tool("builtin_calculator", {"expression": 3})
        assert wrong.is_error
        assert "arguments.expression" in wrong.content[0].text
        with pytest.raises(MCPError) as caught:
            await connected.call_tool("builtin_ask_user", {"prompt": "?"})
        assert caught.value.error.code == -32602
        assert caught.value.error.data["reason"] == "RESOURCE_NOT_FOUND"
        with pytest.raises(MCPError) as caught:
            await connected.list_tools(cursor="nonsense")
        assert caught.value.error.code == -32602
        ran = await connected.call_tool("agent_helper", {"input": "what is six times seven?"})
        assert (ran.structured_content, ran.is_error) == ({"answer": 42}, False)
        assert ran.meta
        execution = await at.get(ran.meta["dynamicagents.dev/execution-id"])
        assert execution.input == "what is six times seven?"
        missing = await connected.call_tool("agent_helper", {})
        assert missing.is_error
        with pytest.raises(MCPError) as caught:
            await connected.call_tool("agent_nobody", {"input": "hi"})
        assert caught.value.error.data["reason"] == "RESOURCE_NOT_FOUND"
