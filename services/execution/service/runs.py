"""The runs of this process: their tasks, their ends, and who watches them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import structlog

from libs import correlation, deadline, errors, identity, ids
from libs.identity import Caller
from services.execution.model.events import (
    Event,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    LoggedEvent,
)
from services.execution.model.executions import Execution, OnDisconnect, Status, Usage
from services.execution.model.inputs import InputAnswer, InputNeeded
from services.execution.model.journal import Step
from services.execution.model.turns import Answer, Assignment, Work
from services.execution.model.workflows import Parking
from services.execution.service.admission import Admission, Ticket
from services.execution.service.continuation import after_wait, required, was_announced
from services.execution.service.journal import Journal, Past, RunJournal, past
from services.execution.service.log import EventLog, started
from services.execution.service.observing import NOBODY, Observer
from services.execution.service.outputs import Unfit
from services.execution.service.record import Record
from services.execution.service.room import Room
from services.execution.service.sources import depth_of, enter_depth

log = structlog.get_logger()

TOUCH: Final = 2.0
DISCONNECTED: Final = "caller disconnected"


class Runner(Protocol):
    async def run(self, work: Work, journal: Journal) -> Answer:
        """Runs a target to its end; raises libs.errors when it fails."""


class RunStore(Protocol):
    async def get(self, tenant: str, execution_id: str) -> Execution | None: ...

    async def assignment(self, tenant: str, execution_id: str) -> Assignment | None: ...

    async def steps(self, tenant: str, execution_id: str) -> Sequence[Step]: ...

    async def partial_from(self, tenant: str, execution_id: str) -> Mapping[str, int]:
        """By scope, the first text or reasoning after its last completed step."""

    async def release(self, execution: Execution) -> None:
        """Ends the lease, so that another process can take the execution up at once."""


class TurnStore(Protocol):
    async def begin(self, execution: Execution) -> bool:
        """Makes a queued execution a running one; False while its session has another one before it."""

    async def answers(self, tenant: str, execution_id: str) -> Mapping[str, InputAnswer]: ...

    async def end(self, tenant: str, execution_id: str, event: Event) -> bool:
        """Ends a run that holds no process; False if it does, or has ended."""


@dataclass(frozen=True, slots=True)
class Limits:
    default_timeout: float
    resume_grace: float
    heartbeat: float
    lease: float
    watch_poll: float
    drain_grace: float
    max_deaths: int
    input_timeout: float


class Run:
    """An execution of this process: its task, its log, and who watches."""

    def __init__(self, record: Record, on_disconnect: OnDisconnect, ticket: Ticket) -> None:
        self.record, self.on_disconnect, self.ticket = record, on_disconnect, ticket
        self.task: asyncio.Task[None] | None = None
        self.watchers = 0
        self.abandoned: asyncio.Task[None] | None = None
        self.cancel_reason: str | None = None
        self.left_to_others = False
        self.begun = ticket.granted and record.execution.status is Status.RUNNING
        self._interruptible = False
        record.on_failure = self.leave_to_others

    def cancel(self, reason: str) -> None:
        """Interrupts the task, but only where it can still say so: not before it has begun, nor when it has its end."""
        if self.cancel_reason is None:
            self.cancel_reason = reason
            self._interrupt()

    def leave_to_others(self) -> None:
        """Interrupts the task without an end: another process goes on with it."""
        if not self.left_to_others and self.cancel_reason is None:
            self.left_to_others = True
            self._interrupt()

    def _interrupt(self) -> None:
        if self.task and self._interruptible:
            self.task.cancel()

    def begin(self) -> None:
        if self.cancel_reason is not None or self.left_to_others:
            raise asyncio.CancelledError
        self._interruptible = True

    def end(self, outcome: Event | None, parking: Parking | None = None) -> None:
        self._interruptible = False
        if parking is not None:
            self.record.park(parking)
        if outcome is not None:
            self.record.append(outcome)


class Runs:
    def __init__(
        self,
        store: RunStore,
        turns: TurnStore,
        admission: Admission,
        events: EventLog,
        runner: Runner,
        limits: Limits,
        room: Room,
        observer: Observer = NOBODY,
    ) -> None:
        self._store, self._turns, self._admission, self._events = store, turns, admission, events
        self._runner, self._limits, self._room = runner, limits, room
        self.observer = observer
        self.owner = ids.new_id()
        self.wanted = asyncio.Event()
        """Set where there is an execution to be taken up."""
        self.taken_up = 0
        self._runs: dict[str, Run] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._runs))

    def get(self, execution_id: str) -> Run | None:
        return self._runs.get(execution_id)

    @property
    def room(self) -> int:
        """Executions that could be taken up."""
        return self._admission.room

    def begin(self, execution: Execution, assignment: Assignment, ticket: Ticket, *started: LoggedEvent) -> None:
        """Runs an execution that was just accepted, once it is its turn."""
        self._open(execution, assignment, Past(), ticket, *started)

    async def take_up(self, execution: Execution) -> None:
        """Goes on with an execution whose lease this process has claimed."""
        self.taken_up += 1
        log.warning("execution taken up", execution_id=execution.execution_id, attempts=execution.attempts)
        assignment = await self._store.assignment(execution.tenant, execution.execution_id)
        if (end := self._end_of(execution, assignment)) is not None:
            self._events.open(execution, Usage(**execution.usage)).append(end)
            self.observer.ended(execution, end)
            return
        assert assignment is not None
        steps = await self._store.steps(execution.tenant, execution.execution_id)
        partial = await self._store.partial_from(execution.tenant, execution.execution_id)
        answers = await self._turns.answers(execution.tenant, execution.execution_id)
        ticket = self._admission.enter(
            execution.tenant, execution.execution_id, execution.session_id, execution.priority
        )
        waited = execution.input_required
        run = self._open(execution, assignment, after_wait(past(steps, partial, answers), waited), ticket)
        if answers or waited:  # who asks for a person's time does not expect to be watched meanwhile
            run.on_disconnect = OnDisconnect.CONTINUE
        self.unclaimed(run)

    def _end_of(self, execution: Execution, assignment: Assignment | None) -> Event | None:
        """The end of an execution with which nobody goes on."""
        usage = dict(execution.usage)
        if execution.cancel_reason is not None:
            return ExecutionCancelled(execution.cancel_reason, usage)
        if execution.deaths >= self._limits.max_deaths:
            return ExecutionFailed(errors.to_dict(_poisoned(execution.deaths)), usage)
        if assignment is None:
            lost = errors.Unavailable("the process that ran the execution died", reason="EXECUTION_LOST")
            return ExecutionFailed(errors.to_dict(lost), usage)
        return None

    def _open(
        self, execution: Execution, assignment: Assignment, found: Past, ticket: Ticket, *tail: LoggedEvent
    ) -> Run:
        run = Run(self._events.open(execution, Usage(), *tail), assignment.request.on_disconnect, ticket)
        self._runs[execution.execution_id] = run
        run.task = asyncio.create_task(self._run(run, assignment, found))
        return run

    def prepare_to_leave(self) -> None:
        for run in list(self._runs.values()):
            run.record.leaving = True

    def leave_all(self) -> None:
        """Hands all runs over to whoever takes them up."""
        for run in list(self._runs.values()):
            run.leave_to_others()

    async def ended(self) -> None:
        await asyncio.gather(*(run.task for run in self._runs.values() if run.task), return_exceptions=True)

    async def _run(self, run: Run, assignment: Assignment, found: Past) -> None:
        record = run.record
        identity.enter(_caller(record.execution, assignment))
        correlation.enter(record.execution.execution_id)
        enter_depth(depth_of(record.execution.metadata))
        try:
            outcome, parking = await self._parted(run, assignment, found)
            run.end(outcome, parking)
            if outcome is not None:
                _log_end(record, outcome)
                self.observer.ended(record.execution, outcome)
            elif parking is not None:
                log.info("execution waits", execution_id=record.execution.execution_id, tenant=record.execution.tenant)
            else:
                await self._hand_over(run)
            while not record.ended:
                await record.changed()
            if parking is not None and run.cancel_reason is not None:
                execution = record.execution
                cancelled = ExecutionCancelled(run.cancel_reason, record.usage.to_dict())
                await self._turns.end(execution.tenant, execution.execution_id, cancelled)
        finally:
            self._admission.leave(run.ticket)
            self._runs.pop(record.execution.execution_id, None)
            if run.abandoned:
                run.abandoned.cancel()

    async def _parted(self, run: Run, assignment: Assignment, found: Past) -> tuple[Event | None, Parking | None]:
        """The outcome; and where the run leaves its process to wait, what for."""
        try:
            return await self._outcome(run, assignment, found), None
        except InputNeeded as needed:
            for source, event in needed.announced:
                if not was_announced(source, event, found):
                    run.record.append(event, source)
            asks = required(needed.questions, self._limits.input_timeout) if needed.questions else None
            return asks, Parking.of(tuple(needed.waits))

    async def _outcome(self, run: Run, assignment: Assignment, found: Past) -> Event | None:
        """The terminal event; None where the run goes on in another process."""
        record = run.record
        seconds = (assignment.deadline - datetime.now(UTC)).total_seconds()
        deadline.enter(seconds)
        try:
            async with asyncio.timeout(seconds):
                run.begin()
                await self._turn(run)
                await self._announced()
                answer = await self._runner.run(
                    work(record.execution, assignment, record.usage), RunJournal(record, found)
                )
            return self._completed(record, answer)
        except asyncio.CancelledError:
            if run.cancel_reason is None:
                return None
            return ExecutionCancelled(run.cancel_reason, record.usage.to_dict())
        except TimeoutError:
            return _failed(errors.DeadlineExceeded("the execution's time ran out"), record.usage)
        except InputNeeded:
            raise
        except Unfit as unfit:
            return replace(_failed(unfit.error(), record.usage), raw_output=self._room.clipped(unfit.text))
        except errors.Error as error:
            return _failed(error, record.usage) if not record.failure else None
        except Exception:
            log.exception("execution failed unexpectedly", execution_id=record.execution.execution_id)
            return _failed(errors.Internal("internal error"), record.usage)

    def _completed(self, record: Record, answer: Answer) -> ExecutionCompleted:
        used, followups = record.usage.to_dict(), list(answer.followups)
        completed = ExecutionCompleted(answer.output, answer.structured_output, used, followups)
        self._room.require(record.execution, completed)
        record.kept = answer.kept
        return completed

    async def _turn(self, run: Run) -> None:
        """Waits for a slot. The run's first words come when it has one."""
        execution = run.record.execution
        await self._admission.turn(run.ticket, lambda: self._begins(execution))
        run.begun = True
        if execution.last_sequence == 0:
            run.record.append(started(execution))

    async def _begins(self, execution: Execution) -> bool:
        if execution.status is Status.RUNNING:
            return True
        try:
            return await self._turns.begin(execution)
        except errors.Unavailable as error:
            if error.reason_code != "DATABASE_UNAVAILABLE":
                raise
            return False

    @staticmethod
    async def _announced() -> None:
        """Lets the first event go out: what comes next holds the loop for as long as the agent has tools."""
        for _ in range(4):
            await asyncio.sleep(0)

    def position(self, run: Run) -> int:
        """Its place in the queue; 0 once it runs."""
        return 0 if run.begun else max(1, self._admission.position(run.ticket))

    async def _hand_over(self, run: Run) -> None:
        record = run.record
        try:
            await record.stored()
            await self._store.release(record.execution)
        except errors.Error as error:
            log.warning(
                "execution not handed over", execution_id=record.execution.execution_id, reason=error.reason_code
            )
        record.broken(
            errors.Unavailable("the server is stopping", reason="SHUTTING_DOWN", retry_after=0.1), moved=False
        )

    def joined(self, run: Run) -> None:
        """Somebody watches."""
        run.watchers += 1
        if run.abandoned:
            run.abandoned.cancel()
            run.abandoned = None

    def left(self, run: Run) -> None:
        """A watcher has gone."""
        run.watchers -= 1
        self.unclaimed(run)

    def unclaimed(self, run: Run) -> None:
        if run.watchers or run.record.ended or run.on_disconnect is OnDisconnect.CONTINUE:
            return
        if run.on_disconnect is OnDisconnect.CANCEL and run.record.execution.attempts == 1:
            run.cancel(DISCONNECTED)
        else:
            run.abandoned = asyncio.create_task(self._abandon(run))

    async def _abandon(self, run: Run) -> None:
        """Cancels a run that nobody watches, here or through another process, for the time of the grace."""
        execution = run.record.execution
        while not run.record.ended:
            left_at = datetime.now(UTC)
            await asyncio.sleep(self._limits.resume_grace)
            with contextlib.suppress(errors.Unavailable):
                row = await self._store.get(execution.tenant, execution.execution_id)
                if row and row.watch_time and row.watch_time >= left_at - timedelta(seconds=2 * TOUCH):
                    continue
                run.cancel(DISCONNECTED)
                return


