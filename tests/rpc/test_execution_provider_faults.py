"""gRPC providers that are lost, come back, refuse, or say nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from tests import harness, tool_provider
from tests.provider_bench import (
    LOST,
    Bench,
    Code,
    delete,
    fails,
    listed,
    register,
    status,
    until,
    until_listed,
    use,
    use_again,
    with_provider,
)
from tests.scripted_router import call, calls, text


async def test_a_provider_that_is_deleted_under_a_call(bench: Bench) -> None:
    async with with_provider(bench, tools={**tool_provider.TOOLS, "never": {}}) as (at, provider):
        waiting = asyncio.create_task(fails(at, "never"))
        await asyncio.wait_for(provider.called.wait(), 20)
        await delete(at)
        assert await asyncio.wait_for(waiting, 20) == LOST


async def test_what_was_lost_is_called_again_where_that_is_harmless(bench: Bench) -> None:
    async with with_provider(bench) as (at, provider):
        provider.failures = [Code.UNAVAILABLE]
        assert (await use(at, "say", text="again")).output == "again"
        provider.failures = [Code.UNAVAILABLE, Code.UNAVAILABLE]
        assert await fails(at, "say", text="twice") == LOST
        provider.failures = [Code.UNAVAILABLE]
        assert await fails(at, "once", text="x") == LOST
        provider.failures = [Code.UNAVAILABLE]
        assert await fails(at, "keyed", text="x") == LOST  # outside of a run there is no key
        assert [request.tool_name for request in provider.requests] == ["say"] * 4 + ["once", "keyed"]
        provider.failures = [Code.UNAVAILABLE]
        at.router.turns = [calls(call("keyed", '{"text": "k"}')), text("done")]
        await at.create(tools=[{"tool_id": "grpc/crm/keyed"}])
        events = await at.run()
        assert next(e.tool_call_completed.output for e in events if e.HasField("tool_call_completed")) == "k"
        assert len({request.idempotency_key for request in provider.requests[-2:]}) == 1


async def test_codes_of_a_provider_are_errors_of_the_tool(bench: Bench) -> None:
    async with with_provider(bench) as (at, provider):
        for code in (Code.PERMISSION_DENIED, Code.INTERNAL, Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED):
            provider.failures = [code]
            failed = await use(at, "once", text="x")
            assert (failed.output, failed.is_error) == (f"{code.name}: as it was told", True)
        provider.failures = [Code.UNAUTHENTICATED]
        assert await fails(at, "once", text="x") == LOST


async def test_a_tool_that_vanishes_between_list_and_call(bench: Bench) -> None:
    async with with_provider(bench) as (at, provider):
        del provider.tools["say"]
        gone = await use(at, "say", text="?")
        assert (gone.output, gone.is_error) == ("NOT_FOUND: no such tool", True)
        await until_listed(at, "grpc/crm/say", there=False)
        assert await fails(at, "say", text="?") == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")


async def test_what_is_known_is_believed_while_the_provider_is_lost(bench: Bench) -> None:
    async with with_provider(bench, ttl=0.1) as (at, provider):
        await provider.stop()
        await status(at, "FAILED")
        assert "grpc/crm/say" in await listed(at)
        assert await fails(at, "say", text="?") == LOST
        await provider.start()
        assert (await use_again(at, "say", text="back")).output == "back"
        await status(at, "READY")


async def test_a_provider_that_comes_back_is_asked_anew(bench: Bench) -> None:
    async with with_provider(bench, ttl=3600) as (at, provider):
        await provider.stop()
        await status(at, "FAILED")
        provider.tools["new"] = {}
        await provider.start()
        await until_listed(at, "grpc/crm/new")


async def test_a_provider_dies_and_comes_back_under_calls(bench: Bench) -> None:
    async with with_provider(bench) as (at, provider):
        stop, outcomes, reasons = asyncio.Event(), list[bool](), set[Any]()

        async def go_on(n: int) -> None:
            while not stop.is_set():
                try:
                    outcomes.append((await use(at, "once", text=str(n))).output == str(n))
                except grpc.aio.AioRpcError as error:
                    reasons.add((error.code(), harness.reason_of(error)))
                    outcomes.append(False)

        async with asyncio.TaskGroup() as callers:
            for n in range(10):
                callers.create_task(go_on(n))
            await until(lambda: outcomes.count(True) > 20)
            await provider.stop()
            await until(lambda: outcomes.count(False) > 5)
            await provider.start()
            known = outcomes.count(True)
            await until(lambda: outcomes.count(True) > known + 50)
            stop.set()
        assert reasons == {LOST}
        for n in range(20):
            assert (await use(at, "once", text=str(n))).output == str(n)


async def test_a_provider_that_never_answers(bench: Bench) -> None:
    async with tool_provider.serving(mute=True) as provider:
        at = await bench(grpc_patience=0.5)
        await register(at, provider.address)
        source = await status(at, "FAILED")
        assert source.message == "does not list its tools"
        assert await fails(at, "say", text="?") == LOST
        await at.create(tools=[{"tool_id": "grpc/crm/say"}])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await at.run()
        assert (caught.value.code(), harness.reason_of(caught.value)) == LOST


async def test_one_that_takes_connections_and_says_nothing(bench: Bench) -> None:
    held: list[asyncio.StreamWriter] = []
    listening = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    try:
        at = await bench(grpc_patience=1.0)
        await register(at, f"127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        assert (await status(at, "FAILED")).message in ("cannot be reached", "does not list its tools")
        assert await fails(at, "say", text="?") == LOST
    finally:
        listening.close()
        for writer in held:
            writer.close()


async def test_many_runs_outlive_a_restart_of_their_provider(bench: Bench) -> None:
    async with with_provider(bench) as (at, provider):
        await at.create(tools=[{"tool_id": "grpc/crm/say"}], max_model_calls=20)
        at.router.turns = [calls(call("say", '{"text": "a"}'))]

        async def one() -> list[tuple[str, bool]]:
            events = await at.run(deadline=90)
            assert harness.detail_of_event(events[-1]).reason == "MODEL_CALL_LIMIT"
            done = [event.tool_call_completed for event in events if event.HasField("tool_call_completed")]
            assert len(done) == 20
            return [(call.output, call.is_error) for call in done]

        async with asyncio.TaskGroup() as runs:
            started = [runs.create_task(one()) for _ in range(50)]
            await until(lambda: len(at.router.requests) > 200)
            await provider.stop()
            await until(lambda: len(at.router.requests) > 300)
            await provider.start()
        outcomes = [outcome for task in started for outcome in task.result()]
        assert ("a", False) in outcomes
        failed = {output for output, is_error in outcomes if is_error}
        assert failed
        assert all(output.startswith("grpc/crm: ") for output in failed)
        await use_again(at, "say", text="back")
        assert await one() == [("a", False)] * 20
