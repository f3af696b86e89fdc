from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from libs import database, errors, status
from services.execution import store as schema
from services.execution.app import MIGRATIONS
from services.execution.config import ExecutionSettings
from services.execution.model.events import (
    EVENTS,
    CitationsReported,
    ContentDelta,
    ContentRestarted,
    Event,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionStarted,
    HandedOff,
    InputReceived,
    InputRequired,
    LoggedEvent,
    MemberCompleted,
    MemberStarted,
    ReasoningDelta,
    SignalReceived,
    StateChanged,
    StepCompleted,
    StepStarted,
    ToolCallCompleted,
    ToolCallProgress,
    ToolCallStarted,
    ToolSourceChanged,
    UsageReported,
    WaitStarted,
)
from services.execution.model.executions import ExecuteRequest, Execution, OnDisconnect, Status, Usage
from services.execution.model.journal import Step, StepKind
from services.execution.model.targets import Agent, Pinned
from services.execution.model.turns import Assignment
from services.execution.service.log import first
from services.execution.service.news import News
from services.execution.service.record import Append
from services.execution.store import SqlExecutionStore
from services.execution.store.calls import SqlCalls
from tests import harness

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
USAGE = Usage(1, 2, 3, 4, 0.5, 6, 7).to_dict()
ASSIGNMENT = Assignment(
    ExecuteRequest("helper", "hi", metadata={"k": "v"}, on_disconnect=OnDisconnect.CONTINUE),
    Pinned.alone(Agent("helper", 3, "", {"model": {"temperature": 1e20, "b": 1, "a": 0.1}})),
    "me",
    NOW,
)
LOST = ExecutionFailed(errors.to_dict(errors.Unavailable("died", reason="EXECUTION_LOST")), USAGE)


@pytest.fixture
async def db(database_settings: dict[str, Any]) -> AsyncIterator[database.Database]:
    settings = ExecutionSettings.load(**database_settings)
    await database.migrate(settings, MIGRATIONS)
    async with database.opened(settings, MIGRATIONS) as opened:
        yield opened


@pytest.fixture
def store(db: database.Database) -> SqlExecutionStore:
    return SqlExecutionStore(db)


def execution(execution_id: str = "run", **fields: Any) -> Execution:
    given: dict[str, Any] = {
        "tenant": "acme",
        "target_id": "helper",
        "revision": 3,
        "status": Status.RUNNING,
        "input": "hi",
        "create_time": NOW,
        "owner": "me",
        "session_id": f"s-{execution_id}",
        "user_id": "u",
        "metadata": {"k": "v"},
        "request_digest": "digest",
        "last_sequence": 1,
        **fields,
    }
    return Execution(execution_id=execution_id, **given)


async def accepted(store: SqlExecutionStore, execution_id: str = "run", lease: float = 60, **fields: Any) -> Execution:
    made = execution(execution_id, **fields)
    assert await store.accept(made, first(made), ASSIGNMENT, lease)
    return made


def event(sequence: int, what: Event) -> LoggedEvent:
    return LoggedEvent(sequence, NOW, ("helper",), what)


def append(execution: Execution, *events: LoggedEvent) -> Append:
    return Append(execution.tenant, execution.execution_id, execution.attempts, events, USAGE)


async def sequences(store: SqlExecutionStore, execution: Execution) -> list[int]:
    found = await store.events(execution.tenant, execution.execution_id, after=0, limit=1000)
    return [one.sequence for one in found]


async def found(store: SqlExecutionStore, execution: Execution) -> Execution:
    read = await store.get(execution.tenant, execution.execution_id)
    assert read is not None
    return read


async def test_accepted_execution_can_be_read_with_its_first_event(store: SqlExecutionStore) -> None:
    made = await accepted(store, request_id="req")
    assert await store.get("acme", "run") == made
    assert await store.by_request("acme", "req") == made
    assert [e.event for e in await store.events("acme", "run", after=0, limit=9)] == [
        ExecutionStarted("helper", 3, "s-run")
    ]


