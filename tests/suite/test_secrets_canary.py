"""A key that must show nowhere, on every way that a run can take through the four services."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import grpc
import pytest
from dynamicagents.secrets.v1 import secrets_service_pb2, secrets_service_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests import four_services, openai_server, suite_process
from tests.openai_server import Reply

CANARY = 'sk-canary-"7f3a/+&19'
REFERENCE = "secret:openai:api_key"


def forms(text: str) -> set[bytes]:
    """The ways in which it could be written; base64 at each of the three places where it may begin."""
    raw = text.encode()
    made = {raw, quote(text).encode(), quote(text, safe="").encode(), raw.hex().encode(), repr(text)[1:-1].encode()}
    made |= {json.dumps(text, ensure_ascii=ascii_only)[1:-1].encode() for ascii_only in (True, False)}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            coded = encode(b"x" * before + raw)
            made.add(coded[(0, 2, 3)[before] : len(coded) - 4])
    return made | {b"sk-canary"}


def assert_clean(where: str, contents: Iterable[bytes]) -> None:
    wanted = forms(CANARY)
    for content in contents:
        assert not [form for form in wanted if form in content], where


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_search_finds_what_it_looks_for() -> None:
    for hidden in (base64.b64encode(f"Bearer {CANARY} and more".encode()), quote(CANARY).encode(), CANARY.encode()):
        with pytest.raises(AssertionError):
            assert_clean("here", [b"around " + hidden + b" it"])


async def test_key_that_no_header_can_carry(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with openai_server.serving() as upstream, four_services.serving(tmp_path / "data") as suite:
        await suite.keep_key(f"{CANARY}\u00e9\r\nx")
        await suite.add_deployment("gpt", upstream.url, REFERENCE)
        await suite.create_agent("helper", "gpt")
        events = await suite.run("helper", "Hello?")
    assert events[-1].HasField("execution_failed")
    assert_clean("answers", (event.SerializeToString() for event in events))
    assert_clean("logs", (text.encode() for text in capfd.readouterr()))
    assert_clean("data", (path.read_bytes() for path in files(tmp_path / "data")))


BAD_TOOL = Reply(words=(), tool_calls=[("call-1", "calculator", '{"expression": "1/0"}')])


@pytest.mark.parametrize(
    ("reply", "timeout"),
    [
        (Reply(), 30),
        (Reply(status=401), 30),
        (Reply(status=500), 30),
        (Reply(cut_after=1), 30),
        (Reply(malformed=True), 30),
        (BAD_TOOL, 30),
        (Reply(endless=True, word_delay=0.05), 1),
    ],
    ids=["success", "refused", "failed", "cut", "malformed", "tool error", "timeout"],
)
async def test_in_one_process(tmp_path: Path, reply: Reply, timeout: float, capfd: pytest.CaptureFixture[str]) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    data, seen = tmp_path / "data", []
    async with openai_server.serving() as upstream, four_services.serving(data, provider, log_level="debug") as suite:
        upstream.reply = reply
        await suite.keep_key(CANARY)
        await suite.add_deployment("gpt", upstream.url, REFERENCE)
        tools = [{"tool_id": "builtin/calculator"}]
        await suite.create_agent("helper", "gpt", tools=tools, max_model_calls=2)
        try:
            seen += [event.SerializeToString() for event in await suite.run("helper", "1/0?", timeout)]
        except grpc.aio.AioRpcError as error:
            seen += [str(error).encode(), repr(error.trailing_metadata()).encode()]
        asked = secrets_service_pb2.ResolveReferencesRequest(references=[CANARY])
        stub = secrets_service_pb2_grpc.SecretsServiceStub(suite.secrets)
        assert (await stub.ResolveReferences(asked)).results[0].failure
    assert upstream.keys
    assert {"secrets.db", "execution.db", "registry.db"} <= {path.name for path in files(data)}
    spans = exporter.get_finished_spans()
    assert spans
    assert_clean("answers", seen)
    assert_clean("spans", (span.to_json().encode() for span in spans))
    assert_clean("logs", (text.encode() for text in capfd.readouterr()))
    assert_clean("data", (path.read_bytes() for path in files(data)))


def pids(suite: suite_process.Suite) -> dict[str, int]:
    """The services' processes, by the module that each runs."""
    found = {}
    for line in subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True).stdout.splitlines():
        if match := re.match(rf"\s*(\d+)\s+{suite.process.pid}\s.*services\.(\w+)", line):
            found[match[2]] = int(match[1])
    return found


async def test_crashes(tmp_path: Path) -> None:
    """Router, Secrets and Execution are killed while a run is under way, with debug logging."""
    data = tmp_path / "data"
    outputs: list[bytes] = []
    async with openai_server.serving() as upstream:
        upstream.reply = Reply(endless=True, word_delay=0.05)
        started = suite_process.started(data, {"DYNAMIC_AGENTS_LOG_LEVEL": "debug"})
        suite = await asyncio.to_thread(started.__enter__)
        try:
            await asyncio.to_thread(prepare, suite, upstream.url, tmp_path)
            running = asyncio.create_task(asyncio.to_thread(suite.run, "run", "helper", "Hello?", "--json"))
            async with asyncio.timeout(60):
                await upstream.called.wait()
            for service in ("secrets", "router", "execution"):
                os.kill(pids(suite)[service], signal.SIGKILL)
            done = await running
            outputs += [done.stdout.encode(), done.stderr.encode()]
        finally:
            await asyncio.to_thread(started.__exit__, None, None, None)
    assert upstream.keys[0] is not None
    logs = {path.name for path in files(data / "logs")}
    assert {"secrets.log", "router.log", "execution.log", "registry.log"} <= logs
    assert_clean("outputs", [*outputs, json.dumps(suite.said).encode()])
    assert_clean("data", (path.read_bytes() for path in files(data)))
    assert not [path for path in files(tmp_path) if path.name.startswith("core")]


def prepare(suite: suite_process.Suite, url: str, folder: Path) -> None:
    put = subprocess.run(
        [*suite_process.COMMAND, "secret", "put", "openai"],
        env={**os.environ, "DYNAMIC_AGENTS_PORT_BASE": str(suite.port_base)},
        input=CANARY.encode(),
        capture_output=True,
    )
    assert put.returncode == 0, put.stderr
    assert_clean("the command", [put.stdout, put.stderr])
    agent = folder / "agent.yaml"
    agent.write_text("agent_id: helper\nspec: {model: {model: gpt}}\n")
    assert suite.run("agent", "create", "-f", str(agent)).returncode == 0
    asyncio.run(deploy(suite.address("registry"), url))


async def deploy(address: str, url: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        await four_services.FourServices(channel, channel, channel).add_deployment("gpt", url, REFERENCE)
