"""The Model Context Protocol's own test server, from npm."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.rpc.conftest import bench as bench  # the fixture
from tests.rpc.test_execution_mcp import listed, register, until_listed, use
from tests.scripted_router import call, calls, text

pytestmark = [pytest.mark.interop, pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")]
PACKAGE = "@modelcontextprotocol/server-everything"


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("npm")
    command = ["npm", "install", "--ignore-scripts", "--no-fund", "--no-audit", f"{PACKAGE}@2026.8.31"]
    subprocess.run(command, cwd=folder, check=True, timeout=300, capture_output=True)
    return ["node", str(Path(folder, "node_modules", PACKAGE, "dist", "index.js")), "stdio"]


@pytest.mark.timeout(400)
async def test_a_server_of_the_protocols_authors(bench: Callable[..., Any], everything: list[str]) -> None:
    at = await bench(mcp_commands=(" ".join(everything),))
    await register(at, stdio={"command": everything[0], "arguments": everything[1:]})
    await until_listed(at, "mcp/tests/echo")
    assert len([tool for tool in await listed(at, source="mcp") if tool.startswith("mcp/tests/")]) >= 10
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
