"""Workflows: their steps, as a run follows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class OnError(StrEnum):
    FAIL = "fail"
    SKIP = "skip"
    FALLBACK = "fallback"
    COMPENSATE = "compensate"


class Outcome(StrEnum):
    """Of a step; the names are those of StepOutcome."""

    COMPLETED = "STEP_OUTCOME_COMPLETED"
    FAILED = "STEP_OUTCOME_FAILED"
    SKIPPED = "STEP_OUTCOME_SKIPPED"
    COMPENSATED = "STEP_OUTCOME_COMPENSATED"


@dataclass(frozen=True, slots=True)
class Retry:
    attempts: int = 1
    initial_delay: float = 1.0
    multiplier: float = 2.0
    max_delay: float = 60.0

    def delay(self, attempt: int) -> float:
        """Seconds between this attempt and the next one."""
        delay = self.initial_delay
        for _ in range(attempt - 1):
            if delay >= self.max_delay:
                break
            delay *= self.multiplier
        return min(delay, self.max_delay)


@dataclass(frozen=True, slots=True)
class Member:
    """Runs an agent, a team or another workflow; the key is that of a pinned part."""

    kind: str
    key: str


@dataclass(frozen=True, slots=True)
class Function:
    tool_id: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    kind: str = "function"


@dataclass(frozen=True, slots=True)
class Parallel:
    branches: tuple[Steps, ...]
    at_once: int
    collect: bool = False
    kind: str = "parallel"


@dataclass(frozen=True, slots=True)
class Condition:
    condition: str
    then: Steps
    otherwise: Steps = ()
    kind: str = "condition"


@dataclass(frozen=True, slots=True)
class Loop:
    body: Steps
    until: str
    max_iterations: int
    kind: str = "loop"


@dataclass(frozen=True, slots=True)
class Router:
    selector: str
    choices: Mapping[str, Steps]
    default: str = ""
    kind: str = "router"


@dataclass(frozen=True, slots=True)
class Approval:
    question: str
    expires_after: float | None = None
    kind: str = "approval"


@dataclass(frozen=True, slots=True)
class Pause:
    """Waits for one of the three."""

    delay: float | None = None
    time: str = ""
    signal: str = ""
    kind: str = "wait"


Deed = Member | Function | Parallel | Condition | Loop | Router | Approval | Pause


@dataclass(frozen=True, slots=True)
class WorkflowStep:
    step_id: str
    deed: Deed
    input: str = ""
    retry: Retry = field(default_factory=Retry)
    timeout: float | None = None
    on_error: OnError = OnError.FAIL
    fallback: WorkflowStep | None = None
    compensation: WorkflowStep | None = None
    output_schema: Mapping[str, Any] | None = None


Steps = tuple[WorkflowStep, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A workflow, ready to be run."""

    steps: Steps
    output: str = ""


@dataclass(frozen=True, slots=True)
class Signal:
    """Something that a run was told from outside; numbered as they came."""

    number: int
    name: str
    payload: Any
    signal_id: str
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """What a run that holds no process waits for: a time, a signal, or the first of both."""

    until: datetime | None = None
    signal: str = ""
    seen: int = 0
    """Number of the last signal that the run knew of."""


@dataclass(frozen=True, slots=True)
class Parking:
    """All that a run waits for as it leaves its process."""

    until: datetime | None
    signals: tuple[str, ...]
    seen: int

    @classmethod
    def of(cls, waits: tuple[Wait, ...]) -> Parking:
        until = min((wait.until for wait in waits if wait.until), default=None)
        names = tuple(sorted({wait.signal for wait in waits if wait.signal}))
        return cls(until, names, min((wait.seen for wait in waits if wait.signal), default=0))
