from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from libs import database, errors, ids
from services.execution.app import MIGRATIONS
from services.execution.config import ExecutionSettings
from services.execution.model.executions import Execution, Status
from services.execution.model.sessions import (
    MOST_MEMORIES,
    SNAPSHOT_EVERY,
    Author,
    Kept,
    Pin,
    Session,
    SessionMessage,
    State,
    Talk,
)
from services.execution.service.listing import ExecutionQuery
from services.execution.service.sessions import SessionQuery
from services.execution.store import SqlListing, SqlSessionStore, accepting, executions, metadata, rows, sessions

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@pytest.fixture
async def db(database_settings: dict[str, Any]) -> AsyncIterator[database.Database]:
    settings = ExecutionSettings.load(**database_settings)
    await database.migrate(settings, MIGRATIONS)
    async with database.opened(settings, MIGRATIONS) as opened:
        yield opened


@pytest.fixture
def store(db: database.Database) -> SqlSessionStore:
    return SqlSessionStore(db)


def execution(execution_id: str = "run", **fields: Any) -> Execution:
    given: dict[str, Any] = {
        "tenant": "acme",
        "target_id": "helper",
        "revision": 1,
        "status": Status.QUEUED,
        "input": "hi",
        "create_time": NOW,
        "owner": "me",
        "session_id": "talk",
        "user_id": "ann",
        "request_digest": "digest",
        "last_sequence": 1,
        **fields,
    }
    return Execution(execution_id=execution_id, **given)


def talk(made: Execution) -> Talk:
    return Talk(made.tenant, made.execution_id, made.target_id, made.session_id, made.user_id)


async def accepted(db: database.Database, execution_id: str = "run", **fields: Any) -> Execution:
    made = execution(execution_id, **fields)
    given = {"executions": rows.columns(made), **sessions.begun(made)}
    await accepting.insert(db, given, timedelta(0))
    return made


async def kept(db: database.Database, made: Execution, *texts: str, **more: Any) -> None:
    messages = tuple({"role": "user", "content": text} for text in texts)
    async with db.write() as connection:
        left = Kept(made.session_id, made.user_id, messages, **more)
        await sessions.keep(connection, made.tenant, made.execution_id, left)


async def ended(db: database.Database, tenant: str = "acme") -> None:
    async with db.write() as connection:
        await connection.execute(executions.update().where(executions.c.tenant == tenant).values(status="completed"))


async def found(store: SqlSessionStore, session_id: str = "talk", tenant: str = "acme") -> Session:
    session = await store.get(tenant, session_id)
    assert session is not None
    return session


async def messages(store: SqlSessionStore, tenant: str = "acme") -> list[SessionMessage]:
    return list(await store.messages(tenant, "talk", after=0, up_to=1000, limit=1000))[::-1]


def setting(**values: Any) -> Callable[[Session], Session]:
    return lambda session: replace(session, state={**session.state, **values})


def nothing(state: State, version: int) -> State:
    return state


async def changed(store: SqlSessionStore, by: Author | None = None, **values: Any) -> Session:
    made = await store.change("acme", "talk", by or Author("ann"), setting(**values))
    assert made is not None
    return made


# Sessions


async def test_session_begins_with_its_first_run(db: database.Database, store: SqlSessionStore) -> None:
    await accepted(db, "one")
    await accepted(db, "two", target_id="other", user_id="bob", create_time=NOW + timedelta(seconds=9))
    session = await found(store)
    assert (session.user_id, session.agent_ids, session.message_count) == ("ann", ("helper", "other"), 0)
    assert (session.create_time, session.update_time) == (NOW, NOW + timedelta(seconds=9))
    assert (session.state, session.state_version) == ({}, 0)
    await accepted(db, "three", session_id="")
    assert len(await store.list("acme", SessionQuery(), limit=9)) == 1


async def test_sessions_are_of_their_tenant(db: database.Database, store: SqlSessionStore) -> None:
    await accepted(db, "one")
    await accepted(db, "two", tenant="globex")
    await kept(db, execution("one"), "secret")
    assert (await found(store, tenant="globex")).message_count == 0
    assert await messages(store, "globex") == []
    assert await store.get("initech", "talk") is None
    assert await store.change("initech", "talk", Author(), lambda session: session) is None
    assert await store.delete("initech", "talk") is None


