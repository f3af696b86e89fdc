"""Accepting, watching and cancelling executions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Protocol, Self

from libs import correlation, deadline, errors, ids
from libs.identity import Caller
from services.execution.model.events import ExecutionCancelled, Heartbeat, LoggedEvent
from services.execution.model.executions import ExecuteRequest, Execution, OnDisconnect, SessionPolicy, Status
from services.execution.model.inputs import InputAnswer
from services.execution.model.journal import Step
from services.execution.model.targets import Pinned, Target, TargetKind
from services.execution.model.turns import Assignment
from services.execution.service import requests
from services.execution.service.admission import Admission, Ticket
from services.execution.service.continuation import Continuation
from services.execution.service.leases import Drain
from services.execution.service.log import EventLog, beat, first
from services.execution.service.news import News
from services.execution.service.runs import TOUCH, Limits, Runs
from services.execution.service.targets import Targets
from services.execution.service.tools import Tools, digest
from services.execution.service.workflows.engine import Engine
from services.execution.service.workflows.plan import timeout_of

_MOST_STEPS: Final = 5000
_RARER: Final = 10
"""Looks at runs of other processes are so many times rarer where news of them comes."""


class Configurations(Protocol):
    async def pinned(self, target: Target, revision: int) -> Pinned:
        """The target, and all that it names, as they are now."""


class ExecutionStore(Protocol):
    async def accept(
        self, execution: Execution, started: LoggedEvent | None, assignment: Assignment, lease: float
    ) -> bool:
        """Commits a new execution with its lease and, where it begins at once, its first event; False if its request_id
        is taken, or its session.
        """

    async def get(self, tenant: str, execution_id: str) -> Execution | None: ...

    async def by_request(self, tenant: str, request_id: str) -> Execution | None: ...

    async def request_cancel(self, tenant: str, execution_id: str, reason: str) -> None: ...

    async def steps(self, tenant: str, execution_id: str) -> Sequence[Step]: ...

    async def assignment(self, tenant: str, execution_id: str) -> Assignment | None: ...

    async def touch(self, tenant: str, execution_id: str, at: datetime) -> None:
        """Says that somebody watches the execution from another process."""


class QueueStore(Protocol):
    async def unfinished(self, tenant: str, session_id: str) -> Sequence[Execution]:
        """Executions of a session that have not ended, the oldest first."""

    async def queue_position(self, execution: Execution) -> int:
        """How many of its tenant are queued before it, plus one."""


class Executions:
    def __init__(
        self,
        store: ExecutionStore,
        queue: QueueStore,
        admission: Admission,
        continuation: Continuation,
        events: EventLog,
        configurations: Configurations,
        targets: Targets,
        runs: Runs,
        tools: Tools,
        drain: Drain,
        limits: Limits,
        news: News,
        engine: Engine,
    ) -> None:
        self._engine = engine
        self._store, self._queue, self._admission, self._continuation = store, queue, admission, continuation
        self._events, self._configurations, self._targets, self._news = events, configurations, targets, news
        self._runs, self._tools, self._drain, self._limits = runs, tools, drain, limits
        self._starting: set[asyncio.Task[str]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*self._starting, return_exceptions=True)

    async def start(self, caller: Caller, request: ExecuteRequest) -> str:
        """Accepts a request and begins to run it; gives the execution's id. A caller who vanishes meanwhile does not
        stop it halfway: a row that nobody runs would be left behind.
        """
        starting = asyncio.create_task(self._start(caller, request))
        self._starting.add(starting)
        starting.add_done_callback(self._starting.discard)
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(self._unclaimed)
            raise

    def _unclaimed(self, started: asyncio.Task[str]) -> None:
        """The caller vanished while its request was being accepted."""
        if not started.cancelled() and not started.exception() and (run := self._runs.get(started.result())):
            self._runs.unclaimed(run)

    async def _start(self, caller: Caller, request: ExecuteRequest) -> str:
        named = [request.target_id, request.input, request.revision, request.session_id, request.user_id]
        kind = [] if request.target_kind is TargetKind.AGENT else [request.target_kind]
        asked = digest([*named, request.media, request.output_schema, request.session_state, request.history, *kind])
        if request.request_id and (earlier := await self._earlier(caller, request, asked)):
            return earlier
        self._admission.check(caller.tenant)
        ticket = self._admission.enter(caller.tenant, ids.new_id(), request.session_id, request.priority)
        correlation.enter(ticket.execution_id)
        try:
            return await self._accept(caller, request, asked, ticket)
        finally:
            if self._runs.get(ticket.execution_id) is None:
                self._admission.leave(ticket)

    async def _accept(self, caller: Caller, request: ExecuteRequest, asked: str, ticket: Ticket) -> str:
        pinned = await self._configurations.pinned(request.target, request.revision)
        self._targets.require_runnable(pinned)
        requests.check(request, pinned.whole.spec)
        pinned = await self._tools.pinned(caller, pinned)
        before = await self._before(caller, request, ticket)
        execution = Execution(
            tenant=caller.tenant,
            execution_id=ticket.execution_id,
            target_id=request.target_id,
            target_kind=request.target_kind,
            revision=pinned.whole.revision,
            status=Status.RUNNING if ticket.granted and not before else Status.QUEUED,
            input=request.input,
            create_time=datetime.now(UTC),
            owner=self._runs.owner,
            session_id=request.session_id,
            user_id=request.user_id,
            metadata=request.metadata,
            request_id=request.request_id,
            request_digest=asked,
            budget=request.budget,
            priority=request.priority,
        )
        seconds = self._time_allowed(request, timeout_of(pinned.whole.spec))
        until = datetime.now(UTC) + timedelta(seconds=seconds)
        asked_by = replace(request, scopes=tuple(sorted(caller.scopes)))
        assignment = Assignment(asked_by, pinned, caller.subject, until, self._runs.observer.origin())
        if not await self._commit(execution, assignment, ticket):
            if earlier := await self._earlier(caller, request, asked):
                return earlier
            # Somebody else has just begun a run of the session.
            before = await self._before(caller, request, ticket)
            if not await self._commit(replace(execution, status=Status.QUEUED), assignment, ticket):
                return await self._earlier(caller, request, asked) or ticket.execution_id
        if request.session_policy is SessionPolicy.INTERRUPT:
            for other in before:
                await self._interrupt(other, f"interrupted by {ticket.execution_id}")
        return ticket.execution_id

    async def _commit(self, execution: Execution, assignment: Assignment, ticket: Ticket) -> bool:
        """Accepts the execution; it runs at once, or waits for its turn."""
        started = None
        if execution.status is Status.RUNNING:
            started = first(execution)
            execution = replace(execution, last_sequence=1)
        if not await self._store.accept(execution, started, assignment, self._limits.lease):
            return False
        self._runs.begin(execution, assignment, ticket, *([started] if started else []))
        return True

    async def _before(self, caller: Caller, request: ExecuteRequest, ticket: Ticket) -> Sequence[Execution]:
        """Executions of the session that have not ended."""
        if not request.session_id:
            return []
        before = await self._queue.unfinished(caller.tenant, request.session_id)
        busy = before[0].execution_id if before else self._admission.ahead(ticket)
        if busy and request.session_policy is SessionPolicy.REJECT:
            raise errors.FailedPrecondition(
                "the session is busy", reason="SESSION_BUSY", metadata={"execution_id": busy}
            )
        return before

    async def _interrupt(self, execution: Execution, reason: str) -> None:
        """Has the execution cancelled, wherever it is."""
        if run := self._runs.get(execution.execution_id):
            run.cancel(reason)
        elif not await self._end_parked(execution, ExecutionCancelled(reason, dict(execution.usage))):
            await self._store.request_cancel(execution.tenant, execution.execution_id, reason)

    async def _end_parked(self, execution: Execution, event: ExecutionCancelled) -> bool:
        """Ends a run that holds no process; False if it does, or has ended."""
        if execution.target_kind is TargetKind.WORKFLOW:
            return await self._engine.cancel(execution, event)
        return await self._continuation.end(execution, event)

    async def _earlier(self, caller: Caller, request: ExecuteRequest, asked: str) -> str | None:
        found = await self._store.by_request(caller.tenant, request.request_id)
        if found and found.request_digest != asked:
            raise errors.invalid("request_id", "came before with another request", reason="REQUEST_ID_REUSED")
        return found.execution_id if found else None

    def _time_allowed(self, request: ExecuteRequest, of_target: float | None) -> float:
        """What its target allows at most holds where nothing is asked for."""
        asked = request.timeout or of_target or self._limits.default_timeout
        asked = min(asked, of_target or asked)
        if request.on_disconnect is OnDisconnect.CONTINUE:
            return asked
        return deadline.narrowed(asked) or 0.0

    async def get(self, caller: Caller, execution_id: str) -> Execution:
        found = await self._store.get(caller.tenant, execution_id)
        if found is None:
            raise errors.NotFound("execution", execution_id)
        return replace(found, queue_position=await self._position(found))

    async def describe(self, caller: Caller, execution_id: str) -> tuple[Execution, Sequence[Step]]:
        """An execution with its last steps."""
        found = await self.get(caller, execution_id)
        steps = await self._store.steps(caller.tenant, execution_id)
        if len(steps) > _MOST_STEPS:
            steps = sorted(steps, key=lambda step: step.start_time)[-_MOST_STEPS:]
        return found, steps

    async def origin(self, caller: Caller, execution_id: str) -> str:
        """The trace that an execution belongs to; empty where nobody knows."""
        assignment = await self._store.assignment(caller.tenant, execution_id)
        return assignment.origin if assignment else ""

    async def _position(self, execution: Execution) -> int:
        if execution.status is not Status.QUEUED:
            return 0
        if run := self._runs.get(execution.execution_id):
            return self._runs.position(run)
        return await self._queue.queue_position(execution)

    async def execute(self, caller: Caller, request: ExecuteRequest) -> Execution:
        """Runs a request to its end, or until it waits for input."""
        execution_id = await self.start(caller, request)
        async with contextlib.aclosing(self.watch(caller, execution_id, 0)) as events:
            async for event in events:
                if event.event.pauses:
                    break
        return await self.get(caller, execution_id)

    async def answer(
        self, caller: Caller, execution_id: str, answers: Sequence[InputAnswer], request_id: str
    ) -> Execution:
        """Answers what an execution waits for; with the last answer it goes on."""
        if await self._continuation.answer(caller, await self.get(caller, execution_id), answers, request_id):
            self._runs.wanted.set()
        return await self.get(caller, execution_id)

    async def watch(self, caller: Caller, execution_id: str, after: int) -> AsyncGenerator[LoggedEvent, None]:
        run = self._runs.get(execution_id)
        if run is not None and run.record.execution.tenant == caller.tenant:
            if after > run.record.sequence:
                raise _unknown(run.record.sequence)
            self._runs.joined(run)
            try:
                if position := self._runs.position(run):
                    yield beat(after, position)
                heartbeat = self._limits.heartbeat
                async with contextlib.aclosing(self._events.follow(run.record, after, heartbeat)) as events:
                    async for event in events:
                        after = event.sequence
                        is_beat = isinstance(event.event, Heartbeat)
                        yield beat(after, self._runs.position(run)) if is_beat else event
            finally:
                self._runs.left(run)
            if not run.record.moved:
                return
        execution = await self.get(caller, execution_id)
        _check_after(after, execution)
        async with contextlib.aclosing(self._watch_elsewhere(execution, after)) as events:
            async for event in events:
                yield event

    async def _watch_elsewhere(self, execution: Execution, after: int) -> AsyncGenerator[LoggedEvent, None]:
        with self._news.of(execution.execution_id) as told:
            async with self._touching(execution), contextlib.aclosing(self._replay(execution, after, told)) as events:
                if execution.queue_position:
                    yield beat(after, execution.queue_position)
                if execution.end_time is not None and after == execution.last_sequence:
                    return
                async for event in events:
                    if isinstance(event.event, Heartbeat):
                        await self._require_there(execution)
                    yield event

    def _replay(self, execution: Execution, after: int, told: asyncio.Event) -> AsyncGenerator[LoggedEvent, None]:
        return self._events.replay(
            execution.tenant,
            execution.execution_id,
            after,
            poll=self._limits.watch_poll,
            heartbeat=self._limits.heartbeat,
            pause=partial(self._until_told, told),
        )

    async def _until_told(self, told: asyncio.Event, seconds: float) -> None:
        if self._news.comes:
            seconds = max(seconds, min(_RARER * seconds, self._limits.heartbeat))
        await self._drain.wait_for(told.wait(), seconds)
        told.clear()

    async def _require_there(self, execution: Execution) -> None:
        """It may have been deleted with its session meanwhile."""
        if await self._store.get(execution.tenant, execution.execution_id) is None:
            raise errors.NotFound("execution", execution.execution_id)

    @contextlib.asynccontextmanager
    async def _touching(self, execution: Execution) -> AsyncIterator[None]:
        """What is committed after the first touch is told of; what came before is there to be read."""
        if execution.end_time is not None:
            yield
            return
        await self._touch_once(execution)
        touching = asyncio.create_task(self._touch(execution))
        try:
            yield
        finally:
            touching.cancel()

    async def _touch(self, execution: Execution) -> None:
        while True:
            await asyncio.sleep(TOUCH)
            await self._touch_once(execution)

    async def _touch_once(self, execution: Execution) -> None:
        with contextlib.suppress(errors.Unavailable):
            await self._store.touch(execution.tenant, execution.execution_id, datetime.now(UTC))

    async def cancel(self, caller: Caller, execution_id: str, reason: str) -> Execution:
        """Ends a run and waits for its end; one that has ended stays as it is."""
        execution = await self.get(caller, execution_id)
        if execution.end_time is not None:
            return execution
        await self._interrupt(execution, reason)
        await self._ended(caller, execution_id, execution.last_sequence)
        return await self.get(caller, execution_id)

    async def _ended(self, caller: Caller, execution_id: str, after: int) -> None:
        async with contextlib.aclosing(self.watch(caller, execution_id, after)) as events:
            async for _ in events:
                pass


def _check_after(after: int, execution: Execution) -> None:
    if after > execution.last_sequence:
        raise _unknown(execution.last_sequence)
    if after + 1 < execution.oldest_sequence:
        raise errors.OutOfRange(
            f"the events before {execution.oldest_sequence} are no longer kept",
            reason="EVENTS_EXPIRED",
            metadata={"oldest_sequence": str(execution.oldest_sequence)},
        )


def _unknown(last: int) -> errors.OutOfRange:
    return errors.OutOfRange(
        f"the last event is {last}", reason="SEQUENCE_UNKNOWN", metadata={"last_sequence": str(last)}
    )