async def test_request_id_is_taken_once_a_tenant(store: SqlExecutionStore) -> None:
    await accepted(store, "one", request_id="req")
    other = execution("two", request_id="req")
    assert not await store.accept(other, first(other), ASSIGNMENT, 60)
    assert await store.get("acme", "two") is None
    assert await store.events("acme", "two", after=0, limit=9) == []
    await accepted(store, "three", request_id="req", tenant="other")


async def test_request_id_is_taken_once_at_the_same_time(store: SqlExecutionStore) -> None:
    made = [execution(f"run-{n}", request_id="req") for n in range(8)]
    won = await asyncio.gather(*(store.accept(one, first(one), ASSIGNMENT, 60) for one in made))
    assert sorted(won) == [False] * 7 + [True]
    assert await store.by_request("acme", "req") == made[won.index(True)]


async def test_executions_without_a_request_id(store: SqlExecutionStore) -> None:
    await accepted(store, "one")
    await accepted(store, "two")
    assert await store.by_request("acme", "") is None


async def test_tenants_are_apart(store: SqlExecutionStore) -> None:
    made = await accepted(store, request_id="req")
    assert await store.get("other", "run") is None
    assert await store.by_request("other", "req") is None
    assert await store.events("other", "run", after=0, limit=9) == []
    await store.request_cancel("other", "run", "not yours")
    await store.touch("other", "run", NOW)
    assert await store.append([replace(append(made, event(2, ContentDelta("x"))), tenant="other")]) == {"run"}
    assert await store.get("acme", "run") == made
    await accepted(store, "run", tenant="other", input="another")
    assert (await found(store, made)).input == "hi"


async def test_appending_moves_the_execution_on(store: SqlExecutionStore) -> None:
    made = await accepted(store)
    assert await store.append([append(made, event(2, ContentDelta("a")), event(3, ContentDelta("b")))]) == set()
    read = await found(store, made)
    assert (read.status, read.last_sequence, read.usage, read.end_time) == (Status.RUNNING, 3, USAGE, None)
    assert await sequences(store, made) == [1, 2, 3]


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (ExecutionCompleted("out", {"n": [1, {"x": None}]}, USAGE), (Status.COMPLETED, "out", {"n": [1, {"x": None}]})),
        (ExecutionCompleted("out", None, USAGE), (Status.COMPLETED, "out", None)),
        (LOST, (Status.FAILED, "", None)),
        (ExecutionCancelled("enough", USAGE), (Status.CANCELLED, "", None)),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
async def test_terminal_event_ends_the_execution(
    store: SqlExecutionStore, last: Event, expected: tuple[Any, ...]
) -> None:
    made = await accepted(store)
    assert await store.append([append(made, event(2, ContentDelta("x")), event(3, last))]) == set()
    read = await found(store, made)
    assert (read.status, read.output, read.structured_output) == expected
    assert (read.end_time, read.last_sequence) == (NOW, 3)
    assert read.error == (LOST.error if read.status is Status.FAILED else None)
    assert read.cancel_reason == ("enough" if read.status is Status.CANCELLED else None)


async def test_nothing_follows_a_terminal_event(store: SqlExecutionStore) -> None:
    made = await accepted(store)
    await store.append([append(made, event(2, ExecutionCompleted("out", None, USAGE)))])
    before = await found(store, made)
    assert await store.append([append(made, event(3, ContentDelta("late")))]) == {"run"}
    assert await claimed(store) == []
    await store.request_cancel("acme", "run", "late")
    await store.touch("acme", "run", NOW)
    assert await found(store, made) == before
    assert await sequences(store, made) == [1, 2]


async def test_another_attempt_cannot_append(store: SqlExecutionStore) -> None:
    mine, other = await accepted(store, "mine"), await accepted(store, "other", attempts=2)
    late = replace(other, attempts=1)
    lost = await store.append([append(mine, event(2, ContentDelta("a"))), append(late, event(2, ContentDelta("b")))])
    assert lost == {"other"}
    assert await sequences(store, mine) == [1, 2]
    assert await sequences(store, other) == [1]


