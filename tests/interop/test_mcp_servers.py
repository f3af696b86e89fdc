"""MCP servers that nobody here wrote, from npm and PyPI, over stdio."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from dynamicagents.tools.v1 import tool_pb2

from tests.interop import npm
from tests.rpc.conftest import ExecutionBench
from tests.rpc.conftest import bench as bench  # the fixture
from tests.rpc.test_execution_mcp import listed, register, status, until_listed, use
from tests.scripted_router import call, calls, text

Bench = Callable[..., Any]
pytestmark = [pytest.mark.interop, pytest.mark.timeout(400)]
SCOPE = "@modelcontextprotocol/server-"
VERSION = "2026.8.31"


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    wanted = [f"{SCOPE}{name}@{VERSION}" for name in ("everything", "memory", "filesystem")]
    return npm.installed(tmp_path_factory.mktemp("servers"), *wanted)


async def serving(bench: Bench, command: list[str], known: str, **environment: str) -> ExecutionBench:
    at: ExecutionBench = await bench(mcp_commands=(" ".join(command),), mcp_variables=("MEMORY_*",), mcp_patience=60.0)
    await register(at, stdio={"command": command[0], "arguments": command[1:], "environment": environment})
    await until_listed(at, f"mcp/tests/{known}")
    return at


async def names(at: ExecutionBench) -> Mapping[str, tool_pb2.Tool]:
    found = await listed(at, source="mcp")
    assert not [tool for tool in found.values() if tool.unusable]
    return {tool_id.removeprefix("mcp/tests/"): tool for tool_id, tool in found.items()}


async def test_everything(bench: Bench, packages: Path) -> None:
    script = str(packages / f"{SCOPE}everything" / "dist" / "index.js")
    at = await serving(bench, [npm.NODE, script, "stdio"], "echo")
    assert len(await names(at)) >= 10
    assert (await status(at)).protocol_version == "2025-11-25"
    assert (await use(at, "echo", message="hi")).output == "Echo: hi"
    assert "image/png, 4033 bytes, not shown" in (await use(at, "get-tiny-image")).output
    weather = await use(at, "get-structured-content", location="New York")
    assert (weather.is_error, weather.output[0]) == (False, "{")
    at.router.turns = [
        calls(call("trigger-long-running-operation", '{"duration": 1, "steps": 3}')),
        text("done"),
    ]
    await at.create(mcp_server_ids=["tests"])
    events = await at.run()
    assert any(event.HasField("tool_call_progress") for event in events)
    done = next(event.tool_call_completed for event in events if event.HasField("tool_call_completed"))
    assert (done.tool_id, done.is_error) == ("mcp/tests/trigger-long-running-operation", False)
    assert events[-1].HasField("execution_completed")


async def test_memory(bench: Bench, packages: Path, tmp_path: Path) -> None:
    script = str(packages / f"{SCOPE}memory" / "dist" / "index.js")
    at = await serving(bench, [npm.NODE, script], "read_graph", MEMORY_FILE_PATH=str(tmp_path / "memory.json"))
    assert len(await names(at)) == 9
    lead = {"name": "Ana", "entityType": "lead", "observations": ["asked for a price"]}
    assert not (await use(at, "create_entities", entities=[lead])).is_error
    graph = orjson.loads((await use(at, "read_graph")).output)
    assert graph["entities"] == [lead]
    assert graph["relations"] == []


async def test_filesystem(bench: Bench, packages: Path, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    script = str(packages / f"{SCOPE}filesystem" / "dist" / "index.js")
    at = await serving(bench, [npm.NODE, script, str(folder)], "write_file")
    tools = await names(at)
    assert len(tools) == 14
    assert tools["read_text_file"].annotations.read_only
    assert not tools["write_file"].annotations.read_only
    written = await use(at, "write_file", path=str(folder / "note.txt"), content="hello")
    assert not written.is_error, written.output
    assert (folder / "note.txt").read_text() == "hello"
    assert "hello" in (await use(at, "read_text_file", path=str(folder / "note.txt"))).output
    outside = await use(at, "read_text_file", path="/etc/hostname")
    assert outside.is_error


async def test_time(bench: Bench) -> None:
    command = [sys.executable, "-m", "mcp_server_time", "--local-timezone", "UTC"]
    at = await serving(bench, command, "convert_time")
    assert sorted(await names(at)) == ["convert_time", "get_current_time"]
    assert (await status(at)).protocol_version == "2026-07-28"
    told = await use(at, "get_current_time", timezone="Asia/Tokyo")
    assert orjson.loads(told.output)["timezone"] == "Asia/Tokyo"
    wrong = await use(at, "get_current_time", timezone="Nowhere/None")
    assert wrong.is_error


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    made = tmp_path / "repository"
    subprocess.run(["git", "init", "-q", "-b", "main", str(made)], check=True)
    (made / "note.txt").write_text("hello")
    return made


async def test_git(bench: Bench, repository: Path, tmp_path: Path) -> None:
    at = await serving(bench, [sys.executable, "-m", "mcp_server_git"], "git_status")
    assert len(await names(at)) == 12
    told = await use(at, "git_status", repo_path=str(repository))
    assert "note.txt" in told.output
    assert not (await use(at, "git_add", repo_path=str(repository), files=["note.txt"])).is_error
    assert "new file:   note.txt" in (await use(at, "git_status", repo_path=str(repository))).output
    nowhere = await use(at, "git_status", repo_path=str(tmp_path / "nowhere"))
    assert nowhere.is_error
