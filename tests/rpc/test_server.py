"""What every server of the suite does, shown on a service of the tests and on Registry."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import jwt
import pytest
from dynamicagents.registry.v1 import (
    agent_service_pb2,
    agent_service_pb2_grpc,
    watch_service_pb2,
    watch_service_pb2_grpc,
)
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from structlog.testing import capture_logs

from libs import client, errors, identity
from libs.config import Settings, StartError
from libs.server import Drain, Server, Servicer, listening
from services.registry.app import app
from services.registry.config import RegistrySettings
from tests import harness
from tests.rpc.test_registry_agents import agent

Code = grpc.StatusCode
Make = Callable[..., Any]
SECRET = "s" * 32
AGENTS = "dynamicagents.registry.v1.AgentService"
GetAgent = agent_service_pb2.GetAgentRequest
Reply = agent_service_pb2.GetAgentResponse


class Scripted(agent_service_pb2_grpc.AgentServiceServicer):
    """Does with each GetAgent what the test says."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self.answer = answer
        self.calls = 0

    async def GetAgent(self, request: GetAgent, context: Any) -> Any:
        self.calls += 1
        self.context = context
        answer = self.answer()
        return await answer if asyncio.iscoroutine(answer) else answer


class Streaming(watch_service_pb2_grpc.WatchServiceServicer):
    def __init__(self, fail: Callable[[], Any]) -> None:
        self._fail = fail

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield watch_service_pb2.WatchResponse(resume_token="first")
        yield self._fail()


@asynccontextmanager
async def serving(
    settings: Settings, implementation: Any, provider: TracerProvider | None = None, drain: Drain | None = None
) -> AsyncIterator[Server]:
    if isinstance(implementation, Streaming):
        servicer = Servicer(
            watch_service_pb2_grpc.add_WatchServiceServicer_to_server,
            implementation,
            "dynamicagents.registry.v1.WatchService",
        )
    else:
        servicer = Servicer(agent_service_pb2_grpc.add_AgentServiceServicer_to_server, implementation, AGENTS)
    async with listening(settings, [servicer], drain=drain or Drain(), provider=provider) as server:
        yield server


@pytest.fixture
def settings(make_settings: Make) -> RegistrySettings:
    made: RegistrySettings = make_settings(RegistrySettings)
    return made


async def failed(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def get(channel: grpc.aio.Channel, **options: Any) -> Any:
    return agent_service_pb2_grpc.AgentServiceStub(channel).GetAgent(GetAgent(agent_id="a"), **options)


def defect() -> Any:
    raise ValueError("secret text")


async def test_health(settings: RegistrySettings) -> None:
    async with harness.running(app, settings) as (server, channel):
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", AGENTS, "dynamicagents.registry.v1.WatchService"):
            assert (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status == 1
        error = await failed(stub.Check(health_pb2.HealthCheckRequest(service="nonsense")))
        assert error.code() is Code.NOT_FOUND
        await server.set_serving(False)
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == 2


async def test_not_serving_while_draining(make_settings: Make) -> None:
    release = asyncio.Event()

    async def slow() -> Reply:
        await release.wait()
        return Reply()

    settings = make_settings(RegistrySettings, drain_grace=5.0)
    scripted = Scripted(slow)
    async with serving(settings, scripted) as server:
        channel = grpc.aio.insecure_channel(server.address)
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=AGENTS))
        assert (await watch.read()).status == 1
        call = get(channel)
        while not scripted.calls:
            await asyncio.sleep(0.01)

        async def look() -> tuple[int, grpc.StatusCode]:
            status = (await watch.read()).status
            code = await watch.code()
            release.set()
            return status, code

        looking = asyncio.create_task(look())
        began = time.monotonic()
    assert await looking == (2, Code.UNAVAILABLE)
    assert await call == Reply()
    assert time.monotonic() - began < settings.drain_grace / 2
    await channel.close()


async def test_idle_reflection_does_not_hold_the_drain(make_settings: Make) -> None:
    settings = make_settings(RegistrySettings, drain_grace=5.0)
    async with serving(settings, Scripted(Reply)) as server, grpc.aio.insecure_channel(server.address) as channel:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        names = {one.name for one in (await call.read()).list_services_response.service}
        began = time.monotonic()
        reading = asyncio.create_task(call.code())
        await asyncio.sleep(0)
    assert AGENTS in names
    assert {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} < names
    await reading
    assert time.monotonic() - began < settings.drain_grace / 2


async def test_calls_in_flight_get_the_grace(make_settings: Make) -> None:
    async def slow() -> Reply:
        await asyncio.sleep(0.3)
        return Reply()

    scripted = Scripted(slow)
    async with serving(make_settings(RegistrySettings, drain_grace=3.0), scripted) as server:
        channel = grpc.aio.insecure_channel(server.address)
        call = get(channel)
        while not scripted.calls:
            await asyncio.sleep(0.01)
    assert await call == Reply()
    await channel.close()


