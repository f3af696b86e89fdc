"""A journal that is kept in memory, and can be read by a run that comes after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from services.execution.model.events import Event, Source
from services.execution.model.journal import Step
from services.execution.service.journal import in_doubt, input_id, known_step, within


@dataclass
class MemoryJournal:
    emit: Callable[[Event], None] = lambda _: None
    steps: dict[int, Step] = field(default_factory=dict)
    said_again: list[Event] = field(default_factory=list)
    source: Source = field(default_factory=lambda: Source(("helper",)))
    retells: bool = False
    parts: dict[str, MemoryJournal] = field(default_factory=dict)

    def part(self, name: str, source_id: str) -> MemoryJournal:
        """With the steps that it had before."""
        made = MemoryJournal(self.emit, source=within(self.source, name, source_id), parts=self.parts)
        made.steps = self.parts.setdefault(made.source.scope, made).steps
        return made

    def input_id(self, call_id: str) -> str:
        return input_id(self.source, call_id)

    def answer(self, call_id: str) -> None:
        return None

    def begun(self, call_id: str) -> bool:
        return any(step.call_id == call_id for step in self.steps.values())

    def again(self, event: Event) -> None:
        self.said_again.append(event)

    def mark(self) -> int:
        return 1

    async def room(self) -> None:
        pass

    async def begin(self, step: Step, *events: Event) -> Step | None:
        known = known_step(self.steps, step)
        if known and known.end_time is None and not step.repeatable:
            raise in_doubt(step)
        if known is None:
            self.steps[step.number] = step
            for event in events:
                self.emit(event)
        return known if known and known.end_time else None

    async def complete(self, step: Step, result: Mapping[str, Any], *events: Event, is_error: bool = False) -> None:
        for event in events:
            self.emit(event)
        self.steps[step.number] = replace(step, result=dict(result), is_error=is_error, end_time=datetime.now(UTC))

    async def reopen(self, step: Step) -> None:
        self.steps[step.number] = step
