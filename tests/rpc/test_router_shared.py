"""Replicas of the Router that share a Redis, and one whose Redis is gone."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from dynamicagents.router.v1 import chat_pb2, router_service_pb2, router_service_pb2_grpc
from pydantic import SecretStr

from libs import errors
from services.router.app import app as router_app
from services.router.gateways import redis_state
from services.router.gateways.redis_state import RedisState
from services.router.model import Budget, BudgetScope, RoutingTable, grouped
from services.router.model.health import Circuit
from services.router.service import Router
from tests import harness, router_bench
from tests.router_script import CALL, CALLER, Script, deployment, down, limited


@dataclass
class Replica:
    script: Script
    router: Router
    shared: RedisState


@asynccontextmanager
async def replicas(url: str, table: RoutingTable, count: int = 3, **turns: Any) -> AsyncIterator[list[Replica]]:
    prefix, made = f"test-{uuid.uuid4().hex}:", []
    async with AsyncExitStack() as stack:
        for _ in range(count):
            script = Script(table, turns)
            redis = await stack.enter_async_context(redis_state.connected(SecretStr(url)))
            shared = RedisState(redis, script.states, script.ledger, prefix=prefix, wall=script.clock)
            await stack.enter_async_context(shared)
            made.append(Replica(script, script.router(shared=shared), shared))
        yield made


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy is no reason to give Redis up."""
    monkeypatch.setattr(redis_state, "_PATIENCE", 60.0)
    monkeypatch.setattr(redis_state, "_ANSWER_PATIENCE", 60.0)


async def eventually(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def served(router: Router) -> bool:
    try:
        await router.chat(CALLER, CALL)
    except errors.Unavailable as error:
        if error.reason_code == "NO_DEPLOYMENT_AVAILABLE" and error.retry_after:
            return False
        raise
    return True


@pytest.mark.usefixtures("patient")
async def test_three_replicas_honour_one_limit(redis_url: str) -> None:
    table = RoutingTable(grouped([deployment("a", rpm=60), deployment("b", rpm=40)]))
    async with replicas(redis_url, table) as made:
        outcomes: list[bool] = []
        for _ in range(20):
            outcomes += await asyncio.gather(*(served(one.router) for one in made for _ in range(5)))
        assert len(outcomes) == 300
        assert 95 <= sum(outcomes) <= 105
        asked = [name for one in made for name in one.script.asked]
        assert (asked.count("a"), asked.count("b")) == (60, 40)
        assert all(state.in_flight == 0 for one in made for state in one.script.states)
        for one in made:
            one.script.clock.now += 60
        assert await served(made[0].router)


@pytest.mark.usefixtures("patient")
async def test_every_deployment_of_a_large_group_is_used(redis_url: str) -> None:
    table = RoutingTable(grouped([deployment(f"d{n}", rpm=1) for n in range(20)]))
    async with replicas(redis_url, table, count=2) as made:
        assert sum([await served(one.router) for _ in range(15) for one in made]) == 20


async def test_replicas_with_nothing_to_share_keep_to_themselves(redis_url: str) -> None:
    table = RoutingTable(grouped([deployment("a", rpm=10)]), share_state=False)
    async with replicas(redis_url, table) as made:
        assert sum([await served(one.router) for one in made for _ in range(20)]) == 30


async def test_a_cooldown_is_everybodys(redis_url: str) -> None:
    table = RoutingTable(grouped([deployment("a"), deployment("b")]), num_retries=0, cooldown=600.0)
    async with replicas(redis_url, table, a=[[limited()]], b=[[down()]]) as made:
        for one in made:
            for each in table.groups["g"]:
                one.script.states.of(CALLER.tenant, each)
        while "a" not in made[0].script.asked:
            with suppress(errors.Error):
                await made[0].router.chat(CALLER, CALL)
        await eventually(lambda: all(one.script.state("a").circuit is Circuit.OPEN for one in made))
        assert all(one.script.state("b").circuit is Circuit.CLOSED for one in made)


async def test_a_budget_is_everybodys(redis_url: str) -> None:
    budget = Budget(BudgetScope.TENANT, "", 2.0, 600.0)
    table = RoutingTable(grouped([deployment("a")]), budgets=(budget,))
    async with replicas(redis_url, table) as made:
        for one in made:
            await one.router.chat(CALLER, CALL)
        await eventually(lambda: all(one.script.ledger.spent("default", budget) == 1.5 for one in made))
        await made[0].router.chat(CALLER, CALL)
        await eventually(lambda: all(one.script.ledger.spent("default", budget) == 2.0 for one in made))
        for one in made:
            with pytest.raises(errors.ResourceExhausted) as caught:
                await one.router.chat(CALLER, CALL)
            assert caught.value.reason_code == "BUDGET_EXCEEDED"


@pytest.mark.usefixtures("patient")
async def test_tokens_are_everybodys(redis_url: str) -> None:
    table = RoutingTable(grouped([deployment("a", tpm=35)]))
    async with replicas(redis_url, table, count=2) as (one, two):
        assert await served(one.router)
        await eventually(lambda: not one.shared._tokens)
        assert await served(two.router)
        await eventually(lambda: not two.shared._tokens)
        assert not await served(two.router)


@dataclass
class Line:
    """A TCP line to Redis that can be cut, or go dead."""

    url: str
    cut: bool = False
    dead: bool = False
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def break_off(self) -> None:
        self.cut = True
        for writer in [*self.writers]:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cut:
            writer.close()
            return
        target = urlsplit(self.url)
        far_reader, far_writer = await asyncio.open_connection(target.hostname, target.port)
        self.writers |= {writer, far_writer}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, far_writer))
                group.create_task(self._pass(far_reader, writer))
        finally:
            for each in (writer, far_writer):
                self.writers.discard(each)
                each.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                while self.dead:
                    await asyncio.sleep(0.01)
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def line(url: str) -> AsyncIterator[tuple[Line, str]]:
    made = Line(url)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    try:
        yield made, f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        made.dead = False
        made.break_off()
        server.close()
        await server.wait_closed()