def work(execution: Execution, assignment: Assignment, usage: Usage) -> Work:
    """All that is to be done for an execution."""
    asked, origin = assignment.request, assignment.origin
    return Work(execution.execution_id, assignment.pinned, asked, usage, execution.create_time, origin=origin)


def _failed(error: errors.Error, usage: Usage) -> ExecutionFailed:
    return ExecutionFailed(errors.to_dict(error), usage.to_dict())


def _caller(execution: Execution, assignment: Assignment) -> Caller:
    """Tokens are not kept: a run that is taken up acts with the service's own."""
    caller = identity.current_or_none()
    if caller and (caller.tenant, caller.subject) == (execution.tenant, assignment.subject):
        return caller
    return Caller(execution.tenant, assignment.subject, frozenset())


def _poisoned(deaths: int) -> errors.Aborted:
    return errors.Aborted(
        f"{deaths} processes died of this execution", reason="POISONED", metadata={"attempts": str(deaths)}
    )


def _log_end(record: Record, outcome: Event) -> None:
    execution = record.execution
    log.info(
        "execution waits for input" if outcome.pauses else "execution ended",
        execution_id=execution.execution_id,
        target=execution.target.key,
        tenant=execution.tenant,
        outcome=outcome.kind,
        reason=outcome.error["reason"] if isinstance(outcome, ExecutionFailed) else None,
        **record.usage.to_dict(),
    )
