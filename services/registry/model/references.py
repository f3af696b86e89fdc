"""What a resource refers to, and the nesting of teams in teams and of workflows in workflows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from libs.errors import Violation
from services.registry.model import Kind, Spec
from services.registry.model.steps import placed

DEEPEST: Final = 16

Load = Callable[[Kind, Collection[str]], Awaitable[Mapping[str, Spec]]]
"""The specs of the named resources; those that there are not are left out."""

_NESTING: Final = (Kind.TEAM, Kind.WORKFLOW)
_WHO: Final = {"agent_id": Kind.AGENT, "team_id": Kind.TEAM, "workflow_id": Kind.WORKFLOW}
_TOOLS: Final = {
    **{"mcp": Kind.MCP_SERVER, "function": Kind.TOOL_DEFINITION, "grpc": Kind.TOOL_PROVIDER},
    **{"agent": Kind.AGENT, "team": Kind.TEAM, "workflow": Kind.WORKFLOW},
}


@dataclass(frozen=True, slots=True)
class Reference:
    kind: Kind
    resource_id: str
    field: str


def references(kind: Kind, spec: Spec) -> list[Reference]:
    """In the order of the spec. A template has none: its tools are looked for when an agent is made from it."""
    found = _REFERENCES.get(kind)
    return list(found(spec)) if found else []


def _of_agent(spec: Spec) -> Iterator[Reference]:
    if "prompt" in spec:
        yield Reference(Kind.PROMPT, spec["prompt"]["prompt_id"], "agent.spec.prompt.prompt_id")
    for index, handoff in enumerate(spec.get("handoffs", ())):
        yield from _whom(handoff, f"agent.spec.handoffs[{index}]")
    for index, server_id in enumerate(spec.get("mcp_server_ids", ())):
        yield Reference(Kind.MCP_SERVER, server_id, f"agent.spec.mcp_server_ids[{index}]")
    yield from _of_tools(spec, "agent.spec")


def _of_team(spec: Spec) -> Iterator[Reference]:
    for index, member in enumerate(spec.get("members", ())):
        yield from _whom(member, f"team.spec.members[{index}]")
    yield from _of_tools(spec, "team.spec")


def _of_workflow(spec: Spec) -> Iterator[Reference]:
    for place in placed(spec.get("steps", ()), "workflow.spec.steps"):
        for name in ("agent", "team", "workflow"):
            yield from _whom(place.step.get(name, {}), f"{place.field}.{name}")
        if "function" in place.step:
            yield from _of_tool(place.step["function"]["tool_id"], f"{place.field}.function.tool_id")


def _of_event_rule(spec: Spec) -> Iterator[Reference]:
    return _whom(spec, "event_rule.spec")


def _whom(message: Spec, field: str) -> Iterator[Reference]:
    for name, kind in _WHO.items():
        if message.get(name):
            yield Reference(kind, message[name], f"{field}.{name}")


def _of_tools(spec: Spec, field: str) -> Iterator[Reference]:
    for index, tool in enumerate(spec.get("tools", ())):
        yield from _of_tool(tool["tool_id"], f"{field}.tools[{index}].tool_id")


def _of_tool(tool_id: str, field: str) -> Iterator[Reference]:
    provider, source, *_ = [*tool_id.split("/"), ""]
    if provider in _TOOLS and source and "*" not in source:
        yield Reference(_TOOLS[provider], source, field)


_REFERENCES: Final[Mapping[Kind, Callable[[Spec], Iterator[Reference]]]] = {
    Kind.AGENT: _of_agent,
    Kind.TEAM: _of_team,
    Kind.WORKFLOW: _of_workflow,
    Kind.EVENT_RULE: _of_event_rule,
}


async def problem_of_nesting(start: tuple[Kind, str], spec: Spec, load: Load) -> Violation | None:
    """A resource that contains itself or goes too deep, at the reference that leads there."""
    path = await _worst_path(start, spec, load)
    if path is None:
        return None
    kind, _ = start
    field = next(each.field for each in references(kind, spec) if (each.kind, each.resource_id) == (kind, path[1]))
    problem = "leads into a cycle" if path[-1] in path[:-1] else f"leads deeper than {DEEPEST}"
    return Violation(field, f"{problem}: {', '.join(_named(kind, path))}")


async def find_cycle(start: tuple[Kind, str], spec: Spec, load: Load) -> list[str] | None:
    """The path that comes back to where it was, or that goes too deep: ["team a", "team b", "team a"]."""
    path = await _worst_path(start, spec, load)
    return _named(start[0], path) if path else None


def _named(kind: Kind, path: list[str]) -> list[str]:
    return [f"{kind.replace('_', ' ')} {resource_id}" for resource_id in path]


async def _worst_path(start: tuple[Kind, str], spec: Spec, load: Load) -> list[str] | None:
    kind, resource_id = start
    if kind not in _NESTING:
        return None
    return _descend([resource_id], await _nested(kind, resource_id, spec, load), {})


async def _nested(kind: Kind, resource_id: str, spec: Spec, load: Load) -> dict[str, list[str]]:
    """What is directly in each resource; one load a level, no deeper than needed to see what is too deep."""
    inner = {resource_id: _inner(kind, spec)}
    for _ in range(DEEPEST - 1):
        wanted = {each for ids in inner.values() for each in ids} - inner.keys()
        if not wanted:
            break
        specs = await load(kind, sorted(wanted))
        inner |= {each: _inner(kind, specs.get(each, {})) for each in wanted}
    return inner


def _inner(kind: Kind, spec: Spec) -> list[str]:
    return list(dict.fromkeys(each.resource_id for each in references(kind, spec) if each.kind is kind))


def _descend(path: list[str], inner: Mapping[str, list[str]], below: dict[str, list[str]]) -> list[str] | None:
    """The first bad path that goes on from `path`. `below` keeps the longest way down from what is good."""
    here = path[-1]
    if here in path[:-1] or len(path) > DEEPEST:
        return path
    longest: list[str] = []
    for each in inner.get(here, ()):
        if each not in below and (bad := _descend([*path, each], inner, below)):
            return bad
        longest = max(longest, [each, *below[each]], key=len)
        if len(path) + len(longest) > DEEPEST:
            return [*path, *longest]
    below[here] = longest
    return None