async def test_append_to_no_execution(store: SqlExecutionStore) -> None:
    assert await store.append([append(execution("gone"), event(2, ContentDelta("x")))]) == {"gone"}
    assert await store.append([append(await accepted(store))]) == set()
    assert await store.append([]) == set()


async def test_group_is_committed_whole_or_not_at_all(store: SqlExecutionStore) -> None:
    one, two = await accepted(store, "one"), await accepted(store, "two")
    with pytest.raises(sa.exc.IntegrityError):
        await store.append(
            [
                append(one, event(2, ContentDelta("x"))),
                append(two, event(2, ContentDelta("x")), event(1, ContentDelta("taken"))),
            ]
        )
    assert await sequences(store, one) == [1]
    assert (await found(store, one)).last_sequence == 1


async def test_pages_of_events(store: SqlExecutionStore) -> None:
    made = await accepted(store)
    await store.append([append(made, *(event(n, ContentDelta(str(n))) for n in range(2, 21)))])
    page = await store.events("acme", "run", after=0, limit=7)
    assert [one.sequence for one in page] == list(range(1, 8))
    page = await store.events("acme", "run", after=15, limit=7)
    assert [one.sequence for one in page] == list(range(16, 21))
    assert await store.events("acme", "run", after=20, limit=7) == []


EXAMPLES: Sequence[Event] = [
    ExecutionStarted("helper", 3, ""),
    ContentDelta("ü 漢 🙂 \n\t\x01"),
    ReasoningDelta(""),
    ContentRestarted(7),
    ToolCallStarted("c", "builtin/x", {"a": [1, 2.5, None, True, {"b": "ü"}], "": {}}),
    ToolCallProgress("c", "builtin/x", 0.5, 2.0, "half"),
    ToolCallCompleted("c", "builtin/x", '{"a": 1}', True, 0.125),
    UsageReported(1, 2, 3, 4, None, "d", "m", True),
    UsageReported(2**60, cost_usd=1e-9),
    ExecutionCompleted("out", {"a": []}, USAGE),
    LOST,
    ExecutionCancelled("", USAGE),
    StateChanged({"a": {"b": [1]}}, 3),
    CitationsReported([{"url": "https://example.com", "title": "", "quote": ""}]),
    MemberStarted(3, "what?", team_id="crew"),
    HandedOff("a", "b", "money"),
    ToolSourceChanged("mcp/crm", "failed", "gone"),
    MemberCompleted("that", {"a": 1}, USAGE, 0.5),
    StepStarted("draft", "agent", 2, 3),
    StepCompleted("draft", "STEP_OUTCOME_COMPLETED", [1, {"a": None}, "x"], None, 2, 3),
    StepCompleted("draft", "STEP_OUTCOME_FAILED", None, errors.to_dict(errors.Unavailable("gone")), 1, 0),
    WaitStarted("2026-01-02T03:04:05.678901+00:00", ""),
    WaitStarted(None, "go"),
    SignalReceived("go", "s1", {"by": None}, "ann"),
    MemberCompleted("", None, USAGE, 0.5, errors.to_dict(errors.Unavailable("gone"))),
    InputReceived("c", None, "ann"),
    InputReceived("c", False),
    InputRequired([{"input_id": "c", "user_input": {"prompt": "?"}}], "2026-01-02T03:04:05.678901+00:00"),
]


async def test_events_come_back_as_they_were(store: SqlExecutionStore) -> None:
    assert {type(one) for one in EXAMPLES} == {kind for name, kind in EVENTS.items() if name != "heartbeat"}
    for n, example in enumerate(EXAMPLES):
        made = await accepted(store, f"run-{n}")
        logged = LoggedEvent(2, NOW + timedelta(microseconds=n), ("helper", "member"), example)
        await store.append([append(made, logged)])
        assert (await store.events("acme", f"run-{n}", after=1, limit=9)) == [logged]


