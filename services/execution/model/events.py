"""What happens in an execution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, ClassVar, Final

from services.execution.model.executions import Status


@dataclass(slots=True)
class Event:
    """Something that happened. Field names are those of the event's proto message, `kind` that of the oneof member."""

    kind: ClassVar[str]
    terminal: ClassVar[bool] = False
    pauses: ClassVar[bool] = False
    """No process goes on until somebody has answered."""

    def to_dict(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(slots=True)
class ExecutionStarted(Event):
    kind = "execution_started"
    agent_id: str
    revision: int
    session_id: str
    team_id: str = ""
    workflow_id: str = ""


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
class ToolCallProgress(Event):
    kind = "tool_call_progress"
    call_id: str
    tool_id: str
    progress: float
    total: float
    message: str


@dataclass(slots=True)
class ToolCallCompleted(Event):
    kind = "tool_call_completed"
    call_id: str
    tool_id: str
    output: str
    is_error: bool
    duration: float
    cached: bool = False


@dataclass(slots=True)
class MemberStarted(Event):
    kind = "member_started"
    revision: int
    input: str
    agent_id: str | None = None
    team_id: str | None = None
    workflow_id: str | None = None


@dataclass(slots=True)
class MemberCompleted(Event):
    kind = "member_completed"
    output: str
    structured_output: dict[str, Any] | None
    usage: dict[str, Any]
    duration: float
    error: dict[str, Any] | None = None
    """As libs.errors.to_dict makes it."""


@dataclass(slots=True)
class HandedOff(Event):
    kind = "handed_off"
    from_id: str
    to_id: str
    reason: str


@dataclass(slots=True)
class ToolSourceChanged(Event):
    kind = "tool_source_changed"
    source_id: str
    state: str
    """As ToolSourceState calls it."""
    message: str


@dataclass(slots=True)
class StepStarted(Event):
    kind = "step_started"
    step_id: str
    step_kind: str
    attempt: int
    iteration: int


@dataclass(slots=True)
class StepCompleted(Event):
    kind = "step_completed"
    step_id: str
    outcome: str
    output: Any
    error: dict[str, Any] | None
    """As libs.errors.to_dict makes it."""
    attempt: int
    iteration: int


@dataclass(slots=True)
class WaitStarted(Event):
    kind = "wait_started"
    wake_time: str | None
    signal: str


@dataclass(slots=True)
class SignalReceived(Event):
    kind = "signal_received"
    name: str
    signal_id: str
    payload: Any
    subject: str


@dataclass(slots=True)
class ContentRestarted(Event):
    kind = "content_restarted"
    from_sequence: int


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
    queue_position: int = 0


@dataclass(slots=True)
class InputRequired(Event):
    kind = "input_required"
    pauses = True
    requests: list[dict[str, Any]]
    """Questions, in the JSON form of InputRequest."""
    expire_time: str


@dataclass(slots=True)
class InputReceived(Event):
    kind = "input_received"
    input_id: str
    approved: bool | None = None
    subject: str = ""
    expired: bool = False


@dataclass(slots=True)
class StateChanged(Event):
    kind = "state_changed"
    state: dict[str, Any]
    version: int


@dataclass(slots=True)
class CitationsReported(Event):
    kind = "citations_reported"
    citations: list[dict[str, str]]


@dataclass(slots=True)
class ExecutionCompleted(Event):
    kind = "execution_completed"
    terminal = True
    output: str
    structured_output: dict[str, Any] | None
    usage: dict[str, Any]
    followups: list[str] = field(default_factory=list)


@dataclass(slots=True)
class ExecutionFailed(Event):
    kind = "execution_failed"
    terminal = True
    error: dict[str, Any]
    """As libs.errors.to_dict makes it."""
    usage: dict[str, Any]
    raw_output: str = ""


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


@dataclass(frozen=True, slots=True)
class Source:
    """Where something happens: the ids down to the member or step, and what tells its runs apart."""

    path: tuple[str, ...]
    scope: str = ""


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    sequence: int
    time: datetime
    path: tuple[str, ...]
    event: Event
    scope: str = ""
