"""Arize Phoenix, as PyPI has it, shows a run as a conversation with its tools, tokens and cost."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from libs import telemetry
from services.execution.config import ExecutionSettings
from tests import four_services, openai_server
from tests.openai_server import Reply

ROOT: Final = Path(__file__).parents[2]
VERSION: Final = "20.26.1"
QUERY: Final = "{ projects { edges { node { tokenCountTotal costSummary { total { cost } } } } } }"


@pytest.fixture(scope="session")
def phoenix() -> Path:
    """Its command, installed once into an environment of its own."""
    folder = ROOT / ".cache" / f"phoenix-{VERSION}"
    command = folder / "bin" / "phoenix"
    if not command.exists():
        run: Any = {"check": True, "cwd": ROOT, "timeout": 600}
        uv = subprocess.run(["tools/uv.sh"], capture_output=True, text=True, **run).stdout.strip()
        subprocess.run([uv, "venv", "-q", "--clear", folder], **run)
        install = [uv, "pip", "install", "-q", "--python", folder / "bin" / "python", f"arize-phoenix=={VERSION}"]
        if subprocess.run(install, cwd=ROOT, timeout=600).returncode:
            subprocess.run([*install, "--system-certs"], **run)
    return command


@dataclass
class Phoenix:
    port: int
    otlp_port: int

    def ask(self, path: str, **body: Any) -> Any:
        data = json.dumps(body).encode() if body else None
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}", data, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def greet(self) -> None:
        """OSError while it does not listen yet."""
        with socket.create_connection(("127.0.0.1", self.otlp_port)):
            self.ask("v1/projects")

    def spans(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("v1/projects/default/spans?limit=1000")["data"]
        return found


@asynccontextmanager
async def started(command: Path, folder: Path) -> AsyncIterator[Phoenix]:
    at = Phoenix(free_port(), free_port())
    env = {
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(at.port),
        "PHOENIX_GRPC_PORT": str(at.otlp_port),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
    }
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            command, "serve", env={**os.environ, **env}, stdout=log, stderr=log
        )
    try:
        async with asyncio.timeout(300):
            while True:
                assert process.returncode is None, (folder / "log").read_text()
                try:
                    await asyncio.to_thread(at.greet)
                    break
                except OSError:
                    await asyncio.sleep(0.5)
        yield at
    finally:
        process.terminate()
        await process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.interop
@pytest.mark.timeout(1200)
async def test_a_run_as_phoenix_shows_it(phoenix: Path, tmp_path: Path, make_settings: Callable[..., Any]) -> None:
    (tmp_path / "phoenix").mkdir()
    async with started(phoenix, tmp_path / "phoenix") as shown:
        settings = make_settings(ExecutionSettings, otlp_endpoint=f"http://127.0.0.1:{shown.otlp_port}")
        with telemetry.exporting(settings) as provider:
            cost = await run(tmp_path, provider)
        async with asyncio.timeout(60):
            while len(spans := await asyncio.to_thread(shown.spans)) < 10:
                await asyncio.sleep(0.5)
        (project,) = shown.ask("graphql", query=QUERY)["data"]["projects"]["edges"]
    by_id = {span["context"]["span_id"]: span for span in spans}
    (agent,) = [span for span in spans if span["span_kind"] == "AGENT"]
    turns = sorted((span for span in spans if span["span_kind"] == "LLM"), key=lambda span: span["start_time"])
    (tool,) = [span for span in spans if span["span_kind"] == "TOOL"]
    assert [by_id[span["parent_id"]]["name"] for span in (*turns, tool)] == ["invoke_agent helper"] * 3
    assert by_id[agent["parent_id"]]["name"].endswith("ExecuteStream")
    assert len({span["context"]["trace_id"] for span in (agent, *turns, tool)}) == 1
    assert (agent["attributes"]["input.value"], agent["attributes"]["output.value"]) == ("What is 6*7?", "It is 42")
    first, second = (turn["attributes"] for turn in turns)
    asked = "llm.output_messages.0.message.tool_calls.0.tool_call.function"
    assert (first[f"{asked}.name"], first[f"{asked}.arguments"]) == ("calculator", '{"expression": "6*7"}')
    said = [second[f"llm.input_messages.{n}.message.role"] for n in range(3)]
    assert (said, second["llm.output_messages.0.message.content"]) == (["user", "assistant", "tool"], "It is 42")
    assert (tool["attributes"]["tool.name"], tool["attributes"]["output.value"]) == ("calculator", "42")
    assert second["llm.model_name"] == "gpt-4o-mini"
    # Its own sums, of its own prices: no token is counted twice, and the cost is ours.
    tokens = sum(turn["attributes"]["llm.token_count.total"] for turn in turns)
    assert project["node"]["tokenCountTotal"] == tokens > 0
    assert project["node"]["costSummary"]["total"]["cost"] == pytest.approx(cost) != 0


async def run(folder: Path, provider: Any) -> float:
    """A run with a tool call; gives its cost."""
    async with (
        openai_server.serving() as openai,
        four_services.serving(folder, provider, trace_payloads=True) as services,
    ):
        call = ("call_1", "calculator", '{"expression": "6*7"}')
        openai.replies = [Reply(words=(), tool_calls=[call]), Reply(words=("It is", " 42"))]
        await services.keep_key("sk-test")
        await services.add_deployment("group", openai.url, "secret:openai:api_key", "openai/gpt-4o-mini")
        await services.create_agent("helper", "group", tools=[{"tool_id": "builtin/calculator"}])
        events = await services.run("helper", "What is 6*7?")
    return events[-1].execution_completed.usage.cost_usd
