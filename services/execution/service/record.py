"""The log of a run, as the run writes it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeGuard

from libs import errors
from services.execution.model.events import ContentDelta, Event, LoggedEvent, ReasoningDelta, Source
from services.execution.model.executions import Execution, Usage
from services.execution.model.journal import Step
from services.execution.model.sessions import Kept
from services.execution.model.workflows import Parking

_TAIL: Final = 512
_ROOM: Final = 256 * 1024
"""Characters that may wait to be committed before a run has to."""
_MOST: Final = 2000
"""Events and steps, likewise."""
_PIECE: Final = 8 * 1024
"""Characters of one delta: the smallest limit of a message holds it."""


@dataclass(frozen=True, slots=True)
class Append:
    """Events and steps to commit for one execution, and its usage by then."""

    tenant: str
    execution_id: str
    attempt: int
    events: Sequence[LoggedEvent]
    usage: dict[str, Any]
    steps: Sequence[Step] = ()
    kept: Kept | None = None
    """What the run leaves, with its last event."""
    parking: Parking | None = None
    """The run leaves its process, and waits for this."""


class Committer(Protocol):
    def wake(self, record: Record, *, soon: bool = True) -> None:
        """The record has something to commit; unless `soon`, together with what comes next."""

    def hurry(self) -> None:
        """Somebody waits for the commit: it does not wait for others."""


class Record:
    """The log of one running execution: what waits to be committed, and the last that was."""

    def __init__(self, execution: Execution, usage: Usage, committer: Committer, tail: Sequence[LoggedEvent]) -> None:
        self.execution, self.usage = execution, usage
        self.ended = False
        self.failure: errors.Error | None = None
        self.kept: Kept | None = None
        """What the run leaves with its terminal event."""
        self._parking: Parking | None = None
        self._parked = False
        self.moved = False
        """Another process goes on with it."""
        self.leaving = False
        """The process stops soon: what cannot be interrupted is not begun any more."""
        self.on_failure: Callable[[], None] | None = None
        self._committer = committer
        self.source = Source((execution.target_id,))
        self._pending: list[tuple[datetime, Event | Step, Source]] = []
        self._size = self._appended = self._taken = self._stored = 0
        self._mergeable = False
        self._sequence = self._committed = execution.last_sequence
        # Plain lists: an empty deque takes as much as many a whole run's events, and an asyncio.Event has one.
        self._tail = list(tail)
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def sequence(self) -> int:
        """The last number given, to an event that may still be on its way to the store."""
        return self._sequence

    def append(self, event: Event, source: Source | None = None) -> None:
        if type(event) is ContentDelta and len(event.text) <= _PIECE:  # most events are, so the shortest way
            self._append(ContentDelta(storable(event.text)), source or self.source)
            return
        for piece in pieces(type(event)(**storable(event.to_dict()))):
            self._append(piece, source or self.source)

    def _append(self, event: Event, source: Source) -> None:
        if isinstance(event, ContentDelta | ReasoningDelta):
            self._size += len(event.text)
            if self._mergeable and self._pending and self._pending[-1][2] is source:
                last = self._pending[-1][1]
                if _go_together(last, event):
                    last.text += event.text
                    self._add(None)
                    return
        self._add(event, source)

    def keep(self, step: Step, *, soon: bool = True) -> None:
        """Keeps a step together with the events before it."""
        self._add(step, soon=soon)

    def park(self, parking: Parking) -> None:
        """With what was appended before, and with what is before the next pause, the run leaves its process."""
        self._parking = parking
        self._add(None)

    def _add(self, what: Event | Step | None, source: Source | None = None, *, soon: bool = True) -> None:
        if self.failure:
            return
        if what is not None:
            self._pending.append((datetime.now(UTC), what, source or self.source))
        self._mergeable = True
        self._appended += 1
        self._committer.wake(self, soon=soon)

    def mark(self) -> int:
        """The number that the next event will get."""
        self._mergeable = False
        return self._sequence + sum(isinstance(what, Event) for _, what, _ in self._pending) + 1

    async def stored(self) -> None:
        """Waits until all that was appended is committed."""
        until = self._appended
        while self._stored < until:
            self._committer.hurry()
            await self._wait()

    async def room(self) -> None:
        """Waits while too much waits to be committed."""
        while self._size > _ROOM or len(self._pending) > _MOST:
            await self._wait()

    async def _wait(self) -> None:
        if self.failure:
            raise self.failure
        await self.changed()

    def take(self) -> Append:
        events, steps = [], []
        for time, what, source in self._pending:
            if isinstance(what, Step):
                steps.append(replace(what, end_sequence=self._sequence))
                continue
            self._sequence += 1
            events.append(LoggedEvent(self._sequence, time, source.path, what, source.scope))
        self._pending.clear()
        self._size, self._taken = 0, self._appended
        owner = self.execution
        kept = (self.kept or None) if events and events[-1].event.terminal else None
        usage, self._parked = self.usage.to_dict(), self._parking is not None
        return Append(
            owner.tenant, owner.execution_id, owner.attempts, events, usage, steps, kept, parking=self._parking
        )

    def committed(self, events: Sequence[LoggedEvent]) -> None:
        self._tail.extend(events)
        if len(self._tail) > _TAIL + _TAIL // 4:
            del self._tail[:-_TAIL]
        self._stored = self._taken
        if events:
            self._committed = events[-1].sequence
            self.moved = self.moved or events[-1].event.pauses
            self.ended = self.ended or events[-1].event.terminal
        self.moved = self.moved or self._parked
        self.ended = self.ended or self.moved
        self.nudge()

    def broken(self, failure: errors.Error, *, moved: bool = False) -> None:
        """Nothing more will be committed here."""
        if self.ended:
            return
        self.failure, self.ended, self.moved = failure, True, moved
        self.nudge()
        if self.on_failure:
            self.on_failure()

    def nudge(self) -> None:
        """Has those look who wait for a change."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def after(self, sequence: int) -> Sequence[LoggedEvent] | None:
        """Committed events after `sequence`; None if some of them are no longer in memory."""
        wanted = self._committed - sequence
        return self._tail[len(self._tail) - wanted :] if wanted <= len(self._tail) else None

    async def changed(self) -> None:
        """Waits for the next commit, or a nudge."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):
                self._waiters.remove(waiter)
            raise


def _go_together(last: Event | Step | None, delta: ContentDelta | ReasoningDelta) -> TypeGuard[ContentDelta]:
    return type(last) is type(delta) and len(last.text) + len(delta.text) <= _PIECE


def pieces(event: Event) -> Iterator[Event]:
    """The event, or a long delta as several."""
    if not isinstance(event, ContentDelta | ReasoningDelta) or len(event.text) <= _PIECE:
        yield event
        return
    for start in range(0, len(event.text), _PIECE):
        yield type(event)(event.text[start : start + _PIECE])


def storable(value: Any) -> Any:
    """The value without NUL characters, which PostgreSQL refuses to keep."""
    match value:
        case str():
            return value.replace("\0", "\ufffd")
        case dict():
            return {storable(key): storable(item) for key, item in value.items()}
        case list():
            return [storable(item) for item in value]
    return value
