"""Who is in a team, and what its leader is told of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.execution.model.targets import Agent, Part, Pinned, Spec, Team, told_apart
from services.execution.service.handoffs import target_named

COORDINATE, ROUTE, BROADCAST, TASKS = (f"TEAM_MODE_{name}" for name in ("COORDINATE", "ROUTE", "BROADCAST", "TASKS"))
_LONGEST_WORD: Final = 1000


@dataclass(frozen=True, slots=True)
class Member:
    member_id: str
    """Under which the leader knows it."""
    key: str
    about: str


def roster(team: Team, pinned: Pinned) -> Sequence[Member]:
    """In the order of the team."""
    named = team.spec.get("members", ())
    targets = [target_named(one) for one in named]
    return [
        Member(name, target.key, _about(one, pinned.parts[target.key]))
        for name, one, target in zip(told_apart(targets), named, targets, strict=True)
    ]


def _about(named: Mapping[str, Any], part: Part) -> str:
    words = [named.get("role", ""), part.description[:_LONGEST_WORD]]
    if isinstance(part, Team):
        words.append("(a team)")
    return " ".join(filter(None, words))


_HOW: Final[Mapping[str, str]] = {
    COORDINATE: "Give tasks to members with delegate_task_to_member, then write the answer yourself from what they "
    "say. A member sees nothing but the task that you write: put into it all that is needed.",
    ROUTE: "Choose the one member that fits best and hand it the request with delegate_task_to_member. "
    "Its answer goes to the user as it is; you add nothing.",
    BROADCAST: "Every member has been given the request already. Write one answer from what they say.",
    TASKS: "Keep a list of tasks: write down what is to be done with create_task, have each done with run_task by the "
    "member that fits best, and look at the list with list_tasks. When all is done, write the answer.",
}


def mode_of(team: Team) -> str:
    mode = team.spec.get("mode", COORDINATE)
    return mode if mode in _HOW else COORDINATE


def leader(team: Team, members: Sequence[Member], told: str) -> Agent:
    """The leader as the agent that it is; `told` is what it knows besides."""
    spec = team.spec
    lines = "\n".join(f"- {one.member_id}: {one.about}" if one.about else f"- {one.member_id}" for one in members)
    rules = f"You lead a team.\n{_HOW[mode_of(team)]}\n<members>\n{lines}\n</members>"
    kept = ("model", "expected_output", "tools", "output_schema", "history", "markdown")
    made: dict[str, Any] = {name: spec[name] for name in kept if name in spec}
    made["instructions"] = [rules, *spec.get("instructions", ())]
    if told:
        made["additional_context"] = told
    return Agent(team.team_id, team.revision, team.description, made, team.functions)


def limits_of(spec: Spec, budget: Mapping[str, Any]) -> dict[str, Any]:
    """The budget, narrowed by the team's own limits."""
    limits, made = spec.get("limits", {}), dict(budget)
    for name in ("max_model_calls", "max_tool_calls"):
        if allowed := [value for value in (limits.get(name), budget.get(name)) if value]:
            made[name] = min(allowed)
    return made
