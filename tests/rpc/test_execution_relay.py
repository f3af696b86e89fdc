"""Hosts that are connected to another process of Execution than the one that calls them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from dynamicagents.tools.v1 import (
    host_pb2,
    host_relay_service_pb2,
    host_relay_service_pb2_grpc,
    tool_service_pb2,
)

from libs import database
from services.execution.gateways import relay
from services.execution.store.tables import hosts
from tests import harness
from tests.rpc.conftest import ExecutionBench, rest
from tests.rpc.test_execution import SECRET, bearer, token
from tests.rpc.test_execution_hosts import READ_ONLY, failed, listed, status_of, until, use
from tests.scripted_router import call, calls, text
from tests.tool_host import ToolHost, hosting, tool

Bench = Callable[..., Any]
Code = grpc.StatusCode


@asynccontextmanager
async def two(bench: Bench, database_settings: dict[str, Any], **settings: Any) -> AsyncIterator[list[ExecutionBench]]:
    at = await bench(**database_settings, **settings)
    async with at.beside() as beside:
        yield [at, beside]


async def test_calls_reach_a_host_of_another_process(bench: Bench, database_settings: dict[str, Any]) -> None:
    async with two(bench, database_settings) as (here, there):
        await here.create(tools=[{"tool_id": "host/say"}])
        async with hosting(there.tools, tool("say"), host_id="crm-1") as host:
            assert list(await listed(here)) == ["host/say"]
            assert await status_of(here) == ["host: 1 host"]
            here.router.turns = [calls(call("say", '{"text": "a"}', "c1")), text("done")]
            stream, execution_id = await here.begin(user_id="ann")
            asked = await host.call()
            assert asked.idempotency_key.startswith(f"{execution_id}/")
            assert (asked.execution_id, asked.user_id) == (execution_id, "ann")
            assert 0 < asked.timeout.ToTimedelta().total_seconds() < 31
            await host.send(progress=host_pb2.HostCallProgress(call_id=asked.call_id, progress=1, total=2, message="m"))
            await host.answer(asked, "said")
            events = await rest(stream)
            (told,) = [e.tool_call_progress for e in events if e.HasField("tool_call_progress")]
            assert (told.progress, told.total, told.message) == (1, 2, "m")
            (done,) = [e.tool_call_completed for e in events if e.HasField("tool_call_completed")]
            assert (done.output, done.is_error) == ("said", False)

            calling = use(here)
            await host.answer(await host.call(), "it failed", is_error=True)
            answer = await calling
            assert (answer.output, answer.is_error) == ("it failed", True)

            calling = use(here)
            asked = await host.call()
            calling.cancel()
            assert (await host.soon(host.cancels.get())).call_id == asked.call_id

        async def gone() -> bool:
            return not await listed(here)

        await until(gone)


async def test_watchers_hear_of_hosts_of_another_process(bench: Bench, database_settings: dict[str, Any]) -> None:
    async with two(bench, database_settings) as (here, there):
        watch = here.tools.WatchTools(tool_service_pb2.WatchToolsRequest(source="host"), timeout=20)
        assert (await watch.read()).HasField("snapshot_complete")
        async with hosting(there.tools, tool("say")):
            assert (await watch.read()).source_changed.source_id == "host"
            assert (await watch.read()).tool_upserted.tool_id == "host/say"
        assert (await watch.read()).tool_removed.tool_id == "host/say"
        watch.cancel()


async def test_hosts_of_two_processes_share_the_load(bench: Bench, database_settings: dict[str, Any]) -> None:
    async with (
        two(bench, database_settings) as (here, there),
        hosting(here.tools, tool("say"), max_concurrency=1) as near,
        hosting(there.tools, tool("say"), max_concurrency=1) as far,
    ):
        assert await status_of(here) == ["host: 2 hosts"]
        calling = [use(here) for _ in range(2)]
        asked = await near.call(), await far.call()
        # Neither process has room; whichever host has it next gets the call.
        late = use(there)
        await near.answer(asked[0], "near")
        await near.answer(await near.call(), "late")
        assert (await late).output == "late"
        await far.answer(asked[1], "far")
        assert sorted([(await one).output for one in calling]) == ["far", "near"]


async def test_a_host_that_comes_to_another_process_is_there_alone(
    bench: Bench, database_settings: dict[str, Any]
) -> None:
    async with (
        two(bench, database_settings, lease=2.0) as (here, there),
        hosting(here.tools, tool("say"), host_id="crm-1") as old,
        hosting(there.tools, tool("say"), host_id="crm-1") as new,
    ):
        error = await old.ended()
        assert error is not None
        assert (error.code(), harness.reason_of(error)) == (Code.ABORTED, "HOST_REPLACED")
        assert await status_of(here) == ["host: 1 host"]
        calling = use(here)
        await new.answer(await new.call(), "new")
        assert (await calling).output == "new"


async def test_losing_a_host_of_another_process(bench: Bench, database_settings: dict[str, Any]) -> None:
    async with two(bench, database_settings) as (here, there), hosting(here.tools, tool("other")) as other:
        async with hosting(there.tools, tool("say")) as host:
            calling = use(here)
            await host.call()
            host.vanish()
            assert await failed(calling) == (Code.UNAVAILABLE, "TOOL_SOURCE_UNAVAILABLE")
        async with (
            hosting(there.tools, tool("say", **READ_ONLY)) as host,
            hosting(there.tools, tool("say", **READ_ONLY)) as spare,
        ):
            calling = use(here)
            await until(lambda: not (host.calls.empty() and spare.calls.empty()))
            lost, left = (host, spare) if spare.calls.empty() else (spare, host)
            lost.vanish()
            await left.answer(await left.call(), "again")
            assert (await calling).output == "again"
        assert other.calls.empty()


async def test_a_process_that_cannot_be_reached(
    bench: Bench, database_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its host is in the database until its lease is over, or it connects to another process."""
    monkeypatch.setattr(relay, "_PATIENCE", 0.3)
    async with two(bench, database_settings) as (here, there):
        async with hosting(there.tools, tool("say"), host_id="crm-1"):
            assert list(await listed(here)) == ["host/say"]
            await _move_address(here)
            assert list(await listed(here)) == ["host/say"]
            calling = use(here)
            await asyncio.sleep(0.5)
            async with hosting(here.tools, tool("say"), host_id="crm-1") as again:
                await again.answer(await again.call(), "again")
                assert (await calling).output == "again"


