from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from services.registry.model import Kind, Spec
from services.registry.model.references import DEEPEST, Reference, find_cycle, problem_of_nesting, references


def found(kind: Kind, spec: Spec) -> dict[str, tuple[Kind, str]]:
    return {each.field: (each.kind, each.resource_id) for each in references(kind, spec)}


def test_references_of_an_agent() -> None:
    spec = {
        "prompt": {"prompt_id": "greeting", "revision": "3"},
        "handoffs": [{"agent_id": "billing"}, {"team_id": "sales", "description": "when they want to buy"}],
        "mcp_server_ids": ["crm"],
        "tools": [
            {"tool_id": "builtin/calculator"},
            {"tool_id": "mcp/files/*"},
            {"tool_id": "function/score"},
            {"tool_id": "grpc/risk/Check"},
            {"tool_id": "mcp/*"},
            {"tool_id": "mcp/cr*"},
            {"tool_id": "function/*"},
        ],
    }
    assert found(Kind.AGENT, spec) == {
        "agent.spec.prompt.prompt_id": (Kind.PROMPT, "greeting"),
        "agent.spec.handoffs[0].agent_id": (Kind.AGENT, "billing"),
        "agent.spec.handoffs[1].team_id": (Kind.TEAM, "sales"),
        "agent.spec.mcp_server_ids[0]": (Kind.MCP_SERVER, "crm"),
        "agent.spec.tools[1].tool_id": (Kind.MCP_SERVER, "files"),
        "agent.spec.tools[2].tool_id": (Kind.TOOL_DEFINITION, "score"),
        "agent.spec.tools[3].tool_id": (Kind.TOOL_PROVIDER, "risk"),
    }


def test_references_of_a_team() -> None:
    spec = {"members": [{"agent_id": "a"}, {"team_id": "b"}], "tools": [{"tool_id": "function/score"}]}
    assert found(Kind.TEAM, spec) == {
        "team.spec.members[0].agent_id": (Kind.AGENT, "a"),
        "team.spec.members[1].team_id": (Kind.TEAM, "b"),
        "team.spec.tools[0].tool_id": (Kind.TOOL_DEFINITION, "score"),
    }


def run(name: str) -> dict[str, Any]:
    return {"step_id": name, "agent": {"agent_id": name}}


def test_references_of_a_workflow_at_any_depth() -> None:
    spec = {
        "steps": [
            {**run("a"), "fallback": run("b"), "compensation": {"step_id": "c", "function": {"tool_id": "function/c"}}},
            {"step_id": "p", "parallel": {"branches": [{"steps": [run("d")]}, {"steps": [run("e")]}]}},
            {"step_id": "i", "condition": {"then": {"steps": [run("f")]}, "otherwise": {"steps": [run("g")]}}},
            {"step_id": "l", "loop": {"body": {"steps": [{"step_id": "t", "team": {"team_id": "h"}}]}}},
            {
                "step_id": "r",
                "router": {"choices": {"x y": {"steps": [{"step_id": "w", "workflow": {"workflow_id": "i"}}]}}},
            },
            {"step_id": "s", "wait": {"signal": "go"}},
        ]
    }
    at = "workflow.spec.steps"
    assert found(Kind.WORKFLOW, spec) == {
        f"{at}[0].agent.agent_id": (Kind.AGENT, "a"),
        f"{at}[0].fallback.agent.agent_id": (Kind.AGENT, "b"),
        f"{at}[0].compensation.function.tool_id": (Kind.TOOL_DEFINITION, "c"),
        f"{at}[1].parallel.branches[0].steps[0].agent.agent_id": (Kind.AGENT, "d"),
        f"{at}[1].parallel.branches[1].steps[0].agent.agent_id": (Kind.AGENT, "e"),
        f"{at}[2].condition.then.steps[0].agent.agent_id": (Kind.AGENT, "f"),
        f"{at}[2].condition.otherwise.steps[0].agent.agent_id": (Kind.AGENT, "g"),
        f"{at}[3].loop.body.steps[0].team.team_id": (Kind.TEAM, "h"),
        f'{at}[4].router.choices["x y"].steps[0].workflow.workflow_id': (Kind.WORKFLOW, "i"),
    }


def test_references_of_the_rest() -> None:
    assert references(Kind.EVENT_RULE, {"workflow_id": "w"}) == [
        Reference(Kind.WORKFLOW, "w", "event_rule.spec.workflow_id")
    ]
    assert references(Kind.AGENT_TEMPLATE, {"required_tools": ["mcp/crm/find"]}) == []
    assert references(Kind.PROMPT, {"template": "x"}) == []
    assert [references(kind, {}) for kind in Kind] == [[]] * len(Kind)


