"""Ended executions, run again from their journals."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import Protocol

from libs import errors
from libs.identity import Caller
from services.execution.model.events import Event, ExecutionCompleted, LoggedEvent, Source
from services.execution.model.executions import Execution, Status, Usage
from services.execution.model.journal import Step
from services.execution.model.turns import Assignment
from services.execution.service.journal import Replay, past
from services.execution.service.log import started
from services.execution.service.record import pieces
from services.execution.service.runs import Runner, work


class ReplayStore(Protocol):
    async def get(self, tenant: str, execution_id: str) -> Execution | None: ...

    async def assignment(self, tenant: str, execution_id: str) -> Assignment | None: ...

    async def steps(self, tenant: str, execution_id: str) -> Sequence[Step]: ...

    async def events(self, tenant: str, execution_id: str, *, after: int, limit: int) -> Sequence[LoggedEvent]: ...


class Replays:
    def __init__(self, store: ReplayStore, runner: Runner) -> None:
        self._store, self._runner = store, runner

    async def replay(self, caller: Caller, execution_id: str) -> AsyncGenerator[LoggedEvent, None]:
        execution, assignment = await self._ended(caller, execution_id)
        steps = await self._store.steps(caller.tenant, execution_id)
        whole = Source((execution.target_id,))
        said: asyncio.Queue[tuple[Event, Source] | None] = asyncio.Queue()

        def say(event: Event, source: Source) -> None:
            for piece in pieces(event):
                said.put_nowait((piece, source))

        say(started(execution), whole)
        task = asyncio.create_task(self._run(execution, assignment, Replay(past(steps, {}, {}), say, whole)))
        task.add_done_callback(lambda _: said.put_nowait(None))
        try:
            sequence = 0
            while (one := await said.get()) is not None:
                event, source = one
                sequence += 1
                yield LoggedEvent(sequence, datetime.now(UTC), source.path, event, source.scope)
            yield LoggedEvent(sequence + 1, datetime.now(UTC), whole.path, await task)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, errors.Error):
                await task

    async def _ended(self, caller: Caller, execution_id: str) -> tuple[Execution, Assignment]:
        execution = await self._store.get(caller.tenant, execution_id)
        if execution is None:
            raise errors.NotFound("execution", execution_id)
        if execution.end_time is None:
            raise errors.FailedPrecondition("the execution has not ended", metadata={"status": execution.status.value})
        assignment = await self._store.assignment(caller.tenant, execution_id)
        if assignment is None:
            raise errors.OutOfRange(
                "the journal of the execution is no longer kept",
                reason="EVENTS_EXPIRED",
                metadata={"oldest_sequence": str(execution.oldest_sequence)},
            )
        return execution, assignment

    async def _run(self, execution: Execution, assignment: Assignment, journal: Replay) -> Event:
        usage = Usage()
        try:
            answer = await self._runner.run(work(execution, assignment, usage), journal)
        except errors.Error as error:
            if error.reason_code == "JOURNAL_MISMATCH" and (
                not journal.missing or execution.status is Status.COMPLETED
            ):
                raise
            return await self._last(execution)
        if execution.status is not Status.COMPLETED:
            return await self._last(execution)
        if answer.output != execution.output:
            raise _other_answer()
        return ExecutionCompleted(answer.output, answer.structured_output, usage.to_dict(), [*answer.followups])

    async def _last(self, execution: Execution) -> Event:
        """How it ended from outside, or with an error."""
        after = execution.last_sequence - 1
        found = await self._store.events(execution.tenant, execution.execution_id, after=after, limit=1)
        return found[0].event


def _other_answer() -> errors.Aborted:
    return errors.Aborted("the run's answer is not the one that it had", reason="JOURNAL_MISMATCH")