async def _move_address(at: ExecutionBench) -> None:
    """Where nobody listens."""
    engine = database.make_engine(at.settings)
    async with database.Database(engine).write() as connection:
        await connection.execute(hosts.update().values(address="127.0.0.1:1", registration_id=sa.text("'moved'")))
    await engine.dispose()


async def test_only_services_may_relay(bench: Bench) -> None:
    service = token(tenant="one", scope="service", sub="execution")
    at = await bench(registry={"jwt_secret": SECRET}, jwt_secret=SECRET, service_token=service)
    at.metadata = bearer("one")
    async with at.beside() as beside, hosting(beside.tools, tool("say"), metadata=bearer("one")) as host:
        calling = use(at)
        await host.answer(await host.call(), "relayed")
        assert (await calling).output == "relayed"
        address, stream_id = await _presence(at)
        async with grpc.aio.insecure_channel(address) as channel:
            stub: Any = host_relay_service_pb2_grpc.HostRelayServiceStub(channel)
            request = host_relay_service_pb2.RelayCallRequest(stream_id=stream_id, tool="say")
            user = (("authorization", f"Bearer {token(tenant='one', scope='tools')}"),)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.RelayCall(request, metadata=user, timeout=20).read()
            assert (caught.value.code(), harness.reason_of(caught.value)) == (Code.PERMISSION_DENIED, "SCOPE_MISSING")
            other = (("authorization", f"Bearer {token(tenant='two', scope='service')}"),)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.RelayCall(request, metadata=other, timeout=20).read()
            assert (caught.value.code(), harness.reason_of(caught.value)) == (
                Code.UNAVAILABLE,
                "TOOL_SOURCE_UNAVAILABLE",
            )
        assert host.calls.empty()


async def _presence(at: ExecutionBench) -> tuple[str, str]:
    engine = database.make_engine(at.settings)
    (row,) = await database.Database(engine).rows(sa.select(hosts.c.address, hosts.c.stream_id))
    await engine.dispose()
    return row.address, row.stream_id


async def test_the_public_port_does_not_relay(bench: Bench) -> None:
    at = await bench()
    async with grpc.aio.insecure_channel(at.server.address) as channel:
        stub: Any = host_relay_service_pb2_grpc.HostRelayServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.RelayCall(host_relay_service_pb2.RelayCallRequest(stream_id="s", tool="t"), timeout=20).read()
    assert caught.value.code() is Code.UNIMPLEMENTED


async def test_a_process_that_stops_hands_its_hosts_over(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    async with at.beside(drain_grace=20) as beside:
        old = ToolHost(beside.tools)
        await old.register(tool("say"), host_id="crm-1")
        calling = use(at)
        asked = await old.call()
        moved: asyncio.Future[ToolHost] = asyncio.get_running_loop().create_future()

        async def move() -> None:
            """As the Go package does."""
            await old.draining.wait()
            new = ToolHost(at.tools)
            await new.register(tool("say"), host_id="crm-1")
            second = use(at)
            await new.answer(await new.call(), "the second")
            assert (await second).output == "the second"
            await old.answer(asked, "the first")
            moved.set_result(new)

        moving = asyncio.create_task(move())
    await moving
    assert (await calling).output == "the first"
    error = await old.ended()
    assert error is not None
    assert harness.reason_of(error) in ("SHUTTING_DOWN", "HOST_REPLACED")
    assert await status_of(at) == ["host: 1 host"]
    (await moved).vanish()
    await asyncio.gather((await moved).reading, return_exceptions=True)
