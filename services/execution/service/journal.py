"""The journal of a run: what it has done is kept, and not done again when another process takes the run up."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from libs import errors
from services.execution.model.events import ContentRestarted, Event, Source
from services.execution.model.inputs import InputAnswer, Kind
from services.execution.model.journal import Step, StepKind
from services.execution.service.record import Record, storable


class Journal(Protocol):
    """Where a run says what happens, and learns what had happened. Its members have journals of their own within it."""

    source: Source
    retells: bool
    """All is told once more, from the steps alone."""

    def part(self, name: str, source_id: str) -> Journal:
        """The journal of a member or step; `name` is the same however often the run is taken up, and no other part of
        this one has it.
        """

    def known(self, number: int) -> Step | None:
        """A step of this scope, as an earlier attempt has left it."""

    def made(self, kind: StepKind) -> Sequence[Step]:
        """The steps of that kind which earlier attempts have completed, of all scopes."""

    def now(self) -> datetime:
        """The time; not before that for which the run was woken, whatever this machine's clock says."""

    def input_id(self, call_id: str) -> str:
        """Under which a call asks."""

    def answer(self, call_id: str) -> InputAnswer | None:
        """The answer to what the call asked."""

    def begun(self, call_id: str) -> bool:
        """The call was begun by an earlier attempt."""

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

    async def reopen(self, step: Step) -> None:
        """Begins a tool's step once more that was completed with questions, which have answers now."""


LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Past:
    """What earlier attempts at a run have left."""

    steps: Mapping[str, Mapping[int, Step]] = field(default_factory=dict)
    """By scope and number."""
    partial_from: Mapping[str, int] = field(default_factory=dict)
    """By scope, the first event of a model's turn that was not completed."""
    answers: Mapping[str, InputAnswer] = field(default_factory=dict)
    asked: frozenset[str] = frozenset()
    """Ids of the questions that were put and still stand."""
    woken: datetime = LONG_AGO
    """The time that was waited for, and has come."""

    def made(self, kind: StepKind) -> Sequence[Step]:
        return [step for steps in self.steps.values() for step in steps.values() if step.kind is kind and step.end_time]


class RunJournal:
    retells = False

    def __init__(self, record: Record, past: Past, source: Source | None = None) -> None:
        self._record, self._past, self.source = record, past, source or record.source
        self._steps = past.steps.get(self.source.scope, {})
        self._partial_from = past.partial_from.get(self.source.scope)
        self.mark: Callable[[], int] = record.mark
        self.room = record.room
        self.known: Callable[[int], Step | None] = self._steps.get
        self.made = past.made

    def now(self) -> datetime:
        return max(datetime.now(UTC), self._past.woken)

    def part(self, name: str, source_id: str) -> RunJournal:
        return RunJournal(self._record, self._past, within(self.source, name, source_id))

    def emit(self, event: Event) -> None:
        self._record.append(event, self.source)

    def again(self, event: Event) -> None:
        """It was said."""

    def input_id(self, call_id: str) -> str:
        return input_id(self.source, call_id)

    def answer(self, call_id: str) -> InputAnswer | None:
        return self._past.answers.get(self.input_id(call_id))

    def begun(self, call_id: str) -> bool:
        return any(step.call_id == call_id for step in self._steps.values())

    async def begin(self, step: Step, *events: Event) -> Step | None:
        step = replace(step, scope=self.source.scope)
        known = known_step(self._steps, step)
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
            # Who asks a model again loses nothing: its turn is kept with its first words, not in a commit before them.
            self._record.keep(step, soon=step.kind is not StepKind.MODEL)
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
        kept, scope = storable(dict(result)), self.source.scope
        self._record.keep(replace(step, result=kept, is_error=is_error, end_time=datetime.now(UTC), scope=scope))
        if step.kind is StepKind.TOOL:
            await self._record.stored()

    async def reopen(self, step: Step) -> None:
        if not step.repeatable:
            await self._stay()
        self._record.keep(replace(step, scope=self.source.scope))
        await self._record.stored()


class Replay:
    """A journal that answers everything and keeps nothing."""

    retells = True

    def __init__(self, past: Past, say: Callable[[Event, Source], None], source: Source) -> None:
        self._past, self._say, self.source = past, say, source
        self._steps = past.steps.get(source.scope, {})
        self._missing: list[Step] = []
        self.known: Callable[[int], Step | None] = self._steps.get
        self.made = past.made

    def now(self) -> datetime:
        return datetime.now(UTC)

    @property
    def missing(self) -> bool:
        """It was asked for a step that was not made."""
        return bool(self._missing)

    def part(self, name: str, source_id: str) -> Replay:
        made = Replay(self._past, self._say, within(self.source, name, source_id))
        made._missing = self._missing
        return made

    def emit(self, event: Event) -> None:
        self._say(event, self.source)

    again = emit

    def input_id(self, call_id: str) -> str:
        return input_id(self.source, call_id)

    def answer(self, call_id: str) -> InputAnswer | None:
        """What came of it is in the journal, if there was one."""
        return InputAnswer(call_id, Kind.USER_INPUT) if self.begun(call_id) else None

    def begun(self, call_id: str) -> bool:
        return any(step.call_id == call_id for step in self._steps.values())

    def mark(self) -> int:
        return 0

    async def room(self) -> None:
        return None

    async def begin(self, step: Step, *events: Event) -> Step | None:
        known = known_step(self._steps, step)
        if known is None or known.end_time is None:
            self._missing.append(step)
            raise mismatch(step.number)
        return known

    async def complete(self, step: Step, result: Mapping[str, Any], *events: Event, is_error: bool = False) -> None:
        raise AssertionError("a replay does nothing")

    async def reopen(self, step: Step) -> None:
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


def past(steps: Sequence[Step], partial_from: Mapping[str, int], answers: Mapping[str, InputAnswer]) -> Past:
    by_scope: dict[str, dict[int, Step]] = {}
    for step in steps:
        by_scope.setdefault(step.scope, {})[step.number] = step
    return Past(by_scope, partial_from, answers)


def within(source: Source, name: str, source_id: str) -> Source:
    scope = f"{source.scope}/{name}" if source.scope else name
    return Source((*source.path, source_id), scope)


def input_id(source: Source, call_id: str) -> str:
    """Two members may have calls of one id."""
    return f"{hashlib.sha256(source.scope.encode()).hexdigest()[:8]}-{call_id}" if source.scope else call_id


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
