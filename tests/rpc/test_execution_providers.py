"""Tools of gRPC providers, on real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest
from dynamicagents.registry.v1 import tool_provider_pb2, tool_provider_service_pb2, tool_provider_service_pb2_grpc
from dynamicagents.secrets.v1 import secret_pb2, secrets_service_pb2, secrets_service_pb2_grpc
from dynamicagents.tools.v1 import tool_pb2, tool_service_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from services.secrets.app import app as secrets_app
from services.secrets.config import SecretsSettings
from tests import crm_service, google_mcp_server, harness, tool_provider
from tests.rpc.conftest import ExecutionBench, kinds
from tests.rpc.test_execution import SECRET, bearer
from tests.rpc.test_secrets_tls import certificate
from tests.scripted_router import call, calls, text

Bench = Callable[..., Any]
Code = grpc.StatusCode
LOST = (Code.UNAVAILABLE, "TOOL_SOURCE_UNAVAILABLE")
MCP = tool_provider_pb2.TOOL_PROTOCOL_MCP
REFLECTION = tool_provider_pb2.TOOL_PROTOCOL_REFLECTION
LEADS = "grpc/crm/crm.v1.LeadService"


async def register(at: ExecutionBench, address: str, provider_id: str = "crm", **spec: Any) -> None:
    made = tool_provider_pb2.ToolProvider(tool_provider_id=provider_id, spec={"address": address, **spec})
    request = tool_provider_service_pb2.CreateToolProviderRequest(tool_provider=made)
    await providers(at).CreateToolProvider(request, metadata=at.metadata)


async def change(at: ExecutionBench, **spec: Any) -> None:
    made = tool_provider_pb2.ToolProvider(tool_provider_id="crm", spec=spec)
    mask = {"paths": [f"spec.{name}" for name in spec]}
    request = tool_provider_service_pb2.UpdateToolProviderRequest(tool_provider=made, update_mask=mask)
    await providers(at).UpdateToolProvider(request, metadata=at.metadata)


async def delete(at: ExecutionBench) -> None:
    await providers(at).DeleteToolProvider(tool_provider_service_pb2.DeleteToolProviderRequest(tool_provider_id="crm"))


def providers(at: ExecutionBench) -> Any:
    return tool_provider_service_pb2_grpc.ToolProviderConfigServiceStub(at.registry)


async def answer(at: ExecutionBench, **asked: Any) -> tool_service_pb2.ListToolsResponse:
    request = tool_service_pb2.ListToolsRequest(page_size=1000, source="grpc", **asked)
    return await at.tools.ListTools(request, timeout=30, metadata=at.metadata)


async def listed(at: ExecutionBench) -> dict[str, tool_pb2.Tool]:
    return {tool.tool_id: tool for tool in (await answer(at)).tools}


async def until_listed(at: ExecutionBench, tool_id: str, *, there: bool = True) -> None:
    async with asyncio.timeout(30):
        while (tool_id in await listed(at)) is not there:
            await asyncio.sleep(0.05)


async def status(at: ExecutionBench, state: str, provider_id: str = "crm") -> tool_pb2.ToolSourceStatus:
    """How the provider is, once it is in the state."""
    async with asyncio.timeout(30):
        while True:
            for found in (await answer(at)).sources:
                if (found.source_id, tool_pb2.ToolSourceState.Name(found.state)[18:]) == (f"grpc/{provider_id}", state):
                    return found
            await asyncio.sleep(0.05)


async def use(at: ExecutionBench, tool: str, /, *, within: float = 30.0, **arguments: Any) -> Any:
    given = Struct()
    given.update(arguments)
    tool_id = tool if tool.startswith("grpc/") else f"grpc/crm/{tool}"
    request = tool_service_pb2.CallToolRequest(tool_id=tool_id, arguments=given)
    return await at.tools.CallTool(request, timeout=within, metadata=at.metadata)


def completed(events: list[Any]) -> dict[str, Any]:
    done = [event.tool_call_completed for event in events if event.HasField("tool_call_completed")]
    return {one.call_id: one for one in done}


async def fails(at: ExecutionBench, tool: str, /, **arguments: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await use(at, tool, **arguments)
    return caught.value.code(), harness.reason_of(caught.value)


async def use_again(at: ExecutionBench, tool: str, /, **arguments: Any) -> Any:
    """Calls until the provider is found again."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await use(at, tool, **arguments)
            except grpc.aio.AioRpcError as error:
                if harness.reason_of(error) != "TOOL_SOURCE_UNAVAILABLE":
                    raise
            await asyncio.sleep(0.05)