async def test_sessions_are_listed_by_their_last_use(db: database.Database, store: SqlSessionStore) -> None:
    for number, name in enumerate(("a", "b", "c")):
        await accepted(db, name, session_id=name, create_time=NOW + timedelta(seconds=number))
    await accepted(db, "d", session_id="a", create_time=NOW + timedelta(seconds=9), target_id="other")

    async def ids_of(**query: Any) -> list[str]:
        return [session.session_id for session in await store.list("acme", SessionQuery(**query), limit=9)]

    assert await ids_of() == ["a", "c", "b"]
    assert await ids_of(agent_id="other") == ["a"]
    assert await ids_of(user_id="bob") == []
    assert await ids_of(before=(NOW + timedelta(seconds=2), "c")) == ["b"]
    assert await ids_of(before=(NOW + timedelta(seconds=2), "d")) == ["c", "b"]


# Messages


async def test_messages_are_kept_in_their_order(db: database.Database, store: SqlSessionStore) -> None:
    first, second = await accepted(db, "one"), await accepted(db, "two")
    await kept(db, first, "a", "b")
    await kept(db, second, "c")
    found = [(m.message["content"], m.execution_id, m.position) for m in await messages(store)]
    assert found == [("a", "one", 1), ("b", "one", 2), ("c", "two", 3)]
    newest = await store.messages("acme", "talk", after=0, up_to=9, limit=2)
    assert [one.position for one in newest] == [3, 2]
    session = await store.get("acme", "talk")
    assert session is not None
    assert session.message_count == 3


async def test_history_of_runs_and_of_messages(db: database.Database, store: SqlSessionStore) -> None:
    for name in ("one", "two", "three"):
        made = await accepted(db, name)
        await kept(db, made, f"{name} 1", f"{name} 2")

    async def texts(up_to: int, after: int) -> list[str]:
        found = await store.messages("acme", "talk", after=after, up_to=up_to, limit=9)
        return [one.message["content"] for one in reversed(found)]

    async def of_runs(up_to: int, runs: int) -> list[str]:
        return await texts(up_to, await store.start_of_runs("acme", "talk", up_to, runs))

    assert await of_runs(6, 2) == ["two 1", "two 2", "three 1", "three 2"]
    assert await of_runs(4, 1) == ["two 1", "two 2"]
    assert len(await of_runs(6, 99)) == 6
    assert await texts(5, 3) == ["two 2", "three 1"]
    assert await store.start_of_runs("acme", "other", 6, 2) == 0


async def test_messages_of_two_runs_at_once_do_not_mix(db: database.Database, store: SqlSessionStore) -> None:
    names = [f"run-{number}" for number in range(8)]
    made = [await accepted(db, name) for name in names]
    await asyncio.gather(*(kept(db, one, *(f"{one.execution_id} {n}" for n in range(5))) for one in made))
    kept_messages = await messages(store)
    assert len(kept_messages) == 40
    for start in range(0, 40, 5):
        part = kept_messages[start : start + 5]
        assert [m.message["content"] for m in part] == [f"{part[0].execution_id} {n}" for n in range(5)]


# State


async def test_state_as_it_was_at_any_time(db: database.Database, store: SqlSessionStore) -> None:
    await accepted(db)
    before = datetime.now(UTC)
    times, states = [], []
    for number in range(SNAPSHOT_EVERY + 5):
        made = await changed(store, **{f"k{number % 7}": number, "same": "x"})
        times.append(made.update_time)
        states.append((made.state, made.state_version))
        await store.change(
            "acme",
            "talk",
            Author("ann"),
            lambda session, gone=f"k{(number + 3) % 7}": replace(
                session, state={key: value for key, value in session.state.items() if key != gone}
            ),
        )
    assert await store.state_at("acme", "talk", before) == ({}, 0)
    for index in (0, 1, 50, SNAPSHOT_EVERY - 1, SNAPSHOT_EVERY, SNAPSHOT_EVERY + 1, len(times) - 1):
        assert await store.state_at("acme", "talk", times[index]) == states[index]
    session = await found(store)
    assert await store.state_at("acme", "talk", datetime.now(UTC)) == (session.state, session.state_version)


async def test_what_changes_nothing_is_no_change(db: database.Database, store: SqlSessionStore) -> None:
    await accepted(db)
    first = await changed(store, a=1)
    again = await changed(store, a=1)
    assert again == first
    assert (again.state_version, again.revision) == (1, 1)


