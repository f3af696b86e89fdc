"""Accepting, running, watching and cancelling executions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Collection, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, Self

import structlog

from libs import deadline, errors, ids
from libs.identity import Caller
from services.execution import model
from services.execution.model import (
    Agent,
    Answer,
    Emit,
    Event,
    ExecuteRequest,
    Execution,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    Job,
    LoggedEvent,
    OnDisconnect,
    Status,
    Usage,
)
from services.execution.service.log import EventLog, EventStore, Record, first
from services.execution.service.tools import Tools, digest

log = structlog.get_logger()

_TOUCH: Final = 2.0
_LAST_WORDS: Final = 0.5
"""Seconds of the drain's grace in which runs that it ends say so to their watchers."""
_DAY: Final = 86400.0
SHUTDOWN: Final = "server shutting down"
DISCONNECTED: Final = "caller disconnected"


class Agents(Protocol):
    async def get(self, agent_id: str, revision: int) -> Agent: ...


class AgentRunner(Protocol):
    async def run(self, job: Job, emit: Emit) -> Answer:
        """Runs an agent to its end; raises libs.errors when it fails."""


class ExecutionStore(EventStore, Protocol):
    async def accept(self, execution: Execution, started: LoggedEvent, lease: datetime) -> bool:
        """Commits a new execution with its first event; False if its request_id is taken."""

    async def get(self, tenant: str, execution_id: str) -> Execution | None: ...

    async def by_request(self, tenant: str, request_id: str) -> Execution | None: ...

    async def request_cancel(self, tenant: str, execution_id: str, reason: str) -> None: ...

    async def touch(self, tenant: str, execution_id: str, at: datetime) -> None:
        """Says that somebody watches the execution from another process."""

    async def renew(self, owner: str, execution_ids: Collection[str], lease: datetime) -> Sequence[Execution]:
        """Renews the owner's leases on these executions; gives those of them that somebody wants cancelled."""

    async def lapsed(self, now: datetime) -> Sequence[Execution]:
        """Running executions whose lease is over."""

    async def close(self, execution: Execution, event: Event) -> None:
        """Ends a lapsed execution, unless somebody else did."""


class Drain(Protocol):
    async def wait_for(self, awaitable: Coroutine[Any, Any, Any], seconds: float) -> Any:
        """Raises Unavailable as soon as the server stops."""


@dataclass(frozen=True, slots=True)
class Limits:
    max_executions: int
    default_timeout: float
    resume_grace: float
    heartbeat: float
    lease: float
    watch_poll: float
    drain_grace: float


class Run:
    """An execution of this process: its task, its log, and who watches."""

    def __init__(self, record: Record, on_disconnect: OnDisconnect) -> None:
        self.record, self.on_disconnect = record, on_disconnect
        self.task: asyncio.Task[None] | None = None
        self.watchers = 0
        self.abandoned: asyncio.Task[None] | None = None
        self.cancel_reason: str | None = None
        self._interruptible = False
        record.on_failure = lambda: self.cancel("events cannot be stored")

    def cancel(self, reason: str) -> None:
        """Interrupts the task, but only where it can still say so: not before it has begun, nor when it has its end."""
        if self.cancel_reason is None:
            self.cancel_reason = reason
            if self.task and self._interruptible:
                self.task.cancel()

    def begin(self) -> None:
        if self.cancel_reason is not None:
            raise asyncio.CancelledError
        self._interruptible = True

    def end(self, outcome: Event) -> None:
        self._interruptible = False
        self.record.append(outcome)


