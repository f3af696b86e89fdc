from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeAlias

import grpc
import pytest
import sqlalchemy as sa
from dynamicagents.registry.v1 import (
    agent_service_pb2_grpc,
    router_config_service_pb2_grpc,
    watch_service_pb2_grpc,
)
from dynamicagents.registry.v1.agent_service_pb2 import CreateAgentRequest, DeleteAgentRequest, UpdateAgentRequest
from dynamicagents.registry.v1.router_config_service_pb2 import AddDeploymentRequest
from dynamicagents.registry.v1.snapshot_pb2 import RESOURCE_KIND_AGENT, RESOURCE_KIND_ROUTER_CONFIG, ResourceKind
from dynamicagents.registry.v1.watch_service_pb2 import (
    WatchRequest,
    WatchResponse,
)
from google.protobuf.field_mask_pb2 import FieldMask
from structlog.testing import capture_logs

from libs import database
from services.registry.app import MIGRATIONS
from services.registry.config import RegistrySettings
from services.registry.model import Kind
from tests import harness
from tests.registry_client import OFFLINE, Registry, resource
from tests.rpc.test_registry_agents import agent
from tests.rpc.test_registry_router_config import deployment

Call: TypeAlias = "grpc.aio.UnaryStreamCall[WatchRequest, WatchResponse]"
Make = Callable[..., Any]
LARGE = ["x" * 20_000] * 20


@pytest.fixture
def settings(make_settings: Make, database_settings: dict[str, Any]) -> RegistrySettings:
    made: RegistrySettings = make_settings(RegistrySettings, **database_settings, watch_poll=0.05, drain_grace=5.0)
    return made


class Client:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.agents = agent_service_pb2_grpc.AgentServiceStub(channel)
        self.configs = router_config_service_pb2_grpc.RouterConfigServiceStub(channel)
        self._watches = watch_service_pb2_grpc.WatchServiceStub(channel)

    def watch(self, **request: Any) -> Call:
        return self._watches.Watch(WatchRequest(**request))

    async def create(self, agent_id: str) -> None:
        await self.agents.CreateAgent(CreateAgentRequest(agent=agent(agent_id)))

    async def rename(self, agent_id: str, name: str) -> None:
        request = UpdateAgentRequest(
            agent=agent(agent_id, display_name=name), update_mask=FieldMask(paths=["display_name"])
        )
        await self.agents.UpdateAgent(request)

    async def delete(self, agent_id: str) -> None:
        await self.agents.DeleteAgent(DeleteAgentRequest(agent_id=agent_id))

    async def add_deployment(self, deployment_id: str) -> None:
        await self.configs.AddDeployment(AddDeploymentRequest(deployment=deployment(deployment_id)))


@pytest.fixture
async def client(settings: RegistrySettings) -> AsyncIterator[Client]:
    async with harness.registry(settings) as (_, channel):
        yield Client(channel)


async def read(call: Call, seconds: float = 20.0) -> WatchResponse:
    message = await asyncio.wait_for(call.read(), seconds)
    assert isinstance(message, WatchResponse), message
    return message


async def started(call: Call) -> str:
    """Waits until a watch without a snapshot is there; its resume token."""
    message = await read(call)
    assert message.WhichOneof("event") == "heartbeat"
    return message.resume_token


async def changes(call: Call, count: int) -> list[tuple[str, int]]:
    found = []
    while len(found) < count:
        message = await read(call)
        if message.WhichOneof("event") == "change":
            found.append((message.change.resource_id, message.change.revision))
    return found


async def ended(call: Call) -> grpc.aio.AioRpcError:
    async def drain() -> None:
        while await call.read() is not grpc.aio.EOF:
            pass

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(drain(), 20)
    return caught.value


