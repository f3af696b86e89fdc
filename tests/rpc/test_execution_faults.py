from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from dynamicagents.router.v1 import chat_pb2
from google.rpc import code_pb2, error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs import errors, status
from libs.database import Database
from services.execution.store import SqlExecutionStore
from tests import harness
from tests.rpc.conftest import COMPLETED, FAILED, kinds, rest, sequences, text_of
from tests.scripted_router import ScriptedRouter, call, calls, text

Bench = Callable[..., Any]


def failure(events: list[Any]) -> tuple[int, str]:
    """Code and reason of the execution_failed that ends a run."""
    assert kinds(events)[-1] == "execution_failed"
    error = events[-1].execution_failed.error
    return error.code, harness.detail(error, error_details_pb2.ErrorInfo).reason


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def assert_serving(at: Any) -> None:
    async with grpc.aio.insecure_channel(at.server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(
            health_pb2.HealthCheckRequest(service="dynamicagents.execution.v1.ExecutionService")
        )
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_router_that_is_down_and_comes_back(bench: Bench) -> None:
    address = f"127.0.0.1:{free_port()}"
    at = await bench(router_address=address)
    await at.create()
    started = time.perf_counter()
    events = await at.run()
    assert 0.3 < time.perf_counter() - started < 6
    assert failure(events) == (code_pb2.UNAVAILABLE, "SERVICE_UNAVAILABLE")
    assert events[-1].execution_failed.usage.model_calls == 1
    await assert_serving(at)
    router = ScriptedRouter()
    async with router.serving(address):
        async with asyncio.timeout(10):
            while (await at.execute()).status == FAILED:
                pass
        assert (await at.execute()).output == "Hello there"


async def test_router_that_comes_back_during_the_retries(bench: Bench) -> None:
    address = f"127.0.0.1:{free_port()}"
    at = await bench(router_address=address)
    await at.create()
    router = ScriptedRouter()
    run = asyncio.create_task(at.run())
    await asyncio.sleep(0.15)
    async with router.serving(address):
        assert kinds(await run)[-1] == "execution_completed"
    assert len(router.requests) == 1


async def test_retries_end_with_the_deadline(bench: Bench) -> None:
    at = await bench(router_address=f"127.0.0.1:{free_port()}", default_timeout=0.25)
    await at.create()
    started = time.perf_counter()
    code, _ = failure(await at.run())
    assert code in (code_pb2.UNAVAILABLE, code_pb2.DEADLINE_EXCEEDED)
    assert time.perf_counter() - started < 1


async def test_routers_errors_pass_through_and_are_not_retried(bench: Bench) -> None:
    at = await bench()
    answers: list[errors.Error] = [
        errors.NotFound("model_group", "gone", reason="MODEL_GROUP_UNKNOWN"),
        errors.FailedPrecondition("no", reason="CONTENT_POLICY", metadata={"deployment_id": "d1"}),
        errors.ResourceExhausted("slow down", reason="UPSTREAM_RATE_LIMITED", retry_after=7.0),
        errors.Unavailable("down", reason="UPSTREAM_UNAVAILABLE", retry_after=2.0),
        errors.DeadlineExceeded("late"),
        errors.invalid("messages[0].content", "is too long"),
        errors.Internal("internal error"),
    ]
    at.router.turns = [*([error] for error in answers), text("ok")]
    await at.create()
    for error in answers:
        assert (await at.run())[-1].execution_failed.error == status.to_status(error)
    assert len(at.router.requests) == len(answers)
    await assert_serving(at)
    assert (await at.execute()).status == COMPLETED


async def test_error_after_some_text(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [[chat_pb2.ChatChunk(text="half"), errors.Unavailable("x", reason="UPSTREAM_UNAVAILABLE")]]
    await at.create()
    events = await at.run()
    assert text_of(events) == "half"
    assert failure(events) == (code_pb2.UNAVAILABLE, "UPSTREAM_UNAVAILABLE")
    assert "execution_completed" not in kinds(events)
    assert len(at.router.requests) == 1


@asynccontextmanager
async def breakable(address: str) -> AsyncIterator[tuple[str, Callable[[], None]]]:
    """A way to `address` over TCP, and what breaks it."""
    host, port = address.rsplit(":", 1)
    writers: list[asyncio.StreamWriter] = []

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writers.extend((writer, far_writer))
        await asyncio.gather(pipe(reader, far_writer), pipe(far_reader, writer))

    def break_it() -> None:
        for writer in writers:
            writer.transport.abort()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", break_it
        break_it()
        for writer in writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def test_router_that_is_lost_in_the_middle_is_asked_again(bench: Bench) -> None:
    router = ScriptedRouter([[chat_pb2.ChatChunk(text="half"), 30.0], text("whole")])
    async with router.serving() as real, breakable(real) as (address, break_it):
        at = await bench(router_address=address)
        await at.create()
        stream, _ = await at.begin()
        await stream.read()
        break_it()
        events = await rest(stream)
        assert kinds(events) == ["content_restarted", "content_delta", "usage_reported", "execution_completed"]
        assert events[0].content_restarted.from_sequence == 2
        assert events[-1].execution_completed.output == "whole"
        assert len(router.requests) == 2


async def test_router_that_stops_in_the_middle(bench: Bench) -> None:
    router = ScriptedRouter([[chat_pb2.ChatChunk(text="half"), 30.0]])
    async with router.serving() as address:
        at = await bench(router_address=address)
        await at.create()
        stream, _ = await at.begin()
        await stream.read()
    assert failure(await rest(stream)) == (code_pb2.UNAVAILABLE, "SERVICE_UNAVAILABLE")


async def test_router_that_answers_without_an_end(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [[]]
    await at.create()
    assert (await at.execute()).status == COMPLETED


async def test_registry_that_is_down(bench: Bench) -> None:
    at = await bench(registry_address=f"127.0.0.1:{free_port()}")
    for asking in (at.run(), at.execute()):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asking
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert harness.reason_of(caught.value) == "SERVICE_UNAVAILABLE"
    await assert_serving(at)


async def test_failing_tools_and_calls_out_of_nowhere(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [
        calls(
            call("calculator", '{"expression": "1/0"}', "a"),
            call("calculator", '{"expression": 1}', "b"),
            call("calculator", "{", "c"),
            call("gone", "{}", "d"),
            call("calculator", '{"expression": "2"}', "e"),
        ),
        text("ok"),
    ]
    await at.create(tools=[{"tool_id": "builtin/calculator"}])
    events = await at.run()
    completed = {
        e.tool_call_completed.call_id: e.tool_call_completed for e in events if e.HasField("tool_call_completed")
    }
    assert {name: one.is_error for name, one in completed.items()} == {
        "a": True,
        "b": True,
        "c": True,
        "d": True,
        "e": False,
    }
    assert kinds(events)[-1] == "execution_completed"
    answered = {m.tool_call_id for m in at.router.requests[1].messages if m.role == chat_pb2.ROLE_TOOL}
    assert answered == set("abcde")


async def test_loop_without_end(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [calls(call("calculator", '{"expression": "1"}'))]
    await at.create(tools=[{"tool_id": "builtin/calculator"}], max_model_calls=3)
    events = await at.run()
    assert failure(events) == (code_pb2.RESOURCE_EXHAUSTED, "MODEL_CALL_LIMIT")
    assert len(at.router.requests) == 3


# Load


async def test_full_server_refuses_at_once(bench: Bench) -> None:
    at = await bench(max_executions=1, max_queued=0)
    at.router.turns = [[0.5, *text("ok")]]
    await at.create()
    stream, _ = await at.begin(request_id="r")
    started = time.perf_counter()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await at.run()
    assert time.perf_counter() - started < 0.3
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert harness.reason_of(caught.value) == "TOO_MANY_EXECUTIONS"
    retry = harness.detail(harness.status_of(caught.value), error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() > 0
    assert kinds(await at.run(request_id="r"))[-1] == "execution_completed"
    await rest(stream)
    assert (await at.execute()).status == COMPLETED


async def test_limit_holds_when_all_come_at_once(bench: Bench) -> None:
    at = await bench(max_executions=3, max_queued=0)
    at.router.turns = [[0.3, *text("ok")]]
    await at.create()
    results = await asyncio.gather(*(at.run() for _ in range(12)), return_exceptions=True)
    refused = [one for one in results if isinstance(one, grpc.aio.AioRpcError)]
    assert {one.code() for one in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert (len(refused), len(at.router.requests)) == (9, 3)


async def test_a_hundred_runs_at_once(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    at.router.turns = [[0.05, *text(*(f"{n} " for n in range(20)))]]
    await at.create()
    runs = await asyncio.gather(*(at.run(input=str(n)) for n in range(100)))
    for events in runs:
        assert text_of(events) == "".join(f"{n} " for n in range(20))
        assert kinds(events)[-1] == "execution_completed"
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert len({events[0].execution_id for events in runs}) == 100
    assert sorted(int(request.messages[0].content) for request in at.router.requests) == list(range(100))


# The database


async def test_database_that_stays_away_ends_the_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    at = await bench(database_patience=0.2, lease=0.4)
    at.router.turns = [[chat_pb2.ChatChunk(text="a"), 0.2, chat_pb2.ChatChunk(text="b"), 30.0]]
    await at.create()
    stream, execution_id = await at.begin()
    await stream.read()

    def away(self: Database, *_: Any) -> Any:
        raise errors.Unavailable("the database does not answer", reason="DATABASE_UNAVAILABLE")

    with monkeypatch.context() as patched:
        for way in ("write", "transact", "fetch"):
            patched.setattr(Database, way, away)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rest(stream)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert harness.reason_of(caught.value) == "DATABASE_UNAVAILABLE"
        await asyncio.wait_for(at.router.cancelled.wait(), 1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await at.run()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    at.router.turns = [text("whole")]
    events = await at.watch(execution_id)
    restarted = next(event for event in events if event.HasField("content_restarted"))
    assert restarted.content_restarted.from_sequence == 2
    assert events[-1].execution_completed.output == "whole"
    assert sequences(events) == list(range(1, len(events) + 1))
    assert (await at.get(execution_id)).attempts == 2


async def test_database_that_comes_back_is_not_noticed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    at = await bench()
    at.router.turns = [[chat_pb2.ChatChunk(text="a"), 0.1, chat_pb2.ChatChunk(text="b"), 0.3, *text("c")]]
    await at.create()
    failing = SqlExecutionStore.append
    until = time.perf_counter() + 0.4

    async def append(self: SqlExecutionStore, appends: Any) -> Any:
        if time.perf_counter() < until:
            raise errors.Unavailable("the database does not answer")
        return await failing(self, appends)

    monkeypatch.setattr(SqlExecutionStore, "append", append)
    events = await at.run()
    assert text_of(events) == "abc"
    assert kinds(events)[-1] == "execution_completed"
    assert await at.watch(events[0].execution_id) == events


async def test_acceptance_that_nobody_knows_of(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row is committed, but the answer of the database is lost: it is run once its lease has lapsed."""
    at = await bench(lease=0.4)
    await at.create()
    accept = SqlExecutionStore.accept

    async def lost(self: SqlExecutionStore, *args: Any) -> bool:
        await accept(self, *args)
        raise errors.Unavailable("the database does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(SqlExecutionStore, "accept", lost)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await at.run(request_id="r")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert kinds(await at.run(request_id="r"))[-1] == "execution_completed"


async def test_a_part_of_an_agent_that_cannot_be_run_is_named(bench: Callable[..., Any]) -> None:
    at = await bench()
    await at.create(guardrails={"max_input_characters": 3})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await at.run()
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    info = harness.detail(harness.status_of(caught.value), error_details_pb2.ErrorInfo)
    assert (info.reason, info.metadata["field"]) == ("NOT_SUPPORTED", "agent.spec.guardrails")
