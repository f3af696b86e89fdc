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
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_grpc_transport_proto import mcp_messages_pb2 as messages
from mcp_grpc_transport_proto import mcp_pb2_grpc
from mcp_types import ToolListChangedNotification

from tests import harness
from tests.rpc.conftest import ExecutionBench
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
    at: ExecutionBench = await bench(**{"mcp_port": free_port(), "mcp_server_tools": OFFERED, **settings})
    return at


def url(at: ExecutionBench) -> str:
    return f"http://127.0.0.1:{at.settings.mcp_port}/mcp"


OFFERED = ("builtin/calculator", "builtin/current_time", "agent/*")


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


async def test_the_same_over_grpc(bench: Bench) -> None:
    at = await bench(mcp_server_tools=OFFERED)
    await at.create(output_schema={"type": "object", "properties": {"answer": {"type": "integer"}}})
    at.router.turns = [text('{"answer": 42}')]
    channel, stub = rpc(at)
    async with channel:
        listed = await stub.ListTools(messages.ListToolsRequest())
        assert [tool.name for tool in listed.tools] == ["builtin_calculator", "builtin_current_time", "agent_helper"]
        assert listed.tools[0].annotations.read_only_hint
        assert listed.tools[2].output_schema["type"] == "object"
        assert listed.ttl.ToSeconds() == 60
        sum_ = await stub.CallTool(asking("builtin_calculator", expression="17 + 4"))
        assert (sum_.content[0].text.text, sum_.is_error) == ("21", False)
        wrong = await stub.CallTool(asking("builtin_calculator", expression=3))
        assert wrong.is_error
        ran = await stub.CallTool(asking("agent_helper", input="six times seven?"))
        assert ran.structured_content["answer"] == 42
        assert ran.common.metadata["dynamicagents.dev/execution-id"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.CallTool(asking("nobody"))
        assert (caught.value.code(), harness.reason_of(caught.value)) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
        assert dict(caught.value.trailing_metadata())["mcp-error-code"] == "-32602"
        assert not (await stub.ListResources(messages.ListResourcesRequest())).resources
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ReadResource(messages.ReadResourceRequest(uri="file:///none"))
        assert caught.value.code() is Code.NOT_FOUND


def asking(name: str, /, *, depth: int = 0, **arguments: Any) -> messages.CallToolRequest:
    request = messages.CallToolRequest(request={"name": name})
    request.request.arguments.update(arguments)
    if depth:
        request.common.metadata.update({"dynamicagents.dev/depth": depth})
    return request


@pytest.mark.parametrize("mode", ERAS)
async def test_progress_and_cancellation_of_a_run(bench: Bench, mode: str) -> None:
    at = await serving(bench)
    await at.create(tools=[{"tool_id": "builtin/calculator"}])
    at.router.turns = [calls(call("calculator", '{"expression": "6*7"}')), [30.0]]
    heard: list[str] = []
    told = asyncio.Event()

    async def progress(done: float, total: float | None, message: str | None) -> None:
        heard.append(str(message))
        told.set()

    async with client(at, mode) as connected:
        calling = asyncio.create_task(connected.call_tool("agent_helper", {"input": "hi"}, progress_callback=progress))
        await asyncio.wait_for(told.wait(), 30)
        await until(lambda: len(at.router.requests) == 2)
        calling.cancel()
        await asyncio.wait({calling})
        await asyncio.wait_for(at.router.cancelled.wait(), 30)
        # The connection is still good.
        assert "builtin_calculator" in await names(connected)
    assert any("builtin/calculator" in message for message in heard)


async def test_a_caller_of_grpc_who_leaves_cancels_the_run(bench: Bench) -> None:
    at = await bench(mcp_server_tools=OFFERED)
    await at.create()
    at.router.turns = [[30.0]]
    channel, stub = rpc(at)
    async with channel:
        calling = stub.CallTool(asking("agent_helper", input="hi"))
        await until(lambda: len(at.router.requests) == 1)
        calling.cancel()
        await asyncio.wait_for(at.router.cancelled.wait(), 30)


@pytest.mark.parametrize("mode", ERAS)
async def test_changes_of_the_list_are_told(bench: Bench, mode: str) -> None:
    at = await serving(bench, mcp_server_tools=(*OFFERED, "mcp/*"), **ALLOWED)
    told = asyncio.Event()

    async def heard(message: Any) -> None:
        if isinstance(message, ToolListChangedNotification):
            told.set()

    async def listen(connected: Client) -> None:
        async with connected.listen(tools_list_changed=True) as events:
            ready.set()
            async for _ in events:
                told.set()

    ready = asyncio.Event()
    async with client(at, mode, message_handler=heard) as connected:
        assert await names(connected) == ["builtin_calculator", "builtin_current_time"]
        listening = asyncio.create_task(listen(connected)) if mode != "legacy" else None
        if listening:
            await asyncio.wait_for(ready.wait(), 30)
        await until_told(told, lambda: at.create("newcomer"))
        assert "agent_newcomer" in await names(connected)
        told.clear()
        await register(at, stdio=STDIO)
        await asyncio.wait_for(told.wait(), 30)
        await until_listed(at, "mcp/tests/add")
        assert "mcp_tests_add" in await names(connected)
        sum_ = await connected.call_tool("mcp_tests_add", {"a": 40, "b": 2})
        assert sum_.structured_content == {"result": 42}
        if listening:
            listening.cancel()


async def until_told(told: asyncio.Event, change: Callable[[], Any]) -> None:
    """A stream of news that has just been opened may still be on its way to Registry."""
    await change()
    await asyncio.wait_for(told.wait(), 60)


@pytest.mark.parametrize("mode", ERAS)
async def test_tenants_and_tokens(bench: Bench, mode: str) -> None:
    at = await serving(bench, registry={"jwt_secret": SECRET}, jwt_secret=SECRET)
    at.metadata = bearer("acme")
    await at.create("ours")
    async with client(at, mode) as connected:
        assert "agent_ours" in await names(connected)
    at.metadata = bearer("other")
    async with client(at, mode) as connected:
        assert await names(connected) == ["builtin_calculator", "builtin_current_time"]
        with pytest.raises(MCPError) as caught:
            await connected.call_tool("agent_ours", {"input": "hi"})
        assert caught.value.error.data["reason"] == "RESOURCE_NOT_FOUND"
    async with httpx2.AsyncClient() as http:
        for headers in ({}, {"authorization": "Bearer nonsense"}):
            refused = await http.post(url(at), headers=headers, json={"jsonrpc": "2.0", "id": 1, "method": "ping"})
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Bearer")
            assert refused.json()["error"]["reason"] == "CREDENTIAL_INVALID"
    channel, stub = rpc(at)
    async with channel:
        with pytest.raises(grpc.aio.AioRpcError) as denied:
            await stub.ListTools(messages.ListToolsRequest())
        assert denied.value.code() is Code.UNAUTHENTICATED
        ours = await stub.ListTools(messages.ListToolsRequest(), metadata=bearer("acme"))
        assert "agent_ours" in [tool.name for tool in ours.tools]


async def test_a_session_is_its_owners(bench: Bench) -> None:
    at = await serving(bench, registry={"jwt_secret": SECRET}, jwt_secret=SECRET)
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    accept = {"accept": "application/json, text/event-stream"}
    async with httpx2.AsyncClient(timeout=30) as http:
        ours = await http.post(url(at), headers={**dict(bearer("acme")), **accept}, json=hello)
        assert ours.status_code == 200
        session = {"mcp-session-id": ours.headers["mcp-session-id"]}
        ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        stolen = await http.post(url(at), headers={**dict(bearer("other")), **accept, **session}, json=ping)
        assert stolen.status_code == 404
        good = await http.post(url(at), headers={**dict(bearer("acme")), **accept, **session}, json=ping)
        assert good.status_code == 200


async def test_an_agent_that_has_itself_as_a_tool(bench: Bench) -> None:
    at = await serving(bench, mcp_server_tools=("*",), mcp_server_depth=3)
    await register(at, "self", http={"url": url(at)})
    await at.create(tools=[{"tool_id": "mcp/self/agent_helper"}])
    await until_listed(at, "mcp/self/agent_helper")
    again = calls(call("agent_helper", '{"input": "deeper"}'))
    at.router.turns = [again, again, again, again, text("done")]
    events = await at.run(deadline=60)
    assert events[-1].HasField("execution_completed"), events[-1]
    # The run that the caller began has three within it: the fourth call is refused, and each goes on from there.
    assert len(at.router.requests) == 8
    channel, stub = rpc(at)
    async with channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.CallTool(asking("agent_helper", depth=3, input="hi"))
        assert (caught.value.code(), harness.reason_of(caught.value)) == (Code.RESOURCE_EXHAUSTED, "NESTED_TOO_DEEP")
        # What a suite's server offers is not offered again, or the list would grow for ever.
        offered = [tool.name for tool in (await stub.ListTools(messages.ListToolsRequest())).tools]
        assert not [name for name in offered if name.startswith("mcp_self")]


async def test_only_what_the_operator_offers(bench: Bench) -> None:
    at = await serving(bench, mcp_server_tools=("builtin/current_time", "agent/crm-*"))
    for agent_id in ("crm-one", "crm-two", "other"):
        await at.create(agent_id)
    async with client(at, "2026-07-28") as connected:
        assert await names(connected) == ["builtin_current_time", "agent_crm-one", "agent_crm-two"]
        for name in ("builtin_calculator", "agent_other"):
            with pytest.raises(MCPError):
                await connected.call_tool(name, {"input": "hi", "expression": "1"})


async def test_many_agents_come_in_pages(bench: Bench) -> None:
    at = await serving(bench)
    wanted = {f"agent_a{n:03}" for n in range(250)}
    for name in sorted(wanted):
        await at.create(name.removeprefix("agent_"))
    async with client(at, "2026-07-28") as connected:
        found = await names(connected)
        assert len(found) == len(set(found)) == 252
        assert wanted < set(found)
    channel, stub = rpc(at)
    async with channel:
        assert {tool.name for tool in (await stub.ListTools(messages.ListToolsRequest())).tools} == set(found)


async def test_a_run_that_asks_says_so(bench: Bench) -> None:
    at = await serving(bench)
    await at.create(tools=[{"tool_id": "builtin/ask_user"}])
    at.router.turns = [calls(call("ask_user", '{"prompt": "Which one?"}')), text("done")]
    async with client(at, "2026-07-28") as connected:
        said = await connected.call_tool("agent_helper", {"input": "hi"})
    assert said.is_error
    assert said.meta
    assert said.meta["dynamicagents.dev/reason"] == "INPUT_REQUIRED"
    assert said.meta["dynamicagents.dev/execution-id"] in said.content[0].text


async def test_input_of_an_agent_with_a_schema(bench: Bench) -> None:
    at = await serving(bench)
    schema = {"type": "object", "properties": {"lead": {"type": "string"}}, "required": ["lead"]}
    await at.create(input_schema=schema)
    async with client(at, "2026-07-28") as connected:
        page = await connected.list_tools()
        page = await connected.list_tools(cursor=page.next_cursor)
        (tool,) = page.tools
        assert tool.input_schema["properties"]["input"] == schema
        said = await connected.call_tool("agent_helper", {"input": {"lead": "Ana"}})
        assert said.content[0].text == "Hello there"
        bad = await connected.call_tool("agent_helper", {"input": {}})
        assert bad.is_error
        assert bad.meta
        assert bad.meta["dynamicagents.dev/reason"] == "INVALID_FIELD"


async def test_stopping_ends_open_streams(bench: Bench) -> None:
    at = await serving(bench)
    async with at.beside(mcp_port=(port := free_port()), drain_grace=30.0) as beside:
        ready = asyncio.Event()

        async def listen() -> None:
            async with client(beside, "2026-07-28") as connected, connected.listen(tools_list_changed=True) as events:
                ready.set()
                async for _ in events:
                    pass

        assert port == beside.settings.mcp_port
        listening = asyncio.create_task(listen())
        await asyncio.wait_for(ready.wait(), 30)
        stopping_at = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - stopping_at < 15
    await asyncio.wait({listening})


async def test_refuses_to_listen_elsewhere_without_keys(bench: Bench) -> None:
    from libs.config import StartError

    with pytest.raises(StartError, match="without authentication"):
        await serving(bench, host="0.0.0.0")