async def test_snapshot_then_live(client: Client) -> None:
    for name in ("two", "one", "gone"):
        await client.create(name)
    await client.rename("two", "Two")
    await client.delete("gone")
    await client.add_deployment("d")
    call = client.watch(snapshot=True)
    state = [await read(call) for _ in range(4)]
    assert [(m.change.resource_id, m.change.revision) for m in state[:3]] == [("one", 1), ("two", 2), ("default", 1)]
    assert [m.resume_token for m in state[:3]] == ["", "", ""]
    assert state[1].change.agent.display_name == "Two"
    assert [d.deployment_id for d in state[2].change.router_config.deployments] == ["d"]
    assert state[3].WhichOneof("event") == "snapshot_complete"
    assert state[3].resume_token
    await client.create("three")
    await client.delete("one")
    live = [await read(call), await read(call)]
    assert [(m.change.resource_id, m.change.deleted) for m in live] == [("three", False), ("one", True)]
    assert live[0].change.kind == RESOURCE_KIND_AGENT
    assert live[0].change.WhichOneof("resource") == "agent"
    assert live[1].change.WhichOneof("resource") is None
    call.cancel()


async def test_empty_snapshot(client: Client) -> None:
    call = client.watch(snapshot=True)
    assert (await read(call)).WhichOneof("event") == "snapshot_complete"
    call.cancel()


async def test_large_snapshot(client: Client) -> None:
    names = sorted(f"agent-{n}" for n in range(450))
    await asyncio.gather(*map(client.create, names))
    call = client.watch(snapshot=True)
    found = await changes(call, len(names))
    assert [name for name, _ in found] == names
    assert (await read(call)).WhichOneof("event") == "snapshot_complete"
    call.cancel()


async def test_without_a_snapshot_only_what_comes(client: Client) -> None:
    await client.create("before")
    call = client.watch()
    await started(call)
    await client.create("after")
    assert await changes(call, 1) == [("after", 1)]
    call.cancel()


async def test_resume_goes_on_without_gap_or_repeat(client: Client) -> None:
    call = client.watch()
    token = await started(call)
    expected = [(f"agent-{n}", 1) for n in range(30)]

    async def write() -> None:
        for name, _ in expected:
            await client.create(name)

    writing = asyncio.create_task(write())
    found: list[tuple[str, int]] = []
    while len(found) < len(expected):
        call.cancel()
        call = client.watch(resume_token=token)
        for _ in range(4):
            message = await read(call)
            token = message.resume_token
            if message.WhichOneof("event") == "change":
                found.append((message.change.resource_id, message.change.revision))
            if len(found) == len(expected):
                break
    await writing
    call.cancel()
    assert found == expected


async def test_kinds(client: Client) -> None:
    call = client.watch(kinds=[RESOURCE_KIND_ROUTER_CONFIG], snapshot=True)
    await client.create("one")
    await client.add_deployment("d")
    message = await read(call)
    while message.WhichOneof("event") != "change":
        message = await read(call)
    assert message.change.kind == RESOURCE_KIND_ROUTER_CONFIG
    call.cancel()


@pytest.mark.parametrize("token", ["nonsense", "p", "p-1", "p1x", "p²", "1", " p1"])
async def test_bad_token(client: Client, token: str) -> None:
    error = await ended(client.watch(resume_token=token))
    assert (error.code(), harness.fields_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, ["resume_token"])


async def test_token_of_another_history(client: Client) -> None:
    error = await ended(client.watch(resume_token="p7"))
    assert (error.code(), harness.reason_of(error)) == (grpc.StatusCode.OUT_OF_RANGE, "RESUME_TOKEN_EXPIRED")


