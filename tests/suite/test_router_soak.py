"""A Router under load for as long as is asked: its memory stays what it is, whatever becomes of the calls.

DYNAMIC_AGENTS_TEST_ROUTER_CALLS says how many calls; 24 hours' worth are 2,000,000.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from dynamicagents.registry.v1 import router_config_pb2, router_config_service_pb2, router_config_service_pb2_grpc
from dynamicagents.router.v1 import chat_pb2, health_pb2, router_service_pb2, router_service_pb2_grpc
from google.protobuf.field_mask_pb2 import FieldMask
from grpc_health.v1 import health_pb2 as grpc_health
from grpc_health.v1 import health_pb2_grpc

from bench import provider
from services.registry.app import app as registry_app
from services.registry.config import RegistrySettings
from tests import harness

CALLS = int(os.environ.get("DYNAMIC_AGENTS_TEST_ROUTER_CALLS", "5000"))
AT_ONCE = 32
ROUNDS = 10
ALLOWED = 16 * 2**20
"""Bytes by which the second half of the rounds may rise above the first: of 5,000 calls, 7 KB each."""


@asynccontextmanager
async def router(folder: Path, registry: str) -> AsyncIterator[tuple[str, int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"ROUTER_PORT": str(port), "REGISTRY_ADDRESS": registry, "DATA_DIR": str(folder), "LOG_LEVEL": "error"}
    env = {**os.environ, **{f"DYNAMIC_AGENTS_{name}": value for name, value in settings.items()}}
    env["PYTHONPATH"] = str(Path(__file__).parents[2])
    with (folder / "router.log").open("wb") as log:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.router"), env=env, stdout=log, stderr=log
        )
    try:
        await serving(f"127.0.0.1:{port}")
        yield f"127.0.0.1:{port}", child.pid
    finally:
        child.terminate()
        await child.wait()


async def serving(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel, asyncio.timeout(90):
        health: Any = health_pb2_grpc.HealthStub(channel)
        while True:
            try:
                answer = await health.Check(grpc_health.HealthCheckRequest(), wait_for_ready=True)
                if answer.status == grpc_health.HealthCheckResponse.SERVING:
                    return
            except grpc.aio.AioRpcError:
                pass
            await asyncio.sleep(0.1)


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def sockets(pid: int) -> int:
    return sum(is_socket(path) for path in Path(f"/proc/{pid}/fd").iterdir())


def is_socket(path: Path) -> bool:
    try:
        return str(path.readlink()).startswith("socket:")
    except FileNotFoundError:
        return False  # closed meanwhile


def request(kind: Any, number: int) -> Any:
    said = chat_pb2.ChatMessage(role=chat_pb2.ROLE_USER, content=f"Question {number}")
    return kind(model="gpt", messages=[said])


async def whole(stubs: Any, number: int) -> None:
    assert (await stubs.Chat(request(router_service_pb2.ChatRequest, number))).message.content


async def streamed(stubs: Any, number: int) -> None:
    assert [response async for response in stubs.ChatStream(request(router_service_pb2.ChatStreamRequest, number))]


async def cancelled(stubs: Any, number: int) -> None:
    call = stubs.ChatStream(request(router_service_pb2.ChatStreamRequest, number))
    await call.read()
    call.cancel()


async def failed(stubs: Any, number: int) -> None:
    asked = request(router_service_pb2.ChatRequest, number)
    asked.model = "down"
    with pytest.raises(grpc.aio.AioRpcError):
        await stubs.Chat(asked)


async def watched(stubs: Any, number: int) -> None:
    call = stubs.Health()
    await call.write(health_pb2.HealthRequest(watch=health_pb2.HealthWatch()))
    assert (await call.read()).snapshot.deployments
    call.cancel()


KINDS = [whole, whole, whole, whole, streamed, streamed, cancelled, failed, watched]


async def load(stubs: Any, numbers: Any) -> None:
    async def caller() -> None:
        for number in numbers:
            await KINDS[number % len(KINDS)](stubs, number)

    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))


async def configured(channel: grpc.aio.Channel, url: str) -> None:
    configs: Any = router_config_service_pb2_grpc.RouterConfigServiceStub(channel)
    for name, base in (("gpt", url), ("down", "http://127.0.0.1:1/v1")):
        deployment = router_config_pb2.Deployment(
            deployment_id=name, model_group=name, model="openai/chunks-20", api_base=base
        )
        await configs.AddDeployment(router_config_service_pb2.AddDeploymentRequest(deployment=deployment))
    at_once = router_config_service_pb2.UpdateRouterConfigRequest(
        router_config=router_config_pb2.RouterConfig(num_retries=0), update_mask=FieldMask(paths=["num_retries"])
    )
    await configs.UpdateRouterConfig(at_once)


@pytest.mark.timeout(600 + CALLS // 50)
async def test_memory_and_sockets_stay_flat(make_settings: Callable[..., Any], tmp_path: Path) -> None:
    async with (
        provider.started() as url,
        harness.running(registry_app, make_settings(RegistrySettings)) as (registry, configs),
    ):
        await configured(configs, url)
        async with router(tmp_path, registry.address) as (address, pid), grpc.aio.insecure_channel(address) as channel:
            stubs: Any = router_service_pb2_grpc.RouterServiceStub(channel)
            await load(stubs, iter(range(CALLS // ROUNDS)))
            found: list[int] = []
            for _ in range(ROUNDS):
                await load(stubs, iter(range(CALLS // ROUNDS)))
                found.append(resident(pid))
            half = ROUNDS // 2
            grown = max(found[half:]) - max(found[:half])
            assert grown < ALLOWED, [size >> 20 for size in found]
            async with asyncio.timeout(30):
                while sockets(pid) > 3 * AT_ONCE:
                    await asyncio.sleep(0.1)
