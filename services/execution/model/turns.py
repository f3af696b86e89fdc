"""What a run asks of a model and of a runner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.execution.model.agents import Agent
from services.execution.model.events import UsageReported
from services.execution.model.executions import ExecuteRequest, Usage
from services.execution.model.sessions import Background, Kept
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


@dataclass(frozen=True, slots=True)
class Assignment:
    """What an execution was accepted with: whoever takes it up finds it here."""

    request: ExecuteRequest
    agent: Agent
    subject: str
    deadline: datetime


@dataclass(frozen=True, slots=True)
class Answer:
    output: str
    structured_output: dict[str, Any] | None = None
    kept: Kept = field(default_factory=Kept)
    followups: tuple[str, ...] = ()
