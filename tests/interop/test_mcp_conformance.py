"""The conformance suite of MCP's authors, against our server and our client. What cannot apply is in conformance/."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

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


async def run(command: list[str], *arguments: str, where: Path) -> tuple[int, str]:
    """How it ends, and what it says."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    running = await asyncio.create_subprocess_exec(
        *command, *arguments, cwd=where, env=environment, stdout=PIPE, stderr=STDOUT
    )
    said, _ = await running.communicate()
    return running.returncode or 0, said.decode()


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
async def test_our_server(bench: Callable[..., Any], suite_of_checks: list[str], revision: str, tmp_path: Path) -> None:
    at = await serving(bench, tool_sources=("tests.conformance_tools:Fixtures",), mcp_server_tools=("test_*", "json_*"))
    expected = str(HERE / f"server-{revision}.yaml")
    asked = ("server", "--url", url(at), "--requirements", revision, "--expected-failures", expected)
    code, said = await run(suite_of_checks, *asked, where=tmp_path)
    assert code == 0, said[-6000:]


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
async def test_our_client(suite_of_checks: list[str], revision: str, tmp_path: Path) -> None:
    """One scenario after the other: all of its list at once, as the suite runs it, is too much for a small machine."""
    _, listed = await run(suite_of_checks, "list", "--requirements", revision, where=tmp_path)
    scored = listed.partition("Client scenarios")[2].partition("\n\n")[0]
    scenarios = [line.strip().removeprefix("- ") for line in scored.splitlines() if line.startswith("  - ")]
    assert "tools_call" in scenarios
    expected = yaml.safe_load((HERE / f"client-{revision}.yaml").read_text())["client"]
    said = {}
    for scenario in scenarios:
        asked = ("client", "--command", f"{sys.executable} {HERE / 'client.py'}", "--scenario", scenario)
        code, words = await run(
            suite_of_checks, *asked, "--spec-version", revision, "--timeout", "60000", where=tmp_path
        )
        if code:
            said[scenario] = words
    unexpected = "\n".join(words[-2000:] for scenario, words in said.items() if scenario not in expected)
    assert sorted(said) == sorted(expected), unexpected