@pytest.mark.parametrize(
    "answer",
    [defect, lambda: None, lambda: "secret text"],
    ids=["raises", "nothing", "no message"],
)
async def test_defects_are_internal_and_say_nothing(settings: RegistrySettings, answer: Callable[[], Any]) -> None:
    with capture_logs() as log:
        async with serving(settings, Scripted(answer)) as server, grpc.aio.insecure_channel(server.address) as channel:
            error = await failed(get(channel))
    assert (error.code(), harness.reason_of(error)) == (Code.INTERNAL, "INTERNAL")
    error_id = harness.detail(harness.status_of(error), error_details_pb2.ErrorInfo).metadata["error_id"]
    assert "secret text" not in repr(error) + str(harness.status_of(error))
    assert [line for line in log if line.get("error_id") == error_id and line["log_level"] == "error"]


@pytest.mark.parametrize("fail", [defect, lambda: "secret text", lambda: None])
async def test_defects_of_a_stream_that_has_begun(settings: RegistrySettings, fail: Callable[[], Any]) -> None:
    async with serving(settings, Streaming(fail)) as server, grpc.aio.insecure_channel(server.address) as channel:
        call = watch_service_pb2_grpc.WatchServiceStub(channel).Watch(watch_service_pb2.WatchRequest())
        assert (await call.read()).resume_token == "first"
        error = await failed(call.read())
    assert (error.code(), harness.reason_of(error)) == (Code.INTERNAL, "INTERNAL")
    assert "secret text" not in repr(error)


async def test_bytes_that_are_no_message(settings: RegistrySettings) -> None:
    async with serving(settings, Scripted(Reply)) as server, grpc.aio.insecure_channel(server.address) as channel:
        error = await failed(channel.unary_unary(f"/{AGENTS}/GetAgent")(b"\xff\xff\xff"))
        assert (error.code(), harness.reason_of(error)) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
        unknown = await failed(channel.unary_unary(f"/{AGENTS}/Nonsense")(b""))
        assert unknown.code() is Code.UNIMPLEMENTED


async def test_message_over_the_limit(make_settings: Make) -> None:
    settings = make_settings(RegistrySettings, max_message_bytes=65536)
    async with serving(settings, Scripted(Reply)) as server, grpc.aio.insecure_channel(server.address) as channel:
        stub = agent_service_pb2_grpc.AgentServiceStub(channel)
        error = await failed(stub.GetAgent(GetAgent(agent_id="a" * 70_000)))
        assert error.code() is Code.RESOURCE_EXHAUSTED
        assert await get(channel) == Reply()


async def test_methods_that_are_not_called_cost_nothing(settings: RegistrySettings) -> None:
    """grpc.aio has a task for each method that is registered, and looks at all of them with every call."""
    async with harness.running(app, settings) as (_, channel):
        stub: Any = agent_service_pb2_grpc.AgentServiceStub(channel)
        assert (await failed(stub.GetAgent(GetAgent(agent_id="none")))).code() is Code.NOT_FOUND
        waiting = [task for task in asyncio.all_tasks() if "_request_registered_call" in repr(task.get_coro())]
        assert waiting == []


async def test_port_in_use(make_settings: Make) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = make_settings(RegistrySettings, port=taken.getsockname()[1])
        with pytest.raises(StartError, match=str(settings.port)):
            async with serving(settings, Scripted(Reply)):
                pass


async def test_one_owner_of_a_port(settings: RegistrySettings) -> None:
    async with serving(settings, Scripted(Reply)) as server:
        second = settings.model_copy(update={"port": server.port})
        with pytest.raises(StartError):
            async with serving(second, Scripted(Reply)):
                pass


