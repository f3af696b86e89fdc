"""Tools of gRPC providers, on real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest
from dynamicagents.tools.v1 import tool_pb2, tool_service_pb2
from google.protobuf.json_format import MessageToDict

from tests import crm_service, tool_provider
from tests.provider_bench import (
    LEADS,
    LOST,
    REFLECTION,
    Bench,
    Code,
    change,
    completed,
    delete,
    fails,
    listed,
    register,
    status,
    until_listed,
    use,
    with_provider,
    with_token,
)
from tests.rpc.conftest import kinds
from tests.rpc.test_execution import SECRET, bearer
from tests.rpc.test_secrets_tls import certificate
from tests.scripted_router import call, calls, text


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
