from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from dynamicagents.registry.v1 import router_config_pb2, router_config_service_pb2
from dynamicagents.router.v1 import health_pb2, router_service_pb2_grpc
from google.protobuf import field_mask_pb2

from services.router.app import app as router_app
from tests import harness, router_bench
from tests.openai_server import Reply
from tests.router_bench import Bench

HEALTHY, DEGRADED = health_pb2.HEALTH_STATE_HEALTHY, health_pb2.HEALTH_STATE_DEGRADED
COOLING, UNHEALTHY = health_pb2.HEALTH_STATE_COOLING_DOWN, health_pb2.HEALTH_STATE_UNHEALTHY
UNKNOWN = health_pb2.HEALTH_STATE_UNSPECIFIED
DOWN = Reply(status=500)


@pytest.fixture
async def bench(make_settings: Callable[..., Any]) -> AsyncIterator[Bench]:
    async with router_bench.running(make_settings) as made:
        yield made


class Watcher:
    def __init__(self, stubs: Any) -> None:
        self.call = stubs.Health()
        self.known: dict[str, health_pb2.DeploymentHealth] = {}

    async def say(self, **request: Any) -> None:
        await self.call.write(health_pb2.HealthRequest(**request))

    async def watch(self, **fields: Any) -> health_pb2.HealthSnapshot:
        await self.say(watch=health_pb2.HealthWatch(**fields))
        while True:
            response = await self.read()
            if response.WhichOneof("response") == "snapshot":
                self.known = {d.deployment_id: d for d in response.snapshot.deployments}
                found: health_pb2.HealthSnapshot = response.snapshot
                return found

    async def read(self) -> Any:
        async with asyncio.timeout(60):
            return await self.call.read()

    async def until(self, right: Callable[[health_pb2.DeploymentHealth], bool], name: str = "main") -> Any:
        while name not in self.known or not right(self.known[name]):
            response = await self.read()
            assert response is not grpc.aio.EOF, await self.call.code()
            if response.WhichOneof("response") == "change":
                self.known[response.change.deployment_id] = response.change
        return self.known[name]

    async def ends(self) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self._rest()
        return caught.value

    async def _rest(self) -> None:
        while await self.read() is not grpc.aio.EOF:
            pass


async def configure(bench: Bench, **fields: Any) -> None:
    config = router_config_pb2.RouterConfig(**fields)
    request = router_config_service_pb2.UpdateRouterConfigRequest(
        router_config=config, update_mask=field_mask_pb2.FieldMask(paths=list(fields))
    )
    await bench.configs.UpdateRouterConfig(request)


async def failing(bench: Bench, times: int) -> None:
    for _ in range(times):
        with pytest.raises(grpc.aio.AioRpcError):
            await bench.chat()


async def test_snapshot_and_changes(bench: Bench) -> None:
    await bench.add()
    await bench.add("spare", "other")
    watcher = Watcher(bench.stubs)
    snapshot = await watcher.watch()
    await watcher.until(lambda d: True, "spare")
    snapshot = await watcher.watch()
    assert [(d.deployment_id, d.model_group, d.state) for d in snapshot.deployments] == [
        ("main", "gpt", UNKNOWN),
        ("offline", "offline", UNKNOWN),
        ("spare", "other", UNKNOWN),
    ]
    assert [(g.model_group, g.state, g.available, g.total) for g in snapshot.groups] == [
        ("gpt", UNKNOWN, 1, 1),
        ("offline", UNKNOWN, 1, 1),
        ("other", UNKNOWN, 1, 1),
    ]
    assert snapshot.config_fresh
    assert not snapshot.shared
    await bench.stream()
    good = await watcher.until(lambda d: d.state == HEALTHY and d.requests == 1 and not d.in_flight)
    assert good.circuit == health_pb2.CIRCUIT_STATE_CLOSED
    assert good.latency_p50.ToNanoseconds() > 0
    assert good.latency_p95.ToNanoseconds() >= good.latency_p50.ToNanoseconds()
    assert good.first_token_p50.ToNanoseconds() > 0
    assert good.since.seconds > 0
    watcher.call.cancel()


