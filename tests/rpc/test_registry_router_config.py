from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import pytest
from dynamicagents.registry.v1 import router_config_pb2, router_config_service_pb2_grpc
from dynamicagents.registry.v1.router_config_service_pb2 import (
    AddDeploymentRequest,
    GetRouterConfigRequest,
    RemoveDeploymentRequest,
    UpdateRouterConfigRequest,
)
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2
from structlog.testing import capture_logs

from services.registry.app import app
from services.registry.config import RegistrySettings
from tests import harness

Stub: TypeAlias = "router_config_service_pb2_grpc.RouterConfigServiceAsyncStub"
Code = grpc.StatusCode
KEY = "sk-hunter2hunter2hunter2"


@pytest.fixture
async def configs(make_settings: Callable[..., Any], database_settings: dict[str, Any]) -> AsyncIterator[Stub]:
    async with harness.registry(make_settings(RegistrySettings, **database_settings)) as (_, channel):
        yield router_config_service_pb2_grpc.RouterConfigServiceStub(channel)


def deployment(deployment_id: str = "", **fields: Any) -> router_config_pb2.Deployment:
    return router_config_pb2.Deployment(
        **{"deployment_id": deployment_id, "model_group": "gpt-4o", "model": "openai/gpt-4o", **fields}
    )


async def add(configs: Stub, deployment_id: str = "", **fields: Any) -> router_config_pb2.RouterConfig:
    request = AddDeploymentRequest(deployment=deployment(deployment_id, **fields))
    return (await configs.AddDeployment(request)).router_config


async def current(configs: Stub) -> router_config_pb2.RouterConfig:
    return (await configs.GetRouterConfig(GetRouterConfigRequest())).router_config


def update(config: router_config_pb2.RouterConfig, *paths: str) -> UpdateRouterConfigRequest:
    return UpdateRouterConfigRequest(router_config=config, update_mask=FieldMask(paths=paths))


def ids(config: router_config_pb2.RouterConfig) -> list[str]:
    return [one.deployment_id for one in config.deployments]


async def failure(call: Awaitable[Any], code: grpc.StatusCode, reason: str) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert (caught.value.code(), harness.reason_of(caught.value)) == (code, reason)
    return caught.value


async def invalid_fields(call: Awaitable[Any]) -> list[str]:
    return harness.fields_of(await failure(call, Code.INVALID_ARGUMENT, "INVALID_FIELD"))


async def test_empty_at_first(configs: Stub) -> None:
    config = await current(configs)
    assert (config.revision, ids(config), config.HasField("update_time")) == (0, [], False)


async def test_added_deployment(configs: Stub) -> None:
    given = deployment(
        "one",
        api_base="http://127.0.0.1:1/v1",
        api_key_reference="secret:openai:api_key",
        weight=0.0,
        labels={"a": "b"},
    )
    reply = await configs.AddDeployment(AddDeploymentRequest(deployment=given))
    assert reply.deployment == given
    assert reply.deployment.HasField("weight")
    assert list(reply.router_config.deployments) == [given]
    assert reply.router_config.revision == 1
    assert await current(configs) == reply.router_config


async def test_server_chooses_ids(configs: Stub) -> None:
    one, two = ids(await add(configs)), ids(await add(configs))
    assert two[:1] == one
    assert len(set(two)) == 2


