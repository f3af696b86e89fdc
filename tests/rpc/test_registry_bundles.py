"""Many resources at once, in and out."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from dynamicagents.registry.v1.bundle_service_pb2 import ApplyBundleRequest
from google.protobuf.json_format import MessageToDict

from services.registry.config import RegistrySettings
from services.registry.model import Kind
from tests import harness
from tests.registry_client import (
    OFFLINE,
    SECRET,
    Code,
    Registry,
    action,
    as_tenants,
    invalid,
    missing,
    plain,
    refused,
    resource,
    team,
)

Make = Callable[..., Any]
AGENT, TEAM = Kind.AGENT, Kind.TEAM
DEPLOYMENT = {"deployment_id": "d", "model_group": "gpt-4o", "model": "openai/gpt-4o"}


@pytest.fixture
def settings(make_settings: Make, database_settings: dict[str, Any]) -> RegistrySettings:
    made: RegistrySettings = make_settings(RegistrySettings, **database_settings)
    return made


@pytest.fixture
async def registry(settings: RegistrySettings) -> AsyncIterator[Registry]:
    async with harness.registry(settings) as (_, channel):
        yield Registry(channel)


def of(kind: Kind, resource_id: str, /, **fields: Any) -> dict[str, Any]:
    return {kind.value: resource(kind, resource_id, **fields)}


def everything() -> list[dict[str, Any]]:
    """One of each kind, those that refer to others first."""
    others = [of(kind, "x", labels={"set": "a"}) for kind in reversed(Kind) if kind is not Kind.ROUTER_CONFIG]
    config = {"router_config": {"deployments": [DEPLOYMENT], "num_retries": 0, "timeout": "1.5s"}}
    return [*others, config, of(AGENT, "member")]


async def test_any_order_will_do(registry: Registry) -> None:
    done = await registry.apply(*everything())
    assert {made for _, made in done} == {"CREATED"}
    assert len(done) == 11
    assert len(await registry.audit()) == 11
    rule = await registry.get(Kind.EVENT_RULE)
    assert (rule.revision, rule.spec.agent_id, dict(rule.labels)) == (1, "member", {"set": "a"})


async def test_the_second_time_nothing_changes(registry: Registry) -> None:
    await registry.apply(*everything())
    entries = await registry.audit()
    watch = registry.watch()
    token = (await watch.read()).resume_token
    watch.cancel()
    done = await registry.apply(*everything())
    assert {made for _, made in done} == {"UNCHANGED"}
    assert await registry.audit() == entries
    watch = registry.watch()
    assert (await watch.read()).resume_token == token
    watch.cancel()


async def test_differences_and_a_dry_run(registry: Registry) -> None:
    await registry.apply(of(AGENT, "a", display_name="One", labels={"a": "1"}), of(AGENT, "same"))
    before = await registry.export()
    changed = [of(AGENT, "new"), of(AGENT, "same"), of(AGENT, "a", display_name="Two", spec={"model": {"model": "m"}})]
    for dry_run in (True, False):
        reply = await registry.call("ApplyBundle", resources=changed, dry_run=dry_run)
        found = {change.resource_id: change for change in reply.changes}
        done = {name: (action(change), change.revision) for name, change in found.items()}
        assert done == {"a": ("UPDATED", 2), "new": ("CREATED", 1), "same": ("UNCHANGED", 1)}
        differences = {d.path: (plain(d, "base_value"), plain(d, "target_value")) for d in found["a"].differences}
        assert differences == {
            "display_name": ("One", "Two"),
            "labels.a": ("1", ...),
            "spec.model.model": ("offline", "m"),
        }
        assert not found["new"].differences
        assert (await registry.export() == before) == dry_run
        assert len(await registry.audit()) == (2 if dry_run else 4)


async def test_all_or_nothing(registry: Registry) -> None:
    bad: list[tuple[dict[str, Any], str]] = [
        (of(AGENT, "bad", spec={"model": {}}), "agent.spec.model.model"),
        (of(AGENT, "bad", spec={"model": OFFLINE, "mcp_server_ids": ["none"]}), "agent.spec.mcp_server_ids[0]"),
        (of(AGENT, "Bad Id"), "agent.agent_id"),
        (of(AGENT, ""), "agent.agent_id"),
        (of(AGENT, "bad", display_name="a\0b"), "agent.display_name"),
        (of(TEAM, "bad", spec=team("bad", agents=())), "team.spec.members[0].team_id"),
        (of(Kind.TOOL_PROVIDER, "bad", spec={"address": "x:0"}), "tool_provider.spec.address"),
        ({"router_config": {"deployments": [{**DEPLOYMENT, "deployment_id": ""}]}}, "router_config.deployments[0]"),
        ({"kind": "RESOURCE_KIND_AGENT", "resource_id": "bad"}, "resource"),
    ]
    for dry_run in (True, False):
        for resource_, field in bad:
            (found,) = await invalid(registry.apply(of(AGENT, "good"), resource_, of(AGENT, "fine"), dry_run=dry_run))
            assert found.startswith(f"resources[1].{field}"), found
    assert await registry.export() == []
    assert await registry.audit() == []


async def test_a_number_that_json_does_not_know(registry: Registry) -> None:
    request = ApplyBundleRequest()
    agent = request.resources.add().agent
    agent.agent_id, agent.spec.model.model = "a", "offline"
    agent.spec.output_schema.fields["maximum"].number_value = float("nan")
    assert await invalid(registry.call("ApplyBundle", request)) == ["resources[0].agent.spec"]


async def test_the_same_resource_twice(registry: Registry) -> None:
    assert await invalid(registry.apply(of(AGENT, "a"), of(TEAM, "a"), of(AGENT, "a"))) == ["resources[2]"]
    configs = [{"router_config": {"num_retries": number}} for number in (1, 2)]
    assert await invalid(registry.apply(*configs)) == ["resources[1]"]
    assert await registry.export() == []


async def test_the_resource_says_what_it_is(registry: Registry) -> None:
    """Kind, id and revision of the snapshot are those of an export; they are not looked at."""
    odd = {"kind": "RESOURCE_KIND_TEAM", "resource_id": "other", "revision": 7, **of(AGENT, "a")}
    odd["agent"] |= {"revision": "9", "etag": "x", "create_time": "2000-01-01T00:00:00Z"}
    assert await registry.apply(odd) == [("a", "CREATED")]
    assert (await registry.get(AGENT, "a")).revision == 1


async def test_cycles_inside_a_bundle(registry: Registry) -> None:
    teams = [of(TEAM, name, spec=team(inner, agents=())) for name, inner in (("a", "b"), ("b", "c"), ("c", "a"))]
    assert (await invalid(registry.apply(*teams)))[0].startswith("resources[")
    names = [f"t{n:02}" for n in range(18)]
    deep = [
        of(TEAM, name, spec=team(*inner)) for name, inner in zip(names, [*([n] for n in names[1:]), []], strict=True)
    ]
    assert await invalid(registry.apply(*deep, of(AGENT, "member")))
    assert await registry.export() == []
    done = await registry.apply(*deep[2:], of(AGENT, "member"))
    assert len(done) == 17


async def test_a_deleted_one_comes_back(registry: Registry) -> None:
    await registry.apply(of(AGENT, "a"))
    await registry.delete(AGENT, "a")
    reply = await registry.call("ApplyBundle", resources=[of(AGENT, "a")])
    assert [(action(change), change.revision) for change in reply.changes] == [("CREATED", 3)]


# Pruning


async def test_prune_by_label(registry: Registry) -> None:
    mine = {"labels": {"set": "a", "env": "x"}}
    await registry.apply(
        of(AGENT, "kept", **mine), of(AGENT, "gone", **mine), of(AGENT, "member"), of(TEAM, "crew", **mine)
    )
    prune = {"set": "a", "env": "x"}
    assert await registry.apply(of(AGENT, "kept", **mine), prune_labels={**prune, "other": "1"}) == [
        ("kept", "UNCHANGED")
    ]
    expected = [("kept", "UNCHANGED"), ("gone", "DELETED"), ("crew", "DELETED")]
    for dry_run in (True, False):
        done = await registry.apply(of(AGENT, "kept", **mine), prune_labels=prune, dry_run=dry_run)
        assert done == expected
        assert len(await registry.export()) == (4 if dry_run else 2)
    await missing(registry.get(AGENT, "gone"))
    assert len(await registry.audit()) == 6
    assert await registry.apply(of(AGENT, "kept", **mine), prune_labels=prune) == [("kept", "UNCHANGED")]


async def test_what_is_referred_to_is_not_pruned(registry: Registry) -> None:
    mine = {"labels": {"set": "a"}}
    await registry.apply(of(AGENT, "member", **mine), of(TEAM, "crew", **mine), of(TEAM, "outside"))
    before = await registry.export()
    prune = {"set": "a"}
    error = await refused(
        registry.apply(of(AGENT, "new"), prune_labels=prune), Code.FAILED_PRECONDITION, "RESOURCE_REFERENCED"
    )
    assert "team outside" in str(error.details())
    assert "crew" not in str(error.details())  # it would be gone, too
    assert await registry.export() == before
    error = await refused(
        registry.apply(of(TEAM, "crew", **mine), prune_labels=prune), Code.FAILED_PRECONDITION, "RESOURCE_REFERENCED"
    )
    assert "team crew, team outside" in str(error.details())
    await registry.delete(TEAM, "outside")
    assert await registry.apply(prune_labels=prune) == [("member", "DELETED"), ("crew", "DELETED")]


# Out, and in again


def thousand() -> list[dict[str, Any]]:
    """A thousand resources of all kinds, with references and every sort of value."""
    made: list[dict[str, Any]] = [of(AGENT, "member")]
    for n in range(111):
        schema = {"type": "object", "properties": {"n": {"type": "number", "maximum": 10.0**n, "default": -n / 7}}}
        labels = {"n": str(n), "ä b": "é☃"}
        spec = {
            "model": {**OFFLINE, "temperature": n / 111, "seed": str(2**60 + n)},
            "instructions": ["a\nb", "☃" * n],
            "output_schema": {**schema, "enum": [None, True, 1, 1.5, "x", [], {}]},
            "mcp_server_ids": [f"r{n}"],
            "prompt": {"prompt_id": f"r{n}", "variables": {"a": [1, {"b": False}]}},
            "tools": [{"tool_id": f"function/r{n}", "timeout": "0.250s"}],
        }
        made += [
            of(AGENT, f"r{n}", spec=spec, labels=labels, description="x" * n),
            of(TEAM, f"r{n}", spec=team(*[f"r{n - 1}"] if n % 15 else [], agents=(f"r{n}",))),
            of(Kind.WORKFLOW, f"r{n}", spec={"steps": [{"step_id": "a", "team": {"team_id": f"r{n}"}}]}, labels=labels),
            of(Kind.TOOL_DEFINITION, f"r{n}", spec={"input_schema": schema, "timeout": "1s"}),
            *(of(kind, f"r{n}") for kind in (Kind.MCP_SERVER, Kind.TOOL_PROVIDER, Kind.PROMPT, Kind.EVENT_RULE)),
            of(Kind.AGENT_TEMPLATE, f"r{n}"),
        ]
    return [*made[:999], {"router_config": {"deployments": [{**DEPLOYMENT, "weight": 0.1}]}}]


async def test_a_thousand_in_out_and_in_again(make_settings: Make, database_settings: dict[str, Any]) -> None:
    settings = make_settings(RegistrySettings, **database_settings, jwt_secret=SECRET)
    async with as_tenants(settings) as (acme, globex):
        bundle = thousand()
        began = time.monotonic()
        done = await acme.apply(*bundle)
        assert [made for _, made in done] == ["CREATED"] * 1000
        print(f"1,000 resources imported in {time.monotonic() - began:.2f} s")
        exported = await acme.export()
        assert len(exported) == 1000
        names = [(one.WhichOneof("resource"), one.resource_id) for one in exported]
        assert names == sorted(names)
        again = [MessageToDict(one, preserving_proto_field_name=True) for one in exported]
        assert {made for _, made in await acme.apply(*again)} == {"UNCHANGED"}
        assert {made for _, made in await acme.apply(*bundle)} == {"UNCHANGED"}
        assert {made for _, made in await globex.apply(*again)} == {"CREATED"}
        assert [_content(one) for one in await globex.export()] == [_content(one) for one in exported]
        assert {made for _, made in await globex.apply(*again)} == {"UNCHANGED"}
        assert len(await acme.audit()) == 1000
        assert await acme.verified()


def _content(snapshot: Any) -> dict[str, Any]:
    found: dict[str, Any] = MessageToDict(snapshot, preserving_proto_field_name=True)
    for name in ("create_time", "update_time", "etag"):
        found[snapshot.WhichOneof("resource")].pop(name, None)
    return found


async def test_export_of_some(registry: Registry) -> None:
    await registry.apply(*everything())
    some = await registry.export(kinds=["RESOURCE_KIND_TEAM", "RESOURCE_KIND_ROUTER_CONFIG"])
    assert [(one.WhichOneof("resource"), one.resource_id) for one in some] == [
        ("router_config", "default"),
        ("team", "x"),
    ]
    labelled = await registry.export(labels={"set": "a"})
    assert len(labelled) == 9
    assert await registry.export(labels={"set": "b"}) == []
    assert await invalid(registry.export(kinds=["RESOURCE_KIND_UNSPECIFIED"])) == ["kinds[0]"]


async def test_an_export_is_of_one_moment(registry: Registry) -> None:
    await registry.apply(*(of(AGENT, f"a{n:03}") for n in range(500)))
    parts = aiter(registry.call("ExportBundle"))
    first = await anext(parts)
    await registry.apply(of(AGENT, "a499", display_name="Later"), of(AGENT, "zz"))
    await registry.delete(AGENT, "a498")
    rest = [one async for part in parts for one in part.resources]
    found = [*first.resources, *rest]
    assert [one.resource_id for one in found] == [f"a{n:03}" for n in range(500)]
    assert found[-1].agent.display_name == ""


async def test_large_resources_are_exported_in_parts(registry: Registry) -> None:
    """No part is larger than a client takes."""
    text = "x" * 900_000
    for n in range(6):
        await registry.create(
            AGENT, f"a{n}", spec={"model": OFFLINE, "output_schema": {"type": "object", "title": text}}
        )
    found = await registry.export()
    assert [one.resource_id for one in found] == [f"a{n}" for n in range(6)]
    assert all(len(one.agent.spec.output_schema["title"]) == 900_000 for one in found)


async def test_larger_than_a_message_may_be(settings: RegistrySettings) -> None:
    small = settings.model_copy(update={"max_message_bytes": 65536})
    async with harness.registry(small) as (_, channel):
        registry = Registry(channel)
        bundle = [of(AGENT, f"a{n}", description="x" * 9000) for n in range(8)]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await registry.apply(*bundle)
        assert caught.value.code() is Code.RESOURCE_EXHAUSTED
        assert "65536" in str(caught.value.details())
        assert await registry.export() == []
        assert len(await registry.apply(*bundle[:7])) == 7


async def test_more_than_a_bundle_holds(registry: Registry) -> None:
    assert await invalid(registry.apply(*(of(AGENT, f"a{n}") for n in range(2001)))) == ["resources"]