async def test_summary_and_metadata_change_no_state(db: database.Database, store: SqlSessionStore) -> None:
    await accepted(db)
    made = await store.change("acme", "talk", Author("ann"), lambda s: replace(s, summary="x", metadata={"k": "v"}))
    assert made is not None
    assert (made.state_version, made.revision) == (0, 1)
    assert made.etag != Session("acme", "talk", made.create_time, made.update_time).etag
    assert await found(store) == made


async def test_no_update_is_lost(db: database.Database, store: SqlSessionStore) -> None:
    await accepted(db)

    def increment(session: Session) -> Session:
        return replace(session, state={"n": session.state.get("n", 0) + 1})

    await asyncio.gather(*(store.change("acme", "talk", Author("ann"), increment) for _ in range(40)))
    session = await found(store)
    assert (session.state, session.state_version) == ({"n": 40}, 40)


async def test_a_call_changes_the_state_once(db: database.Database, store: SqlSessionStore) -> None:
    await accepted(db)
    by = Author(execution_id="run", agent_id="helper", call_id="call-1")
    first = await changed(store, by, a=1)
    await changed(store, a=2)
    again = await changed(store, by, a=1)
    assert (again.state, again.state_version) == (first.state, 1)
    assert (await found(store)).state == {"a": 2}
    other = await changed(store, replace(by, execution_id="another"), a=1)
    assert other.state_version == 3


async def test_an_edit_that_fails_changes_nothing(db: database.Database, store: SqlSessionStore) -> None:
    await accepted(db)

    def refuse(session: Session) -> Session:
        raise errors.Aborted("stale")

    with pytest.raises(errors.Aborted):
        await store.change("acme", "talk", Author("ann"), refuse)
    assert (await found(store)).revision == 0


# What a run begins with


async def test_pin_is_made_once(db: database.Database, store: SqlSessionStore) -> None:
    first = await accepted(db, "one")
    await kept(db, first, "a", "b", summary="so far", learnt=("likes tea",))
    run = await accepted(db, "two")
    pin = await store.pin(talk(run), lambda state, version: {"from": version, "x": 1}, remembers=True)
    assert (pin.message_count, pin.summary, pin.state, pin.state_version) == (2, "so far", {"from": 0, "x": 1}, 1)
    assert pin.state_set
    assert [memory.text for memory in pin.memories] == ["likes tea"]
    await kept(db, first, "later", summary="later", learnt=("likes coffee",))
    await changed(store, x=2)
    assert await store.pin(talk(run), lambda state, version: {"never": 1}, remembers=True) == pin
    assert (await found(store)).state == {"from": 0, "x": 2}


async def test_pin_is_not_made_by_who_only_reads(db: database.Database, store: SqlSessionStore) -> None:
    run = await accepted(db)
    assert await store.pin(talk(run), lambda state, version: {"a": 1}, remembers=True, read_only=True) == Pin()
    assert (await found(store)).state == {}
    pin = await store.pin(talk(run), lambda state, version: {"a": 1}, remembers=True)
    assert await store.pin(talk(run), nothing, remembers=True, read_only=True) == pin


async def test_pin_that_changes_no_state_says_so(db: database.Database, store: SqlSessionStore) -> None:
    run = await accepted(db)
    pin = await store.pin(talk(run), nothing, remembers=False)
    assert pin == Pin()
    assert (await found(store)).revision == 0


async def test_pin_of_a_run_without_session(db: database.Database, store: SqlSessionStore) -> None:
    run = await accepted(db, session_id="")
    await kept(db, run, learnt=("likes tea",))
    pin = await store.pin(talk(run), lambda state, version: {"a": 1}, remembers=True)
    assert (pin.state, pin.state_version, pin.state_set) == ({"a": 1}, 1, True)
    assert [memory.text for memory in pin.memories] == ["likes tea"]
    assert await store.pin(talk(run), nothing, remembers=False) == pin


# Memories


