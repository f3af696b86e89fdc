"""Model groups are those of the router configuration, once it has a deployment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from services.registry.config import RegistrySettings
from services.registry.model import Kind
from tests import harness
from tests.registry_client import OFFLINE, SECRET, Code, Registry, as_tenants, invalid, refused, resource

Make = Callable[..., Any]
AGENT, TEAM, TEMPLATE = Kind.AGENT, Kind.TEAM, Kind.AGENT_TEMPLATE
GONE = {"model": "gone"}
UNKNOWN: list[tuple[Kind, dict[str, Any], str]] = [
    (AGENT, {"model": GONE}, "model.model"),
    (AGENT, {"model": OFFLINE, "reasoning_model": GONE}, "reasoning_model.model"),
    (TEAM, {"model": GONE, "members": [{"agent_id": "member"}]}, "model.model"),
    (TEMPLATE, {"agent": {"model": GONE}}, "agent.model.model"),
]


@pytest.fixture
async def registry(make_settings: Make, database_settings: dict[str, Any]) -> AsyncIterator[Registry]:
    async with harness.registry(make_settings(RegistrySettings, **database_settings)) as (_, channel):
        made = Registry(channel)
        await made.member()
        yield made


def deployment(group: str) -> dict[str, str]:
    return {"deployment_id": group.replace("/*", ""), "model_group": group, "model": "openai/x"}


async def deploy(registry: Registry, *groups: str) -> None:
    for group in groups:
        await registry.call("AddDeployment", deployment=deployment(group))


async def test_without_deployments_every_group_is_taken(registry: Registry) -> None:
    for kind, spec, _ in UNKNOWN:
        await registry.create(kind, "taken" if kind is not AGENT else f"taken-{len(spec)}", spec=spec)


async def test_a_group_that_there_is_not(registry: Registry) -> None:
    await deploy(registry, "gpt-4o", "claude")
    for kind, spec, field in UNKNOWN:
        await registry.create(kind, f"there-{field[0]}")
        assert await invalid(registry.create(kind, "new", spec=spec)) == [f"{kind}.spec.{field}"]
        assert await invalid(registry.create(kind, "new", spec=spec, validate_only=True)) == [f"{kind}.spec.{field}"]
        assert await invalid(registry.update(kind, f"there-{field[0]}", spec=spec)) == [f"{kind}.spec.{field}"]
        assert (await registry.get(kind, f"there-{field[0]}")).revision == 1


async def test_the_near_names_are_told(registry: Registry) -> None:
    await deploy(registry, "gpt-4o", "claude")
    spec = {"model": {"model": "gpt4o"}}
    error = await refused(registry.create(AGENT, "a", spec=spec), Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert "'gpt4o'" in str(error.details())
    assert "gpt-4o" in str(error.details())


async def test_groups_that_there_are(registry: Registry) -> None:
    await deploy(registry, "gpt-4o", "gpt-5")
    aliases = {"default": "gpt-4o"}
    await registry.call(
        "UpdateRouterConfig", router_config={"model_group_aliases": aliases}, update_mask="modelGroupAliases"
    )
    for number, group in enumerate(("gpt-4o", "offline", "default", "gpt-5")):
        await registry.create(AGENT, f"a{number}", spec={"model": {"model": group}})
    made = await registry.call("CreateAgentFromTemplate", template_id="balanced", overrides={"agent_id": "b"})
    assert made.agent.spec.model.model == "default"


async def test_all_that_is_wrong_is_named_at_once(registry: Registry) -> None:
    await deploy(registry, "gpt-4o")
    spec = {"model": GONE, "reasoning_model": GONE, "mcp_server_ids": ["none"]}
    assert sorted(await invalid(registry.create(AGENT, "a", spec=spec))) == [
        "agent.spec.mcp_server_ids[0]",
        "agent.spec.model.model",
        "agent.spec.reasoning_model.model",
    ]


async def test_a_group_that_was_removed_holds_up_no_other_change(registry: Registry) -> None:
    await deploy(registry, "gone", "other")
    await registry.create(AGENT, "x", spec={"model": GONE})
    await registry.call("RemoveDeployment", deployment_id="gone")
    assert (await registry.update(AGENT, display_name="New")).revision == 2
    assert (await registry.update(AGENT, spec={"model": {**GONE, "temperature": 1}})).revision == 3
    assert (await registry.update(AGENT, spec={"model": {"model": "other"}})).revision == 4
    assert await invalid(registry.update(AGENT, spec={"model": GONE})) == ["agent.spec.model.model"]
    assert await invalid(registry.rollback(AGENT, 3)) == ["agent.spec.model.model"]
    await registry.delete(AGENT)
    assert await invalid(registry.create(AGENT, spec={"model": GONE})) == ["agent.spec.model.model"]


async def test_a_bundle_is_checked_against_what_it_makes(registry: Registry) -> None:
    await deploy(registry, "old")
    config = {"router_config": {"deployments": [deployment("new")]}}
    using = {"agent": resource(AGENT, "using", spec={"model": {"model": "new"}})}
    used = {"agent": resource(AGENT, "used", spec={"model": {"model": "old"}})}
    assert await invalid(registry.apply(using)) == ["resources[0].agent.spec.model.model"]
    assert await invalid(registry.apply(used, config)) == ["resources[0].agent.spec.model.model"]
    await registry.apply(used)
    done = await registry.apply(using, used, config)
    assert dict(done) == {"using": "CREATED", "used": "UNCHANGED", "default": "UPDATED"}


async def test_the_groups_of_another_tenant_do_not_count(
    make_settings: Make, database_settings: dict[str, Any]
) -> None:
    settings = make_settings(RegistrySettings, **database_settings, jwt_secret=SECRET)
    async with as_tenants(settings) as (acme, globex):
        await deploy(acme, "gpt-4o")
        await globex.create(AGENT, "a", spec={"model": GONE})
        await deploy(globex, "claude")
        assert await invalid(globex.create(AGENT, "b", spec={"model": {"model": "gpt-4o"}})) == [
            "agent.spec.model.model"
        ]


# The names of functions


TOOL = Kind.TOOL_DEFINITION
FIELD = "tool_definition.spec.function_name"


def function(name: str = "", **fields: Any) -> dict[str, Any]:
    return {"input_schema": {"type": "object"}, **({"function_name": name} if name else {}), **fields}


async def test_no_two_functions_have_one_name(registry: Registry) -> None:
    await registry.create(TOOL, "one", spec=function("look_up"))
    error = await refused(
        registry.create(TOOL, "two", spec=function("look_up")), Code.INVALID_ARGUMENT, "INVALID_FIELD"
    )
    assert harness.fields_of(error) == [FIELD]
    assert "'one'" in str(error.details())
    await registry.create(TOOL, "two", spec=function())
    assert await invalid(registry.update(TOOL, "two", spec=function("look_up"))) == [FIELD]
    assert await invalid(registry.update(TOOL, "one", spec=function("two"))) == [FIELD]
    assert (await registry.update(TOOL, "one", display_name="One")).revision == 2
    assert (await registry.update(TOOL, "one", spec=function("look_up", read_only=True))).revision == 3


async def test_a_name_that_was_given_up_is_free(registry: Registry) -> None:
    await registry.create(TOOL, "one", spec=function("look_up"))
    await registry.create(TOOL, "two", spec=function("other"))
    await registry.update(TOOL, "one", spec=function("look_down"))
    assert (await registry.update(TOOL, "two", spec=function("look_up"))).revision == 2
    await registry.delete(TOOL, "two")
    assert (await registry.update(TOOL, "one", spec=function("look_up"))).revision == 3
    assert await invalid(registry.create(TOOL, "two", spec=function("look_up"))) == [FIELD]


async def test_names_within_a_bundle(registry: Registry) -> None:
    def of(resource_id: str, name: str = "") -> dict[str, Any]:
        return {"tool_definition": resource(TOOL, resource_id, spec=function(name))}

    twice = await invalid(registry.apply(of("one", "look_up"), of("two", "look_up")))
    assert sorted(twice) == [f"resources[0].{FIELD}", f"resources[1].{FIELD}"]
    assert await registry.export(kinds=["RESOURCE_KIND_TOOL_DEFINITION"]) == []
    await registry.apply(of("one", "a"), of("two", "b"))
    assert await invalid(registry.apply(of("three", "a"))) == [f"resources[0].{FIELD}"]
    assert dict(await registry.apply(of("one", "b"), of("two", "a"))) == {"one": "UPDATED", "two": "UPDATED"}


async def test_one_of_many_gets_the_name(make_settings: Make, database_settings: dict[str, Any]) -> None:
    """Through two servers on one database, as two replicas."""
    settings = make_settings(RegistrySettings, **database_settings)
    async with harness.registry(settings) as (_, one), harness.registry(settings) as (_, two):
        both = Registry(one), Registry(two)
        calls = [both[n % 2].create(TOOL, f"t{n}", spec=function("look_up")) for n in range(10)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(not isinstance(each, BaseException) for each in done) == 1
        assert len(await both[0].list(TOOL)) == 1
