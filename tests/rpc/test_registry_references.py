"""What resources say of each other: it exists, is no cycle, and is not deleted under them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from services.registry.config import RegistrySettings
from services.registry.model import Kind
from tests import harness
from tests.registry_client import (
    OFFLINE,
    SECRET,
    SPECS,
    Code,
    Registry,
    as_tenants,
    id_field,
    invalid,
    missing,
    refused,
    team,
)

Make = Callable[..., Any]
AGENT, TEAM, WORKFLOW = Kind.AGENT, Kind.TEAM, Kind.WORKFLOW


@pytest.fixture
async def registry(make_settings: Make, database_settings: dict[str, Any]) -> AsyncIterator[Registry]:
    async with harness.registry(make_settings(RegistrySettings, **database_settings)) as (_, channel):
        made = Registry(channel)
        await made.member()
        yield made


def steps(*of: dict[str, Any]) -> dict[str, Any]:
    return {"steps": [{"step_id": f"s{n}", **step} for n, step in enumerate(of)]}


BAD: list[tuple[Kind, dict[str, Any], str]] = [
    (TEAM, team(agents=("member", "none")), "members[1].agent_id"),
    (TEAM, team("none"), "members[1].team_id"),
    (TEAM, {**team(), "tools": [{"tool_id": "function/none"}]}, "tools[0].tool_id"),
    (WORKFLOW, steps({"agent": {"agent_id": "none"}}), "steps[0].agent.agent_id"),
    (WORKFLOW, steps({"team": {"team_id": "none"}}), "steps[0].team.team_id"),
    (WORKFLOW, steps({"workflow": {"workflow_id": "none"}}), "steps[0].workflow.workflow_id"),
    (WORKFLOW, steps({"function": {"tool_id": "function/none"}}), "steps[0].function.tool_id"),
    (
        WORKFLOW,
        steps({"loop": {"max_iterations": 1, "body": {"steps": [{"step_id": "x", "agent": {"agent_id": "none"}}]}}}),
        "steps[0].loop.body.steps[0].agent.agent_id",
    ),
    (AGENT, {"model": OFFLINE, "mcp_server_ids": ["none"]}, "mcp_server_ids[0]"),
    (AGENT, {"model": OFFLINE, "prompt": {"prompt_id": "none"}}, "prompt.prompt_id"),
    (AGENT, {"model": OFFLINE, "tools": [{"tool_id": "function/none"}]}, "tools[0].tool_id"),
    (AGENT, {"model": OFFLINE, "tools": [{"tool_id": "mcp/none/search"}]}, "tools[0].tool_id"),
    (AGENT, {"model": OFFLINE, "tools": [{"tool_id": "grpc/none/search"}]}, "tools[0].tool_id"),
    (AGENT, {"model": OFFLINE, "handoffs": [{"agent_id": "none"}]}, "handoffs[0].agent_id"),
    (AGENT, {"model": OFFLINE, "handoffs": [{"team_id": "none"}]}, "handoffs[0].team_id"),
    (Kind.EVENT_RULE, {"agent_id": "none"}, "agent_id"),
    (Kind.EVENT_RULE, {"team_id": "none"}, "team_id"),
    (Kind.EVENT_RULE, {"workflow_id": "none"}, "workflow_id"),
]


async def test_what_is_referred_to_must_be_there(registry: Registry) -> None:
    for kind, spec, field in BAD:
        assert await invalid(registry.create(kind, "a", spec=spec)) == [f"{kind}.spec.{field}"]
        await missing(registry.get(kind, "a"))
    await registry.create(TEAM, "there")
    for kind in (AGENT, WORKFLOW, Kind.EVENT_RULE):
        await registry.create(kind, "there")
    for kind, spec, field in BAD:
        assert await invalid(registry.update(kind, "there", spec=spec)) == [f"{kind}.spec.{field}"]
        assert (await registry.get(kind, "there")).revision == 1


async def test_all_that_is_missing_is_named_at_once(registry: Registry) -> None:
    spec = {
        "model": OFFLINE,
        "mcp_server_ids": ["one", "two"],
        "prompt": {"prompt_id": "none"},
        "handoffs": [{"agent_id": "member"}, {"agent_id": "none"}],
    }
    assert sorted(await invalid(registry.create(AGENT, "a", spec=spec))) == [
        "agent.spec.handoffs[1].agent_id",
        "agent.spec.mcp_server_ids[0]",
        "agent.spec.mcp_server_ids[1]",
        "agent.spec.prompt.prompt_id",
    ]


async def test_what_is_there_may_be_referred_to(registry: Registry) -> None:
    for kind in (Kind.TOOL_DEFINITION, Kind.MCP_SERVER, Kind.TOOL_PROVIDER):
        await registry.create(kind, "there")
    await registry.apply({"prompt": {"prompt_id": "there", "spec": SPECS[Kind.PROMPT]}})
    tools = [{"tool_id": f"{source}/there/x"} for source in ("mcp", "grpc")]
    spec = {
        "model": OFFLINE,
        "mcp_server_ids": ["there"],
        "prompt": {"prompt_id": "there"},
        "tools": [*tools, {"tool_id": "function/there"}, {"tool_id": "builtin/calculator"}],
        "handoffs": [{"agent_id": "a"}],  # to itself, in a way
    }
    assert (await registry.create(AGENT, "a", spec=spec)).revision == 1


async def test_a_deleted_one_is_not_there(registry: Registry) -> None:
    await registry.create(Kind.MCP_SERVER, "crm")
    await registry.delete(Kind.MCP_SERVER, "crm")
    spec = {"model": OFFLINE, "mcp_server_ids": ["crm"]}
    assert await invalid(registry.create(AGENT, "a", spec=spec)) == ["agent.spec.mcp_server_ids[0]"]


async def test_what_another_tenant_has_does_not_count(make_settings: Make, database_settings: dict[str, Any]) -> None:
    settings = make_settings(RegistrySettings, **database_settings, jwt_secret=SECRET)
    async with as_tenants(settings) as (acme, globex):
        await acme.member()
        await acme.create(TEAM, "crew")
        assert await invalid(globex.create(TEAM, "crew")) == ["team.spec.members[0].agent_id"]
        await globex.member()
        assert await invalid(globex.create(TEAM, "own", spec=team("crew"))) == ["team.spec.members[1].team_id"]
        await globex.delete(AGENT, "member")  # acme's team has one of its own
        found = await globex.call("BatchGetAgents", agent_ids=["member"])
        assert list(found.missing_agent_ids) == ["member"]
        await referenced(acme.delete(AGENT, "member"), "team crew")


# Cycles and depth


async def chain(registry: Registry, names: list[str]) -> None:
    """Teams, each in the one before it."""
    await registry.create(TEAM, names[-1])
    for outer, inner in reversed(list(pairwise(names))):
        await registry.create(TEAM, outer, spec=team(inner))


async def refused_path(call: Any) -> tuple[list[str], str]:
    error = await refused(call, Code.INVALID_ARGUMENT, "INVALID_FIELD")
    (violation,) = harness.detail(harness.status_of(error), error_details_pb2.BadRequest).field_violations
    return [violation.field], violation.description


@pytest.mark.parametrize("length", [2, 5])
async def test_cycles_are_refused_with_their_path(registry: Registry, length: int) -> None:
    names = [f"t{n}" for n in range(length)]
    await chain(registry, names)
    fields, text = await refused_path(registry.update(TEAM, names[-1], spec=team(names[0])))
    assert fields == ["team.spec.members[1].team_id"]
    path = ", ".join(f"team {name}" for name in [names[-1], *names])
    assert path in text
    assert (await registry.get(TEAM, names[-1])).revision == 1


async def test_a_team_in_itself(registry: Registry) -> None:
    fields, text = await refused_path(registry.create(TEAM, "t", spec=team("t")))
    assert (fields, "team t, team t" in text) == (["team.spec.members[1].team_id"], True)
    spec = steps({"workflow": {"workflow_id": "w"}})
    fields, _ = await refused_path(registry.create(WORKFLOW, "w", spec=spec))
    assert fields == ["workflow.spec.steps[0].workflow.workflow_id"]


async def test_a_cycle_of_workflows(registry: Registry) -> None:
    await registry.create(WORKFLOW, "a")
    await registry.create(WORKFLOW, "b", spec=steps({"workflow": {"workflow_id": "a"}}))
    fields, text = await refused_path(registry.update(WORKFLOW, "a", spec=steps({"workflow": {"workflow_id": "b"}})))
    assert fields == ["workflow.spec.steps[0].workflow.workflow_id"]
    assert "workflow a, workflow b, workflow a" in text


async def test_sixteen_deep_and_no_deeper(registry: Registry) -> None:
    names = [f"t{n:02}" for n in range(16)]
    await chain(registry, names)
    fields, text = await refused_path(registry.create(TEAM, "top", spec=team("t00")))
    assert fields == ["team.spec.members[1].team_id"]
    assert "team top, team t00, team t01" in text
    await registry.create(TEAM, "beside", spec=team("t01"))


async def test_nothing_gets_too_deep_from_below(registry: Registry) -> None:
    """The change is to the innermost team; the outermost would be nested too deep."""
    names = [f"t{n:02}" for n in range(16)]
    await chain(registry, names)
    await registry.create(TEAM, "one-more")
    fields, text = await refused_path(registry.update(TEAM, "t15", spec=team("one-more")))
    assert fields == ["team.spec.members[1].team_id"]
    assert "team t00, team t01" in text
    await registry.update(TEAM, "t14", spec=team("one-more"))
    bundle = {"team": {"team_id": "one-more", "spec": team("t15")}}
    assert await invalid(registry.apply(bundle)) == ["resources[0].team.spec.members[1].team_id"]
    await registry.update(TEAM, "t12", spec=team("t14"))
    assert await registry.apply(bundle) == [("one-more", "UPDATED")]


async def test_two_updates_that_would_close_a_cycle(registry: Registry) -> None:
    for attempt in range(5):
        one, two = f"a{attempt}", f"b{attempt}"
        for name in (one, two):
            await registry.create(TEAM, name)
        done = await asyncio.gather(
            registry.update(TEAM, one, spec=team(two)),
            registry.update(TEAM, two, spec=team(one)),
            return_exceptions=True,
        )
        failed = [result for result in done if isinstance(result, grpc.aio.AioRpcError)]
        assert [error.code() for error in failed] == [Code.INVALID_ARGUMENT]
        assert {(await registry.get(TEAM, name)).revision for name in (one, two)} == {1, 2}


# Deletes


async def referenced(call: Any, referrers: str) -> None:
    error = await refused(call, Code.FAILED_PRECONDITION, "RESOURCE_REFERENCED")
    info = harness.detail(harness.status_of(error), error_details_pb2.ErrorInfo)
    assert info.metadata["referrers"] == referrers


async def test_what_is_referred_to_stays(registry: Registry) -> None:
    await registry.create(TEAM, "crew")
    await registry.create(WORKFLOW, "flow")
    await registry.create(Kind.EVENT_RULE, "rule")
    await referenced(registry.delete(AGENT, "member"), "event_rule rule, team crew, workflow flow")
    assert (await registry.get(AGENT, "member")).revision == 1
    await registry.delete(Kind.EVENT_RULE, "rule")
    await registry.update(WORKFLOW, "flow", spec=steps({"team": {"team_id": "crew"}}))
    await referenced(registry.delete(AGENT, "member"), "team crew")
    await referenced(registry.delete(TEAM, "crew"), "workflow flow")
    for kind, name in ((WORKFLOW, "flow"), (TEAM, "crew"), (AGENT, "member")):
        await registry.delete(kind, name)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        (Kind.MCP_SERVER, {"mcp_server_ids": ["x"]}),
        (Kind.MCP_SERVER, {"tools": [{"tool_id": "mcp/x/search"}]}),
        (Kind.TOOL_DEFINITION, {"tools": [{"tool_id": "function/x"}]}),
        (Kind.TOOL_PROVIDER, {"tools": [{"tool_id": "grpc/x/y"}]}),
    ],
)
async def test_tools_that_are_used_stay(registry: Registry, kind: Kind, spec: dict[str, Any]) -> None:
    await registry.create(kind)
    await registry.create(AGENT, "user", spec={"model": OFFLINE, **spec})
    await referenced(registry.delete(kind), "agent user")
    await registry.delete(AGENT, "user")
    await registry.delete(kind)


async def test_only_some_referrers_are_named(registry: Registry) -> None:
    names = [f"crew-{n:02}" for n in range(30)]
    await asyncio.gather(*(registry.create(TEAM, name) for name in names))
    error = await refused(registry.delete(AGENT, "member"), Code.FAILED_PRECONDITION, "RESOURCE_REFERENCED")
    assert "team crew-00, team crew-01" in str(error.details())


async def test_force_leaves_a_gap_that_has_to_be_mended(registry: Registry) -> None:
    await registry.create(TEAM, "crew")
    await registry.delete(AGENT, "member", force=True)
    await missing(registry.get(AGENT, "member"))
    assert await invalid(registry.update(TEAM, "crew", display_name="Crew")) == ["team.spec.members[0].agent_id"]
    await registry.create(AGENT, "member")
    assert (await registry.update(TEAM, "crew", display_name="Crew")).revision == 2


async def test_its_own_reference_does_not_hold_it(registry: Registry) -> None:
    await registry.create(AGENT, "loner", spec={"model": OFFLINE, "handoffs": [{"agent_id": "loner"}]})
    await registry.delete(AGENT, "loner")


async def test_a_reference_and_a_delete_at_once(registry: Registry) -> None:
    """Either the team is there with its member, or neither is."""
    for attempt in range(5):
        name = f"m{attempt}"
        await registry.create(AGENT, name)
        await asyncio.gather(
            registry.create(TEAM, f"crew{attempt}", spec=team(agents=(name,))),
            registry.delete(AGENT, name),
            return_exceptions=True,
        )
        agents = (await registry.call("BatchGetAgents", agent_ids=[name])).agents
        teams = (await registry.call("BatchGetTeams", team_ids=[f"crew{attempt}"])).teams
        assert len(agents) == len(teams)


# The closure


async def closure(registry: Registry, revision: int = 0) -> tuple[str, dict[tuple[str, str], int]]:
    reply = await registry.call("GetAgentClosure", agent_id="a", revision=revision)
    found = {(one.WhichOneof("resource"), one.resource_id): one.revision for one in reply.resources}
    assert list(found) == sorted(found)
    for one in reply.resources:
        kind = one.WhichOneof("resource")
        assert getattr(getattr(one, kind), id_field(Kind(kind))) == one.resource_id
    assert reply.agent.agent_id == "a"
    return reply.digest, found


async def test_the_closure_is_all_that_can_be_reached(registry: Registry) -> None:
    for kind in (Kind.MCP_SERVER, Kind.TOOL_DEFINITION, Kind.TOOL_PROVIDER):
        await registry.create(kind)
    await registry.create(Kind.MCP_SERVER, "unused")
    await registry.apply({"prompt": {"prompt_id": "p", "spec": SPECS[Kind.PROMPT]}})
    await registry.create(AGENT, "far", spec={"model": OFFLINE, "tools": [{"tool_id": "grpc/x/y"}]})
    await registry.create(TEAM, "inner", spec=team(agents=("far",)) | {"tools": [{"tool_id": "function/x"}]})
    await registry.create(TEAM, "outer", spec=team("inner", agents=()))
    spec = {
        "model": OFFLINE,
        "prompt": {"prompt_id": "p"},
        "mcp_server_ids": ["x"],
        "handoffs": [{"team_id": "outer"}, {"agent_id": "member"}],
    }
    await registry.create(AGENT, "a", spec=spec)
    everything = {
        ("agent", "far"): 1,
        ("agent", "member"): 1,
        ("mcp_server", "x"): 1,
        ("prompt", "p"): 1,
        ("team", "inner"): 1,
        ("team", "outer"): 1,
        ("tool_definition", "x"): 1,
        ("tool_provider", "x"): 1,
    }
    digest, found = await closure(registry)
    assert found == everything
    assert (await closure(registry))[0] == digest
    await registry.update(Kind.MCP_SERVER, "unused", display_name="Other")
    assert (await closure(registry))[0] == digest
    seen = {digest}
    for kind, name in ((AGENT, "far"), (TEAM, "inner"), (Kind.TOOL_DEFINITION, "x"), (Kind.MCP_SERVER, "x")):
        await registry.update(kind, name, display_name="Other")
        digest, found = await closure(registry)
        assert found == (everything := {**everything, (kind.value, name): 2})
        assert digest not in seen
        seen.add(digest)
    await registry.update(AGENT, "a", spec={"model": OFFLINE})
    assert (await closure(registry))[1] == {}
    assert (await closure(registry, 1))[1] == everything
    await missing(registry.call("GetAgentClosure", agent_id="a", revision=7))
    await missing(registry.call("GetAgentClosure", agent_id="none"))


async def test_handoffs_may_go_round(registry: Registry) -> None:
    await registry.create(AGENT, "a")
    await registry.create(AGENT, "b", spec={"model": OFFLINE, "handoffs": [{"agent_id": "a"}, {"agent_id": "b"}]})
    await registry.update(AGENT, "a", spec={"model": OFFLINE, "handoffs": [{"agent_id": "b"}, {"agent_id": "a"}]})
    assert (await closure(registry))[1] == {("agent", "b"): 1}