async def test_circuit_opens_and_closes(bench: Bench) -> None:
    await bench.add()
    await bench.add("spare")
    await configure(bench, allowed_fails=0, cooldown={"seconds": 3}, num_retries=0)
    watcher = Watcher(bench.stubs)
    await watcher.watch(deployment_ids=["main"])
    await watcher.until(lambda d: True)
    bench.provider.reply = DOWN
    await failing(bench, 2)
    opened = await watcher.until(lambda d: d.circuit == health_pb2.CIRCUIT_STATE_OPEN)
    assert (opened.state, opened.failures, opened.last_error) == (COOLING, 1, "UPSTREAM_UNAVAILABLE")
    assert opened.cooldown_until.seconds > 0
    half = await watcher.until(lambda d: d.circuit == health_pb2.CIRCUIT_STATE_HALF_OPEN)
    assert not half.HasField("cooldown_until")
    bench.provider.reply = Reply()
    async with asyncio.timeout(60):
        while watcher.known["main"].requests < 2:
            await bench.chat()
            watcher.known |= {d.deployment_id: d for d in (await watcher.watch(deployment_ids=["main"])).deployments}
    closed = await watcher.until(lambda d: d.circuit == health_pb2.CIRCUIT_STATE_CLOSED)
    assert (closed.state, closed.failures) == (DEGRADED, 1)
    watcher.call.cancel()


async def test_filters_can_change(bench: Bench) -> None:
    await bench.add()
    await bench.add("spare", "other")
    await bench.chat(model="other")
    watcher = Watcher(bench.stubs)
    snapshot = await watcher.watch(model_groups=["other"])
    assert [(d.deployment_id, d.requests) for d in snapshot.deployments] == [("spare", 1)]
    assert [g.model_group for g in snapshot.groups] == ["other"]
    snapshot = await watcher.watch(deployment_ids=["main"])
    assert [d.deployment_id for d in snapshot.deployments] == ["main"]
    watcher.call.cancel()


async def test_client_that_has_no_more_to_say(bench: Bench) -> None:
    await bench.add()
    await bench.chat()
    watcher = Watcher(bench.stubs)
    await watcher.watch()
    await watcher.call.done_writing()
    await bench.chat()
    await watcher.until(lambda d: d.requests == 2)
    watcher.call.cancel()


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"probe": health_pb2.HealthProbe()}, "watch"),
        ({}, "request"),
        ({"watch": health_pb2.HealthWatch(heartbeat_interval={"nanos": 1000})}, "watch.heartbeat_interval"),
    ],
)
async def test_bad_first_message(bench: Bench, request_: dict[str, Any], field: str) -> None:
    watcher = Watcher(bench.stubs)
    await watcher.say(**request_)
    error = await watcher.ends()
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert harness.fields_of(error) == [field]


async def test_no_message_at_all(bench: Bench) -> None:
    watcher = Watcher(bench.stubs)
    await watcher.call.done_writing()
    assert (await watcher.ends()).code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_bad_report(bench: Bench) -> None:
    watcher = Watcher(bench.stubs)
    await watcher.watch()
    await watcher.say(report=health_pb2.HealthReport(failed=True))
    error = await watcher.ends()
    assert harness.fields_of(error) == ["report.deployment_id"]


async def test_reports(bench: Bench) -> None:
    await bench.add()
    await bench.chat()
    watcher = Watcher(bench.stubs)
    await watcher.watch()
    await watcher.say(report=health_pb2.HealthReport(deployment_id="nobody", failed=True))
    for _ in range(20):
        await watcher.say(report=health_pb2.HealthReport(deployment_id="main", failed=True, reason="useless"))
    told = await watcher.until(lambda d: d.reported_failures == 20)
    assert (told.state, told.circuit, told.failures) == (DEGRADED, health_pb2.CIRCUIT_STATE_CLOSED, 0)
    assert (await bench.chat()).answered_by.deployment_id == "main"
    watcher.call.cancel()


