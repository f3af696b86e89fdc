"""Executions and what is asked of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

from services.execution.model.targets import Target, TargetKind


class Status(StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    QUEUED = "queued"
    INPUT_REQUIRED = "input_required"
    WAITING = "waiting"


class SessionPolicy(StrEnum):
    QUEUE = "queue"
    REJECT = "reject"
    INTERRUPT = "interrupt"


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


@dataclass(frozen=True, slots=True)
class ExecuteRequest:
    target_id: str
    input: str
    revision: int = 0
    session_id: str = ""
    user_id: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""
    timeout: float | None = None
    on_disconnect: OnDisconnect = OnDisconnect.GRACE
    budget: Mapping[str, Any] = field(default_factory=dict)
    priority: int = 0
    session_policy: SessionPolicy = SessionPolicy.QUEUE
    media: tuple[Mapping[str, str], ...] = ()
    output_schema: Mapping[str, Any] | None = None
    session_state: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[Mapping[str, Any], ...] = ()
    target_kind: TargetKind = TargetKind.AGENT
    scopes: tuple[str, ...] = ()
    """Of who asked; set where the request is accepted."""

    @property
    def target(self) -> Target:
        return Target(self.target_kind, self.target_id)


@dataclass(frozen=True, slots=True)
class Execution:
    tenant: str
    execution_id: str
    target_id: str
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
    followups: Sequence[str] = ()
    error: dict[str, Any] | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    last_sequence: int = 0
    end_time: datetime | None = None
    cancel_reason: str | None = None
    watch_time: datetime | None = None
    attempts: int = 1
    """Times that a process has taken it up; who writes for it must know the number."""
    deaths: int = 0
    """Processes that died of it since it last got on."""
    oldest_sequence: int = 1
    budget: Mapping[str, Any] = field(default_factory=dict)
    priority: int = 0
    queue_position: int = 0
    input_required: Mapping[str, Any] | None = None
    """While it waits for input: as the event of that name. Of one that has waited: what it had asked, and for which
    time it was woken.
    """
    target_kind: TargetKind = TargetKind.AGENT

    @property
    def target(self) -> Target:
        return Target(self.target_kind, self.target_id)
