"""The journal of a run: what it has done is kept, and not done again when another process takes the run up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from libs import errors
from services.execution.model.events import ContentRestarted, Event
from services.execution.model.inputs import InputAnswer, Kind
from services.execution.model.journal import Step, StepKind
from services.execution.service.record import Record, storable


class Journal(Protocol):
    """Where a run says what happens, and learns what had happened."""

    def answer(self, call_id: str) -> InputAnswer | None:
        """The answer to what the call asked."""

    def emit(self, event: Event) -> None: ...

    def again(self, event: Event) -> None:
        """Says an event of a step that was answered from the journal."""

    def mark(self) -> int:
        """The number that the next event will get."""

    async def room(self) -> None:
        """Waits while too many events wait to be stored."""

    async def begin(self, step: Step, *events: Event) -> Step | None:
        """The step as an earlier attempt completed it, or None: then it is to be done. A tool's step is stored by then,
        with its events. Raises JOURNAL_MISMATCH where the earlier attempt did something else, and TOOL_CALL_IN_DOUBT
        where nobody knows whether it did it.
        """

    async def complete(self, step: Step, result: Mapping[str, Any], *events: Event, is_error: bool = False) -> None:
        """Keeps what came of it. A tool's result is stored by the end."""


@dataclass(frozen=True, slots=True)
class Past:
    """What earlier attempts at a run have left."""

    steps: Mapping[int, Step]
    partial_from: int | None = None
    """The first event of a model's turn that was not completed."""
    answers: Mapping[str, InputAnswer] = field(default_factory=dict)


class RunJournal:
    def __init__(self, record: Record, past: Past) -> None:
        self._record, self._past = record, past
        self._partial_from = past.partial_from
        self.emit: Callable[[Event], None] = record.append
        self.mark: Callable[[], int] = record.mark
        self.room = record.room
        self.answer: Callable[[str], InputAnswer | None] = past.answers.get

    def again(self, event: Event) -> None:
        """It was said."""

    async def begin(self, step: Step, *events: Event) -> Step | None:
        known = known_step(self._past.steps, step)
        if known is not None and known.end_time is not None:
            return known
        if not step.repeatable:
            if known is not None:
                raise in_doubt(step)
            await self._stay()
        if step.kind is StepKind.MODEL and self._partial_from is not None:
            self.emit(ContentRestarted(self._partial_from))
            self._partial_from = None
        if known is None:
            for event in events:
                self.emit(event)
            self._record.keep(step)
        if step.kind is StepKind.TOOL:
            await self._record.stored()
        return None

    async def _stay(self) -> None:
        """Leaves the run to others where the process may not last as long as the step."""
        if self._record.leaving and self._record.on_failure:
            self._record.on_failure()
            await asyncio.Event().wait()  # for the interruption

    async def complete(self, step: Step, result: Mapping[str, Any], *events: Event, is_error: bool = False) -> None:
        for event in events:
            self.emit(event)
        self._record.keep(replace(step, result=storable(dict(result)), is_error=is_error, end_time=datetime.now(UTC)))
        if step.kind is StepKind.TOOL:
            await self._record.stored()


class Replay:
    """A journal that answers everything and keeps nothing."""

    def __init__(self, steps: Mapping[int, Step], emit: Callable[[Event], None]) -> None:
        self.steps, self.emit, self.again = steps, emit, emit
        self.missing: int | None = None

    def answer(self, call_id: str) -> InputAnswer | None:
        """What came of it is in the journal, if there was one."""
        made = any(step.call_id == call_id for step in self.steps.values())
        return InputAnswer(call_id, Kind.USER_INPUT) if made else None

    def mark(self) -> int:
        return 0

    async def room(self) -> None:
        return None

    async def begin(self, step: Step, *events: Event) -> Step | None:
        known = known_step(self.steps, step)
        if known is None or known.end_time is None:
            self.missing = step.number
            raise mismatch(step.number)
        return known

    async def complete(self, step: Step, result: Mapping[str, Any], *events: Event, is_error: bool = False) -> None:
        raise AssertionError("a replay does nothing")


def known_step(steps: Mapping[int, Step], asked: Step) -> Step | None:
    known = steps.get(asked.number)
    if known is None:
        return None
    same = (known.kind, known.name, known.call_id) == (asked.kind, asked.name, asked.call_id)
    # A model's turn that was not completed is asked again whatever it was.
    pending = known.end_time is None and known.kind is StepKind.MODEL
    if not same or (known.digest != asked.digest and not pending):
        raise mismatch(asked.number)
    return known


def past(steps: Sequence[Step], partial_from: int | None, answers: Mapping[str, InputAnswer]) -> Past:
    return Past({step.number: step for step in steps}, partial_from, answers)


def mismatch(number: int) -> errors.Aborted:
    return errors.Aborted(
        f"step {number} of the run is not the one that its journal has",
        reason="JOURNAL_MISMATCH",
        metadata={"step": str(number)},
    )


def in_doubt(step: Step) -> errors.Aborted:
    return errors.Aborted(
        f"a process died while the tool {step.name!r} was being called, which may not be called twice",
        reason="TOOL_CALL_IN_DOUBT",
        metadata={"tool_id": step.name, "call_id": step.call_id},
    )
