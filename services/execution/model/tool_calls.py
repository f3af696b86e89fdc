"""What is kept of the calls of tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from services.execution.model.inputs import InputAnswer, Kind
from services.execution.model.tools import Tool, ToolResult


class Outcome(StrEnum):
    COMPLETED = "completed"
    FAILED = "failed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Decision:
    """Of somebody who was asked whether the call may be made."""

    approved: bool
    subject: str
    time: datetime


@dataclass(frozen=True, slots=True)
class CallRecord:
    record_id: str
    subject: str
    tool_id: str
    tool_version: str
    arguments_digest: str
    outcome: Outcome
    cached: bool
    duration: float
    time: datetime
    execution_id: str = ""
    step: int = 0
    call_id: str = ""
    decision: Decision | None = None


@dataclass(frozen=True, slots=True)
class CallQuery:
    """All conditions must hold; an empty one is none."""

    execution_id: str = ""
    tool_id: str = ""
    """Or the beginning of ids and *."""
    subject: str = ""
    from_time: datetime | None = None
    before_time: datetime | None = None
    before: str = ""
    """Only records older than this one."""


@dataclass(frozen=True, slots=True)
class CallMade:
    """A call that has an end, and how it came to it."""

    tool: Tool
    arguments: Mapping[str, Any]
    result: ToolResult
    refused: bool = False
    answer: InputAnswer | None = None
    place: Mapping[str, Any] = field(default_factory=dict)
    """Fields of CallRecord, of a call within a run."""

    @property
    def outcome(self) -> Outcome:
        if self.refused:
            return Outcome.REFUSED
        return Outcome.FAILED if self.result.is_error else Outcome.COMPLETED

    @property
    def decision(self) -> Decision | None:
        answer = self.answer
        if answer is None or answer.kind is not Kind.APPROVAL or answer.time is None:
            return None
        return Decision(bool(answer.value.get("approved")), answer.subject, answer.time)
