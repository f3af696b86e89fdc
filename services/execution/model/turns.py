"""What a run asks of a model and of a runner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from services.execution.model.budgets import Budget, Meter
from services.execution.model.events import UsageReported
from services.execution.model.executions import ExecuteRequest, Usage
from services.execution.model.sessions import Background, Kept
from services.execution.model.targets import Agent, Pinned, Target
from services.execution.model.tools import BoundTool


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What a model asks for; `arguments` is the text that it wrote."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A turn to ask of a model. Messages and tools have the shape that OpenAI's chat API gave them."""

    model: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    tool_choice: str
    output_schema: dict[str, Any] | None
    settings: Mapping[str, Any]
    execution_id: str
    agent_id: str = ""


@dataclass(slots=True)
class ModelPiece:
    """A part of a model's turn; usage comes with the last one."""

    text: str = ""
    reasoning: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    usage: UsageReported | None = None
    restarted: bool = False
    """The turn begins again: forget the pieces before this one."""
    citations: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Job:
    """All that a runner needs to run an agent once."""

    execution_id: str
    agent: Agent
    request: ExecuteRequest
    tools: tuple[BoundTool, ...]
    usage: Usage
    time: datetime
    """When it was accepted: what it takes for now, however often it is taken up."""
    background: Background = field(default_factory=Background)
    above: Meter | None = None
    """Of the run that this one is a part of."""

    @property
    def meter(self) -> Meter:
        return Meter(self.usage, Budget(**self.request.budget), self.above)


@dataclass(frozen=True, slots=True)
class Part:
    """A member to run: its key among the pinned ones, what it is asked, and what bounds it."""

    key: str
    text: str
    seconds: float | None = None
    budget: Mapping[str, Any] = field(default_factory=dict)
    output_schema: Mapping[str, Any] | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    media: tuple[Mapping[str, str], ...] = ()
    """What goes with the text where that is the request itself, not a task that somebody wrote."""
    handed: tuple[str, ...] = ()
    """To whom the conversation was handed over, the first to have it first."""


@dataclass(frozen=True, slots=True)
class Work:
    """A run of a target, whole or as a part of another one."""

    execution_id: str
    pinned: Pinned
    request: ExecuteRequest
    usage: Usage
    time: datetime
    above: Meter | None = None
    handed: tuple[str, ...] = ()
    """As of Part."""
    origin: str = ""
    """As of the assignment."""

    @property
    def meter(self) -> Meter:
        return Meter(self.usage, Budget(**self.request.budget), self.above)

    def part(self, part: Part) -> Work:
        """The run of a member: of the same user, without the session; raises where it is nested too deep."""
        target = Target.of(part.key)
        asked = ExecuteRequest(
            target.target_id,
            part.text,
            user_id=self.request.user_id,
            budget=part.budget,
            output_schema=part.output_schema,
            history=part.history,
            media=part.media,
            target_kind=target.kind,
            scopes=self.request.scopes,
        )
        meter = self.meter.part(Budget(**part.budget))
        inner = replace(self, pinned=self.pinned.to(part.key), request=asked, usage=meter.usage, above=meter.above)
        return replace(inner, handed=part.handed)


@dataclass(frozen=True, slots=True)
class Assignment:
    """What an execution was accepted with: whoever takes it up finds it here."""

    request: ExecuteRequest
    pinned: Pinned
    subject: str
    deadline: datetime
    origin: str = ""
    """The call that it came with, as a W3C traceparent; empty where none is traced."""


@dataclass(frozen=True, slots=True)
class Answer:
    output: str
    structured_output: dict[str, Any] | None = None
    kept: Kept = field(default_factory=Kept)
    followups: tuple[str, ...] = ()
