from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from dynamicagents.execution.v1 import execution_service_pb2
from dynamicagents.router.v1 import chat_pb2
from google.rpc import code_pb2, error_details_pb2

from libs import database
from services.execution.app import MIGRATIONS
from services.execution.model.executions import Execution, Status
from services.execution.service.log import first
from services.execution.store import SqlExecutionStore
from services.execution.store.tables import executions, jobs
from tests import harness
from tests.rpc.conftest import CANCELLED, COMPLETED, RUNNING, execute, kinds, rest, sequences, text_of
from tests.scripted_router import Step, text

Bench = Callable[..., Any]
CANCEL = execution_service_pb2.ON_DISCONNECT_CANCEL
CONTINUE = execution_service_pb2.ON_DISCONNECT_CONTINUE


def slow(*words: str, pause: float = 0.05) -> list[Step]:
    return [step for word in text(*words) for step in (pause, word)]


# Watching


async def test_watching_what_has_ended(bench: Bench) -> None:
    at = await bench()
    await at.create()
    events = await at.run()
    execution_id, last = events[0].execution_id, events[-1].sequence
    assert await at.watch(execution_id) == events
    assert await at.watch(execution_id, 2) == events[2:]
    assert await at.watch(execution_id, last) == []


async def test_watching_while_it_runs(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [slow("a", "b", "c", "d")]
    await at.create()
    stream, execution_id = await at.begin()
    await stream.read()
    seen = await asyncio.gather(at.watch(execution_id), at.watch(execution_id, 1), rest(stream))
    assert sequences(seen[0]) == list(range(1, len(seen[0]) + 1))
    assert seen[1] == seen[0][1:]
    assert seen[2] == seen[0][2:]
    assert text_of(seen[0]) == "abcd"
    assert kinds(seen[0])[-1] == "execution_completed"


@pytest.mark.parametrize("where", ["here", "beside"])
async def test_watching_after_what_is_not_there_yet(bench: Bench, where: str) -> None:
    at = await bench()
    at.router.turns = [[30.0]]
    await at.create()
    _, execution_id = await at.begin()
    async with at.beside() as beside:
        asked = at if where == "here" else beside
        for _ in range(2):  # while it runs, and after
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await asked.watch(execution_id, 99)
            assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE
            info = harness.detail(harness.status_of(caught.value), error_details_pb2.ErrorInfo)
            last = (await at.get(execution_id)).last_sequence
            assert (info.reason, dict(info.metadata)) == ("SEQUENCE_UNKNOWN", {"last_sequence": str(last)})
            await at.cancel(execution_id)


async def test_watching_from_another_process(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    at.router.turns = [slow("a", "b", "c", "d", "e")]
    await at.create()
    async with at.beside() as beside:
        stream, execution_id = await at.begin()
        whole, part, here = await asyncio.gather(
            beside.watch(execution_id), beside.watch(execution_id, 1), rest(stream)
        )
        assert (await beside.get(execution_id)).status == COMPLETED
    assert whole[1:] == part == here
    assert text_of(whole) == "abcde"


async def test_quiet_streams_have_heartbeats(bench: Bench) -> None:
    at = await bench(heartbeat=0.1)
    at.router.turns = [[0.5, *text("ok")]]
    await at.create()
    async with at.beside() as beside:
        stream, execution_id = await at.begin()
        here, there = await asyncio.gather(rest(stream), beside.watch(execution_id))
    for events in (here, there):
        beats = [event for event in events if event.WhichOneof("event") == "heartbeat"]
        assert len(beats) >= 2
        assert {event.sequence for event in beats} == {1}
        assert kinds(events)[-1] == "execution_completed"
    assert "heartbeat" not in kinds(await at.watch(execution_id))


async def test_slow_reader_gets_everything(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [[step for n in range(300) for step in (chat_pb2.ChatChunk(text=f"{n} "), 0.001)] + text("end")]
    await at.create()
    stream, execution_id = await at.begin()
    await at.settled(execution_id)
    events = await rest(stream)
    assert text_of(events) == "".join(f"{n} " for n in range(300)) + "end"
    assert sequences(events) == list(range(2, len(events) + 2))


async def test_many_chunks_become_fewer_events(bench: Bench) -> None:
    at = await bench()
    words = [f"{n}-ü " for n in range(2000)]
    at.router.turns = [text(*words)]
    await at.create()
    events = await at.run()
    assert text_of(events) == events[-1].execution_completed.output == "".join(words)
    assert len(events) < 500
    assert sequences(events) == list(range(1, len(events) + 1))
    assert await at.watch(events[0].execution_id) == events


# Cancelling


async def test_cancelling(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [[chat_pb2.ChatChunk(text="so"), 30.0]]
    await at.create()
    stream, execution_id = await at.begin()
    await stream.read()
    started = time.perf_counter()
    ended = await at.cancel(execution_id, "enough")
    await asyncio.wait_for(at.router.cancelled.wait(), 1)
    assert time.perf_counter() - started < 1
    assert (ended.status, ended.output) == (CANCELLED, "")
    assert ended.HasField("end_time")
    events = await rest(stream)
    assert kinds(events) == ["execution_cancelled"]
    assert events[0].execution_cancelled.reason == "enough"
    assert events[0].execution_cancelled.usage.model_calls == 1
    assert await at.cancel(execution_id, "again") == ended


async def test_cancelling_without_a_reason(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [[30.0]]
    await at.create()
    async with at.beside() as beside:
        for server in (at, beside):
            stream, execution_id = await at.begin()
            await server.cancel(execution_id, "")
            assert (await rest(stream))[-1].execution_cancelled.reason == ""


async def test_cancelling_from_another_process(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    at.router.turns = [[30.0]]
    await at.create()
    async with at.beside() as beside:
        stream, execution_id = await at.begin()
        started = time.perf_counter()
        assert (await beside.cancel(execution_id, "from afar")).status == CANCELLED
        assert time.perf_counter() - started < 2
        assert (await rest(stream))[-1].execution_cancelled.reason == "from afar"
        await asyncio.wait_for(at.router.cancelled.wait(), 1)


async def test_cancelling_what_has_ended(bench: Bench) -> None:
    at = await bench()
    await at.create()
    done = await at.execute()
    async with at.beside() as beside:
        assert await at.cancel(done.execution_id) == await beside.cancel(done.execution_id) == done


async def test_cancelling_races_with_the_end(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [[0.012, *text("a", "b")]]
    await at.create()
    outcomes = set()
    for delay in (*(n * 0.001 for n in range(19)), 0.3):
        stream, execution_id = await at.begin()

        async def cancel(execution_id: str = execution_id, after: float = delay) -> Any:
            await asyncio.sleep(after)
            return await at.cancel(execution_id)

        events, ended = await asyncio.gather(rest(stream), cancel())
        stored = await at.watch(execution_id)
        assert events == stored[1:]
        assert [kind for kind in kinds(stored) if kind.startswith("execution_")][1:] == kinds(stored)[-1:]
        expected = {"execution_completed": COMPLETED, "execution_cancelled": CANCELLED}[kinds(stored)[-1]]
        assert ended.status == (await at.get(execution_id)).status == expected
        assert ended.last_sequence == len(stored)
        outcomes.add(expected)
    assert outcomes == {COMPLETED, CANCELLED}


# Callers that vanish


async def test_vanished_caller_who_asked_for_it_is_cancelled_at_once(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [[chat_pb2.ChatChunk(text="so"), 30.0]]
    await at.create()
    stream, execution_id = await at.begin(on_disconnect=CANCEL)
    await stream.read()
    stream.cancel()
    await asyncio.wait_for(at.router.cancelled.wait(), 1)
    ended = await at.settled(execution_id, within=1)
    assert ended.status == CANCELLED
    assert (await at.watch(execution_id))[-1].execution_cancelled.reason == "caller disconnected"


async def test_vanished_caller_of_execute(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [[30.0]]
    await at.create()
    asking = at.executions.Execute(execute(on_disconnect=CANCEL, request_id="r"))
    await asyncio.sleep(0.2)
    asking.cancel()
    await asyncio.wait_for(at.router.cancelled.wait(), 1)
    assert (await at.execute(request_id="r")).status == CANCELLED


async def test_callers_that_vanish_at_any_time_leave_no_run_behind(
    bench: Bench, database_settings: dict[str, Any]
) -> None:
    """Also while the request is being accepted."""
    at = await bench(**database_settings)
    at.router.turns = [[30.0]]
    await at.create()
    for n in range(40):
        stream = at.stream(on_disconnect=CANCEL, request_id=f"r-{n}")
        await asyncio.sleep(random.uniform(0, 0.012))
        stream.cancel()
    await asyncio.sleep(0.3)
    settings = at.settings
    async with database.opened(settings, MIGRATIONS) as db:
        store = SqlExecutionStore(db)
        for n in range(40):
            found = await store.by_request("default", f"r-{n}")
            assert found is None or found.status is Status.CANCELLED


async def test_vanished_caller_is_waited_for(bench: Bench) -> None:
    at = await bench(resume_grace=0.3)
    at.router.turns = [[30.0]]
    await at.create()
    stream, execution_id = await at.begin()
    stream.cancel()
    await asyncio.sleep(0.15)
    assert (await at.get(execution_id)).status == RUNNING
    ended = await at.settled(execution_id, within=2)
    assert ended.status == CANCELLED
    assert (await at.watch(execution_id))[-1].execution_cancelled.reason == "caller disconnected"


async def test_caller_who_comes_back_in_time_saves_the_run(bench: Bench) -> None:
    at = await bench(resume_grace=0.3)
    at.router.turns = [[1.0, *text("ok")]]
    await at.create()
    stream, execution_id = await at.begin()
    stream.cancel()
    await asyncio.sleep(0.1)
    assert kinds(await at.watch(execution_id, 1))[-1] == "execution_completed"


async def test_caller_who_comes_back_elsewhere_saves_the_run(bench: Bench) -> None:
    at = await bench(resume_grace=0.3)
    at.router.turns = [[1.0, *text("ok")]]
    await at.create()
    async with at.beside() as beside:
        stream, execution_id = await at.begin()
        stream.cancel()
        await asyncio.sleep(0.1)
        assert kinds(await beside.watch(execution_id, 1))[-1] == "execution_completed"


async def test_run_with_a_second_watcher_goes_on(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [[0.5, *text("ok")]]
    await at.create()
    stream, execution_id = await at.begin(on_disconnect=CANCEL)
    watching = asyncio.create_task(at.watch(execution_id))
    await asyncio.sleep(0.1)
    stream.cancel()
    assert kinds(await watching)[-1] == "execution_completed"


async def test_run_that_continues_needs_nobody(bench: Bench) -> None:
    at = await bench(resume_grace=0.1)
    at.router.turns = [[0.6, *text("ok")]]
    await at.create()
    stream, execution_id = await at.begin(on_disconnect=CONTINUE)
    stream.cancel()
    assert (await at.settled(execution_id)).status == COMPLETED


async def test_run_that_ends_unwatched_leaves_no_task_behind(bench: Bench) -> None:
    at = await bench(resume_grace=30.0)
    at.router.turns = [[0.2, *text("ok")]]
    await at.create()
    stream, execution_id = await at.begin()
    stream.cancel()
    assert (await at.settled(execution_id)).status == COMPLETED
    await asyncio.sleep(0.05)
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    assert not [name for name in names if name in ("Runs._abandon", "Runs._run", "Executions._touch")]


# Processes that end


async def test_shutdown_hands_runs_over(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(lease=60, **database_settings)
    at.router.turns = [[chat_pb2.ChatChunk(text="so"), 30.0]]
    await at.create()
    async with at.beside(drain_grace=1.0) as beside:
        stream, execution_id = await beside.begin()
        left, unwatched = await beside.begin(on_disconnect=CONTINUE)
        await left.read()
        left.cancel()
        await stream.read()
        reading = asyncio.create_task(rest(stream))
        at.router.turns = [slow("w", "hole")]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await reading
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert harness.reason_of(caught.value) == "SHUTTING_DOWN"
    for one in (execution_id, unwatched):
        events = await at.watch(one)
        assert kinds(events)[-1] == "execution_completed"
        assert "content_restarted" in kinds(events)
        assert sequences(events) == list(range(1, len(events) + 1))
        ended = await at.get(one)
        assert (ended.output, ended.attempts) == ("whole", 2)


async def test_run_that_ends_within_the_grace_is_left_alone(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [[0.3, *text("ok")]]
    await at.create()
    async with at.beside(drain_grace=2.0) as beside:
        stream, _ = await beside.begin()
        reading = asyncio.create_task(rest(stream))
    assert kinds(await reading)[-1] == "execution_completed"


async def test_shutdown_sends_watchers_of_other_processes_runs_elsewhere(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [[30.0]]
    await at.create()
    _, execution_id = await at.begin()
    started = time.perf_counter()
    async with at.beside(drain_grace=5.0) as beside:
        watching = asyncio.create_task(beside.watch(execution_id))
        await asyncio.sleep(0.2)
    assert time.perf_counter() - started < 2
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watching
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert harness.reason_of(caught.value) == "SHUTTING_DOWN"
    assert (await at.get(execution_id)).status == RUNNING


async def test_run_of_a_process_that_died_is_taken_up(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(lease=0.4, **database_settings)
    await at.create()
    done = await at.execute()
    async with database.opened(at.settings, MIGRATIONS) as db:
        store = SqlExecutionStore(db)
        asked = await store.assignment("default", done.execution_id)
        assert asked is not None
        asked = replace(asked, deadline=datetime.now(UTC) + timedelta(seconds=20))
        lost = Execution("default", "lost", "helper", 1, Status.RUNNING, "hi", datetime.now(UTC), "gone")
        await store.accept(replace(lost, last_sequence=1), first(lost), asked, 0.3)
        late = replace(asked, deadline=datetime.now(UTC))
        await store.accept(replace(lost, execution_id="late", last_sequence=1), first(lost), late, 0.3)
    events = await at.watch("lost")
    assert list(dict.fromkeys(kinds(events))) == [
        "execution_started",
        "content_delta",
        "usage_reported",
        "execution_completed",
    ]
    assert sequences(events) == list(range(1, len(events) + 1))
    found = await at.get("lost")
    assert (found.status, found.attempts, found.output) == (COMPLETED, 2, "Hello there")
    assert kinds(await at.watch("late")) == ["execution_started", "execution_failed"]
    assert harness.detail_of_event((await at.watch("late"))[-1]).reason == "DEADLINE_EXCEEDED"


async def test_run_that_nobody_can_take_up_ends(bench: Bench, database_settings: dict[str, Any]) -> None:
    """It was accepted by a version that did not keep what was asked."""
    at = await bench(lease=0.4, **database_settings)
    await at.create()
    done = await at.execute()
    async with database.opened(at.settings, MIGRATIONS) as db, db.write() as connection:
        of = executions.c.execution_id == done.execution_id
        await connection.execute(jobs.delete())
        await connection.execute(executions.update().where(of).values(status="running"))
    error = (await at.settled(done.execution_id)).error
    assert error.code == code_pb2.UNAVAILABLE
    assert harness.detail(error, error_details_pb2.ErrorInfo).reason == "EXECUTION_LOST"


async def test_run_that_kills_its_processes_is_given_up(bench: Bench) -> None:
    at = await bench(lease=0.4, max_deaths=2)
    await at.create()
    done = await at.execute()
    async with database.opened(at.settings, MIGRATIONS) as db, db.write() as connection:
        of = executions.c.execution_id == done.execution_id
        await connection.execute(executions.update().where(of).values(status="running", deaths=1))
    error = (await at.settled(done.execution_id)).error
    assert error.code == code_pb2.ABORTED
    info = harness.detail(error, error_details_pb2.ErrorInfo)
    assert (info.reason, dict(info.metadata)) == ("POISONED", {"attempts": "2"})


async def test_run_that_was_taken_away_stops_and_its_watchers_go_along(
    bench: Bench, database_settings: dict[str, Any]
) -> None:
    """Its process was so slow that its lease lapsed."""
    at = await bench(lease=60, **database_settings)
    at.router.turns = [[chat_pb2.ChatChunk(text="half"), 30.0]]
    await at.create()
    stream, execution_id = await at.begin()
    assert (await stream.read()).content_delta.text == "half"
    at.router.turns = [text("whole")]
    async with database.opened(at.settings, MIGRATIONS) as db, db.write() as connection:
        long_ago = datetime(2000, 1, 1, tzinfo=UTC)
        await connection.execute(executions.update().values(lease_time=long_ago, owner="another"))
    events = await rest(stream)
    assert kinds(events) == ["content_restarted", "content_delta", "usage_reported", "execution_completed"]
    assert events[0].content_restarted.from_sequence == 2
    assert sequences(events) == [3, 4, 5, 6]
    await asyncio.wait_for(at.router.cancelled.wait(), 5)
    assert (await at.get(execution_id)).attempts == 2
