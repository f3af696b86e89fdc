"""The journal: the steps of a run, as they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from services.execution.model.tool_calls import CallRecord


class StepKind(StrEnum):
    MODEL = "model"
    TOOL = "tool"
    MEMBER = "member"
    """The run of a member as a whole: step 0 of its own scope."""
    STEP = "step"
    """A try at a step of a workflow: the scope is its own."""
    WAIT = "wait"
    SIGNAL = "signal"


@dataclass(frozen=True, slots=True)
class Step:
    """A model call or a tool call. Its number is the same however often the run is taken up."""

    number: int
    kind: StepKind
    name: str
    digest: str
    start_time: datetime
    call_id: str = ""
    repeatable: bool = True
    result: dict[str, Any] | None = None
    is_error: bool = False
    end_time: datetime | None = None
    end_sequence: int = 0
    """Number of the last event that was committed with the result."""
    scope: str = ""
    """The member or step of a workflow within which it was made; steps are numbered within theirs."""
    record: CallRecord | None = None
    """Of a tool's call, with its end: kept in the same transaction."""