@asynccontextmanager
async def with_provider(
    bench: Bench, settings: Mapping[str, Any] | None = None, **how: Any
) -> AsyncIterator[tuple[ExecutionBench, tool_provider.Provider]]:
    async with tool_provider.serving(**how) as provider:
        at = await bench(**(settings or {}))
        await register(at, provider.address)
        await until_listed(at, "grpc/crm/say")
        yield at, provider


@asynccontextmanager
async def with_crm(
    bench: Bench, methods: tuple[str, ...] = ("crm.v1.*",), settings: Mapping[str, Any] | None = None, **how: Any
) -> AsyncIterator[tuple[ExecutionBench, crm_service.Crm]]:
    async with crm_service.serving(**how) as crm:
        at = await bench(**(settings or {}))
        await register(at, crm.address, protocol=REFLECTION, methods=methods)
        yield at, crm


async def test_listing_and_calling(bench: Bench) -> None:
    async with with_provider(bench) as (at, provider):
        found = await listed(at)
        names = [name for name in sorted(tool_provider.TOOLS) if name != "not a name"]
        assert list(found) == [f"grpc/crm/{name}" for name in names]
        say = found["grpc/crm/say"]
        assert (say.title, say.description, say.source) == ("Say", "Says it again.", "grpc")
        assert MessageToDict(say.annotations) == {"idempotent": True}
        assert [MessageToDict(one) for one in found["grpc/crm/once"].examples] == [{"text": "now"}]
        assert found["grpc/crm/broken"].unusable
        assert (await use(at, "say", text="hello")).output == "hello"
        counted = await use(at, "count")
        assert orjson.loads(counted.output) == {"n": 42, "of": [1, 2.5, None]}
        assert provider.requests[0].tenant == "default"
        assert provider.requests[0].subject == "local"
        assert provider.requests[0].idempotency_key == ""
        source = await status(at, "READY")
        assert source.protocol_version == "dynamicagents.tools.v1.ToolProviderService"
        assert source.message == "left out, for their names or schemas: 'not a name'"
        assert source.tool_count == len(names)


async def test_bad_input_and_bad_results(bench: Bench) -> None:
    async with with_provider(bench, {"tool_result_limit": 2048, "max_message_bytes": 1_000_000}) as (at, _):
        assert await fails(at, "say") == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
        assert await fails(at, "broken", x=1) == (Code.FAILED_PRECONDITION, "TOOL_UNUSABLE")
        assert await fails(at, "none") == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
        assert await fails(at, "grpc/none/say") == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
        huge = await use(at, "huge", size=300_000)
        assert huge.output.endswith("[cut off: the result has 300000 bytes, the limit is 2048]")
        larger = await use(at, "huge", size=3_000_000)
        assert (larger.is_error, larger.output.split(":")[0]) == (True, "RESOURCE_EXHAUSTED")
        wrong = await use(at, "wrong")
        assert wrong.is_error
        assert "result.n" in wrong.output
        failed = await use(at, "fail")
        assert (failed.output, failed.is_error) == ("not with  (another try may do better in 1.5 s)", True)
        late = await use(at, "never")
        assert (late.output, late.is_error) == ("the tool did not answer within 1 s", True)


async def test_the_deadline_travels_and_nothing_of_the_caller_does(bench: Bench) -> None:
    async with tool_provider.serving() as provider:
        at = await bench(registry={"jwt_secret": SECRET}, jwt_secret=SECRET)
        at.metadata = bearer("acme")
        await register(at, provider.address)
        await until_listed(at, "grpc/crm/told")
        told = orjson.loads((await use(at, "told", within=5.0)).output)
        assert 0 < told["seconds"] < 6
        assert not [key for key in told["metadata"] if "authorization" in key or "dynamic" in key]
        assert provider.requests[0].tenant == "acme"
        at.metadata = bearer("other")
        assert await listed(at) == {}
        assert await fails(at, "say", text="?") == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")


async def test_an_agent_uses_them(bench: Bench) -> None:
    async with with_provider(bench) as (at, provider):
        at.router.turns = [
            calls(call("say", '{"text": "a"}', "c1"), call("count", "{}", "c2")),
            calls(call("say", "{}", "c3"), call("fail", "{}", "c4")),
            text("done"),
        ]
        await at.create(tools=[{"tool_id": "grpc/crm/*"}])
        events = await at.run()
        assert kinds(events)[-1] == "execution_completed"
        done = completed(events)
        assert (done["c1"].output, done["c1"].tool_id) == ("a", "grpc/crm/say")
        assert not done["c2"].is_error
        assert "arguments" in done["c3"].output
        assert done["c4"].is_error
        execution_id = events[0].execution_id
        assert {request.execution_id for request in provider.requests} == {execution_id}
        assert provider.requests[0].idempotency_key.startswith(f"{execution_id}/")
        offered = {tool.name for tool in at.router.requests[0].tools}
        assert {"say", "count"} < offered
        assert "broken" not in offered


