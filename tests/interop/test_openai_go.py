from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import openai_server, router_bench
from tests.openai_server import Reply
from tests.rpc.test_router_side_door import free_port

pytestmark = pytest.mark.interop
SOURCE = Path(__file__).parent / "go_openai"


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("go") / "openai"
    subprocess.run(["go", "build", "-o", str(binary), "."], cwd=SOURCE, check=True, timeout=600)
    return binary


CALLS = [("call_1", "calculator", '{"expression": "6*7"}'), ("call_2", "calculator", '{"expression": "1+1"}')]


@pytest.mark.timeout(700)
async def test_openais_go_client(client: Path, make_settings: Callable[..., Any]) -> None:
    async with (
        router_bench.running(make_settings, openai_port=free_port()) as bench,
        openai_server.serving() as calling,
    ):
        calling.reply = Reply(words=(), tool_calls=CALLS)
        await bench.add()
        await bench.add("tools", "tools", api_base=calling.url)
        base = f"http://127.0.0.1:{bench.settings.openai_port}/v1"
        done = await asyncio.create_subprocess_exec(
            client, "-url", base, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, errors = await done.communicate()
    assert done.returncode == 0, errors.decode() + out.decode()
    steps = dict(part.strip().split("\n", 1) for part in out.decode().split("== ")[1:-1])
    assert steps == {
        "whole": "Hello from upstream stop 18",
        "stream": "Hello from upstream stop 18",
        "tools": 'call_1 calculator {"expression": "6*7"}\ncall_2 calculator {"expression": "1+1"}',
        "models": "gpt offline tools",
        "error": "404 model_not_found",
    }
