"""Registry as its own process: signals, exit codes, workers."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from dynamicagents.registry.v1 import router_config_service_pb2_grpc, watch_service_pb2_grpc
from dynamicagents.registry.v1.router_config_service_pb2 import AddDeploymentRequest
from dynamicagents.registry.v1.watch_service_pb2 import WatchRequest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests import harness
from tests.rpc.test_registry_router_config import deployment

ROOT = Path(__file__).parents[2]


def environment(**settings: str) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "gen" / "python"))),
        **{f"DYNAMIC_AGENTS_REGISTRY_{name.upper()}": value for name, value in settings.items()},
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    def __init__(self, process: asyncio.subprocess.Process, port: int, log: Path) -> None:
        self.process, self.port, self._log = process, port, log

    def log(self) -> str:
        return self._log.read_text()

    async def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 20)


@asynccontextmanager
async def registry(tmp_path: Path, **settings: str) -> AsyncIterator[tuple[Process, grpc.aio.Channel]]:
    port, log = free_port(), tmp_path / "log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.registry"),
            env=environment(port=str(port), **settings),
            stdout=output,
            stderr=output,
        )
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            async with asyncio.timeout(20):
                await is_serving(channel)
            yield Process(process, port, log), channel
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def is_serving(channel: grpc.aio.Channel) -> None:
    request = health_pb2.HealthCheckRequest()
    while True:
        try:
            if (await health_pb2_grpc.HealthStub(channel).Check(request, wait_for_ready=True)).status == 1:
                return
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_drains_while_a_watch_is_open(tmp_path: Path, number: int) -> None:
    async with registry(tmp_path, drain_grace="60") as (running, channel):
        watch = watch_service_pb2_grpc.WatchServiceStub(channel).Watch(WatchRequest(snapshot=True))
        await watch.read()
        stopped = asyncio.create_task(running.stop(number))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
        assert (caught.value.code(), harness.reason_of(caught.value)) == (
            grpc.StatusCode.UNAVAILABLE,
            "SHUTTING_DOWN",
        )
        assert await stopped == 0  # long before the grace of calls in flight is over
        assert '"stopped"' in running.log()


async def test_a_refused_key_is_in_no_log_and_no_file(tmp_path: Path) -> None:
    async with registry(tmp_path, log_level="debug") as (running, channel):
        configs = router_config_service_pb2_grpc.RouterConfigServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError):
            await configs.AddDeployment(AddDeploymentRequest(deployment=deployment(api_key_reference="sk-hunter2")))
        assert await running.stop() == 0
        assert "AddDeployment" in running.log()
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert b"hunter2" not in path.read_bytes()


def refused(**settings: str) -> str:
    """What a Registry says on standard error that does not start."""
    done = subprocess.run(
        [sys.executable, "-m", "services.registry"],
        env=environment(**{"port": str(free_port()), **settings}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == int(settings.get("workers", 1)) or len(lines) == 1, done.stderr
    assert len(set(lines)) == 1
    return lines[0]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_port_in_use(workers: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert port in refused(port=port, workers=workers)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "database_url"),
        ("mysql://me:hunter2@db/x", "mysql"),
        pytest.param(f"postgresql+asyncpg://me:hunter2@127.0.0.1:{free_port()}/x", "database", id="nobody-listens"),
    ],
)
def test_bad_database_url(url: str, says: str) -> None:
    line = refused(database_url=url)
    assert says in line
    assert "hunter2" not in line


@pytest.mark.parametrize("workers", ["1", "2"])
def test_data_dir_that_cannot_be_written(tmp_path: Path, workers: str) -> None:
    (tmp_path / "file").touch()
    assert "data_dir" in refused(data_dir=str(tmp_path / "file" / "x"), workers=workers)


def test_host_without_authentication() -> None:
    assert "without authentication" in refused(host="0.0.0.0")


def test_bad_setting() -> None:
    assert "watch_poll" in refused(watch_poll="often")


async def test_workers_share_a_port_and_are_replaced(tmp_path: Path) -> None:
    async with registry(tmp_path, workers="2", drain_grace="3") as (running, _):
        children = await workers(running)
        assert len(children) == 2
        os.kill(min(children), signal.SIGKILL)
        async with asyncio.timeout(20):
            while len(await workers(running) - children) < 1:
                await asyncio.sleep(0.1)
        assert "SIGKILL" in running.log()
        replaced = await workers(running)
        watchers = []
        async with asyncio.timeout(20):
            while len(watchers) < 8:  # spread by the kernel over both
                channel = grpc.aio.insecure_channel(
                    f"127.0.0.1:{running.port}", options=[("grpc.use_local_subchannel_pool", 1)]
                )
                await is_serving(channel)
                watchers.append(channel)
        for channel in watchers:
            await channel.close()
        assert await running.stop() == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in replaced)


async def workers(running: Process) -> set[int]:
    path = f"/proc/{running.process.pid}/task/{running.process.pid}/children"
    return set(map(int, Path(path).read_text().split()))


def test_registry_loads_neither_models_nor_agents() -> None:
    code = (
        "import sys, services.registry.app, services.registry.__main__\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'litellm', 'agno', 'openai'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\[\]\s*", done.stdout)