@pytest.mark.parametrize(
    ("request_fields", "field"),
    [
        ({"snapshot": True, "resume_token": "p0"}, "snapshot"),
        ({"kinds": [0]}, "kinds[0]"),
        ({"kinds": [99]}, "kinds[0]"),
    ],
)
async def test_bad_requests(client: Client, request_fields: dict[str, Any], field: str) -> None:
    error = await ended(client.watch(**request_fields))
    assert (error.code(), harness.fields_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


async def test_heartbeats(settings: RegistrySettings) -> None:
    quiet = settings.model_copy(update={"watch_heartbeat": 0.05})
    async with harness.registry(quiet) as (_, channel):
        client = Client(channel)
        call = client.watch()
        token = await started(call)
        for _ in range(3):
            message = await read(call)
            assert (message.WhichOneof("event"), message.resume_token) == ("heartbeat", token)
        await client.create("one")
        assert await changes(call, 1) == [("one", 1)]
        call.cancel()


async def test_servers_see_each_others_changes(settings: RegistrySettings) -> None:
    async with harness.registry(settings) as (_, one), harness.registry(settings) as (_, two):
        here, there = Client(one), Client(two)
        call = here.watch()
        await started(call)
        for number in range(5):
            await there.create(f"agent-{number}")
            assert await changes(call, 1) == [(f"agent-{number}", 1)]
        call.cancel()


async def test_watchers_miss_nothing_while_two_servers_write(settings: RegistrySettings) -> None:
    async with harness.registry(settings) as (_, one), harness.registry(settings) as (_, two):
        clients = [Client(one), Client(two)]
        calls = [client.watch() for client in clients for _ in range(3)]
        for call in calls:
            await started(call)
        writes = [clients[n % 2].create(f"agent-{n}") for n in range(40)]
        seen, *_ = await asyncio.gather(asyncio.gather(*(changes(call, 40) for call in calls)), *writes)
        for call in calls:
            call.cancel()
    assert sorted(name for name, _ in seen[0]) == sorted(f"agent-{n}" for n in range(40))
    assert all(order == seen[0] for order in seen)


async def test_drain_ends_watches_at_once(settings: RegistrySettings) -> None:
    """Long before the grace of calls in flight is over."""
    async with asyncio.timeout(30):
        async with harness.registry(settings.model_copy(update={"drain_grace": 90.0})) as (server, _):
            channel = grpc.aio.insecure_channel(server.address)
            calls = [Client(channel).watch() for _ in range(20)]
            for call in calls:
                await started(call)
            errors = asyncio.gather(*map(ended, calls))
    found = await errors
    await channel.close()
    for error in found:
        assert (error.code(), harness.reason_of(error)) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with capture_logs() as found:
        yield found


async def until_given_up(log: list[Any]) -> None:
    async with asyncio.timeout(60):
        while not any(entry["event"] == "a watcher takes nothing" for entry in log):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("snapshot", [True, False])
async def test_a_watcher_that_does_not_read_is_told_so(
    settings: RegistrySettings, log: list[Any], snapshot: bool
) -> None:
    """What it did not take waits in the transport, and the reason behind it; the server is done with the watch."""
    impatient = settings.model_copy(update={"watch_slow_limit": 0.3})
    async with harness.registry(impatient) as (_, channel):
        client, registry = Client(channel), Registry(channel)
        call, reader = client.watch(), client.watch()
        await started(call)
        await started(reader)
        names = [f"agent-{n}" for n in range(12)]
        for name in names:
            await registry.create(Kind.AGENT, name, spec={"model": OFFLINE, "instructions": LARGE})
        if snapshot:
            call.cancel()
            call = client.watch(snapshot=True)
        assert await changes(reader, 12) == [(name, 1) for name in names]  # who reads is not troubled by who does not
        await until_given_up(log)
        error = await ended(call)
        assert (error.code(), harness.reason_of(error)) == (grpc.StatusCode.ABORTED, "WATCHER_TOO_SLOW")
        await client.create("more")
        assert await changes(reader, 1) == [("more", 1)]
        reader.cancel()


def waiting() -> int:
    return sum("Feed.changed" in repr(task.get_coro()) for task in asyncio.all_tasks())


async def test_watches_that_end_leave_no_task(settings: RegistrySettings) -> None:
    async with harness.registry(settings) as (_, channel):
        calls = [Client(channel).watch() for _ in range(20)]
        for call in calls:
            await started(call)
        async with asyncio.timeout(30):
            while waiting() < 20:
                await asyncio.sleep(0.02)
            for call in calls:
                call.cancel()
            while waiting():
                await asyncio.sleep(0.02)


# Labels and kinds


async def test_labels(client: Client) -> None:
    registry = Registry(client.channel)
    mine, other = {"team": "crm", "env": "x"}, {"team": "crm"}
    await registry.create(Kind.AGENT, "there", labels=mine)
    await registry.create(Kind.AGENT, "not", labels=other)
    call = client.watch(labels=mine, snapshot=True)
    assert await changes(call, 1) == [("there", 1)]
    assert (await read(call)).WhichOneof("event") == "snapshot_complete"
    await registry.create(Kind.AGENT, "no")
    await registry.update(Kind.AGENT, "not", labels=mine)  # told of from here on
    await registry.update(Kind.AGENT, "there", labels=other)  # told of, for it has lost a label
    await registry.update(Kind.AGENT, "there", display_name="nobody is told")
    await registry.delete(Kind.AGENT, "there")
    await registry.delete(Kind.AGENT, "not")  # it had them
    await registry.create(Kind.AGENT, "not", labels=other)  # a new one that never had them
    await registry.create(Kind.AGENT, "end", labels=mine)
    assert await changes(call, 4) == [("not", 2), ("there", 2), ("not", 3), ("end", 1)]
    call.cancel()


@pytest.mark.parametrize("kind", list(Kind))
async def test_every_kind(client: Client, kind: Kind) -> None:
    registry = Registry(client.channel)
    await registry.member()
    name = f"RESOURCE_KIND_{kind.name}"
    live = client.watch(kinds=[name])
    await started(live)
    bundle = {"router_config": {"num_retries": 3}} if kind is Kind.ROUTER_CONFIG else {kind: resource(kind, "x")}
    await registry.apply(bundle)
    later = client.watch(kinds=[name], snapshot=True)
    for call in (live, later):
        message = await read(call)
        while message.change.resource_id == "member":
            message = await read(call)
        assert ResourceKind.Name(message.change.kind) == name
        assert message.change.WhichOneof("resource") == kind
        call.cancel()


# PostgreSQL tells


@pytest.fixture
def told(settings: RegistrySettings) -> RegistrySettings:
    """Polls so seldom that only the database can have told."""
    return settings.model_copy(update={"watch_poll": 60.0})


@harness.only_postgres
async def test_another_servers_change_is_told_of_at_once(told: RegistrySettings) -> None:
    async with harness.registry(told) as (_, one), harness.registry(told) as (_, two):
        here, there = Client(one), Client(two)
        await listening(told, 2)
        call = here.watch()
        await started(call)
        for number in range(10):
            await there.create(f"agent-{number}")
            assert await changes(call, 1) == [(f"agent-{number}", 1)]
        call.cancel()


@harness.only_postgres
async def test_the_connection_that_listens_comes_back(told: RegistrySettings) -> None:
    async with harness.registry(told) as (_, one), harness.registry(told) as (_, two):
        here, there = Client(one), Client(two)
        await listening(told, 2)
        call = here.watch()
        await started(call)
        async with database.opened(told, MIGRATIONS) as db, db.write() as connection:
            await connection.execute(sa.text(f"SELECT pg_terminate_backend(pid) {LISTENING}"))
        await there.create("while-nobody-listens")
        assert await changes(call, 1) == [("while-nobody-listens", 1)]
        await listening(told, 2)
        await there.create("told")
        assert await changes(call, 1) == [("told", 1)]
        call.cancel()


@harness.only_postgres
async def test_listening_takes_no_connection_from_the_calls(told: RegistrySettings) -> None:
    async with harness.registry(told.model_copy(update={"database_pool_size": 1})) as (_, channel):
        await listening(told, 1)
        async with asyncio.timeout(30):
            await Client(channel).create("one")


LISTENING = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"


async def listening(settings: RegistrySettings, count: int) -> None:
    async with asyncio.timeout(30), database.opened(settings, MIGRATIONS) as db, db.read() as connection:
        while (await connection.execute(sa.text(f"SELECT count(*) {LISTENING}"))).scalar_one() < count:
            await asyncio.sleep(0.02)