ERRORS: Sequence[errors.Error] = [
    errors.InvalidArgument(
        [errors.Violation("a.b", "is bad"), errors.Violation("c", "too")], reason="REQUEST_ID_REUSED"
    ),
    errors.NotFound("agent", "helper"),
    errors.AlreadyExists("agent", "helper", metadata={"k": "v"}),
    errors.Aborted("a"),
    errors.Unauthenticated("a"),
    errors.PermissionDenied("a", metadata={"scope": "x"}),
    errors.FailedPrecondition("a", reason="TOOL_UNKNOWN"),
    errors.OutOfRange("a"),
    errors.ResourceExhausted("a", reason="UPSTREAM_RATE_LIMITED", retry_after=1.5),
    errors.Unavailable("a", retry_after=0.25),
    errors.DeadlineExceeded("a"),
    errors.Cancelled("a"),
    errors.Internal("a"),
]


def facts(error: errors.Error) -> dict[str, Any]:
    return {name: value for name, value in vars(error).items() if not name.startswith("_")} | {"type": type(error)}


async def test_every_error_survives_store_and_wire(store: SqlExecutionStore) -> None:
    assert {type(one) for one in ERRORS} == set(errors.Error.__subclasses__())
    for n, error in enumerate(ERRORS):
        made = await accepted(store, f"run-{n}")
        await store.append([append(made, event(2, ExecutionFailed(errors.to_dict(error), USAGE)))])
        kept = (await found(store, made)).error
        assert kept is not None
        back = errors.from_dict(kept)
        assert facts(back) == facts(error)
        assert facts(status.from_status(status.to_status(back))) == facts(error)


# Leases


async def claimed(
    store: SqlExecutionStore, owner: str = "new", besides: Sequence[str] = (), limit: int = 9
) -> list[str]:
    return [one.execution_id for one in await store.claim(owner, 60, besides=besides, limit=limit)]


async def test_what_was_asked_is_kept(store: SqlExecutionStore) -> None:
    made = await accepted(store)
    assert await store.assignment("acme", "run") == ASSIGNMENT
    assert await store.assignment("other", "run") is None
    assert made.attempts == 1


async def test_renewing(store: SqlExecutionStore) -> None:
    mine, other = await accepted(store, "mine", -1), await accepted(store, "other", -1, owner="you")
    assert await store.renew("me", ["mine", "other"], 60) == {"mine": None}
    assert await claimed(store) == ["other"]
    assert (await found(store, mine)).attempts == 1
    assert (await found(store, other)).attempts == 2


async def test_only_the_runs_that_are_named_are_renewed(store: SqlExecutionStore) -> None:
    await accepted(store, "mine", -1)
    assert await store.renew("me", [], 60) == {}
    assert await store.renew("me", ["another"], 60) == {}
    assert await claimed(store) == ["mine"]


async def test_renewing_tells_what_somebody_wants_cancelled(store: SqlExecutionStore) -> None:
    await accepted(store, "one")
    await accepted(store, "two")
    await accepted(store, "three", owner="you")
    for name, reason in (("two", ""), ("three", "x")):
        await store.request_cancel("acme", name, reason)
    assert await store.renew("me", ["one", "two", "three"], 60) == {"one": None, "two": ""}


async def test_touch(store: SqlExecutionStore) -> None:
    made = await accepted(store)
    await store.touch("acme", "run", NOW)
    assert (await found(store, made)).watch_time == NOW


async def test_lapsed_execution_is_claimed_once(store: SqlExecutionStore) -> None:
    await accepted(store, lease=-1)
    await accepted(store, "alive")
    won = await asyncio.gather(*(claimed(store, f"p{n}") for n in range(8)))
    assert sorted(won) == [[]] * 7 + [["run"]]
    read = await store.get("acme", "run")
    assert read is not None
    assert (read.owner, read.attempts, read.deaths) == (f"p{won.index(['run'])}", 2, 1)


async def test_runs_of_its_own_are_not_claimed_and_not_more_than_asked_for(store: SqlExecutionStore) -> None:
    for n in range(4):
        await accepted(store, f"run-{n}", lease=n - 10)
    assert await claimed(store, besides=["run-0"], limit=2) == ["run-1", "run-2"]
    assert await claimed(store, besides=["run-0"]) == ["run-3"]


