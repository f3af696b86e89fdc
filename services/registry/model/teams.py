"""The rules of a team."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from libs.errors import Violation
from services.registry.model import Spec
from services.registry.model.agents import check_answer, check_history, check_model
from services.registry.model.tool_ids import check_tools

_EVERYBODY_WORKS: Final = ("TEAM_MODE_BROADCAST", "TEAM_MODE_TASKS")


def check_team(spec: Spec) -> list[Violation]:
    return [
        *check_model(spec, "team.spec"),
        *_check_members(spec),
        *_check_mode(spec),
        *check_tools(spec, "team.spec"),
        *check_answer(spec, "team.spec"),
        *check_history(spec, "team.spec"),
    ]


def _check_members(spec: Spec) -> Iterator[Violation]:
    if not spec.get("members"):
        yield Violation("team.spec.members", "are required: at least one")
    seen: set[tuple[str, str]] = set()
    for index, member in enumerate(spec.get("members", ())):
        for name in ("agent_id", "team_id"):
            if name not in member:
                continue
            if (name, member[name]) in seen:
                yield Violation(f"team.spec.members[{index}].{name}", f"{member[name]} is a member twice")
            seen.add((name, member[name]))


def _check_mode(spec: Spec) -> Iterator[Violation]:
    mode = spec.get("mode")
    if spec.get("respond_directly") and mode in _EVERYBODY_WORKS:
        yield Violation("team.spec.respond_directly", f"contradicts {mode}")
