"""Executions, their events, and the tools that they call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Final

Spec = Mapping[str, Any]
"""An AgentSpec in its JSON form, with proto field names."""

DEFAULT_MODEL_CALLS: Final = 50
NOT_RUN_YET: Final = (
    "reasoning_model",
    "reasoning",
    "history",
    "memory",
    "session",
    "knowledge",
    "guardrails",
    "handoffs",
    "mcp_server_ids",
    "input_schema",
    "num_followups",
)
"""Parts of a spec that Registry keeps and this version cannot run."""
DEFAULT_TOOL_TIMEOUT: Final = 30.0


class Status(StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class OnDisconnect(StrEnum):
    GRACE = "grace"
    CANCEL = "cancel"
    CONTINUE = "continue"


@dataclass(slots=True)
class Usage:
    """What a run has taken so far."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float = 0.0
    model_calls: int = 0
    tool_calls: int = 0

    def to_dict(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(slots=True)
class Event:
    """Something that happened. Field names are those of the event's proto message, `kind` that of the oneof member."""

    kind: ClassVar[str]
    terminal: ClassVar[bool] = False

    def to_dict(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(slots=True)
class ExecutionStarted(Event):
    kind = "execution_started"
    agent_id: str
    revision: int
    session_id: str


@dataclass(slots=True)
class ContentDelta(Event):
    kind = "content_delta"
    text: str


@dataclass(slots=True)
class ReasoningDelta(Event):
    kind = "reasoning_delta"
    text: str


@dataclass(slots=True)
class ToolCallStarted(Event):
    kind = "tool_call_started"
    call_id: str
    tool_id: str
    arguments: dict[str, Any]


@dataclass(slots=True)
class ToolCallCompleted(Event):
    kind = "tool_call_completed"
    call_id: str
    tool_id: str
    output: str
    is_error: bool
    duration: float


@dataclass(slots=True)
class UsageReported(Event):
    kind = "usage_reported"
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = None
    deployment_id: str = ""
    model: str = ""
    offline: bool = False


@dataclass(slots=True)
class Heartbeat(Event):
    kind = "heartbeat"


@dataclass(slots=True)
class ExecutionCompleted(Event):
    kind = "execution_completed"
    terminal = True
    output: str
    structured_output: dict[str, Any] | None
    usage: dict[str, Any]


@dataclass(slots=True)
class ExecutionFailed(Event):
    kind = "execution_failed"
    terminal = True
    error: dict[str, Any]
    """As libs.errors.to_dict makes it."""
    usage: dict[str, Any]


@dataclass(slots=True)
class ExecutionCancelled(Event):
    kind = "execution_cancelled"
    terminal = True
    reason: str
    usage: dict[str, Any]


EVENTS: Final[Mapping[str, type[Event]]] = {kind.kind: kind for kind in Event.__subclasses__()}
TERMINAL_STATUS: Final[Mapping[type[Event], Status]] = {
    ExecutionCompleted: Status.COMPLETED,
    ExecutionFailed: Status.FAILED,
    ExecutionCancelled: Status.CANCELLED,
}
Emit = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    sequence: int
    time: datetime
    path: tuple[str, ...]
    event: Event


@dataclass(frozen=True, slots=True)
class Agent:
    """A revision of an agent, as Registry keeps it."""

    agent_id: str
    revision: int
    description: str
    spec: Spec


@dataclass(frozen=True, slots=True)
class ExecuteRequest:
    agent_id: str
    input: str
    revision: int = 0
    session_id: str = ""
    user_id: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""
    timeout: float | None = None
    on_disconnect: OnDisconnect = OnDisconnect.GRACE


@dataclass(frozen=True, slots=True)
class Execution:
    tenant: str
    execution_id: str
    agent_id: str
    revision: int
    status: Status
    input: str
    create_time: datetime
    owner: str
    session_id: str = ""
    user_id: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""
    request_digest: str = ""
    output: str = ""
    structured_output: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    last_sequence: int = 0
    end_time: datetime | None = None
    cancel_reason: str | None = None
    watch_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    tool_id: str
    function_name: str
    title: str
    description: str
    input_schema: dict[str, Any]
    version: str
    output_schema: dict[str, Any] | None = None
    read_only: bool = False
    idempotent: bool = False

    @property
    def source(self) -> str:
        return self.tool_id.split("/", 1)[0]


@dataclass(frozen=True, slots=True)
class ToolResult:
    output: str
    is_error: bool = False
    duration: float = 0.0


@dataclass(frozen=True, slots=True)
class BoundTool:
    """A tool as an agent has it."""

    tool: Tool
    timeout: float


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


@dataclass(slots=True)
class ModelPiece:
    """A part of a model's turn; usage comes with the last one."""

    text: str = ""
    reasoning: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    usage: UsageReported | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """All that a runner needs to run an agent once."""

    execution_id: str
    agent: Agent
    input: str
    session_id: str
    user_id: str
    tools: tuple[BoundTool, ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Answer:
    output: str
    structured_output: dict[str, Any] | None = None