def team(*members: str) -> dict[str, Any]:
    return {"members": [{"agent_id": "somebody"}, *({"team_id": member} for member in members)]}


def workflow(*inner: str) -> dict[str, Any]:
    return {"steps": [{"step_id": f"s{n}", "workflow": {"workflow_id": each}} for n, each in enumerate(inner)]}


class Stored:
    def __init__(self, specs: Mapping[str, Spec]) -> None:
        self.specs, self.loads = specs, 0

    async def __call__(self, kind: Kind, ids: Collection[str]) -> Mapping[str, Spec]:
        self.loads += 1
        assert len(set(ids)) == len(ids) > 0
        return {each: self.specs[each] for each in ids if each in self.specs}


def chain(length: int) -> dict[str, Spec]:
    """Teams t1 to t<length>, each in the one before."""
    return {f"t{n}": team(f"t{n + 1}") if n < length else team() for n in range(1, length + 1)}


@pytest.mark.parametrize(
    ("specs", "path"),
    [
        ({"a": team("a")}, "a a"),
        ({"a": team("b"), "b": team("a")}, "a b a"),
        ({"a": team("x", "b"), "b": team("c"), "c": team("d"), "d": team("e"), "e": team("a")}, "a b c d e a"),
        ({"a": team("b"), "b": team("c"), "c": team("b")}, "a b c b"),
    ],
)
async def test_cycles(specs: dict[str, Spec], path: str) -> None:
    expected = [f"team {name}" for name in path.split()]
    assert await find_cycle((Kind.TEAM, "a"), specs["a"], Stored(specs)) == expected
    problem = await problem_of_nesting((Kind.TEAM, "a"), specs["a"], Stored(specs))
    assert problem
    assert problem.description == f"leads into a cycle: {', '.join(expected)}"
    assert problem.field == f"team.spec.members[{len(specs['a']['members']) - 1}].team_id"


@pytest.mark.parametrize(
    "specs",
    [
        {"a": team()},
        {"a": team("b", "c"), "b": team("d"), "c": team("d"), "d": team()},
        {"a": team("gone"), "b": team("a")},
        {"a": team("b", "b"), "b": team()},
    ],
)
async def test_what_is_no_cycle(specs: dict[str, Spec]) -> None:
    assert await find_cycle((Kind.TEAM, "a"), specs["a"], Stored(specs)) is None
    assert await problem_of_nesting((Kind.TEAM, ""), specs["a"], Stored(specs)) is None


async def test_depth() -> None:
    assert await problem_of_nesting((Kind.TEAM, "t1"), team("t2"), Stored(chain(DEEPEST))) is None
    path = await find_cycle((Kind.TEAM, "t1"), team("t2"), Stored(chain(DEEPEST + 1)))
    assert path == [f"team t{n}" for n in range(1, DEEPEST + 2)]
    problem = await problem_of_nesting((Kind.TEAM, "t1"), team("t2"), Stored(chain(500)))
    assert problem
    assert (problem.field, problem.description[:22]) == ("team.spec.members[1].team_id", "leads deeper than 16: ")


async def test_depth_is_that_of_the_longest_way() -> None:
    specs = chain(DEEPEST) | {"t0": team(f"t{DEEPEST}", "t9", "t1")}
    path = await find_cycle((Kind.TEAM, "t0"), specs["t0"], Stored(specs))
    assert path == [f"team t{n}" for n in range(DEEPEST + 1)]
    wide: dict[str, Spec] = {f"w{n}": team(*(f"w{m}" for m in range(n + 1, DEEPEST))) for n in range(DEEPEST)}
    assert await find_cycle((Kind.TEAM, "w0"), wide["w0"], Stored(wide)) is None


async def test_one_load_a_level() -> None:
    stored = Stored({"a": team("b", "c"), "b": team("d", "e"), "c": team("e", "f"), "e": team("f")})
    assert await find_cycle((Kind.TEAM, "a"), stored.specs["a"], stored) is None
    assert stored.loads == 2
    stored = Stored(chain(500))
    await find_cycle((Kind.TEAM, "t1"), stored.specs["t1"], stored)
    assert stored.loads == DEEPEST - 1


async def test_workflows_nest_and_agents_may_hand_over_in_circles() -> None:
    specs = {"a": workflow("b", "c"), "c": workflow("a")}
    problem = await problem_of_nesting((Kind.WORKFLOW, "a"), specs["a"], Stored(specs))
    assert problem
    assert problem.field == "workflow.spec.steps[1].workflow.workflow_id"
    assert problem.description == "leads into a cycle: workflow a, workflow c, workflow a"
    circle = {"handoffs": [{"agent_id": "a"}]}
    assert await problem_of_nesting((Kind.AGENT, "a"), circle, Stored({"a": circle})) is None
