"""Google's Python package for MCP over gRPC, in an environment of its own, against our service."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.rpc.conftest import bench as bench  # the fixture

pytestmark = [pytest.mark.interop, pytest.mark.timeout(400)]
HERE = Path(__file__).parent
PACKAGE = "mcp-grpc-transport-proto==0.2.0"


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python that knows that package, with what it asks for, and nothing of ours."""
    folder = tmp_path_factory.mktemp("google") / "venv"
    script = str(HERE.parents[1] / "tools" / "uv.sh")
    uv = subprocess.run([script], check=True, capture_output=True, text=True, timeout=120).stdout.strip()
    python = str(folder / "bin" / "python")
    for command in (["venv", "--python", sys.executable, str(folder)], ["pip", "install", "--python", python, PACKAGE]):
        subprocess.run([uv, *command, "--quiet"], check=True, timeout=300)
    return python


async def test_googles_package(bench: Callable[..., Any], elsewhere: str) -> None:
    at = await bench(mcp_server_tools=("builtin/calculator", "builtin/current_time", "agent/*"))
    await at.create()
    client = str(HERE / "mcp_grpc_client.py")
    running = await asyncio.create_subprocess_exec(elsewhere, client, at.server.address, stdout=PIPE)
    said, _ = await running.communicate()
    assert running.returncode == 0
    assert orjson.loads(said) == {
        "tools": ["builtin_calculator", "builtin_current_time", "agent_helper"],
        "text": "21",
        "refused": "-32602",
    }
