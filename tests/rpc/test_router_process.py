from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from dynamicagents.router.v1 import chat_pb2, router_service_pb2, router_service_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def process(**environment: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, grpc.aio.Channel]]:
    """A Router of its own, alone, that listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {**os.environ, "DYNAMIC_AGENTS_ROUTER_PORT": str(port), **environment}
    running = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.router", cwd=ROOT, env=env)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await asyncio.wait_for(channel.channel_ready(), 60)
            yield running, channel
    finally:
        if running.returncode is None:
            running.send_signal(signal.SIGTERM)
        await asyncio.wait_for(running.wait(), 60)


async def test_listens_at_once_and_serves_when_the_model_library_is_there() -> None:
    async with process() as (running, channel):
        health = health_pb2_grpc.HealthStub(channel)
        seen = health.Watch(health_pb2.HealthCheckRequest())
        assert (await seen.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        early = router_service_pb2.ChatRequest(
            model="offline", messages=[chat_pb2.ChatMessage(role=chat_pb2.ROLE_USER, content="Hello")]
        )
        answer = await router_service_pb2_grpc.RouterServiceStub(channel).Chat(early, timeout=60)
        assert answer.answered_by.offline
        assert (await asyncio.wait_for(seen.read(), 60)).status == health_pb2.HealthCheckResponse.SERVING
        seen.cancel()
        running.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.wait(), 60) == 0


async def test_stops_while_the_model_library_is_still_imported(tmp_path: Path) -> None:
    (tmp_path / "litellm.py").write_text("import time\ntime.sleep(600)\n")
    async with process(PYTHONPATH=str(tmp_path)) as (running, _):
        running.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.wait(), 60) == 0