async def test_registry_changes_take_effect(bench: Bench) -> None:
    async with with_provider(bench) as (at, _), tool_provider.serving(tools={"other": {}}) as second:
        await change(at, address=second.address)
        await until_listed(at, "grpc/crm/other")
        assert list(await listed(at)) == ["grpc/crm/other"]
        await delete(at)
        await until_listed(at, "grpc/crm/other", there=False)
        assert await fails(at, "other") == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")


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


@pytest.mark.parametrize(("ttl", "settings"), [(0.2, {}), (0.0, {"grpc_ttl": 0.2})])
async def test_the_list_is_believed_as_long_as_is_said(bench: Bench, ttl: float, settings: dict[str, Any]) -> None:
    async with with_provider(bench, settings, ttl=ttl) as (at, provider):
        known = provider.listings
        provider.tools["new"] = {}
        await until_listed(at, "grpc/crm/new")
        assert provider.listings > known


async def test_a_list_that_is_believed_is_not_asked_for(bench: Bench) -> None:
    async with with_provider(bench, {"grpc_ttl": 0.1}, ttl=3600) as (at, provider):
        known = provider.listings
        provider.tools["new"] = {}
        for _ in range(5):
            assert "grpc/crm/new" not in await listed(at)
        assert provider.listings == known


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


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


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


@pytest.mark.parametrize(
    ("address", "allowed", "message"),
    [
        ("127.0.0.1:9", ("private",), "cannot be reached"),
        ("8.8.8.8:50051", ("private",), "the address is none of those"),
        ("169.254.169.254:80", ("private",), "the address is none of those"),
        ("127.0.0.1:9", ("*.crm.internal:50052",), "the address is none of those"),
        ("127.0.0.1:9", ("127.0.0.*:9",), "cannot be reached"),
        ("localhost:9", ("private",), "cannot be reached"),
        ("[::1]:9", ("private",), "cannot be reached"),
    ],
)
async def test_addresses_that_an_operator_allows(
    bench: Bench, address: str, allowed: tuple[str, ...], message: str
) -> None:
    at = await bench(grpc_provider_addresses=allowed, grpc_patience=3.0)
    await register(at, address)
    assert (await status(at, "FAILED")).message.startswith(message)


async def test_an_idle_channel_is_closed_and_opened_again(bench: Bench) -> None:
    async with with_provider(bench, {"grpc_idle": 0.3}) as (at, _):
        async with asyncio.timeout(30):
            state = None
            while state != tool_pb2.TOOL_SOURCE_STATE_IDLE:
                await asyncio.sleep(0.5)  # longer than grpc_idle, for a look is a use
                watch = at.tools.WatchTools(tool_service_pb2.WatchToolsRequest(source="grpc/crm"))
                state = (await watch.read()).source_changed.state
                watch.cancel()
        assert (await use(at, "say", text="again")).output == "again"


@asynccontextmanager
async def with_token(make_settings: Callable[..., Any], folder: Path) -> AsyncIterator[tuple[str, Callable[..., Any]]]:
    """The address of a Secrets that has secret:crm:token, and what changes its value."""
    settings = make_settings(SecretsSettings, data_dir=folder / "secrets")
    async with harness.running(secrets_app, settings) as (secrets, channel):
        stub: Any = secrets_service_pb2_grpc.SecretsServiceStub(channel)
        kept = secret_pb2.Secret(provider="crm", display_name="test")
        created = secrets_service_pb2.CreateSecretRequest(secret=kept, values={"token": "first-token"})
        secret_id = (await stub.CreateSecret(created)).secret.secret_id

        async def rotate(token: str) -> None:
            changed = secret_pb2.Secret(secret_id=secret_id)
            mask = {"paths": ["values"]}
            request = secrets_service_pb2.UpdateSecretRequest(secret=changed, values={"token": token}, update_mask=mask)
            await stub.UpdateSecret(request)

        yield secrets.address, rotate


