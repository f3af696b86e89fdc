"""Agents, teams and workflows, as Registry keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

Spec = Mapping[str, Any]
"""An AgentSpec, TeamSpec or WorkflowSpec in its JSON form, with proto field names."""


DEFAULT_MODEL_CALLS: Final = 50


NOT_RUN_YET: Final = (
    "reasoning_model",
    "reasoning",
    "knowledge",
    "guardrails",
)
"""Parts of a spec that Registry keeps and this version cannot run."""


class TargetKind(StrEnum):
    AGENT = "agent"
    TEAM = "team"
    WORKFLOW = "workflow"


@dataclass(frozen=True, slots=True)
class Agent:
    """A revision of an agent, as Registry keeps it."""

    agent_id: str
    revision: int
    description: str
    spec: Spec
    functions: Sequence[Mapping[str, Any]] = ()
    """Those of its tools that its caller calls, or that come and go, as Tool has them."""


@dataclass(frozen=True, slots=True)
class Team:
    """A revision of a team; the functions are those of its leader's tools."""

    team_id: str
    revision: int
    description: str
    spec: Spec
    functions: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Workflow:
    """A revision of a workflow; the functions are those of its steps' tools."""

    workflow_id: str
    revision: int
    description: str
    spec: Spec
    functions: Sequence[Mapping[str, Any]] = ()


Part = Agent | Team | Workflow


@dataclass(frozen=True, slots=True)
class Target:
    """Names what runs. Its key tells agents, teams and workflows of one id apart."""

    kind: TargetKind
    target_id: str

    @property
    def key(self) -> str:
        return f"{self.kind.value}/{self.target_id}"

    @classmethod
    def of(cls, key: str) -> Target:
        kind, _, target_id = key.partition("/")
        return cls(TargetKind(kind), target_id)


def target_of(part: Part) -> Target:
    match part:
        case Agent():
            return Target(TargetKind.AGENT, part.agent_id)
        case Team():
            return Target(TargetKind.TEAM, part.team_id)
        case Workflow():
            return Target(TargetKind.WORKFLOW, part.workflow_id)


def told_apart(targets: Sequence[Target]) -> list[str]:
    """Their ids; of an agent and a team of one id, with the kind before it."""
    ids = [one.target_id for one in targets]
    return [one.target_id if ids.count(one.target_id) == 1 else f"{one.kind.value}-{one.target_id}" for one in targets]


@dataclass(frozen=True, slots=True)
class Pinned:
    """What a run was accepted with: its target and all that this one names, by key, each in one revision."""

    target: str
    parts: Mapping[str, Part]

    @classmethod
    def alone(cls, part: Part) -> Pinned:
        key = target_of(part).key
        return cls(key, {key: part})

    @property
    def whole(self) -> Part:
        return self.parts[self.target]

    def to(self, key: str) -> Pinned:
        """The same seen from one of its parts."""
        return replace(self, target=key)
