"""Runs that wait for input, and the answers. An answer is there once, by the primary key of its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from libs import errors
from libs.database import aware
from services.execution.model.events import Event, InputReceived, LoggedEvent
from services.execution.model.executions import Execution, Status
from services.execution.model.inputs import Answering, InputAnswer, Kind, due
from services.execution.model.workflows import Signal
from services.execution.store.admission import SqlAdmissionStore
from services.execution.store.calls import call_out, is_watched, tell
from services.execution.store.rows import event_row, progress, to_execution
from services.execution.store.tables import answers, events, executions, signals
from services.execution.store.waits import (
    PARKED,
    clock,
    is_for_nothing,
    locked,
    of_run,
    queue,
    signal_row,
    to_signals,
)

_AT_ONCE: Final = 100
_MOST_SIGNALS: Final = 10_000


class SqlInputStore(SqlAdmissionStore):
    async def answers(self, tenant: str, execution_id: str) -> Mapping[str, InputAnswer]:
        rows = await self._db.rows(_answers(tenant, execution_id))
        return {row.input_id: _given(row) for row in rows}

    async def answer(self, tenant: str, execution_id: str, given: Answering) -> bool:
        """Takes the answers, all or none; True once no question is open and the run is queued to go on.

        Raises FailedPrecondition where the run does not wait for them, unless they came before with this request_id.
        """
        return await self._db.finished(self._answer(tenant, execution_id, given))

    async def _answer(self, tenant: str, execution_id: str, given: Answering) -> bool:
        async with self._db.write() as connection:
            row = await locked(connection, tenant, execution_id)
            known = {one.input_id: one for one in await connection.execute(_answers(tenant, execution_id))}
            if _is_repeat(given, known):
                return False
            if row.status != Status.INPUT_REQUIRED or any(one.input_id in known for one in given.answers):
                raise not_waiting(row.status)
            await self._take(connection, row, given)
            answered = {*known, *(one.input_id for one in given.answers)}
            if {question["input_id"] for question in row.waiting["requests"]} - answered:
                until = of_run(tenant, execution_id).values(lease_time=due(row.waiting, answered))
                await connection.execute(until)
                return False
            await queue(connection, row)
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
        await connection.execute(of_run(row.tenant, row.execution_id).values(last_sequence=sequence))
        await self._tell(connection, row)

    async def due(self) -> Sequence[Execution]:
        """Runs whose wait is over: for the time, a signal that has just come, or because they are to be cancelled."""
        over = (executions.c.status.in_(PARKED), executions.c.lease_time < clock(self._db))
        rows = await self._db.rows(sa.select(executions).where(*over).order_by(executions.c.lease_time).limit(_AT_ONCE))
        return [to_execution(row) for row in rows]

    async def wake(self, tenant: str, execution_id: str) -> bool:
        """Lets a run go on whose time has come, or for which there is a signal; False if it waited for nothing but an
        answer.
        """
        return await self._db.finished(self._wake(tenant, execution_id))

    async def _wake(self, tenant: str, execution_id: str) -> bool:
        async with self._db.write() as connection:
            row = await locked(connection, tenant, execution_id, clock(self._db))
            if row.status not in PARKED:
                return True  # somebody was faster
            if is_for_nothing(row):
                return False
            await queue(connection, row)
            await call_out(self._db, connection)
            return True

    async def signals(self, tenant: str, execution_id: str, after: int) -> Sequence[Signal]:
        query = sa.select(signals).where(*_mail(tenant, execution_id), signals.c.number > after)
        return to_signals(await self._db.rows(query.order_by(signals.c.number)))

    async def signal(self, tenant: str, execution_id: str, signal: Signal) -> bool:
        """Keeps a signal, once by its id; True where a run that waits for it goes on."""
        return await self._db.finished(self._signal(tenant, execution_id, signal))

    async def _signal(self, tenant: str, execution_id: str, signal: Signal) -> bool:
        async with self._db.write() as connection:
            row = await locked(connection, tenant, execution_id, clock(self._db))
            mail = _mail(tenant, execution_id)
            same = sa.select(signals).where(*mail, signals.c.signal_id == signal.signal_id)
            if (known := (await connection.execute(same)).first()) is not None:
                if (known.name, known.payload["value"]) != (signal.name, signal.payload):
                    raise errors.invalid("request_id", "came before with another signal", reason="REQUEST_ID_REUSED")
                return False
            if row.end_time is not None:
                raise not_waiting(row.status)
            last = await connection.scalar(sa.select(sa.func.max(signals.c.number)).where(*mail)) or 0
            if last >= _MOST_SIGNALS:
                raise _too_many()
            kept = signal_row(tenant, execution_id, replace(signal, number=last + 1))
            await connection.execute(signals.insert().values(kept))
            if row.status not in PARKED or signal.name not in row.waiting.get("signals", ()):
                return False
            await queue(connection, row)
            await call_out(self._db, connection)
            return True

    async def end(self, tenant: str, execution_id: str, event: Event) -> bool:
        """Ends a run that holds no process; False if it does not, or no longer."""
        return await self._db.finished(self._end(tenant, execution_id, event))

    async def _end(self, tenant: str, execution_id: str, event: Event) -> bool:
        async with self._db.write() as connection:
            row = await locked(connection, tenant, execution_id)
            if row.status not in PARKED:
                return False
            last = LoggedEvent(row.last_sequence + 1, datetime.now(UTC), (row.target_id,), event)
            await connection.execute(of_run(tenant, execution_id).values(**progress(last)))
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


def _answers(tenant: str, execution_id: str) -> sa.Select[Any]:
    return sa.select(answers).where(answers.c.tenant == tenant, answers.c.execution_id == execution_id)


def _mail(tenant: str, execution_id: str) -> tuple[Any, Any]:
    return signals.c.tenant == tenant, signals.c.execution_id == execution_id


def _too_many() -> errors.ResourceExhausted:
    return errors.ResourceExhausted(
        f"the execution keeps {_MOST_SIGNALS} signals, as many as it may",
        reason="TOO_MANY_SIGNALS",
        metadata={"limit": str(_MOST_SIGNALS)},
    )
