from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from dynamicagents.secrets.v1 import secrets_service_pb2

from libs.config import StartError
from services.router.app import app as router_app
from services.router.config import RouterSettings
from tests import harness, router_bench
from tests.openai_server import Reply
from tests.router_bench import KEY


async def test_what_was_recorded_is_replayed_without_keys_or_network(
    make_settings: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "recordings"
    async with router_bench.running(make_settings, record_dir=folder) as bench:
        bench.provider.reply = Reply(reasoning="thinking")
        await bench.add()
        told = [chunk.text for chunk in await bench.stream() if chunk.text]
        bench.provider.reply = Reply(status=400)
        with pytest.raises(grpc.aio.AioRpcError):
            await bench.chat("Nonsense")
    assert len(list(folder.iterdir())) == 2
    assert not any(KEY in path.read_text() for path in folder.iterdir())
    (tmp_path / "data").rename(tmp_path / "data-of-the-recorder")
    async with router_bench.running(make_settings, replay_dir=folder) as bench:
        bench.secrets.values.clear()
        bench.secrets.failure = secrets_service_pb2.RESOLUTION_FAILURE_UNAVAILABLE
        await bench.add("another", api_base="http://127.0.0.1:1/v1")
        chunks = await bench.stream()
        assert "".join(chunk.text for chunk in chunks) == "".join(told) == "Hello from upstream"
        assert "".join(chunk.reasoning for chunk in chunks) == "thinking"
        assert chunks[-1].usage.total_tokens == 18
        assert chunks[-1].answered_by.deployment_id == "another"
        assert (await bench.chat()).message.content == "Hello from upstream"
        with pytest.raises(grpc.aio.AioRpcError) as rejected:
            await bench.chat("Nonsense")
        assert harness.reason_of(rejected.value) == "UPSTREAM_REJECTED"
        with pytest.raises(grpc.aio.AioRpcError) as missing:
            await bench.chat("Something else")
        assert missing.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "digest" in (missing.value.details() or "")
        assert (await bench.chat(model="offline")).message.content
        assert not bench.provider.asked
        assert not bench.secrets.asked


async def test_both_at_once(make_settings: Callable[..., Any], tmp_path: Path) -> None:
    settings = make_settings(RouterSettings, record_dir=tmp_path / "a", replay_dir=tmp_path / "b")
    with pytest.raises(StartError, match="exclude each other"):
        async with router_app(settings, None):
            pass
