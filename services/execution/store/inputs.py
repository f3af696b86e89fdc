"""Runs that wait for input, and the answers. An answer is there once, by the primary key of its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from libs import errors
from libs.database import aware
from services.execution.model.events import Event, InputReceived, LoggedEvent
from services.execution.model.executions import Execution, Status
from services.execution.model.inputs import Answering, InputAnswer, Kind, due
from services.execution.store.admission import SqlAdmissionStore
from services.execution.store.calls import call_out, is_watched, tell
from services.execution.store.rows import event_row, progress, to_execution
from services.execution.store.tables import answers, events, executions, jobs

_AT_ONCE: Final = 100


class SqlInputStore(SqlAdmissionStore):
    async def answers(self, tenant: str, execution_id: str) -> Mapping[str, InputAnswer]:
        rows = await self._db.rows(_answers(tenant, execution_id))
        return {
            row.input_id: InputAnswer(row.input_id, Kind(row.kind), row.answer, row.subject, aware(row.create_time))
            for row in rows
        }

    async def answer(self, tenant: str, execution_id: str, given: Answering) -> bool:
        """Takes the answers, all or none; True once no question is open and the run is queued to go on.

        Raises FailedPrecondition where the run does not wait for them, unless they came before with this request_id.
        """
        return await self._db.finished(self._answer(tenant, execution_id, given))

    async def _answer(self, tenant: str, execution_id: str, given: Answering) -> bool:
        async with self._db.write() as connection:
            row = await _locked(connection, tenant, execution_id)
            known = {one.input_id: one for one in await connection.execute(_answers(tenant, execution_id))}
            if _is_repeat(given, known):
                return False
            if row.status != Status.INPUT_REQUIRED or any(one.input_id in known for one in given.answers):
                raise not_waiting(row.status)
            await self._take(connection, row, given)
            answered = {*known, *(one.input_id for one in given.answers)}
            if {question["input_id"] for question in row.waiting["requests"]} - answered:
                until = _of(tenant, execution_id).values(lease_time=due(row.waiting, answered))
                await connection.execute(until)
                return False
            await _queue(connection, row)
            await call_out(self._db, connection)
            return True

    async def _take(self, connection: AsyncConnection, row: Any, given: Answering) -> None:
        now, sequence = datetime.now(UTC), row.last_sequence
        where = {"tenant": row.tenant, "execution_id": row.execution_id}
        for one in given.answers:
            sequence += 1
            values = {"input_id": one.input_id, "kind": one.kind.value, "answer": dict(one.value)}
            kept = {"request_id": given.request_id, "subject": given.subject, "create_time": now}
            await connection.execute(answers.insert().values(**where, **values, **kept))
            approved = bool(one.value.get("approved")) if one.kind is Kind.APPROVAL else None
            event = InputReceived(one.input_id, approved, given.subject, bool(one.value.get("expired")))
            received = LoggedEvent(sequence, now, (row.target_id,), event)
            await connection.execute(events.insert().values(event_row(row.tenant, row.execution_id, received)))
        await connection.execute(_of(row.tenant, row.execution_id).values(last_sequence=sequence))
        await self._tell(connection, row)

    async def expired(self, now: datetime) -> Sequence[Execution]:
        over = sa.or_(executions.c.lease_time < now, executions.c.cancel_reason.is_not(None))
        query = sa.select(executions).where(executions.c.status == Status.INPUT_REQUIRED, over)
        rows = await self._db.rows(query.limit(_AT_ONCE))
        return [to_execution(row) for row in rows]

    async def end(self, tenant: str, execution_id: str, event: Event) -> bool:
        """Ends a run that waits for input; False if it does not, or no longer."""
        return await self._db.finished(self._end(tenant, execution_id, event))

    async def _end(self, tenant: str, execution_id: str, event: Event) -> bool:
        async with self._db.write() as connection:
            row = await _locked(connection, tenant, execution_id)
            if row.status != Status.INPUT_REQUIRED:
                return False
            last = LoggedEvent(row.last_sequence + 1, datetime.now(UTC), (row.target_id,), event)
            await connection.execute(_of(tenant, execution_id).values(**progress(last)))
            await connection.execute(events.insert().values(event_row(tenant, execution_id, last)))
            await self._tell(connection, row)
            return True

    async def _tell(self, connection: AsyncConnection, row: Any) -> None:
        if not self._db.is_sqlite and is_watched(row):
            await tell(connection, [row.execution_id])


def _given(row: Any) -> InputAnswer:
    return InputAnswer(row.input_id, Kind(row.kind), row.answer, row.subject, aware(row.create_time))


def not_waiting(status: str) -> errors.FailedPrecondition:
    return errors.FailedPrecondition(
        "the execution does not wait for this", reason="NOT_WAITING", metadata={"status": status}
    )


def _is_repeat(given: Answering, known: Mapping[str, Any]) -> bool:
    if not given.request_id:
        return False
    same = [known[one.input_id].answer == one.value for one in given.answers if one.input_id in known]
    by_request = {one.input_id for one in known.values() if one.request_id == given.request_id}
    return all(same) and by_request == {one.input_id for one in given.answers}


async def _locked(connection: AsyncConnection, tenant: str, execution_id: str) -> Any:
    of = sa.and_(executions.c.tenant == tenant, executions.c.execution_id == execution_id)
    row = (await connection.execute(sa.select(executions).where(of).with_for_update())).first()
    if row is None:
        raise errors.NotFound("execution", execution_id)
    return row


async def _queue(connection: AsyncConnection, row: Any) -> None:
    """The run goes on where a process takes it up; the time that it has waited is none of its own."""
    now = datetime.now(UTC)
    queued = {"status": Status.QUEUED.value, "owner": "", "lease_time": now - timedelta(seconds=1), "waiting": None}
    await connection.execute(_of(row.tenant, row.execution_id).values(**queued))
    job = sa.and_(jobs.c.tenant == row.tenant, jobs.c.execution_id == row.execution_id)
    (deadline,) = (await connection.execute(sa.select(jobs.c.deadline).where(job))).one()
    waited = now - datetime.fromisoformat(row.waiting["since"])
    await connection.execute(jobs.update().where(job).values(deadline=aware(deadline) + waited))


def _of(tenant: str, execution_id: str) -> sa.Update:
    return executions.update().where(executions.c.tenant == tenant, executions.c.execution_id == execution_id)


def _answers(tenant: str, execution_id: str) -> sa.Select[Any]:
    return sa.select(answers).where(answers.c.tenant == tenant, answers.c.execution_id == execution_id)
