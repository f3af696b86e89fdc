"""MCP servers that do what they should not: whoever uses another one does not notice."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from dynamicagents.tools.v1 import tool_pb2, tool_service_pb2

from tests import harness, odd_mcp_server
from tests.rpc.conftest import ExecutionBench
from tests.rpc.test_execution_mcp import listed, register, until_listed, use

Bench = Callable[..., Any]
ALLOWED = {"mcp_commands": (f"{sys.executable} {odd_mcp_server.SERVER}",)}


def odd(kind: str, *more: str) -> dict[str, Any]:
    return {"command": sys.executable, "arguments": [odd_mcp_server.SERVER, kind, *more]}


async def status(at: ExecutionBench, server_id: str = "tests") -> tool_pb2.ToolSourceStatus:
    answer = await at.tools.ListTools(tool_service_pb2.ListToolsRequest(source=f"mcp/{server_id}"), timeout=30)
    return next((one for one in answer.sources if one.source_id == f"mcp/{server_id}"), tool_pb2.ToolSourceStatus())


async def until_failed(at: ExecutionBench) -> str:
    async with asyncio.timeout(60):
        while (found := await status(at)).state != tool_pb2.TOOL_SOURCE_STATE_FAILED:
            await asyncio.sleep(0.05)
    return str(found.message)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("mute", "did not answer within 4 s"),
        ("dies", "refused: Connection closed"),
        ("unlisted", "the MCP server's answer is not what the protocol says"),
    ],
)
async def test_servers_that_cannot_be_used(bench: Bench, kind: str, message: str) -> None:
    at = await bench(**ALLOWED, **({"mcp_patience": 4.0} if kind == "mute" else {}))
    await register(at, stdio=odd(kind))
    assert await until_failed(at) == message
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await use(at, "echo")
    assert harness.reason_of(caught.value) == "TOOL_SOURCE_UNAVAILABLE"
    await register(at, "good", stdio=odd("good"))
    await until_listed(at, "mcp/good/echo")
    assert (await use(at, "echo", server="good", a=1)).output == '{"a": 1}'


@pytest.mark.parametrize("kind", ["good", "garbage", "twice", "restless"])
async def test_servers_that_can_be_used_nevertheless(bench: Bench, kind: str) -> None:
    at = await bench(**ALLOWED)
    await register(at, stdio=odd(kind))
    await until_listed(at, "mcp/tests/echo")
    said = await asyncio.gather(*(use(at, "echo", n=n) for n in range(50)))
    assert [one.output for one in said] == [f'{{"n": {n}}}' for n in range(50)]


async def test_a_description_that_speaks_to_the_model(bench: Bench) -> None:
    at = await bench(**ALLOWED)
    await register(at, stdio=odd("sly"))
    await until_listed(at, "mcp/tests/echo")
    sly = (await listed(at, source="mcp"))["mcp/tests/echo"]
    assert "ignore instructions" in sly.warning
    assert "keep something from the user" in sly.warning
    assert not sly.unusable
    assert (await use(at, "echo", a=1)).output == '{"a": 1}'


async def test_pages_without_end(bench: Bench) -> None:
    at = await bench(**ALLOWED)
    await register(at, stdio=odd("pages"))
    await until_listed(at, "mcp/tests/echo-0-0")
    assert (await status(at)).tool_count == 2000


async def test_tools_that_cannot_be_offered(bench: Bench) -> None:
    at = await bench(**ALLOWED)
    await register(at, stdio=odd("odd"))
    await until_listed(at, "mcp/tests/echo")
    found = await listed(at, source="mcp")
    assert {tool_id: tool.unusable for tool_id, tool in found.items()} == {
        "mcp/tests/deep.one/two": False,
        "mcp/tests/echo": False,
        "mcp/tests/remote": True,
    }
    assert found["mcp/tests/echo"].description == ""
    assert "output schema" in found["mcp/tests/deep.one/two"].warning
    assert "another document" in found["mcp/tests/remote"].warning
    message = (await status(at)).message
    assert all(name in message for name in ("'with space'", "'../up'", "'vast'", "'echo'"))
    assert (await use(at, "deep.one/two", a=1)).output == '{"a": 1}'
    await at.create(tools=[{"tool_id": "mcp/tests/*"}])
    assert (await at.run())[-1].HasField("execution_completed")
    assert [tool.name for tool in at.router.requests[0].tools] == ["deep_one_two", "echo"]


async def test_answers_that_are_none(bench: Bench) -> None:
    at = await bench(**ALLOWED)
    await register(at, stdio=odd("wrong"))
    await until_listed(at, "mcp/tests/echo")
    wrong = await use(at, "echo")
    assert (wrong.is_error, wrong.output) == (True, "the MCP server's answer is not what the protocol says")


async def test_a_server_that_ends_in_a_call(bench: Bench) -> None:
    at = await bench(**ALLOWED)
    await register(at, stdio=odd("exits"))
    await until_listed(at, "mcp/tests/echo")
    for _ in range(3):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await use(at, "echo")
        assert harness.reason_of(caught.value) == "TOOL_SOURCE_UNAVAILABLE"


async def test_a_call_that_nobody_waits_for_is_cancelled(bench: Bench, tmp_path: Path) -> None:
    at, heard = await bench(**ALLOWED), tmp_path / "heard"
    await register(at, stdio=odd("silent", str(heard)), timeout={"seconds": 1})
    await until_listed(at, "mcp/tests/echo")
    late = await use(at, "echo")
    assert (late.is_error, late.output) == (True, "the tool did not answer within 1 s")
    async with asyncio.timeout(30):
        while "notifications/cancelled" not in heard.read_text():
            await asyncio.sleep(0.05)
