"""The conformance suite of MCP's authors, against our server and our client. What cannot apply is in conformance/."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.interop import npm
from tests.rpc.conftest import bench as bench  # the fixture
from tests.rpc.test_execution_mcp_server import serving, url

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]
HERE = Path(__file__).parent / "conformance"


@pytest.fixture(scope="session")
def suite_of_checks(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    package = "@modelcontextprotocol/conformance"
    folder = npm.installed(tmp_path_factory.mktemp("conformance"), f"{package}@0.2.0-alpha.12")
    return [npm.NODE, str(folder / package / "dist" / "index.js")]


async def check(command: list[str], *arguments: str, where: Path) -> None:
    """Runs it: what fails unexpectedly, and what passes unexpectedly, fails."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    running = await asyncio.create_subprocess_exec(
        *command,
        *arguments,
        cwd=where,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await running.communicate()
    assert running.returncode == 0, said.decode()[-6000:]


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
async def test_our_server(bench: Callable[..., Any], suite_of_checks: list[str], revision: str, tmp_path: Path) -> None:
    at = await serving(bench, tool_sources=("tests.conformance_tools:Fixtures",), mcp_server_tools=("test_*", "json_*"))
    expected = str(HERE / f"server-{revision}.yaml")
    asked = ("server", "--url", url(at), "--requirements", revision)
    await check(suite_of_checks, *asked, "--expected-failures", expected, where=tmp_path)


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
async def test_our_client(suite_of_checks: list[str], revision: str, tmp_path: Path) -> None:
    # All scenarios begin at once, a process each: here one after the other.
    ours = f"flock {tmp_path / 'turn'} {sys.executable} {HERE / 'client.py'}"
    expected = str(HERE / f"client-{revision}.yaml")
    asked = ("client", "--command", ours, "--requirements", revision, "--timeout", "500000")
    await check(suite_of_checks, *asked, "--expected-failures", expected, where=tmp_path)