async def test_taken_id(configs: Stub) -> None:
    before = await add(configs, "one")
    error = await failure(add(configs, "one", model="openai/other"), Code.ALREADY_EXISTS, "RESOURCE_EXISTS")
    info = harness.detail(harness.status_of(error), error_details_pb2.ResourceInfo)
    assert (info.resource_type, info.resource_name) == ("deployment", "one")
    assert await current(configs) == before


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"deployment_id": "Bad Id"}, "deployment.deployment_id"),
        ({"model_group": ""}, "deployment.model_group"),
        ({"model_group": "offline"}, "deployment.model_group"),
        ({"model": "gpt-4o"}, "deployment.model"),
        ({"api_base": "ftp://x"}, "deployment.api_base"),
        ({"weight": -1.0}, "deployment.weight"),
        ({"weight": float("nan")}, "deployment.weight"),
        ({"labels": {"a": "\0"}}, "router_config.spec.deployments[0].labels.a"),
    ],
)
async def test_bad_deployments(configs: Stub, fields: dict[str, Any], field: str) -> None:
    assert await invalid_fields(add(configs, **fields)) == [field]
    assert (await current(configs)).revision == 0


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"api_key_reference": KEY}, "api_key_reference"),
        ({"api_key_reference": KEY * 100}, "api_key_reference"),
        ({"api_base": f"https://me:{KEY}@example.org"}, "api_base"),
        ({"api_base": f"https://example.org?key={KEY}"}, "api_base"),
    ],
)
async def test_keys_are_refused_and_repeated_nowhere(
    make_settings: Callable[..., Any], fields: dict[str, Any], field: str
) -> None:
    settings = make_settings(RegistrySettings)
    with capture_logs() as log:
        async with harness.running(app, settings) as (_, channel):
            configs = router_config_service_pb2_grpc.RouterConfigServiceStub(channel)
            config = router_config_pb2.RouterConfig(deployments=[deployment("one", **fields)])
            for call, path in (
                (configs.AddDeployment(AddDeploymentRequest(deployment=deployment(**fields))), "deployment"),
                (configs.UpdateRouterConfig(update(config, "deployments")), "router_config.deployments[0]"),
            ):
                error = await failure(call, Code.INVALID_ARGUMENT, "INVALID_FIELD")
                assert harness.fields_of(error) == [f"{path}.{field}"]
                assert "hunter2" not in repr(error) + str(harness.status_of(error))
            assert (await current(configs)).revision == 0
    assert "AddDeployment" in str(log)
    assert "hunter2" not in str(log)
    assert not [path for path in settings.data_dir.iterdir() if b"hunter2" in path.read_bytes()]


async def test_removed_deployment(configs: Stub) -> None:
    await add(configs, "one")
    await add(configs, "two")
    left = (await configs.RemoveDeployment(RemoveDeploymentRequest(deployment_id="one"))).router_config
    assert (ids(left), left.revision) == (["two"], 3)
    error = await failure(
        configs.RemoveDeployment(RemoveDeploymentRequest(deployment_id="one")), Code.NOT_FOUND, "RESOURCE_NOT_FOUND"
    )
    assert harness.detail(harness.status_of(error), error_details_pb2.ResourceInfo).resource_name == "one"
    assert await invalid_fields(configs.RemoveDeployment(RemoveDeploymentRequest())) == ["deployment_id"]


async def test_add_is_safe_to_repeat(configs: Stub) -> None:
    request = AddDeploymentRequest(deployment=deployment(), request_id="once")
    first = await configs.AddDeployment(request)
    await add(configs, "between")
    assert await configs.AddDeployment(request) == first
    assert [one for one in ids(await current(configs)) if one != "between"] == [first.deployment.deployment_id]


async def test_remove_is_safe_to_repeat(configs: Stub) -> None:
    await add(configs, "one")
    request = RemoveDeploymentRequest(deployment_id="one", request_id="once")
    first = await configs.RemoveDeployment(request)
    await add(configs, "one")
    assert await configs.RemoveDeployment(request) == first
    assert ids(await current(configs)) == ["one"]