async def test_released_execution_is_free_at_once_and_nobody_died(store: SqlExecutionStore) -> None:
    made = await accepted(store)
    await store.release(replace(made, attempts=7))
    assert await claimed(store) == []
    await store.release(made)
    assert await claimed(store) == ["run"]
    assert (await found(store, made)).deaths == 0


async def test_who_lost_an_execution_cannot_write_for_it(store: SqlExecutionStore) -> None:
    made = await accepted(store, lease=-1)
    assert await claimed(store, "me") == ["run"]
    step = Step(1, StepKind.MODEL, "group", "digest", NOW)
    late = replace(append(made, event(2, ContentDelta("late"))), steps=[step])
    assert await store.append([late]) == {"run"}
    assert await store.steps("acme", "run") == []
    assert await store.append([replace(late, attempt=2)]) == set()
    assert await sequences(store, made) == [1, 2]


async def test_claiming_races_with_the_owner(store: SqlExecutionStore) -> None:
    for n in range(10):
        made = await accepted(store, f"run-{n}", lease=-1)
        done = append(made, event(2, ExecutionCompleted("out", None, USAGE)))
        work: list[Any] = [claimed(store), store.append([done]), store.renew("me", [made.execution_id], -1)]
        random.shuffle(work)
        await asyncio.gather(*work)
        read = await found(store, made)
        assert (read.status, read.attempts) in [(Status.COMPLETED, 1), (Status.RUNNING, 2)]
        assert await sequences(store, made) == ([1, 2] if read.status is Status.COMPLETED else [1])


async def test_second_attempt_at_a_commit_whose_answer_was_lost(store: SqlExecutionStore) -> None:
    made = await accepted(store)
    for last in (event(3, ContentDelta("b")), event(3, ContentDelta("b"))):
        assert await store.append([append(made, event(2, ContentDelta("a")), last)]) == set()
    done = append(made, event(4, ExecutionCompleted("out", None, USAGE)))
    assert await store.append([done]) == await store.append([done]) == set()
    assert await sequences(store, made) == [1, 2, 3, 4]


# The journal


async def test_steps_are_kept_as_they_begin_and_as_they_end(store: SqlExecutionStore) -> None:
    made = await accepted(store, lease=-1)
    await claimed(store)
    begun = Step(2, StepKind.TOOL, "builtin/x", "digest", NOW, "call")
    done = replace(begun, result={"output": "ü", "n": 0.1}, is_error=True, end_time=NOW, end_sequence=3)
    model = Step(1, StepKind.MODEL, "group", "digest", NOW, result={"text": ""}, end_time=NOW, end_sequence=2)
    steps = lambda *kept: replace(append(made), attempt=2, steps=kept)  # noqa: E731
    await store.append([steps(begun)])
    assert await store.steps("acme", "run") == [begun]
    assert (await found(store, made)).deaths == 1
    await store.append([steps(replace(model, result=None, end_time=None), model, done)])
    assert await store.steps("acme", "run") == [model, done]
    assert await store.steps("other", "run") == []
    assert (await found(store, made)).deaths == 0


async def test_where_a_turn_that_was_not_completed_begins(store: SqlExecutionStore) -> None:
    made = await accepted(store)
    said: list[Event] = [ContentDelta("a"), UsageReported(), ReasoningDelta("b"), ContentDelta("c")]
    await store.append([append(made, *(event(n, one) for n, one in enumerate(said, 2)))])
    assert await store.partial_from("acme", "run") == {"": 2}
    for last, expected in ((3, {"": 4}), (5, {})):
        step = Step(last, StepKind.MODEL, "group", "d", NOW, result={}, end_time=NOW, end_sequence=last)
        await store.append([Append("acme", "run", 1, [], USAGE, [step])])
        assert await store.partial_from("acme", "run") == expected


