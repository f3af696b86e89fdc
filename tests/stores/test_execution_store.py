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
from services.execution.model import (
    EVENTS,
    ContentDelta,
    Event,
    Execution,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionStarted,
    LoggedEvent,
    ReasoningDelta,
    Status,
    ToolCallCompleted,
    ToolCallStarted,
    Usage,
    UsageReported,
)
from services.execution.service.log import Append, first
from services.execution.store import SqlExecutionStore

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
USAGE = Usage(1, 2, 3, 4, 0.5, 6, 7).to_dict()
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
        "agent_id": "helper",
        "revision": 3,
        "status": Status.RUNNING,
        "input": "hi",
        "create_time": NOW,
        "owner": "me",
        "session_id": "s",
        "user_id": "u",
        "metadata": {"k": "v"},
        "request_digest": "digest",
        "last_sequence": 1,
        **fields,
    }
    return Execution(execution_id=execution_id, **given)


async def accepted(store: SqlExecutionStore, execution_id: str = "run", lease: float = 60, **fields: Any) -> Execution:
    made = execution(execution_id, **fields)
    until = datetime.now(UTC) + timedelta(seconds=lease)
    assert await store.accept(made, first("helper", 3, "s"), until)
    return made


def event(sequence: int, what: Event) -> LoggedEvent:
    return LoggedEvent(sequence, NOW, ("helper",), what)


def append(execution: Execution, *events: LoggedEvent, owner: str = "me") -> Append:
    return Append(execution.tenant, execution.execution_id, owner, events, USAGE)


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
        ExecutionStarted("helper", 3, "s")
    ]


async def test_request_id_is_taken_once_a_tenant(store: SqlExecutionStore) -> None:
    await accepted(store, "one", request_id="req")
    lease = datetime.now(UTC)
    assert not await store.accept(execution("two", request_id="req"), first("helper", 3, ""), lease)
    assert await store.get("acme", "two") is None
    assert await store.events("acme", "two", after=0, limit=9) == []
    await accepted(store, "three", request_id="req", tenant="other")


async def test_request_id_is_taken_once_at_the_same_time(store: SqlExecutionStore) -> None:
    lease = datetime.now(UTC)
    made = [execution(f"run-{n}", request_id="req") for n in range(8)]
    won = await asyncio.gather(*(store.accept(one, first("helper", 3, ""), lease) for one in made))
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
    await store.request_cancel("acme", "run", "late")
    await store.touch("acme", "run", NOW)
    await store.close(before, LOST)
    assert await found(store, made) == before
    assert await sequences(store, made) == [1, 2]


async def test_another_owner_cannot_append(store: SqlExecutionStore) -> None:
    mine, other = await accepted(store, "mine"), await accepted(store, "other", owner="you")
    lost = await store.append(
        [append(mine, event(2, ContentDelta("a"))), append(other, event(2, ContentDelta("b")), owner="me")]
    )
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
        await store.append([append(one, event(2, ContentDelta("x"))), append(two, event(1, ContentDelta("taken")))])
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
    ToolCallStarted("c", "builtin/x", {"a": [1, 2.5, None, True, {"b": "ü"}], "": {}}),
    ToolCallCompleted("c", "builtin/x", '{"a": 1}', True, 0.125),
    UsageReported(1, 2, 3, 4, None, "d", "m", True),
    UsageReported(2**60, cost_usd=1e-9),
    ExecutionCompleted("out", {"a": []}, USAGE),
    LOST,
    ExecutionCancelled("", USAGE),
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


async def test_renewing(store: SqlExecutionStore) -> None:
    mine, other = await accepted(store, "mine", -1), await accepted(store, "other", -1, owner="you")
    lease = datetime.now(UTC) + timedelta(seconds=60)
    assert await store.renew("me", ["mine", "other"], lease) == []
    assert [one.execution_id for one in await store.lapsed(datetime.now(UTC))] == ["other"]
    await store.append([append(other, event(2, LOST), owner="you")])
    assert await store.lapsed(datetime.now(UTC)) == []
    assert (await found(store, mine)).status is Status.RUNNING


async def test_only_the_runs_that_are_named_are_renewed(store: SqlExecutionStore) -> None:
    await accepted(store, "mine", -1)
    lease = datetime.now(UTC) + timedelta(seconds=60)
    assert await store.renew("me", [], lease) == []
    assert await store.renew("me", ["another"], lease) == []
    assert len(await store.lapsed(datetime.now(UTC))) == 1


async def test_renewing_tells_what_somebody_wants_cancelled(store: SqlExecutionStore) -> None:
    await accepted(store, "one")
    await accepted(store, "two")
    await accepted(store, "three", owner="you")
    for name, reason in (("two", ""), ("three", "x")):
        await store.request_cancel("acme", name, reason)
    lease = datetime.now(UTC) + timedelta(seconds=60)
    wanted = await store.renew("me", ["one", "two", "three"], lease)
    assert [(one.execution_id, one.cancel_reason) for one in wanted] == [("two", "")]


async def test_touch(store: SqlExecutionStore) -> None:
    made = await accepted(store)
    await store.touch("acme", "run", NOW)
    assert (await found(store, made)).watch_time == NOW


async def test_closing_a_lapsed_execution(store: SqlExecutionStore) -> None:
    await accepted(store, lease=-1)
    lapsed = (await store.lapsed(datetime.now(UTC)))[0]
    await store.close(lapsed, LOST)
    await store.close(lapsed, LOST)
    read = await found(store, lapsed)
    assert (read.status, read.error, read.last_sequence) == (Status.FAILED, LOST.error, 2)
    assert read.end_time is not None
    assert [e.event for e in await store.events("acme", "run", after=1, limit=9)] == [LOST]
    assert await store.lapsed(datetime.now(UTC)) == []


async def test_execution_that_was_renewed_or_went_on_is_not_closed(store: SqlExecutionStore) -> None:
    renewed, moved = await accepted(store, "renewed", -1), await accepted(store, "moved", -1)
    await store.renew("me", ["renewed"], datetime.now(UTC) + timedelta(seconds=60))
    await store.append([append(moved, event(2, ContentDelta("x")))])
    for one in (renewed, moved):
        await store.close(one, LOST)
        assert (await found(store, one)).status is Status.RUNNING


async def test_closing_races_with_its_owner_and_with_others(store: SqlExecutionStore) -> None:
    for n in range(10):
        made = await accepted(store, f"run-{n}", lease=-1)
        done = append(made, event(2, ExecutionCompleted("out", None, USAGE)))
        work = [store.close(made, LOST), store.append([done]), store.close(made, LOST)]
        random.shuffle(work)
        await asyncio.gather(*work)
        terminal = [e for e in await store.events("acme", f"run-{n}", after=0, limit=9) if e.event.terminal]
        assert [one.sequence for one in terminal] == [2]
        expected = Status.COMPLETED if isinstance(terminal[0].event, ExecutionCompleted) else Status.FAILED
        assert (await found(store, made)).status is expected


async def test_appending_and_renewing_side_by_side(store: SqlExecutionStore) -> None:
    made = [await accepted(store, f"run-{n:02}") for n in range(40)]
    ids = [one.execution_id for one in made]
    lease = datetime.now(UTC) + timedelta(seconds=60)

    async def renewing() -> None:
        for _ in range(30):
            await store.renew("me", ids, lease)

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