async def test_a_request_id_is_of_one_request(configs: Stub) -> None:
    await configs.AddDeployment(AddDeploymentRequest(deployment=deployment("one"), request_id="once"))
    others: list[Awaitable[Any]] = [
        configs.AddDeployment(AddDeploymentRequest(deployment=deployment("two"), request_id="once")),
        configs.RemoveDeployment(RemoveDeploymentRequest(deployment_id="one", request_id="once")),
    ]
    for call in others:
        error = await failure(call, Code.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
        assert harness.fields_of(error) == ["request_id"]
    assert ids(await current(configs)) == ["one"]


async def test_a_request_that_failed_may_come_again(configs: Stub) -> None:
    request = AddDeploymentRequest(deployment=deployment("one"), request_id="once")
    await add(configs, "one")
    await failure(configs.AddDeployment(request), Code.ALREADY_EXISTS, "RESOURCE_EXISTS")
    await configs.RemoveDeployment(RemoveDeploymentRequest(deployment_id="one"))
    assert (await configs.AddDeployment(request)).router_config.revision == 3


async def test_repeated_at_once(make_settings: Callable[..., Any], database_settings: dict[str, Any]) -> None:
    """Through two servers on one database, as two replicas."""
    settings = make_settings(RegistrySettings, **database_settings)
    async with harness.registry(settings) as (_, one), harness.registry(settings) as (_, two):
        stubs = [router_config_service_pb2_grpc.RouterConfigServiceStub(channel) for channel in (one, two)]
        request = AddDeploymentRequest(deployment=deployment(), request_id="once")
        replies = await asyncio.gather(*(stubs[n % 2].AddDeployment(request) for n in range(10)))
        assert len({reply.deployment.deployment_id for reply in replies}) == 1
        assert len(ids(await current(stubs[0]))) == 1


async def test_every_field_can_be_changed(configs: Stub) -> None:
    await add(configs, "one")
    group = (await current(configs)).deployments[0].model_group
    patch = router_config_pb2.RouterConfig(model_group_aliases={"default": group}, disable_cooldowns=True)
    after = (await configs.UpdateRouterConfig(update(patch, "model_group_aliases", "disable_cooldowns"))).router_config
    assert (dict(after.model_group_aliases), after.disable_cooldowns) == ({"default": group}, True)
    assert await current(configs) == after


async def test_update(configs: Stub) -> None:
    await add(configs, "one")
    patch = router_config_pb2.RouterConfig(num_retries=0, timeout=Duration(seconds=5), deployments=[deployment()])
    after = (await configs.UpdateRouterConfig(update(patch, "num_retries", "timeout"))).router_config
    assert (ids(after), after.num_retries, after.timeout.seconds, after.revision) == (["one"], 0, 5, 2)
    assert after.HasField("num_retries")
    assert (await configs.UpdateRouterConfig(update(after, "num_retries", "timeout"))).router_config == after
    cleared = (await configs.UpdateRouterConfig(update(router_config_pb2.RouterConfig(), "num_retries"))).router_config
    assert not cleared.HasField("num_retries")
    assert cleared.HasField("timeout")
    replaced = (await configs.UpdateRouterConfig(update(patch, "deployments"))).router_config
    assert len(replaced.deployments) == 1
    assert ids(replaced) not in (["one"], [""])


@pytest.mark.parametrize("path", ["revision", "etag", "nonsense", "deployments.model", "timeout.seconds"])
async def test_bad_mask(configs: Stub, path: str) -> None:
    request = update(router_config_pb2.RouterConfig(), path)
    assert await invalid_fields(configs.UpdateRouterConfig(request)) == ["update_mask"]


async def test_bad_update(configs: Stub) -> None:
    twice = router_config_pb2.RouterConfig(deployments=[deployment("one"), deployment("one")])
    fields = await invalid_fields(configs.UpdateRouterConfig(update(twice, "deployments")))
    assert fields == ["router_config.deployments[1].deployment_id"]
    slow = router_config_pb2.RouterConfig(num_retries=11)
    assert await invalid_fields(configs.UpdateRouterConfig(update(slow, "num_retries"))) == [
        "router_config.num_retries"
    ]


async def test_etags(configs: Stub) -> None:
    one = await add(configs, "one")
    two = await add(configs, "two")
    patch = router_config_pb2.RouterConfig(num_retries=1, etag=one.etag)
    error = await failure(configs.UpdateRouterConfig(update(patch, "num_retries")), Code.ABORTED, "STALE_ETAG")
    metadata = harness.detail(harness.status_of(error), error_details_pb2.ErrorInfo).metadata
    assert metadata["current_etag"] == two.etag
    patch.etag = two.etag
    assert (await configs.UpdateRouterConfig(update(patch, "num_retries"))).router_config.revision == 3


async def test_concurrent_adds_all_land(make_settings: Callable[..., Any], database_settings: dict[str, Any]) -> None:
    """Through two servers on one database, as two replicas."""
    settings = make_settings(RegistrySettings, **database_settings)
    async with harness.registry(settings) as (_, one), harness.registry(settings) as (_, two):
        stubs = [router_config_service_pb2_grpc.RouterConfigServiceStub(channel) for channel in (one, two)]
        await asyncio.gather(*(add(stubs[n % 2], f"d-{n}") for n in range(40)))
        config = await current(stubs[0])
    assert sorted(ids(config)) == sorted(f"d-{n}" for n in range(40))
    assert config.revision == 40