async def test_probe(bench: Bench) -> None:
    await bench.add()
    watcher = Watcher(bench.stubs)
    await watcher.watch(model_groups=["gpt"])
    await watcher.until(lambda d: True)
    for _ in range(3):
        await watcher.say(probe=health_pb2.HealthProbe())
    assert (await watcher.until(lambda d: d.state == HEALTHY and d.requests > 0)).requests == 1
    (asked,) = bench.provider.asked
    assert asked.body["max_tokens"] == 1
    watcher.call.cancel()


async def test_removed(bench: Bench) -> None:
    await bench.add()
    await bench.add("spare")
    watcher = Watcher(bench.stubs)
    await watcher.watch()
    await watcher.until(lambda d: True, "spare")
    await bench.configs.RemoveDeployment(router_config_service_pb2.RemoveDeploymentRequest(deployment_id="spare"))
    assert (await watcher.until(lambda d: d.removed, "spare")).model_group == "gpt"
    assert "spare" not in {d.deployment_id for d in (await watcher.watch()).deployments}
    watcher.call.cancel()


async def test_registry_away(bench: Bench) -> None:
    await bench.add()
    watcher = Watcher(bench.stubs)
    assert (await watcher.watch(heartbeat_interval={"seconds": 1})).config_fresh
    await bench.stop_registry.aclose()
    while True:
        response = await watcher.read()
        if response.WhichOneof("response") == "heartbeat" and not response.heartbeat.config_fresh:
            break
    assert not (await watcher.watch()).config_fresh
    assert (await bench.chat()).message.content
    watcher.call.cancel()


async def test_draining(bench: Bench) -> None:
    watcher = Watcher(bench.stubs)
    await watcher.watch()
    bench.server.drain.start()
    error = await watcher.ends()
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert harness.reason_of(error) == "SHUTTING_DOWN"


async def test_too_many_watchers(make_settings: Callable[..., Any]) -> None:
    async with router_bench.running(make_settings, max_health_watchers=1) as bench:
        first = Watcher(bench.stubs)
        await first.watch()
        error = await Watcher(bench.stubs).ends()
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        first.call.cancel()


async def test_hundreds_of_watchers_see_it(bench: Bench) -> None:
    await bench.add()
    await bench.chat()
    watchers = [Watcher(bench.stubs) for _ in range(300)]
    await asyncio.gather(*(watcher.watch() for watcher in watchers))
    bench.provider.reply = DOWN
    await configure(bench, num_retries=0)
    await failing(bench, 1)
    await asyncio.gather(*(watcher.until(lambda d: d.failures == 1) for watcher in watchers))
    for watcher in watchers:
        watcher.call.cancel()


async def test_three_replicas_agree(make_settings: Callable[..., Any], redis_url: str) -> None:
    shared = {"redis_url": redis_url, "redis_prefix": f"test-{uuid.uuid4().hex}:"}
    async with router_bench.running(make_settings, **shared) as bench, AsyncExitStack() as stack:
        await bench.add()
        await configure(bench, num_retries=0)
        replicas = [bench.stubs]
        for _ in range(2):
            _, channel = await stack.enter_async_context(harness.running(router_app, bench.settings))
            replicas.append(router_service_pb2_grpc.RouterServiceStub(channel))
        watchers = [Watcher(stubs) for stubs in replicas]
        for watcher in watchers:
            while not (await watcher.watch(heartbeat_interval={"seconds": 1})).shared:
                await watcher.read()
            await watcher.until(lambda d: True)
        bench.provider.reply = DOWN
        await failing(bench, 5)
        for watcher in watchers:
            seen = await watcher.until(lambda d: d.failures == 5)
            assert (seen.requests, seen.last_error) == (5, "UPSTREAM_UNAVAILABLE")
            await watcher.until(lambda d: d.state in (UNHEALTHY, COOLING))
        for watcher in watchers:
            watcher.call.cancel()


async def test_redis_away(make_settings: Callable[..., Any]) -> None:
    async with router_bench.running(make_settings, redis_url="redis://127.0.0.1:1/0") as bench:
        await bench.add()
        assert (await bench.chat()).message.content
        watcher = Watcher(bench.stubs)
        snapshot = await watcher.watch()
        assert not snapshot.shared
        assert {d.deployment_id: d.requests for d in snapshot.deployments}["main"] == 1
        watcher.call.cancel()