async def test_turns_of_members_that_were_not_completed(store: SqlExecutionStore) -> None:
    """Side by side: what one has completed says nothing of the other."""
    made = await accepted(store)
    said = [("a", 2), ("b", 3), ("a", 4), ("b", 5)]
    await store.append([append(made, *(LoggedEvent(n, NOW, ("t", s), ContentDelta(s), s) for s, n in said))])
    step = Step(1, StepKind.MODEL, "group", "d", NOW, result={}, end_time=NOW, end_sequence=4, scope="a")
    other = replace(step, scope="b", end_time=None, result=None, end_sequence=0)
    await store.append([Append("acme", "run", 1, [], USAGE, [step, other])])
    assert await store.partial_from("acme", "run") == {"b": 3}
    assert await store.steps("acme", "run") == [step, other]
    found = await store.events("acme", "run", after=1, limit=9)
    assert [(one.scope, one.path) for one in found] == [(scope, ("t", scope)) for scope, _ in said]


async def test_appending_and_renewing_side_by_side(store: SqlExecutionStore) -> None:
    made = [await accepted(store, f"run-{n:02}") for n in range(40)]
    ids = [one.execution_id for one in made]

    async def renewing() -> None:
        for _ in range(30):
            await store.renew("me", ids, 60)

    async def appending() -> None:
        for n in range(2, 17):
            mixed = random.sample(made, len(made))
            assert await store.append([append(one, event(n, ContentDelta("x"))) for one in mixed]) == set()

    async def others() -> None:
        for one in made:
            await store.touch("acme", one.execution_id, NOW)
            await store.request_cancel("acme", one.execution_id, "x")

    await asyncio.gather(renewing(), appending(), others())
    assert await sequences(store, made[0]) == list(range(1, 17))


async def test_migrated_schema_is_the_one_in_use(db: database.Database) -> None:
    def differences(connection: sa.Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, schema.metadata))

    async with db.read() as connection:
        assert await connection.run_sync(differences) == []


async def test_released_execution_is_called_out(db: database.Database, store: SqlExecutionStore) -> None:
    heard: asyncio.Queue[None] = asyncio.Queue()
    hearing = asyncio.create_task(SqlCalls(db, News()).hear(lambda: heard.put_nowait(None)))
    if db.is_sqlite:
        return await hearing
    async with asyncio.timeout(10):
        await heard.get()  # it begins with a look
        await store.release(await accepted(store))
        await heard.get()
    hearing.cancel()
    return None


@harness.only_postgres
async def test_what_is_watched_elsewhere_is_told_of(db: database.Database, store: SqlExecutionStore) -> None:
    news = News()
    watched, unwatched, stale = [await accepted(store, name) for name in ("watched", "unwatched", "stale")]
    await store.touch("acme", "watched", datetime.now(UTC))
    await store.touch("acme", "stale", datetime.now(UTC) - timedelta(hours=1))
    with news.of("watched") as told, news.of("unwatched") as untold, news.of("stale") as too_late:
        hearing = asyncio.create_task(SqlCalls(db, news).hear(lambda: None))
        async with asyncio.timeout(10):
            for one in (told, untold, too_late):  # all look once
                await one.wait()
                one.clear()
            group = [append(one, event(2, ContentDelta("x"))) for one in (watched, unwatched, stale)]
            assert await store.append(group) == set()
            await told.wait()
    assert not untold.is_set()
    assert not too_late.is_set()
    hearing.cancel()


async def test_what_ends_a_run_goes_with_what_others_say(store: SqlExecutionStore) -> None:
    """One goes the plain way, the other the longer one; both are there, and so is what each has done."""
    one, two = await accepted(store, "one"), await accepted(store, "two")
    step = Step(1, StepKind.MODEL, "group", "d", NOW, scope="m.1")
    done = replace(step, result={"text": "b"}, end_time=NOW, end_sequence=2)
    said = append(one, event(2, ContentDelta("a")))
    ended = append(two, event(2, ContentDelta("b")), event(3, ExecutionCompleted("b", None, USAGE)))
    assert await store.append([replace(said, steps=[step, done]), replace(ended, steps=[step, done])]) == set()
    for each in (one, two):
        assert await store.steps("acme", each.execution_id) == [done]
    assert (await found(store, one)).status is Status.RUNNING
    assert (await found(store, two)).output == "b"
    assert await store.append([append(one, event(4, ContentDelta("c")))]) == {"one"}  # 3 is missing
    assert await store.append([said, ended]) == set()  # the second attempt at the same
    assert await sequences(store, one) == [1, 2]
