"""A Registry that has its router configurations tried out by a Router."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from dynamicagents.registry.v1 import router_config_pb2, router_config_service_pb2, router_config_service_pb2_grpc

from services.registry.config import RegistrySettings
from services.router.app import app as router_app
from services.router.config import RouterSettings
from tests import harness, router_bench

Stub = Any
DIRECT = router_config_pb2.UPSTREAM_LANE_DIRECT


@pytest.fixture
async def router(make_settings: Callable[..., Any]) -> AsyncIterator[str]:
    await router_bench.library()
    settings = make_settings(RouterSettings, registry_address="127.0.0.1:1", secrets_address="127.0.0.1:1")
    async with harness.running(router_app, settings) as (server, _):
        yield server.address


def adding(deployment_id: str, **fields: Any) -> router_config_service_pb2.AddDeploymentRequest:
    given = {"deployment_id": deployment_id, "model_group": "g", "model": "openai/gpt-4o", **fields}
    return router_config_service_pb2.AddDeploymentRequest(deployment=router_config_pb2.Deployment(**given))


async def current(stub: Stub) -> router_config_pb2.RouterConfig:
    return (await stub.GetRouterConfig(router_config_service_pb2.GetRouterConfigRequest())).router_config


async def test_what_the_router_refuses_is_not_saved(make_settings: Callable[..., Any], router: str) -> None:
    async with harness.registry(make_settings(RegistrySettings, router_address=router)) as (_, channel):
        stub = router_config_service_pb2_grpc.RouterConfigServiceStub(channel)
        await stub.AddDeployment(adding("a"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.AddDeployment(adding("b", model="bedrock/x", lane=DIRECT))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert harness.fields_of(caught.value) == ["router_config.deployments[1]"]
        assert [d.deployment_id for d in (await current(stub)).deployments] == ["a"]


async def test_a_rollback_is_tried_out_too(make_settings: Callable[..., Any], router: str) -> None:
    async with harness.registry(make_settings(RegistrySettings)) as (_, channel):
        stub = router_config_service_pb2_grpc.RouterConfigServiceStub(channel)
        await stub.AddDeployment(adding("a", model="bedrock/x", lane=DIRECT))
        await stub.AddDeployment(adding("b"))
        await stub.RemoveDeployment(router_config_service_pb2.RemoveDeploymentRequest(deployment_id="a"))
    async with harness.registry(make_settings(RegistrySettings, router_address=router)) as (_, channel):
        stub = router_config_service_pb2_grpc.RouterConfigServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.RollbackRouterConfig(router_config_service_pb2.RollbackRouterConfigRequest(revision=1))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (await current(stub)).revision == 3


async def test_without_a_router_it_is_saved_with_a_warning(
    make_settings: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    async with harness.registry(make_settings(RegistrySettings, router_address="127.0.0.1:1")) as (_, channel):
        stub = router_config_service_pb2_grpc.RouterConfigServiceStub(channel)
        await stub.AddDeployment(adding("a", model="bedrock/x", lane=DIRECT))
        assert (await current(stub)).revision == 1
    assert "router configuration not tried" in capsys.readouterr().out
