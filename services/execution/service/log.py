"""The event log: numbered, committed in groups, then shown to watchers.

All runs of a process share one committer. It begins a commit at once, but none within the commit window after the last,
which grows with the executions that were in it: what arrives meanwhile goes into the next one, and deltas among it
become one event. So what comes alone does not wait, and under load events get fuller, not more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol, Self

import structlog

from libs import errors
from services.execution.model.events import (
    ExecutionStarted,
    Heartbeat,
    LoggedEvent,
)
from services.execution.model.executions import Execution, Usage
from services.execution.model.targets import TargetKind
from services.execution.service.record import Append, Record
from services.execution.service.record import storable as storable

log = structlog.get_logger()

_PAGE: Final = 500
_FIRST_DELAY: Final = 0.1
_LONGEST_DELAY: Final = 2.0
_PAUSE: Final = 0.0005
"""Seconds for each execution of a commit that the next one waits: about twice what committing and sending takes."""
_LONGEST_PAUSE: Final = 0.05
_LATER: Final = 0.2


class EventStore(Protocol):
    async def append(self, appends: Sequence[Append]) -> set[str]:
        """Commits all in one transaction; gives the ids of executions that another attempt has taken, left out."""

    async def events(self, tenant: str, execution_id: str, *, after: int, limit: int) -> Sequence[LoggedEvent]: ...


class EventLog:
    """Commits the events of all runs of this process."""

    def __init__(self, store: EventStore, *, window: float, patience: float) -> None:
        self._store, self._window, self._patience = store, window, patience
        self._waiting: dict[str, Record] = {}
        self._work, self._urgent = asyncio.Event(), asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._oldest: datetime | None = None
        """Of the events that are being committed."""

    @property
    def waiting(self) -> int:
        """Executions with events that no commit has taken."""
        return len(self._waiting)

    @property
    def lag(self) -> float:
        """Seconds that the oldest event of the commit under way has waited."""
        oldest = self._oldest
        return (datetime.now(UTC) - oldest).total_seconds() if oldest else 0.0

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

    def open(self, execution: Execution, usage: Usage, *tail: LoggedEvent) -> Record:
        """The log of an execution whose row is committed, with the last of its events."""
        return Record(execution, usage, self, tail)

    def wake(self, record: Record, *, soon: bool = True) -> None:
        """`soon`, or with what is to be committed within the next moments."""
        self._waiting[record.execution.execution_id] = record
        self._idle.clear()
        if soon:
            self._work.set()
        else:
            asyncio.get_running_loop().call_later(_LATER, self._resume)

    def hurry(self) -> None:
        """Somebody waits for the commit: it does not wait for others."""
        self._resume()
        self._urgent.set()

    def _resume(self) -> None:
        if self._waiting:
            self._work.set()

    async def _run(self) -> None:
        """The window opens with a commit: what comes after a pause waits for nobody."""
        loop = asyncio.get_running_loop()
        until = loop.time()
        while True:
            await self._work.wait()
            if loop.time() < until:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(until):
                        await self._urgent.wait()
            self._work.clear()
            self._urgent.clear()
            records, self._waiting = list(self._waiting.values()), {}
            batch = [(record, record.take()) for record in records]
            self._oldest = oldest_of([append for _, append in batch])
            await self._commit(batch)
            self._oldest = None
            until = loop.time() + max(self._window, min(_PAUSE * len(batch), _LONGEST_PAUSE))
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
                record.broken(taken_over(), moved=True)
            else:
                record.committed(append.events)

    async def _append(self, appends: Sequence[Append]) -> set[str]:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience
        delay = _FIRST_DELAY
        while True:
            try:
                return await self._store.append(appends)
            except errors.Unavailable:
                log.warning("events wait for the database", executions=len(appends))
                if loop.time() > until:
                    raise
                await asyncio.sleep(min(delay, max(0.0, until - loop.time())))
                delay = min(2 * delay, _LONGEST_DELAY)

    async def follow(self, record: Record, after: int, heartbeat: float) -> AsyncGenerator[LoggedEvent, None]:
        """Events after `after` as they are committed, up to the terminal one or until the execution has moved."""
        execution, loop = record.execution, asyncio.get_running_loop()
        silent_since = loop.time()
        alarm = loop.call_later(heartbeat, record.nudge)
        try:
            while True:
                ended = record.ended
                found = record.after(after)
                if found is None:
                    found = await self._store.events(execution.tenant, execution.execution_id, after=after, limit=_PAGE)
                for event in found:
                    after = event.sequence
                    yield event
                if found:
                    silent_since = loop.time()
                    continue
                if record.failure and not record.moved:
                    raise record.failure
                if ended:
                    return
                if (now := loop.time()) >= silent_since + heartbeat:
                    silent_since = now
                    yield beat(after)
                    continue
                if alarm.when() <= now:  # set anew once it has rung, not with each event
                    alarm = loop.call_at(silent_since + heartbeat, record.nudge)
                await record.changed()
        finally:
            alarm.cancel()

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


def oldest_of(appends: Sequence[Append]) -> datetime | None:
    return min((append.events[0].time for append in appends if append.events), default=None)


def taken_over() -> errors.Unavailable:
    return errors.Unavailable("another process goes on with this execution", reason="EXECUTION_LOST", retry_after=0.1)


def first(execution: Execution) -> LoggedEvent:
    return LoggedEvent(1, datetime.now(UTC), (execution.target_id,), started(execution))


def started(execution: Execution) -> ExecutionStarted:
    """The first event of a run."""
    named = {kind: execution.target_id if kind is execution.target_kind else "" for kind in TargetKind}
    return ExecutionStarted(
        named[TargetKind.AGENT],
        execution.revision,
        execution.session_id,
        named[TargetKind.TEAM],
        named[TargetKind.WORKFLOW],
    )


def beat(after: int, queue_position: int = 0) -> LoggedEvent:
    return LoggedEvent(after, datetime.now(UTC), (), Heartbeat(queue_position))
