"""The event log: numbered, committed in groups, then shown to watchers.

All runs of a process share one committer. Events that arrive while a commit is under way, or within the commit window,
go together into the next one, and deltas among them become one event: under load events get fuller, not more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol, Self

import structlog

from libs import errors
from services.execution.model import (
    ContentDelta,
    Event,
    Execution,
    ExecutionStarted,
    Heartbeat,
    LoggedEvent,
    ReasoningDelta,
    Usage,
)

log = structlog.get_logger()

_TAIL: Final = 512
_PAGE: Final = 500
_RETRY_DELAY: Final = 0.2


@dataclass(frozen=True, slots=True)
class Append:
    """Events to commit for one execution, and its usage by then."""

    tenant: str
    execution_id: str
    owner: str
    events: Sequence[LoggedEvent]
    usage: dict[str, Any]


class EventStore(Protocol):
    async def append(self, appends: Sequence[Append]) -> set[str]:
        """Commits all in one transaction; gives the ids of executions that are no longer their owner's, left out."""

    async def events(self, tenant: str, execution_id: str, *, after: int, limit: int) -> Sequence[LoggedEvent]: ...


class Record:
    """The log of one running execution: what waits to be committed, and the last that was."""

    def __init__(self, execution: Execution, started: LoggedEvent, usage: Usage, committer: EventLog) -> None:
        self.execution, self.usage = execution, usage
        self.ended = False
        self.failure: errors.Error | None = None
        self.on_failure: Callable[[], None] | None = None
        self._committer = committer
        self._pending: list[tuple[datetime, Event]] = []
        self._sequence = started.sequence
        self._tail: deque[LoggedEvent] = deque([started], maxlen=_TAIL)
        self._changed = asyncio.Event()

    @property
    def sequence(self) -> int:
        """The last number given, to an event that may still be on its way to the store."""
        return self._sequence

    def append(self, event: Event) -> None:
        if self.failure:
            return
        event = type(event)(**storable(event.to_dict()))
        last = self._pending[-1][1] if self._pending else None
        if isinstance(event, ContentDelta | ReasoningDelta) and type(last) is type(event):
            last.text += event.text
        else:
            self._pending.append((datetime.now(UTC), event))
        self._committer.wake(self)

    def take(self) -> Append:
        path = (self.execution.agent_id,)
        events = []
        for time, event in self._pending:
            self._sequence += 1
            events.append(LoggedEvent(self._sequence, time, path, event))
        self._pending.clear()
        owner = self.execution
        return Append(owner.tenant, owner.execution_id, owner.owner, events, self.usage.to_dict())

    def committed(self, events: Sequence[LoggedEvent]) -> None:
        self._tail.extend(events)
        self.ended = self.ended or any(e.event.terminal for e in events)
        self._notify()

    def broken(self, failure: errors.Error) -> None:
        """Nothing more will be committed."""
        self.failure, self.ended = failure, True
        self._notify()
        if self.on_failure:
            self.on_failure()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def after(self, sequence: int) -> Sequence[LoggedEvent] | None:
        """Committed events after `sequence`; None if some of them are no longer in memory."""
        if self._tail[0].sequence > sequence + 1:
            return None
        return [event for event in self._tail if event.sequence > sequence]

    async def wait(self, seconds: float) -> bool:
        """Whether something was committed within `seconds`."""
        changed = self._changed
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await changed.wait()
        return changed.is_set()


class EventLog:
    """Commits the events of all runs of this process."""

    def __init__(self, store: EventStore, *, window: float, patience: float) -> None:
        self._store, self._window, self._patience = store, window, patience
        self._waiting: dict[str, Record] = {}
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience + 1):
                await self._idle.wait()
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def open(self, execution: Execution, started: LoggedEvent, usage: Usage) -> Record:
        """The log of an execution whose row and first event are committed."""
        return Record(execution, started, usage, self)

    def wake(self, record: Record) -> None:
        self._waiting[record.execution.execution_id] = record
        self._idle.clear()
        self._work.set()

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            await asyncio.sleep(self._window)
            self._work.clear()
            records, self._waiting = list(self._waiting.values()), {}
            await self._commit([(record, record.take()) for record in records])
            if not self._waiting:
                self._idle.set()

    async def _commit(self, batch: list[tuple[Record, Append]]) -> None:
        batch = [(record, append) for record, append in batch if not record.failure]
        lost: set[str] = set()
        failure: errors.Error | None = None
        try:
            lost = await self._append([append for _, append in batch])
        except errors.Unavailable as error:
            failure = error
        except Exception:
            if len(batch) > 1:  # what one run says cannot be stored: the others do not suffer for it
                for one in batch:
                    await self._commit([one])
                return
            log.exception("events could not be committed")
            failure = errors.Internal("internal error")
        for record, append in batch:
            if failure:
                record.broken(failure)
            elif append.execution_id in lost:
                record.broken(errors.Unavailable("another process owns this execution", reason="EXECUTION_LOST"))
            else:
                record.committed(append.events)

    async def _append(self, appends: Sequence[Append]) -> set[str]:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience
        while True:
            try:
                return await self._store.append(appends)
            except errors.Unavailable:
                log.warning("events wait for the database", executions=len(appends))
                if loop.time() > until:
                    raise
                await asyncio.sleep(_RETRY_DELAY)

    async def follow(self, record: Record, after: int, heartbeat: float) -> AsyncGenerator[LoggedEvent, None]:
        """Events after `after` up to the terminal one, as they are committed."""
        execution = record.execution
        while True:
            ended = record.ended
            found = record.after(after)
            if found is None:
                found = await self._store.events(execution.tenant, execution.execution_id, after=after, limit=_PAGE)
            for event in found:
                after = event.sequence
                yield event
            if found:
                continue
            if record.failure:
                raise record.failure
            if ended:
                return
            if not await record.wait(heartbeat):
                yield beat(after)

    async def replay(
        self,
        tenant: str,
        execution_id: str,
        after: int,
        *,
        poll: float,
        heartbeat: float,
        pause: Callable[[float], Awaitable[object]],
    ) -> AsyncGenerator[LoggedEvent, None]:
        """The same for an execution of another process, by looking at the table, with a `pause` between looks."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            found = await self._store.events(tenant, execution_id, after=after, limit=_PAGE)
            for event in found:
                after, last = event.sequence, loop.time()
                yield event
                if event.event.terminal:
                    return
            if not found:
                if loop.time() - last > heartbeat:
                    last = loop.time()
                    yield beat(after)
                await pause(poll)


def first(agent_id: str, revision: int, session_id: str) -> LoggedEvent:
    return LoggedEvent(1, datetime.now(UTC), (agent_id,), ExecutionStarted(agent_id, revision, session_id))


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


def beat(after: int) -> LoggedEvent:
    return LoggedEvent(after, datetime.now(UTC), (), Heartbeat())