async def test_memories_are_of_a_user_and_few(db: database.Database, store: SqlSessionStore) -> None:
    run = await accepted(db)
    await kept(db, run, learnt=tuple(f"fact {number}" for number in range(MOST_MEMORIES + 20)))
    pin = await store.pin(talk(run), nothing, remembers=True)
    assert len(pin.memories) == MOST_MEMORIES
    assert pin.memories[-1].text == f"fact {MOST_MEMORIES + 19}"
    await kept(db, run, forgotten=tuple(memory.memory_id for memory in pin.memories[1:]))
    later = await accepted(db, "later")
    assert (await store.pin(talk(later), nothing, remembers=True)).memories == pin.memories[:1]
    for other in (await accepted(db, "o", user_id="bob"), await accepted(db, "t", tenant="globex")):
        assert (await store.pin(talk(other), nothing, remembers=True)).memories == ()


# Deletion


async def count_rows(db: database.Database, tenant: str) -> dict[str, int]:
    counts = {}
    async with db.read() as connection:
        for name, table in metadata.tables.items():
            if "tenant" in table.c:
                query = sa.select(sa.func.count()).select_from(table).where(table.c.tenant == tenant)
                counts[name] = await connection.scalar(query) or 0
    return counts


async def test_deletion_leaves_nothing(db: database.Database, store: SqlSessionStore) -> None:
    for tenant in ("acme", "globex"):
        for session_id in ("talk", "other"):
            run = await accepted(db, f"run-{session_id}", tenant=tenant, session_id=session_id)
            await store.change(tenant, session_id, Author("ann"), setting(a=1))
            await kept(db, run, "hello", learnt=("likes tea",))
            await store.pin(talk(run), nothing, remembers=True)
    everything = await count_rows(db, "globex")
    await ended(db)
    deleted = await store.delete("acme", "talk")
    assert deleted is not None
    assert (deleted.executions, list(deleted.live)) == (1, [])
    assert await store.get("acme", "talk") is None
    assert await store.delete("acme", "talk") is None
    assert await count_rows(db, "globex") == everything
    assert await count_rows(db, "acme") == {name: count // 2 for name, count in everything.items()}
    await store.delete("acme", "other")
    assert set((await count_rows(db, "acme")).values()) == {0}


async def test_deletion_waits_for_runs_that_go_on(db: database.Database, store: SqlSessionStore) -> None:
    await accepted(db, "one")
    await ended(db)
    await accepted(db, "two")
    deleted = await store.delete("acme", "talk")
    assert deleted is not None
    assert list(deleted.live) == ["two"]
    await found(store)


# Finding executions


async def test_executions_are_found_by_what_is_known_of_them(db: database.Database) -> None:
    listing = SqlListing(db)
    for number in range(6):
        await accepted(
            db,
            ids.new_id(),
            session_id=("a", "b")[number % 2],
            user_id=("ann", "bob")[number // 3],
            target_id=("x", "y")[number % 2],
            create_time=NOW + timedelta(seconds=number),
            input=str(number),
        )
    await accepted(db, ids.new_id(), tenant="globex")
    async with db.write() as connection:
        await connection.execute(executions.update().where(executions.c.input == "4").values(status="failed"))

    async def inputs(limit: int = 9, **query: Any) -> str:
        return "".join(one.input for one in await listing.list("acme", ExecutionQuery(**query), limit=limit))

    assert await inputs() == "543210"
    assert await inputs(limit=2) == "54"
    assert await inputs(session_id="a", user_id="ann") == "20"
    assert await inputs(agent_id="y") == "531"
    assert await inputs(statuses=(Status.FAILED, Status.CANCELLED)) == "4"
    assert await inputs(created_from=NOW + timedelta(seconds=2), created_before=NOW + timedelta(seconds=4)) == "32"
    newest = (await listing.list("acme", ExecutionQuery(), limit=3))[-1]
    assert await inputs(before=newest.execution_id) == "210"


async def test_a_change_that_has_begun_is_made_though_its_caller_goes_away(
    db: database.Database, store: SqlSessionStore
) -> None:
    await accepted(db)
    calling: list[asyncio.Task[Any]] = []

    def leave(session: Session) -> Session:
        calling[0].cancel()
        return replace(session, state={"a": 1})

    calling.append(asyncio.create_task(store.change("acme", "talk", Author("ann"), leave)))
    with pytest.raises(asyncio.CancelledError):
        await calling[0]
    async with asyncio.timeout(20):  # nothing is left locked
        made = await changed(store, b=2)
    assert made.state == {"a": 1, "b": 2}