@pytest.mark.parametrize("protocol", ["provider", "reflection"])
async def test_tokens_come_from_secrets_and_may_change(
    bench: Bench, make_settings: Callable[..., Any], tmp_path: Path, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    by_reflection = {"protocol": REFLECTION, "methods": ["crm.v1.*"]} if protocol == "reflection" else {}
    tool, failing = (f"{LEADS}/Echo", f"{LEADS}/Fail") if by_reflection else ("grpc/crm/say", "grpc/crm/fail")
    made: Any = crm_service.serving if by_reflection else tool_provider.serving
    async with (
        with_token(make_settings, tmp_path) as (secrets, rotate),
        made(token="first-token") as provider,
    ):
        at = await bench(secrets_address=secrets)
        await register(at, provider.address, token_reference="secret:crm:token", **by_reflection)
        await until_listed(at, tool)
        arguments = {} if by_reflection else {"text": "x"}
        assert not (await use(at, tool, **arguments)).is_error
        failed = await use(at, failing)
        assert failed.is_error
        assert "with [token]" in failed.output
        provider.token = "second-token"
        assert await fails(at, tool, **arguments) == LOST
        await rotate("second-token")
        assert not (await use(at, tool, **arguments)).is_error
        assert "first-token" not in caplog.text
        assert "second-token" not in caplog.text


async def test_tls(bench: Bench, tmp_path: Path) -> None:
    certificate(tmp_path)
    public, private = (tmp_path / "a8n.pem").read_bytes(), (tmp_path / "a8n.key").read_bytes()
    credentials = grpc.ssl_server_credentials([(private, public)])
    async with tool_provider.serving(credentials=credentials) as provider:
        at = await bench(grpc_provider_ca_file=tmp_path / "a8n.pem", grpc_patience=3.0)
        await register(at, provider.address, tls=True)
        await register(at, provider.address, "plain")
        await until_listed(at, "grpc/crm/say")
        assert (await use(at, "say", text="hidden")).output == "hidden"
        await status(at, "FAILED", "plain")


async def test_a_token_that_is_not_there(bench: Bench, make_settings: Callable[..., Any], tmp_path: Path) -> None:
    async with with_token(make_settings, tmp_path) as (secrets, _), tool_provider.serving() as provider:
        at = await bench(secrets_address=secrets)
        await register(at, provider.address, token_reference="secret:crm:none")
        assert "secret:crm:none" in (await status(at, "FAILED")).message


async def test_googles_mcp(bench: Bench) -> None:
    async with google_mcp_server.running() as address:
        at = await bench()
        await register(at, address, protocol=MCP)
        await until_listed(at, "grpc/crm/add")
        found = await listed(at)
        add = found["grpc/crm/add"]
        assert (add.title, add.description, MessageToDict(add.annotations)) == (
            "Addition",
            "Adds two numbers.",
            {"readOnly": True},
        )
        assert (await status(at, "READY")).protocol_version == "model_context_protocol.Mcp"
        assert orjson.loads((await use(at, "add", a=40, b=2)).output) == {"sum": 42}
        assert await fails(at, "add", a="x", b=2) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
        assert (await use(at, "picture")).output == "[image/png, 7 bytes, not shown]\na picture"
        failed = await use(at, "fail")
        assert (failed.output, failed.is_error) == ("it went wrong", True)
        assert (await use(at, "told")).output == "told {}"
        asks = await use(at, "ask")
        assert asks.is_error
        assert "input" in asks.output
        at.router.turns = [calls(call("told", "{}")), text("done")]
        await at.create(tools=[{"tool_id": "grpc/crm/told"}])
        events = await at.run()
        told = next(e.tool_call_completed.output for e in events if e.HasField("tool_call_completed"))
        assert f"'dynamicagents.dev/idempotency-key': '{events[0].execution_id}/" in told


@pytest.mark.parametrize("versions", [("grpc.reflection.v1",), ("grpc.reflection.v1alpha",)])
async def test_any_service_by_reflection(bench: Bench, versions: tuple[str]) -> None:
    async with with_crm(bench, files=crm_service.compiled(), versions=versions) as (at, crm):
        await until_listed(at, f"{LEADS}/CountLeads")
        found = await listed(at)
        names = ["CountLeads", "CreateLead", "Echo", "Fail", "Reset", "Say"]
        assert list(found) == [f"{LEADS}/{name}" for name in names]
        source = await status(at, "READY")
        assert source.protocol_version == versions[0]
        assert source.message == f"left out, for they stream: {LEADS[9:]}/WatchLeads, {LEADS[9:]}/Import"
        count = found[f"{LEADS}/CountLeads"]
        assert (count.title, count.description) == ("CountLeads", "Counts the leads of a status.")
        assert (count.function_name, count.annotations.read_only) == ("CountLeads", True)
        assert found[f"{LEADS}/Echo"].annotations.idempotent
        assert found[f"{LEADS}/CreateLead"].annotations.destructive
        counted = await use(at, f"{LEADS}/CountLeads", status="STATUS_NEW")
        assert orjson.loads(counted.output) == {"count": str(2**60)}
        made = await use(at, f"{LEADS}/CreateLead", name="Ada", email="a@b.c", status="STATUS_WON")
        assert orjson.loads(made.output) == {"name": "Ada", "status": "STATUS_WON"}
        assert await fails(at, f"{LEADS}/CreateLead", name="Ada") == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
        assert orjson.loads((await use(at, f"{LEADS}/Say", value="hello")).output) == "hello"
        assert orjson.loads((await use(at, f"{LEADS}/Reset")).output) == {}
        failed = await use(at, f"{LEADS}/Fail")
        assert (failed.output, failed.is_error) == ("FAILED_PRECONDITION: with no token", True)
        assert [name for name, _, _ in crm.calls] == ["CountLeads", "CreateLead", "Say", "Reset", "Fail"]


async def test_an_agent_uses_methods(bench: Bench) -> None:
    async with with_crm(bench, token="") as (at, _):
        await until_listed(at, f"{LEADS}/CountLeads")
        at.router.turns = [
            calls(call("CountLeads", "{}", "c1"), call("CreateLead", '{"name": "A", "email": "a@b.c"}', "c2")),
            calls(call("CreateLead", '{"name": "", "email": "a"}', "c3"), call("Echo", '{"timestamp": "?"}', "c4")),
            text("done"),
        ]
        await at.create(tools=[{"tool_id": "grpc/crm/crm.v1.LeadService/C*"}, {"tool_id": f"{LEADS}/Echo"}])
        events = await at.run()
        assert kinds(events)[-1] == "execution_completed"
        done = completed(events)
        assert orjson.loads(done["c1"].output) == {"count": str(2**60)}
        assert orjson.loads(done["c2"].output) == {"name": "A"}
        assert "arguments.name" in done["c3"].output
        assert done["c4"].is_error


async def test_messages_that_have_no_json(bench: Bench) -> None:
    async with with_crm(bench) as (at, crm):
        await until_listed(at, f"{LEADS}/Echo")
        lead = {"@type": "type.googleapis.com/crm.v1.Lead", "name": "Ada"}
        assert orjson.loads((await use(at, f"{LEADS}/Echo", any=lead)).output) == {"any": lead}
        unknown = await use(at, f"{LEADS}/Echo", any={"@type": "type.googleapis.com/of.Others"})
        assert unknown.is_error
        assert "no crm.v1.Everything" in unknown.output
        assert (await use(at, f"{LEADS}/Echo", timestamp="yesterday")).is_error
        assert [name for name, _, _ in crm.calls] == ["Echo"]


async def test_methods_that_are_offered(bench: Bench) -> None:
    named = ("crm.v1.LeadService/Cou*", "crm.v1.LeadService/Say")
    async with with_crm(bench, named) as (at, _):
        await until_listed(at, f"{LEADS}/CountLeads")
        assert list(await listed(at)) == [f"{LEADS}/CountLeads", f"{LEADS}/Say"]
        assert await fails(at, f"{LEADS}/Reset") == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
        await change(at, methods=["crm.v1.LeadService/Reset"])
        await until_listed(at, f"{LEADS}/Reset")
        assert list(await listed(at)) == [f"{LEADS}/Reset"]
        await change(at, methods=["crm.v2.*"])
        await until_listed(at, f"{LEADS}/Reset", there=False)
        assert (await status(at, "READY")).message == "no method is one that `methods` names"


FILES = crm_service.compiled(comments=False)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"mute": True}, "does not list its tools"),
        ({"versions": ()}, "it has no server reflection"),
        ({"files": {}}, "reflection of 'crm.v1.LeadService' failed: 'no crm.proto'"),
        ({"files": {**FILES, "crm.proto": b"\xff\xff"}}, "its descriptors are none"),
        ({"files": {"crm.proto": FILES["crm.proto"]}}, "reflection of 'buf/validate/validate.proto' failed"),
        ({"files": {**FILES, "crm.proto": FILES["crm.proto"].replace(b"Tree", b"Lead")}}, "its descriptors make no"),
        ({"files": {**FILES, "buf/validate/validate.proto": bytes(9_000_000)}}, "RESOURCE_EXHAUSTED"),
        ({"services": [f"crm.v1.S{n}" for n in range(300)]}, "it has 300 services"),
    ],
)
async def test_hostile_reflection(bench: Bench, how: dict[str, Any], message: str) -> None:
    async with with_crm(bench, settings={"grpc_patience": 3.0}, **how) as (at, _):
        assert (await status(at, "FAILED")).message.startswith(message)
        assert await fails(at, f"{LEADS}/Say", value="x") == LOST