async def test_ipv6(make_settings: Make) -> None:
    async with (
        serving(make_settings(RegistrySettings, host="::1"), Scripted(Reply)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        assert await get(channel) == Reply()


async def test_request_log(settings: RegistrySettings) -> None:
    def missing() -> Any:
        raise errors.NotFound("agent", "a")

    with capture_logs() as log:
        async with serving(settings, Scripted(missing)) as server, grpc.aio.insecure_channel(server.address) as channel:
            await failed(get(channel))
    line = next(line for line in log if line["event"] == "call")
    assert (line["method"], line["code"], line["reason"]) == (f"/{AGENTS}/GetAgent", "NOT_FOUND", "RESOURCE_NOT_FOUND")
    assert (line["tenant"], line["subject"], line["log_level"]) == ("default", "local", "info")
    assert 0 <= line["ms"] < 5000


async def test_calls_that_are_given_up_are_logged_as_such(settings: RegistrySettings) -> None:
    async def forever() -> Reply:
        await asyncio.sleep(60)
        return Reply()

    with capture_logs() as log:
        async with serving(settings, Scripted(forever)) as server, grpc.aio.insecure_channel(server.address) as channel:
            error = await failed(get(channel, timeout=0.1))
            assert error.code() is Code.DEADLINE_EXCEEDED
    assert [line["code"] for line in log if line["event"] == "call"] == ["CANCELLED"]


# Authentication


def token(tenant: str, scope: str = "", sub: str = "ann") -> str:
    return jwt.encode({"sub": sub, "tenant": tenant, "scope": scope, "exp": time.time() + 60}, SECRET, "HS256")


def bearer(tenant: str) -> dict[str, Any]:
    return {"metadata": (("authorization", f"Bearer {token(tenant)}"),)}


async def test_no_token(make_settings: Make) -> None:
    async with harness.running(app, make_settings(RegistrySettings, jwt_secret=SECRET)) as (_, channel):
        for metadata in ((), (("authorization", "Bearer nonsense"),)):
            error = await failed(get(channel, metadata=metadata))
            assert (error.code(), harness.reason_of(error)) == (Code.UNAUTHENTICATED, "CREDENTIAL_INVALID")
        watch = watch_service_pb2_grpc.WatchServiceStub(channel).Watch(watch_service_pb2.WatchRequest())
        assert (await failed(watch.read())).code() is Code.UNAUTHENTICATED
        health = health_pb2_grpc.HealthStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == 1


async def test_tenants_are_apart(make_settings: Make) -> None:
    async with harness.running(app, make_settings(RegistrySettings, jwt_secret=SECRET)) as (_, channel):
        stub = agent_service_pb2_grpc.AgentServiceStub(channel)
        watches = watch_service_pb2_grpc.WatchServiceStub(channel)
        theirs = watches.Watch(watch_service_pb2.WatchRequest(snapshot=True), **bearer("globex"))
        assert (await theirs.read()).HasField("snapshot_complete")
        request = agent_service_pb2.CreateAgentRequest(agent=agent("a"), request_id="r")
        ours = (await stub.CreateAgent(request, **bearer("acme"))).agent
        assert (await get(channel, **bearer("acme"))).agent == ours
        assert (await failed(get(channel, **bearer("globex")))).code() is Code.NOT_FOUND
        listed = await stub.ListAgents(agent_service_pb2.ListAgentsRequest(), **bearer("globex"))
        assert not listed.agents
        made = (await stub.CreateAgent(request, **bearer("globex"))).agent
        change = (await theirs.read()).change
        assert (change.agent.etag, change.agent.create_time) == (made.etag, made.create_time)
        assert made.create_time != ours.create_time
        theirs.cancel()


# Channels to other services


@asynccontextmanager
async def connected(
    settings: Settings, server: Server, **options: Any
) -> AsyncIterator[agent_service_pb2_grpc.AgentServiceAsyncStub]:
    async with client.channel(server.address, settings, options.pop("provider", None), **options) as channel:
        yield agent_service_pb2_grpc.AgentServiceStub(channel)


async def test_deadline_and_identity_travel_over_two_hops(make_settings: Make) -> None:
    seen: list[Any] = []
    settings = make_settings(RegistrySettings, jwt_secret=SECRET)
    forwarding = make_settings(
        RegistrySettings, jwt_secret=SECRET, service_token=token("suite", "service", "execution")
    )
    for near in (settings, forwarding):
        last = Scripted(Reply)

        def look(servicer: Scripted = last) -> Reply:
            seen.append((servicer.context.time_remaining(), identity.current()))
            return Reply()

        last.answer = look
        async with serving(settings, last) as far, connected(near, far) as stub:

            async def forward(stub: Any = stub) -> Reply:
                reply: Reply = await stub.GetAgent(GetAgent(agent_id="a"))
                return reply

            async with serving(settings, Scripted(forward)) as first:
                async with grpc.aio.insecure_channel(first.address) as channel:
                    await get(channel, timeout=5, **bearer("acme"))
    for left, caller in seen:
        assert 3 < left < 5.5
        assert (caller.tenant, caller.subject) == ("acme", "ann")
    assert [identity.SERVICE_SCOPE in caller.scopes for _, caller in seen] == [False, True]


async def test_unary_calls_have_a_deadline_of_their_own(settings: RegistrySettings) -> None:
    seen: list[float] = []
    scripted = Scripted(lambda: (seen.append(scripted.context.time_remaining()), Reply())[1])
    async with serving(settings, scripted) as server, connected(settings, server) as stub:
        await stub.GetAgent(GetAgent(agent_id="a"))
        await stub.GetAgent(GetAgent(agent_id="a"), timeout=2)
    # gRPC rounds a timeout up when it sends it.
    assert client.DEFAULT_TIMEOUT - 2 < seen[0] < client.DEFAULT_TIMEOUT + 1
    assert seen[1] < 3


@pytest.mark.parametrize(
    ("retried", "calls"), [([AGENTS], 4), ([], 1), (["dynamicagents.registry.v1.WatchService"], 1)]
)
async def test_unavailable_is_retried_where_asked_for(
    settings: RegistrySettings, retried: list[str], calls: int
) -> None:
    def unavailable() -> Any:
        raise errors.Unavailable("not now", reason="DATABASE_UNAVAILABLE")

    scripted = Scripted(unavailable)
    async with serving(settings, scripted) as server, connected(settings, server, retried=retried) as stub:
        with pytest.raises(errors.Unavailable) as caught, client.translated("registry"):
            await stub.GetAgent(GetAgent(agent_id="a"))
    assert caught.value.reason_code == "DATABASE_UNAVAILABLE"
    assert scripted.calls == calls


@pytest.mark.parametrize(
    "error",
    [
        errors.NotFound("agent", "a", metadata={"x": "y"}),
        errors.ResourceExhausted("later", retry_after=2.5),
        errors.invalid("agent_id", "is bad"),
    ],
)
async def test_errors_come_through(settings: RegistrySettings, error: errors.Error) -> None:
    def fail() -> Any:
        raise error

    async with serving(settings, Scripted(fail)) as server, connected(settings, server, retried=[AGENTS]) as stub:
        with pytest.raises(type(error)) as caught, client.translated("registry"):
            await stub.GetAgent(GetAgent(agent_id="a"))
    assert vars(caught.value) == vars(error)


async def test_peer_that_is_not_there(settings: RegistrySettings) -> None:
    async with serving(settings, Scripted(Reply)) as server:
        pass
    async with connected(settings, server, retried=[AGENTS]) as stub:
        began = time.monotonic()
        with pytest.raises(errors.Unavailable) as caught, client.translated("registry"):
            await stub.GetAgent(GetAgent(agent_id="a"))
    assert (caught.value.reason_code, caught.value.metadata) == ("SERVICE_UNAVAILABLE", {"service": "registry"})
    assert time.monotonic() - began < 10


# Traces


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(spans: InMemorySpanExporter) -> TracerProvider:
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(spans))
    return made


def missing() -> Any:
    raise errors.NotFound("agent", "a")


def unavailable() -> Any:
    raise errors.Unavailable("not now")


@pytest.mark.parametrize(
    ("answer", "code"), [(defect, Code.INTERNAL), (missing, Code.NOT_FOUND), (unavailable, Code.UNAVAILABLE)]
)
async def test_span_of_a_failed_call_says_so(
    settings: RegistrySettings,
    spans: InMemorySpanExporter,
    provider: TracerProvider,
    answer: Callable[[], Any],
    code: grpc.StatusCode,
) -> None:
    async with serving(settings, Scripted(answer), provider) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            await failed(get(channel))
    (span,) = spans.get_finished_spans()
    assert span.kind is SpanKind.SERVER
    assert span.attributes is not None
    assert span.attributes["rpc.grpc.status_code"] == code.value[0]
    # By OpenTelemetry's conventions a caller's mistake is no error of the server.
    assert (span.status.status_code is StatusCode.ERROR) is (code is not Code.NOT_FOUND)
    assert "secret text" not in str(span.to_json())


async def test_span_of_a_stream_that_failed(
    settings: RegistrySettings, spans: InMemorySpanExporter, provider: TracerProvider
) -> None:
    async with serving(settings, Streaming(defect), provider) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            call = watch_service_pb2_grpc.WatchServiceStub(channel).Watch(watch_service_pb2.WatchRequest())
            await call.read()
            await failed(call.read())
    (span,) = spans.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR


async def test_span_of_a_good_call(
    settings: RegistrySettings, spans: InMemorySpanExporter, provider: TracerProvider
) -> None:
    async with serving(settings, Scripted(Reply), provider) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            await get(channel)
    (span,) = spans.get_finished_spans()
    assert span.status.status_code is not StatusCode.ERROR


async def test_client_and_server_share_a_trace(
    settings: RegistrySettings, spans: InMemorySpanExporter, provider: TracerProvider
) -> None:
    async with serving(settings, Scripted(Reply), provider) as server:
        async with connected(settings, server, provider=provider) as stub:
            await stub.GetAgent(GetAgent(agent_id="a"))
    by_kind = {span.kind: span for span in spans.get_finished_spans()}
    assert set(by_kind) == {SpanKind.CLIENT, SpanKind.SERVER}
    near, far = by_kind[SpanKind.CLIENT], by_kind[SpanKind.SERVER]
    assert near.context.trace_id == far.context.trace_id
    assert far.parent is not None
    assert far.parent.span_id == near.context.span_id
