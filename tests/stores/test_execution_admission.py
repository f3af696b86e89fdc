"""Who begins, who waits for input and who answers: what the database decides between processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from libs import database, errors
from services.execution.app import MIGRATIONS
from services.execution.config import ExecutionSettings
from services.execution.model.events import ExecutionCancelled, InputReceived, LoggedEvent
from services.execution.model.executions import Execution, Status
from services.execution.model.inputs import Answering, InputAnswer, Kind
from services.execution.service.continuation import required
from services.execution.store import SqlExecutionStore
from services.execution.store.admission import SqlAdmissionStore
from services.execution.store.inputs import SqlInputStore
from services.execution.store.rows import columns, progress, to_events, to_execution
from services.execution.store.tables import events, executions, jobs

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
YES = {"approved": True}


@pytest.fixture
async def db(database_settings: dict[str, Any]) -> AsyncIterator[database.Database]:
    settings = ExecutionSettings.load(**database_settings)
    await database.migrate(settings, MIGRATIONS)
    async with database.opened(settings, MIGRATIONS) as opened:
        yield opened


@pytest.fixture
def admission(db: database.Database) -> SqlAdmissionStore:
    return SqlAdmissionStore(db)


@pytest.fixture
def inputs(db: database.Database) -> SqlInputStore:
    return SqlInputStore(db)


async def queued(db: database.Database, execution_id: str, **fields: Any) -> Execution:
    given: dict[str, Any] = {"tenant": "acme", "target_id": "helper", "revision": 1, "status": Status.QUEUED}
    given |= {"input": "hi", "create_time": NOW, "owner": "me", "session_id": "s", **fields}
    made = Execution(execution_id=execution_id, **given)
    async with db.write() as connection:
        await connection.execute(executions.insert().values(lease_time=NOW, **columns(made)))
    return made


async def read(db: database.Database, execution: Execution) -> Execution:
    of = (executions.c.tenant == execution.tenant, executions.c.execution_id == execution.execution_id)
    (row,) = await db.rows(sa.select(executions).where(*of))
    return to_execution(row)


async def change(db: database.Database, execution: Execution, **values: Any) -> None:
    of = (executions.c.tenant == execution.tenant, executions.c.execution_id == execution.execution_id)
    async with db.write() as connection:
        await connection.execute(executions.update().where(*of).values(**values))


async def end(db: database.Database, execution: Execution) -> None:
    await change(db, execution, **progress(LoggedEvent(2, NOW, (), ExecutionCancelled("done", {}))))


async def test_one_run_of_a_session_begins_and_the_next_when_it_has_ended(
    db: database.Database, admission: SqlAdmissionStore
) -> None:
    first, second = await queued(db, "1"), await queued(db, "2", owner="another")
    assert await admission.begin(first)
    assert (await read(db, first)).status is Status.RUNNING
    assert not await admission.begin(second)
    assert (await read(db, second)).status is Status.QUEUED
    assert [one.execution_id for one in await admission.unfinished("acme", "s")] == ["1", "2"]
    await end(db, first)
    assert await admission.begin(second)


async def test_order_of_a_session_holds_across_processes(db: database.Database, admission: SqlAdmissionStore) -> None:
    first, second = await queued(db, "1"), await queued(db, "2", owner="another", priority=9)
    assert not await admission.begin(second)
    assert await admission.begin(first)


async def test_runs_without_a_session_or_of_others_do_not_wait(
    db: database.Database, admission: SqlAdmissionStore
) -> None:
    made = [
        await queued(db, "1"),
        await queued(db, "2", session_id="t"),
        await queued(db, "3", session_id=""),
        await queued(db, "4", session_id=""),
        await queued(db, "5", tenant="other"),
    ]
    assert [await admission.begin(one) for one in made] == [True] * 5


async def test_one_of_many_at_once_begins(db: database.Database, admission: SqlAdmissionStore) -> None:
    """Their ids are not in the order in which they were accepted: clocks differ."""
    made = [await queued(db, str(n), owner=f"p{n}") for n in range(6)]
    begun = await asyncio.gather(*(admission.begin(one) for one in made))
    assert sum(begun) == 1


async def test_run_that_another_process_has_taken_does_not_begin(
    db: database.Database, admission: SqlAdmissionStore
) -> None:
    made = await queued(db, "1")
    await change(db, made, attempts=made.attempts + 1)
    with pytest.raises(errors.Unavailable) as caught:
        await admission.begin(made)
    assert caught.value.reason_code == "EXECUTION_LOST"


async def test_place_in_the_queue_of_the_tenant(db: database.Database, admission: SqlAdmissionStore) -> None:
    made = [
        await queued(db, "1", session_id=""),
        await queued(db, "2", session_id="", priority=5),
        await queued(db, "3", session_id="", tenant="other"),
        await queued(db, "4", session_id="", status=Status.RUNNING),
        await queued(db, "5", session_id=""),
    ]
    assert [await admission.queue_position(made[n]) for n in (0, 1, 2, 4)] == [2, 1, 1, 3]


async def waiting(db: database.Database, execution_id: str = "1", *input_ids: str, seconds: float = 60) -> Execution:
    """A run that waits for input since a minute."""
    made = await queued(db, execution_id, status=Status.RUNNING)
    questions = [{"input_id": name, "approval": {"tool_id": "t", "call_id": name}} for name in input_ids or ("q",)]
    asked = LoggedEvent(1, datetime.now(UTC) - timedelta(seconds=60), ("helper",), required(questions, seconds))
    await change(db, made, **progress(asked))
    async with db.write() as connection:
        values = {"tenant": "acme", "execution_id": execution_id, "request": "{}", "pinned": "{}", "subject": "ann"}
        await connection.execute(jobs.insert().values(**values, deadline=NOW))
    return made


def given(*input_ids: str, request_id: str = "", subject: str = "ann", **value: Any) -> Answering:
    answers = [InputAnswer(name, Kind.APPROVAL, value or YES) for name in input_ids]
    return Answering(answers, subject, request_id)


async def test_answer_queues_the_run_for_whoever_takes_it_up(db: database.Database, inputs: SqlInputStore) -> None:
    made = await waiting(db)
    assert (await read(db, made)).status is Status.INPUT_REQUIRED
    assert await inputs.answer("acme", "1", given("q"))
    after = await read(db, made)
    assert (after.status, after.owner, after.last_sequence) == (Status.QUEUED, "", 2)
    assert after.input_required == {"asked": ["q"], "woken": None}
    (row,) = await db.rows(sa.select(events))
    assert to_events(row)[0].event == InputReceived("q", True, "ann")
    (answer,) = (await inputs.answers("acme", "1")).values()
    assert (answer.input_id, answer.kind, answer.value, answer.subject) == ("q", Kind.APPROVAL, YES, "ann")
    assert answer.time is not None
    (deadline,) = (await db.rows(sa.select(jobs.c.deadline)))[0]
    assert database.aware(deadline) - NOW >= timedelta(seconds=60), "the time of the wait is none of the run's"


async def test_continued_run_keeps_its_session(
    db: database.Database, inputs: SqlInputStore, admission: SqlAdmissionStore
) -> None:
    earlier = await queued(db, "0", owner="slow clock")
    made = await waiting(db, "1")
    assert not await admission.begin(earlier)
    await inputs.answer("acme", "1", given("q"))
    assert not await admission.begin(earlier)
    assert await admission.begin(await read(db, made))


async def test_several_answers_in_several_calls(db: database.Database, inputs: SqlInputStore) -> None:
    made = await waiting(db, "1", "a", "b", "c")
    assert not await inputs.answer("acme", "1", given("b"))
    assert (await read(db, made)).status is Status.INPUT_REQUIRED
    assert await inputs.answer("acme", "1", given("c", "a"))
    assert (await read(db, made)).status is Status.QUEUED


async def test_of_two_approvers_one_is_heard(db: database.Database, inputs: SqlInputStore) -> None:
    await waiting(db)
    both = [inputs.answer("acme", "1", given("q", subject=f"s{n}", approved=n == 0)) for n in range(5)]
    results = await asyncio.gather(*both, return_exceptions=True)
    refused = [one for one in results if isinstance(one, errors.FailedPrecondition)]
    assert (results.count(True), len(refused)) == (1, 4)
    assert {one.reason_code for one in refused} == {"NOT_WAITING"}
    assert len(await db.rows(sa.select(events))) == 1


async def test_same_answer_with_the_same_request_id_is_a_repeat(db: database.Database, inputs: SqlInputStore) -> None:
    await waiting(db, "1", "a", "b")
    assert await inputs.answer("acme", "1", given("a", "b", request_id="r"))
    assert not await inputs.answer("acme", "1", given("a", "b", request_id="r"))
    others = [given("a", request_id="r"), given("a", "b", request_id="r", approved=False), given("a", "b")]
    for other in others:
        with pytest.raises(errors.FailedPrecondition) as caught:
            await inputs.answer("acme", "1", other)
        assert caught.value.metadata == {"status": "queued"}
    assert len(await db.rows(sa.select(events))) == 2


async def test_wait_that_is_over(db: database.Database, inputs: SqlInputStore) -> None:
    await waiting(db, "1", seconds=-1)
    (found,) = await inputs.due()
    assert found.execution_id == "1"
    assert not await inputs.wake("acme", "1"), "it waits for nothing but an answer"
    ended = ExecutionCancelled("enough", {})
    results = await asyncio.gather(*(inputs.end("acme", "1", ended) for _ in range(3)))
    assert sorted(results) == [False, False, True]
    with pytest.raises(errors.FailedPrecondition):
        await inputs.answer("acme", "1", given("q"))
    assert [to_events(row)[0].event for row in await db.rows(sa.select(events))] == [ended]


async def test_run_that_was_to_be_cancelled_as_it_began_to_wait(db: database.Database, inputs: SqlInputStore) -> None:
    made = await waiting(db)
    await SqlExecutionStore(db).request_cancel("acme", "1", "enough")
    (found,) = await inputs.due()
    assert (found.execution_id, found.cancel_reason) == (made.execution_id, "enough")


async def test_unknown_and_foreign_executions(db: database.Database, inputs: SqlInputStore) -> None:
    await waiting(db)
    for tenant, execution_id in (("other", "1"), ("acme", "2")):
        with pytest.raises(errors.NotFound):
            await inputs.answer(tenant, execution_id, given("q"))