class Executions:
    def __init__(
        self,
        store: ExecutionStore,
        events: EventLog,
        agents: Agents,
        runner: AgentRunner,
        tools: Tools,
        drain: Drain,
        limits: Limits,
    ) -> None:
        self._store, self._events, self._agents = store, events, agents
        self._runner, self._tools, self._drain, self._limits = runner, tools, drain, limits
        self._owner = ids.new_id()
        self._starting: set[asyncio.Task[str]] = set()
        self._accepting = 0
        self._runs: dict[str, Run] = {}
        self._background: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._background = [asyncio.create_task(self._keep_house()), asyncio.create_task(self._end_with_server())]
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*self._starting, return_exceptions=True)
        for task in self._background:
            task.cancel()
        self._cancel_all()
        runs = [run.task for run in self._runs.values() if run.task]
        await asyncio.gather(*self._background, *runs, return_exceptions=True)

    def _cancel_all(self) -> None:
        for run in list(self._runs.values()):
            run.cancel(SHUTDOWN)

    async def _end_with_server(self) -> None:
        with contextlib.suppress(errors.Unavailable):
            while True:
                await self._drain.wait_for(asyncio.sleep(_DAY), _DAY)
        await asyncio.sleep(self._limits.drain_grace - _LAST_WORDS)
        self._cancel_all()

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
            self._left(run)

    async def _start(self, caller: Caller, request: ExecuteRequest) -> str:
        asked = digest([request.agent_id, request.input, request.revision, request.session_id, request.user_id])
        if request.request_id and (earlier := await self._earlier(caller, request, asked)):
            return earlier
        if len(self._runs) + self._accepting >= self._limits.max_executions:
            raise errors.ResourceExhausted("the server runs as many executions as it may", retry_after=1.0)
        self._accepting += 1
        try:
            return await self._accept(caller, request, asked)
        finally:
            self._accepting -= 1

    async def _accept(self, caller: Caller, request: ExecuteRequest, asked: str) -> str:
        agent = await self._agents.get(request.agent_id, request.revision)
        _require_runnable(agent)
        bound = self._tools.bind(agent.spec)
        execution = Execution(
            tenant=caller.tenant,
            execution_id=ids.new_id(),
            agent_id=agent.agent_id,
            revision=agent.revision,
            status=Status.RUNNING,
            input=request.input,
            create_time=datetime.now(UTC),
            owner=self._owner,
            session_id=request.session_id,
            user_id=request.user_id,
            metadata=request.metadata,
            request_id=request.request_id,
            request_digest=asked,
            last_sequence=1,
        )
        started = first(agent.agent_id, agent.revision, request.session_id)
        if not await self._store.accept(execution, started, self._lease()):
            return await self._earlier(caller, request, asked) or execution.execution_id
        usage = Usage()
        run = Run(self._events.open(execution, started, usage), request.on_disconnect)
        self._runs[execution.execution_id] = run
        job = Job(execution.execution_id, agent, request.input, request.session_id, request.user_id, bound, usage)
        run.task = asyncio.create_task(self._run(run, job, self._time_allowed(request)))
        return execution.execution_id

    async def _earlier(self, caller: Caller, request: ExecuteRequest, asked: str) -> str | None:
        found = await self._store.by_request(caller.tenant, request.request_id)
        if found and found.request_digest != asked:
            raise errors.invalid("request_id", "came before with another request", reason="REQUEST_ID_REUSED")
        return found.execution_id if found else None

    def _time_allowed(self, request: ExecuteRequest) -> float:
        asked = request.timeout or self._limits.default_timeout
        if request.on_disconnect is OnDisconnect.CONTINUE:
            return asked
        return deadline.narrowed(asked) or 0.0

    async def _run(self, run: Run, job: Job, seconds: float) -> None:
        record = run.record
        deadline.enter(seconds)
        outcome: Event
        try:
            async with asyncio.timeout(seconds):
                run.begin()
                answer = await self._runner.run(job, record.append)
            outcome = ExecutionCompleted(answer.output, answer.structured_output, record.usage.to_dict())
        except asyncio.CancelledError:
            reason = SHUTDOWN if run.cancel_reason is None else run.cancel_reason
            outcome = ExecutionCancelled(reason, record.usage.to_dict())
        except TimeoutError:
            outcome = self._failed(record, errors.DeadlineExceeded("the execution's time ran out"))
        except errors.Error as error:
            outcome = self._failed(record, error)
        except Exception:
            log.exception("execution failed unexpectedly", execution_id=job.execution_id)
            outcome = self._failed(record, errors.Internal("internal error"))
        run.end(outcome)
        log.info(
            "execution ended",
            execution_id=job.execution_id,
            agent_id=job.agent.agent_id,
            tenant=record.execution.tenant,
            outcome=outcome.kind,
            reason=outcome.error["reason"] if isinstance(outcome, ExecutionFailed) else None,
            **record.usage.to_dict(),
        )
        try:
            while not record.ended:
                await record.wait(self._limits.heartbeat)
        finally:
            self._runs.pop(job.execution_id, None)
            if run.abandoned:
                run.abandoned.cancel()

    @staticmethod
    def _failed(record: Record, error: errors.Error) -> ExecutionFailed:
        return ExecutionFailed(errors.to_dict(error), record.usage.to_dict())

    async def get(self, caller: Caller, execution_id: str) -> Execution:
        found = await self._store.get(caller.tenant, execution_id)
        if found is None:
            raise errors.NotFound("execution", execution_id)
        return found

    async def execute(self, caller: Caller, request: ExecuteRequest) -> Execution:
        """Runs a request to its end."""
        execution_id = await self.start(caller, request)
        await self._ended(caller, execution_id, 0)
        return await self.get(caller, execution_id)

    async def watch(self, caller: Caller, execution_id: str, after: int) -> AsyncGenerator[LoggedEvent, None]:
        run = self._runs.get(execution_id)
        if run is None or run.record.execution.tenant != caller.tenant:
            execution = await self.get(caller, execution_id)
            _check_after(after, execution.last_sequence)
            async with contextlib.aclosing(self._watch_elsewhere(execution, after)) as events:
                async for event in events:
                    yield event
            return
        _check_after(after, run.record.sequence)
        run.watchers += 1
        if run.abandoned:
            run.abandoned.cancel()
            run.abandoned = None
        try:
            async with contextlib.aclosing(self._events.follow(run.record, after, self._limits.heartbeat)) as events:
                async for event in events:
                    yield event
        finally:
            run.watchers -= 1
            self._left(run)

    async def _watch_elsewhere(self, execution: Execution, after: int) -> AsyncGenerator[LoggedEvent, None]:
        touching = asyncio.create_task(self._touch(execution)) if execution.status is Status.RUNNING else None
        try:
            async with contextlib.aclosing(
                self._events.replay(
                    execution.tenant,
                    execution.execution_id,
                    after,
                    poll=self._limits.watch_poll,
                    heartbeat=self._limits.heartbeat,
                    pause=lambda seconds: self._drain.wait_for(asyncio.sleep(seconds), seconds),
                )
            ) as events:
                if execution.status is not Status.RUNNING and after == execution.last_sequence:
                    return
                async for event in events:
                    yield event
        finally:
            if touching:
                touching.cancel()

    async def _touch(self, execution: Execution) -> None:
        while True:
            with contextlib.suppress(errors.Unavailable):
                await self._store.touch(execution.tenant, execution.execution_id, datetime.now(UTC))
            await asyncio.sleep(_TOUCH)

    def _left(self, run: Run) -> None:
        if run.watchers or run.record.ended or run.on_disconnect is OnDisconnect.CONTINUE:
            return
        if run.on_disconnect is OnDisconnect.CANCEL:
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
                if row and row.watch_time and row.watch_time >= left_at - timedelta(seconds=2 * _TOUCH):
                    continue
                run.cancel(DISCONNECTED)
                return

    async def cancel(self, caller: Caller, execution_id: str, reason: str) -> Execution:
        """Ends a run and waits for its end; one that has ended stays as it is."""
        execution = await self.get(caller, execution_id)
        if execution.status is not Status.RUNNING:
            return execution
        if run := self._runs.get(execution_id):
            run.cancel(reason)
        else:
            await self._store.request_cancel(caller.tenant, execution_id, reason)
        await self._ended(caller, execution_id, execution.last_sequence)
        return await self.get(caller, execution_id)

    async def _ended(self, caller: Caller, execution_id: str, after: int) -> None:
        async with contextlib.aclosing(self.watch(caller, execution_id, after)) as events:
            async for _ in events:
                pass

    def _lease(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self._limits.lease)

    async def _keep_house(self) -> None:
        """Renews this process's leases, hears cancellations from others, and ends runs whose process has died."""
        while True:
            await asyncio.sleep(min(0.5, self._limits.lease / 4))
            try:
                for execution in await self._store.renew(self._owner, list(self._runs), self._lease()):
                    if run := self._runs.get(execution.execution_id):
                        run.cancel(execution.cancel_reason or "")
                for execution in await self._store.lapsed(datetime.now(UTC)):
                    await self._close(execution)
            except errors.Unavailable:
                log.warning("housekeeping: the database does not answer")
            except Exception:
                log.exception("housekeeping failed")

    async def _close(self, execution: Execution) -> None:
        log.warning("execution lost", execution_id=execution.execution_id, owner=execution.owner)
        error = errors.Unavailable("the process that ran the execution died", reason="EXECUTION_LOST")
        await self._store.close(execution, ExecutionFailed(errors.to_dict(error), dict(execution.usage)))


def _check_after(after: int, last: int) -> None:
    if after > last:
        raise errors.invalid("after_sequence", f"is beyond the last event, {last}")


def _require_runnable(agent: Agent) -> None:
    """Better no run than one that leaves out what its agent says."""
    for part in model.NOT_RUN_YET:
        if part in agent.spec:
            raise errors.FailedPrecondition(
                f"the agent has {part.replace('_', ' ')}, which this version cannot run",
                metadata={"field": f"agent.spec.{part}"},
            )