def asks(shared: RedisState) -> bool:
    return shared._asking is not None and not shared._asking.done()


@pytest.mark.parametrize("how", ["cut", "dead"])
async def test_without_redis_limits_are_local_until_it_is_back(
    redis_url: str, how: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = RoutingTable(grouped([deployment("a", rpm=10)]))
    async with line(redis_url) as (wire, url), replicas(url, table, count=2) as made:
        assert await served(made[0].router)
        if how == "cut":
            wire.break_off()
        else:
            wire.dead = True
        outcomes = [await served(one.router) for one in made for _ in range(20)]
        assert sum(outcomes) == 19
        await eventually(lambda: not any(one.shared.connected for one in made))
        assert capsys.readouterr().out.count("redis does not answer") == 2
        wire.cut = wire.dead = False
        monkeypatch.setattr(redis_state, "_PATIENCE", 60.0)
        monkeypatch.setattr(redis_state, "_ANSWER_PATIENCE", 60.0)
        await eventually(lambda: all(one.shared.connected and not asks(one.shared) for one in made))
        for one in made:
            one.script.clock.now += 60
        assert sum([await served(one.router) for one in made for _ in range(20)]) == 10


@pytest.mark.usefixtures("patient")
async def test_three_servers_honour_one_limit(
    make_settings: Callable[..., Any], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RedisState.__init__.__kwdefaults__, "wall", lambda: 1_000_000.0)  # no minute ends
    shared: dict[str, Any] = {"redis_url": redis_url, "redis_prefix": f"test-{uuid.uuid4().hex}:"}
    async with router_bench.running(make_settings, **shared) as bench, AsyncExitStack() as stack:
        stubs = [bench.stubs]
        for _ in range(2):
            settings = bench.settings.model_copy(update={"port": 0})
            _, channel = await stack.enter_async_context(harness.running(router_app, settings))
            stubs.append(router_service_pb2_grpc.RouterServiceStub(channel))
        await bench.add("limited", rpm=20)
        outcomes = await asyncio.gather(*(_answers(stub) for stub in stubs for _ in range(20)))
        assert 19 <= sum(outcomes) <= 21


async def _answers(stub: Any) -> bool:
    messages = [chat_pb2.ChatMessage(role=chat_pb2.ROLE_USER, content="Hello")]
    request = router_service_pb2.ChatRequest(model="gpt", messages=messages)
    try:
        await stub.Chat(request, timeout=60, wait_for_ready=True)
    except grpc.aio.AioRpcError as error:
        if (error.code(), harness.reason_of(error)) == (grpc.StatusCode.UNAVAILABLE, "NO_DEPLOYMENT_AVAILABLE"):
            return False
        raise
    return True
