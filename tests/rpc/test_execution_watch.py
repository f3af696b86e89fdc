from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from dynamicagents.execution.v1 import execution_service_pb2
from dynamicagents.router.v1 import chat_pb2
from google.rpc import code_pb2, error_details_pb2

from libs import database
from services.execution import model
from services.execution.app import MIGRATIONS
from services.execution.service.log import first
from services.execution.store import SqlExecutionStore
from tests import harness
from tests.rpc.conftest import CANCELLED, COMPLETED, FAILED, RUNNING, execute, kinds, rest, sequences, text_of
from tests.scripted_router import Step, call, calls, text

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
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert harness.fields_of(caught.value) == ["after_sequence"]
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
            assert found is None or found.status is model.Status.CANCELLED


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
    assert not [name for name in names if name in ("Executions._abandon", "Executions._run", "Executions._touch")]


# Processes that end


async def test_shutdown_ends_runs_and_tells_their_watchers(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [[chat_pb2.ChatChunk(text="so"), 30.0]]
    await at.create()
    async with at.beside(drain_grace=1.0) as beside:
        stream, execution_id = await beside.begin()
        _, unwatched = await beside.begin(on_disconnect=CONTINUE)
        reading = asyncio.create_task(rest(stream))
        await asyncio.sleep(0.1)
    events = await reading
    assert kinds(events) == ["content_delta", "execution_cancelled"]
    assert events[-1].execution_cancelled.reason == "server shutting down"
    assert (await at.get(execution_id)).status == CANCELLED
    assert (await at.watch(unwatched))[-1].execution_cancelled.reason == "server shutting down"


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


async def test_run_of_a_process_that_died_ends(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(lease=0.4, **database_settings)
    now = datetime.now(UTC)
    lost = model.Execution("default", "lost", "helper", 1, model.Status.RUNNING, "hi", now, "gone", last_sequence=1)
    async with database.opened(at.settings, MIGRATIONS) as db:
        await SqlExecutionStore(db).accept(lost, first("helper", 1, ""), now + timedelta(seconds=0.3))
    events = await at.watch("lost")
    assert kinds(events) == ["execution_started", "execution_failed"]
    assert sequences(events) == [1, 2]
    error = events[-1].execution_failed.error
    assert error.code == code_pb2.UNAVAILABLE
    assert harness.detail(error, error_details_pb2.ErrorInfo).reason == "EXECUTION_LOST"
    assert (await at.get("lost")).status == FAILED


async def test_lease_is_kept_while_it_runs(bench: Bench) -> None:
    at = await bench(lease=0.4)
    at.router.turns = [[1.2, *calls(call("missing", "{}"))], text("ok")]
    await at.create()
    async with at.beside():
        assert kinds(await at.run())[-1] == "execution_completed"


async def test_run_whose_row_was_taken_ends_here_too(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [[chat_pb2.ChatChunk(text="a"), 0.3, chat_pb2.ChatChunk(text="b"), 30.0]]
    await at.create()
    stream, execution_id = await at.begin()
    await stream.read()
    async with database.opened(at.settings, MIGRATIONS) as db, db.write() as connection:
        await connection.exec_driver_sql("UPDATE executions SET owner = 'somebody else'")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rest(stream)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert harness.reason_of(caught.value) == "EXECUTION_LOST"
    await asyncio.wait_for(at.router.cancelled.wait(), 1)
    assert (await at.get(execution_id)).status == RUNNING
