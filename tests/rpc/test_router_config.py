from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from dynamicagents.registry.v1 import router_config_service_pb2, router_config_service_pb2_grpc
from dynamicagents.registry.v1.watch_service_pb2_grpc import WatchServiceStub
from dynamicagents.router.v1 import router_service_pb2, router_service_pb2_grpc
from google.rpc import error_details_pb2
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from libs import identity
from services.registry.app import app as registry_app
from services.registry.config import RegistrySettings
from services.router.app import app as router_app
from services.router.config import RouterSettings
from services.router.gateways.registry import RegistryGateway
from tests import harness, router_bench
from tests.router_bench import Bench


@pytest.fixture
async def bench(make_settings: Callable[..., Any]) -> AsyncIterator[Bench]:
    async with router_bench.running(make_settings) as made:
        yield made


async def models(bench: Bench) -> dict[str, list[str]]:
    answer = await bench.stubs.ListModels(router_service_pb2.ListModelsRequest())
    return {group.model: list(group.deployment_models) for group in answer.models}


async def becomes(bench: Bench, expected: dict[str, list[str]]) -> None:
    async with asyncio.timeout(60):
        while await models(bench) != expected:
            await asyncio.sleep(0.01)


OFFLINE = {"offline": ["offline/demo"]}


async def test_no_configuration_yet(bench: Bench) -> None:
    assert await models(bench) == OFFLINE


async def test_unknown_group(bench: Bench) -> None:
    await bench.add()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await bench.chat(model="nosuch")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    info = harness.detail(harness.status_of(caught.value), error_details_pb2.ErrorInfo)
    assert (info.reason, dict(info.metadata)) == (
        "MODEL_GROUP_UNKNOWN",
        {"model_group": "nosuch", "known": "gpt,offline"},
    )


async def test_a_change_reaches_the_next_calls(bench: Bench) -> None:
    assert await models(bench) == OFFLINE
    await bench.add()
    await becomes(bench, {**OFFLINE, "gpt": ["openai/gpt-4o"]})
    assert (await bench.stream())[-1].answered_by.deployment_id == "main"
    await bench.add("second", model="openai/gpt-4.1")
    await becomes(bench, {**OFFLINE, "gpt": ["openai/gpt-4o", "openai/gpt-4.1"]})
    remove = router_config_service_pb2.RemoveDeploymentRequest
    await bench.configs.RemoveDeployment(remove(deployment_id="main"))
    await bench.configs.RemoveDeployment(remove(deployment_id="second"))
    await becomes(bench, OFFLINE)


async def test_last_table_serves_while_registry_is_away(bench: Bench, make_settings: Callable[..., Any]) -> None:
    await bench.add()
    await bench.stream()
    await bench.stop_registry.aclose()
    assert "".join(c.text for c in await bench.stream()) == "Hello from upstream"
    settings = make_settings(RegistrySettings, port=bench.registry.port)
    async with harness.running(registry_app, settings) as (_, channel):
        bench.configs = router_config_service_pb2_grpc.RouterConfigServiceStub(channel)
        await bench.add("second", model_group="other")
        await becomes(bench, {**OFFLINE, "gpt": ["openai/gpt-4o"], "other": ["openai/gpt-4o"]})


async def test_registry_that_was_never_there(make_settings: Callable[..., Any]) -> None:
    await router_bench.library()
    settings = make_settings(RouterSettings, registry_address="127.0.0.1:1")
    async with harness.running(router_app, settings) as (_, channel):
        stub = router_service_pb2_grpc.RouterServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ListModels(router_service_pb2.ListModelsRequest(), timeout=20)
        info = harness.detail(harness.status_of(caught.value), error_details_pb2.ErrorInfo)
        assert (caught.value.code(), info.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE")
        assert info.metadata["service"] == "registry"


async def test_token_that_is_not_taken_leads_to_a_snapshot(bench: Bench, make_settings: Callable[..., Any]) -> None:
    """A Registry with another history: the token of the old one is none of its own."""
    await bench.add()
    await bench.add("second")
    await models(bench)
    await bench.stop_registry.aclose()
    settings = make_settings(RegistrySettings, port=bench.registry.port, data_dir=bench.settings.data_dir / "other")
    async with harness.running(registry_app, settings):
        await becomes(bench, OFFLINE)


async def test_tenants_beyond_the_limit_are_forgotten(bench: Bench) -> None:
    async with (
        grpc.aio.insecure_channel(bench.registry.address) as channel,
        RegistryGateway(WatchServiceStub(channel), limit=2) as gateway,
    ):
        for tenant in ("a", "b", "c", "a", "c"):
            await gateway.table(identity.Caller(tenant, "test", frozenset()))
        assert list(gateway._followers) == ["a", "c"]


async def test_watch_is_in_no_callers_trace(make_settings: Callable[..., Any]) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with router_bench.running(make_settings, provider) as bench:
        await bench.add()
        await bench.stream()
        traced = [metadata.get("traceparent", "") for metadata in bench.secrets.metadata]
    traces: dict[str, set[int]] = {}
    for span in exporter.get_finished_spans():
        traces.setdefault(span.name.strip("/"), set()).add(span.context.trace_id)
    (chat,) = traces["dynamicagents.router.v1.RouterService/ChatStream"]
    assert traces["dynamicagents.secrets.v1.SecretsService/ResolveReferences"] == {chat}
    assert traced[0].split("-")[1] == f"{chat:032x}"
    assert chat not in traces.get("dynamicagents.registry.v1.WatchService/Watch", set())
