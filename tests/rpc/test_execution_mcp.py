"""Tools of MCP servers, on real servers in processes of their own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest
from dynamicagents.registry.v1 import mcp_server_pb2, mcp_server_service_pb2, mcp_server_service_pb2_grpc
from dynamicagents.secrets.v1 import secret_pb2, secrets_service_pb2, secrets_service_pb2_grpc
from dynamicagents.tools.v1 import tool_pb2, tool_service_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from services.secrets.app import app as secrets_app
from services.secrets.config import SecretsSettings
from tests import harness, mcp_server
from tests.rpc.conftest import ExecutionBench, kinds
from tests.rpc.test_execution import SECRET, bearer
from tests.scripted_router import call, calls, text

Bench = Callable[..., Any]
Code = grpc.StatusCode
STDIO = {"command": sys.executable, "arguments": [mcp_server.SERVER, "stdio"]}
ALLOWED = {"mcp_commands": (f"{sys.executable} {mcp_server.SERVER}",)}
TOOLS = [
    *("add", "broken", "calculator", "fail", "flood", "forget", "grow", "huge", "key", "never", "picture", "say"),
    *("told", "trace", "vanish"),
]


async def register(at: ExecutionBench, server_id: str = "tests", **spec: Any) -> None:
    stub: Any = mcp_server_service_pb2_grpc.McpServerServiceStub(at.registry)
    made = mcp_server_pb2.McpServer(mcp_server_id=server_id, spec=mcp_server_pb2.McpServerSpec(**spec))
    await stub.CreateMcpServer(mcp_server_service_pb2.CreateMcpServerRequest(mcp_server=made), metadata=at.metadata)


async def delete(at: ExecutionBench, server_id: str = "tests") -> None:
    stub: Any = mcp_server_service_pb2_grpc.McpServerServiceStub(at.registry)
    await stub.DeleteMcpServer(mcp_server_service_pb2.DeleteMcpServerRequest(mcp_server_id=server_id))


async def exclude(at: ExecutionBench, tool: str) -> None:
    stub: Any = mcp_server_service_pb2_grpc.McpServerServiceStub(at.registry)
    changed = mcp_server_pb2.McpServer(mcp_server_id="tests", spec={"exclude_tools": [tool]})
    mask = {"paths": ["spec.exclude_tools"]}
    await stub.UpdateMcpServer(mcp_server_service_pb2.UpdateMcpServerRequest(mcp_server=changed, update_mask=mask))


async def listed(at: ExecutionBench, **asked: Any) -> dict[str, tool_pb2.Tool]:
    request = tool_service_pb2.ListToolsRequest(page_size=1000, **asked)
    answer = await at.tools.ListTools(request, timeout=30, metadata=at.metadata)
    return {tool.tool_id: tool for tool in answer.tools}


async def until_listed(at: ExecutionBench, tool_id: str, *, there: bool = True) -> None:
    async with asyncio.timeout(30):
        while (tool_id in await listed(at, source="mcp")) is not there:
            await asyncio.sleep(0.05)


async def use(at: ExecutionBench, tool: str, /, *, server: str = "tests", **arguments: Any) -> Any:
    given = Struct()
    given.update(arguments)
    request = tool_service_pb2.CallToolRequest(tool_id=f"mcp/{server}/{tool}", arguments=given)
    return await at.tools.CallTool(request, timeout=30, metadata=at.metadata)


@asynccontextmanager
async def over(bench: Bench, transport: str, **settings: Any) -> AsyncIterator[ExecutionBench]:
    """Execution with a server of the tests behind the transport."""
    if transport == "stdio":
        at = await bench(**ALLOWED, **settings)
        await register(at, stdio=STDIO)
        await until_listed(at, "mcp/tests/add")
        yield at
        return
    async with mcp_server.running(transport) as server:
        at = await bench(**settings)
        await register(at, **{transport: {"url": server.url}})
        await until_listed(at, "mcp/tests/add")
        yield at


@pytest.mark.parametrize("transport", ["stdio", "http", "sse"])
async def test_listing_and_calling(bench: Bench, transport: str) -> None:
    async with over(bench, transport) as at:
        found = await listed(at)
        assert [tool_id for tool_id in found if tool_id.startswith("mcp/")] == [f"mcp/tests/{name}" for name in TOOLS]
        assert "builtin/calculator" in found
        add = found["mcp/tests/add"]
        assert (add.title, add.description, add.source) == ("Addition", "Adds two numbers.", "mcp")
        assert MessageToDict(add.annotations) == {"readOnly": True}
        assert found["mcp/tests/say"].annotations.destructive
        assert [MessageToDict(example) for example in add.examples] == [{"a": 1, "b": 2}]
        assert set(MessageToDict(add.input_schema)["properties"]) == {"a", "b"}
        assert add.HasField("output_schema")
        sum_ = await use(at, "add", a=40, b=2)
        assert (orjson.loads(sum_.output), sum_.is_error) == ({"result": 42}, False)
        failed = await use(at, "fail")
        assert failed.is_error
        assert "it went wrong" in failed.output
        assert (await use(at, "picture")).output == "[image/png, 7 bytes, not shown]\na picture"
        assert (await use(at, "flood", times=200)).output == "done"
        size = 1_000_000 if transport == "sse" else 3_000_000  # its transport takes no more
        assert f"{size} bytes" in (await use(at, "huge", size=size)).output[-100:]


async def test_an_agent_uses_them(bench: Bench) -> None:
    async with over(bench, "stdio") as at:
        at.router.turns = [
            calls(call("add", '{"a": 17, "b": 4}', "c1"), call("mcp_tests_calculator", '{"expression": "1"}', "c2")),
            calls(call("add", '{"a": "x", "b": 4}', "c3"), call("key", "{}", "c4")),
            calls(call("flood", '{"times": 5000}', "c5")),
            text("done"),
        ]
        await at.create(tools=[{"tool_id": "builtin/calculator"}, {"tool_id": "mcp/tests/*"}])
        events = await at.run()
        assert events[-1].HasField("execution_completed"), events[-1]
        offered = [tool.name for tool in at.router.requests[0].tools]
        assert offered.count("calculator") == 1
        assert {"mcp_tests_calculator", "add"} < set(offered)
        assert "broken" not in offered
        done = {
            e.tool_call_completed.call_id: e.tool_call_completed for e in events if e.HasField("tool_call_completed")
        }
        assert orjson.loads(done["c1"].output) == {"result": 21}
        assert (done["c2"].output, done["c2"].tool_id) == ("not 1", "mcp/tests/calculator")
        assert done["c3"].is_error
        assert "arguments.a" in done["c3"].output
        told = [e.tool_call_progress for e in events if e.HasField("tool_call_progress")]
        assert 1 <= len(told) < 500
        assert {(one.call_id, one.tool_id, one.total) for one in told} == {("c5", "mcp/tests/flood", 5000)}
        assert told[0].message.startswith("step ")
        assert done["c5"].output == "done"
        assert done["c4"].output.startswith(f"{events[0].execution_id}/")


async def test_a_run_that_is_taken_up_has_the_tools_that_it_began_with(bench: Bench) -> None:
    async with over(bench, "stdio") as at:
        await at.create(tools=[{"tool_id": "mcp/tests/*"}])
        at.router.turns = [calls(call("say", '{"text": "a"}', "c1")), [30.0]]
        async with at.beside(drain_grace=0.5) as beside:
            stream, execution_id = await beside.begin()
            await until(lambda: len(at.router.requests) == 2)
            await exclude(at, "add")
            await until_listed(at, "mcp/tests/add", there=False)
            # Of the run's four calls of the model the first is in its journal; the second is asked again.
            say_again = calls(call("say", '{"text": "b"}', "c2"))
            at.router.turns = [[], [], say_again, text("done")]
        stream.cancel()
        events = await at.watch(execution_id)
        assert kinds(events)[-1] == "execution_completed"
        done = [e.tool_call_completed for e in events if e.HasField("tool_call_completed")]
        assert [(one.output, one.is_error) for one in done] == [("a", False), ("b", False)]
        first, *_, last = at.router.requests
        assert "add" in [tool.name for tool in last.tools]
        assert [tool.name for tool in last.tools] == [tool.name for tool in first.tools]


async def test_an_agent_has_all_tools_of_its_servers(bench: Bench) -> None:
    async with over(bench, "stdio") as at:
        at.router.turns = [calls(call("say", '{"text": "hello"}')), text("done")]
        await at.create(mcp_server_ids=["tests"])
        events = await at.run()
        assert [e.tool_call_completed.output for e in events if e.HasField("tool_call_completed")] == ["hello"]
        found = await listed(at, agent_id="helper")
        assert sorted(found) == [f"mcp/tests/{name}" for name in TOOLS if name != "broken"]
        await at.create("precise", tools=[{"tool_id": "mcp/tests/broken"}])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await at.run(agent_id="precise")
        assert (caught.value.code(), harness.reason_of(caught.value)) == (Code.FAILED_PRECONDITION, "TOOL_UNUSABLE")


async def test_bad_input(bench: Bench) -> None:
    async with over(bench, "stdio", tool_result_limit=2048) as at:
        broken = (await listed(at))["mcp/tests/broken"]
        assert broken.unusable
        assert "input schema" in broken.warning
        for name, arguments, code, reason in (
            ("add", {"a": "x", "b": 1}, Code.INVALID_ARGUMENT, "INVALID_FIELD"),
            ("broken", {"x": 1}, Code.FAILED_PRECONDITION, "TOOL_UNUSABLE"),
            ("none", {}, Code.NOT_FOUND, "RESOURCE_NOT_FOUND"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await use(at, name, **arguments)
            assert (caught.value.code(), harness.reason_of(caught.value)) == (code, reason)
        huge = await use(at, "huge", size=3_000_000)
        assert not huge.is_error
        assert len(huge.output) < 2200
        assert huge.output.endswith("[cut off: the result has 3000000 bytes, the limit is 2048]")
        await register(at, "hasty", stdio=STDIO, timeout={"seconds": 1})
        await until_listed(at, "mcp/hasty/never")
        late = await use(at, "never", server="hasty")
        assert (late.output, late.is_error) == ("the tool did not answer within 1 s", True)
        assert (await use(at, "say", server="hasty", text="on")).output == "on"
        assert (await use(at, "say", text="still here")).output == "still here"
        await use(at, "forget")
        gone = await use(at, "say", text="?")
        assert gone.is_error
        assert "say" in gone.output


async def test_filters_of_the_listing(bench: Bench) -> None:
    at = await bench(**ALLOWED)
    await register(at, stdio=STDIO, include_tools=["a*", "say", "told"], exclude_tools=["told"])
    await until_listed(at, "mcp/tests/add")
    assert list(await listed(at, source="mcp")) == ["mcp/tests/add", "mcp/tests/say"]
    assert list(await listed(at, source="mcp/tests")) == ["mcp/tests/add", "mcp/tests/say"]
    assert list(await listed(at, source="mcp/test")) == []
    assert list(await listed(at, query="ADDS numbers")) == ["mcp/tests/add"]
    assert not [tool_id for tool_id in await listed(at, source="builtin") if not tool_id.startswith("builtin/")]
    first = await at.tools.ListTools(tool_service_pb2.ListToolsRequest(page_size=1, source="mcp"))
    assert first.next_page_token
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await listed(at, page_token=first.next_page_token)
    assert caught.value.code() is Code.INVALID_ARGUMENT
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await use(at, "told", name="x")
    assert caught.value.code() is Code.NOT_FOUND


async def test_watching(bench: Bench) -> None:
    at = await bench(**ALLOWED, heartbeat=0.2)
    watch = at.tools.WatchTools(tool_service_pb2.WatchToolsRequest(source="mcp"), timeout=60)
    seen: list[str] = []

    async def until(wanted: str) -> None:
        async for message in watch:
            kind = str(message.WhichOneof("event"))
            part = getattr(message, kind)
            name = getattr(part, "tool_id", "") or getattr(part, "source_id", "")
            state = tool_pb2.ToolSourceState.Name(part.state)[18:] if kind == "source_changed" else ""
            seen.append(f"{kind} {name} {state}".strip())
            if seen[-1] == wanted:
                return
        raise AssertionError(seen)

    await until("snapshot_complete")
    await until("heartbeat")
    await register(at, stdio=STDIO)
    await until("source_changed mcp/tests READY")
    await until("tool_upserted mcp/tests/add")
    await use(at, "grow")
    await until("tool_upserted mcp/tests/grown")
    await delete(at)
    await until("tool_removed mcp/tests/grown")
    await until("source_removed mcp/tests")


async def test_registry_changes_take_effect(bench: Bench) -> None:
    at = await bench(**ALLOWED)
    assert await listed(at, source="mcp") == {}
    await register(at, stdio=STDIO)
    await until_listed(at, "mcp/tests/add")
    await use(at, "say", text="here")
    await delete(at)
    await until_listed(at, "mcp/tests/add", there=False)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await use(at, "say", text="?")
    assert caught.value.code() is Code.NOT_FOUND


@pytest.mark.parametrize(
    ("settings", "environment", "told"),
    [
        ({}, {}, "mcp_commands"),
        ({"mcp_commands": (f"{sys.executable} -m",)}, {}, "mcp_commands"),
        (ALLOWED, {"LD_PRELOAD": "/tmp/x.so"}, "mcp_variables"),
    ],
)
async def test_only_what_an_operator_allows(
    bench: Bench, settings: dict[str, Any], environment: dict[str, str], told: str
) -> None:
    at = await bench(**settings)
    await register(at, stdio={**STDIO, "environment": environment})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(use_when_known(at), 30)
    assert (caught.value.code(), harness.reason_of(caught.value)) == (Code.UNAVAILABLE, "TOOL_SOURCE_UNAVAILABLE")
    assert told in (caught.value.details() or "")


async def use_when_known(at: ExecutionBench) -> None:
    """Calls until Registry has told of the server."""
    while True:
        try:
            await use(at, "say", text="?")
            return
        except grpc.aio.AioRpcError as error:
            if error.code() is not Code.NOT_FOUND:
                raise
        await asyncio.sleep(0.05)


async def test_a_server_is_killed_and_started_again_under_calls(bench: Bench) -> None:
    async with mcp_server.running() as server:
        at = await bench()
        await register(at, http={"url": server.url})
        await until_listed(at, "mcp/tests/add")
        stop, reasons = asyncio.Event(), set()
        outcomes: list[bool] = []

        async def go_on(n: int) -> None:
            while not stop.is_set():
                try:
                    outcomes.append((await use(at, "say", text=str(n))).output == str(n))
                except grpc.aio.AioRpcError as error:
                    reasons.add((error.code(), harness.reason_of(error)))
                    outcomes.append(False)

        async with asyncio.TaskGroup() as callers:
            for n in range(10):
                callers.create_task(go_on(n))
            await until(lambda: outcomes.count(True) > 20)
            await server.kill()
            await until(lambda: outcomes.count(False) > 5)
            await server.start()
            known = outcomes.count(True)
            await until(lambda: outcomes.count(True) > known + 50)
            stop.set()
        assert reasons == {(Code.UNAVAILABLE, "TOOL_SOURCE_UNAVAILABLE")}
        for n in range(20):
            assert (await use(at, "say", text=str(n))).output == str(n)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_run_outlives_its_server(bench: Bench) -> None:
    async with mcp_server.running() as server:
        at = await bench()
        await register(at, http={"url": server.url})
        await until_listed(at, "mcp/tests/add")
        await at.create(tools=[{"tool_id": "mcp/tests/say"}])
        at.router.turns = [calls(call("say", '{"text": "a"}')), text("done")]
        await server.kill()
        events = await at.run()
        done = next(e.tool_call_completed for e in events if e.HasField("tool_call_completed"))
        assert done.is_error
        assert "mcp/tests" in done.output
        assert kinds(events)[-1] == "execution_completed"


async def test_a_run_hears_of_a_server_that_is_lost_and_comes_back(bench: Bench) -> None:
    async with over(bench, "stdio") as at:
        await at.create(tools=[{"tool_id": "mcp/tests/vanish"}])
        at.router.turns = [calls(call("vanish", "{}")), [60.0]]
        stream, told = at.stream(deadline=60), []
        async for event in stream:
            if event.HasField("tool_source_changed"):
                told.append(event.tool_source_changed)
            if len(told) == 2:
                break
        stream.cancel()
        assert [(one.source_id, one.state) for one in told] == [
            ("mcp/tests", tool_pb2.TOOL_SOURCE_STATE_FAILED),
            ("mcp/tests", tool_pb2.TOOL_SOURCE_STATE_READY),
        ]
        assert told[0].message


async def test_many_runs_outlive_a_restart_of_their_server(bench: Bench) -> None:
    async with mcp_server.running() as server:
        at = await bench()
        await register(at, http={"url": server.url})
        await until_listed(at, "mcp/tests/add")
        await at.create(tools=[{"tool_id": "mcp/tests/say"}], max_model_calls=20)
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
            await server.kill()
            await until(lambda: len(at.router.requests) > 300)
            await server.start()
        outcomes = [outcome for task in started for outcome in task.result()]
        assert ("a", False) in outcomes
        failed = {output for output, is_error in outcomes if is_error}
        assert failed
        assert all(output.startswith("mcp/tests: ") for output in failed)
        await use_again(at, "say", text="back")
        assert await one() == [("a", False)] * 20


async def test_a_server_that_nobody_reaches(bench: Bench) -> None:
    at = await bench(mcp_patience=2.0)
    await register(at, "gone", http={"url": "http://127.0.0.1:9/mcp"})
    await at.create(mcp_server_ids=["gone"])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await at.run()
    assert (caught.value.code(), harness.reason_of(caught.value)) == (Code.UNAVAILABLE, "TOOL_SOURCE_UNAVAILABLE")
    answer = await at.tools.ListTools(tool_service_pb2.ListToolsRequest())
    assert "builtin/calculator" in [tool.tool_id for tool in answer.tools]
    (status,) = answer.sources
    assert (status.source_id, status.state) == ("mcp/gone", tool_pb2.TOOL_SOURCE_STATE_FAILED)
    assert status.message == "cannot be reached"
    await at.create("other", tools=[{"tool_id": "builtin/calculator"}])
    assert (await at.run(agent_id="other"))[-1].HasField("execution_completed")


async def test_an_idle_connection_is_closed_and_opened_again(bench: Bench) -> None:
    at = await bench(**ALLOWED, mcp_idle=0.3)
    await register(at, stdio=STDIO)
    await until_listed(at, "mcp/tests/add")
    async with asyncio.timeout(30):
        state = None
        while state != tool_pb2.TOOL_SOURCE_STATE_IDLE:
            await asyncio.sleep(0.5)  # longer than mcp_idle, for a look is a use
            state = (await status(at)).state
    assert (await use(at, "say", text="again")).output == "again"


async def test_a_server_that_nobody_here_wrote(bench: Bench) -> None:
    command = [sys.executable, "-m", "mcp_server_time", "--local-timezone", "UTC"]
    at = await bench(mcp_commands=(f"{sys.executable} -m mcp_server_time",))
    await register(at, "time", stdio={"command": command[0], "arguments": command[1:]})
    await until_listed(at, "mcp/time/convert_time")
    at.router.turns = [calls(call("get_current_time", '{"timezone": "Asia/Tokyo"}')), text("done")]
    await at.create(tools=[{"tool_id": "mcp/time/*"}])
    events = await at.run()
    done = next(e.tool_call_completed for e in events if e.HasField("tool_call_completed"))
    assert not done.is_error
    assert orjson.loads(done.output)["timezone"] == "Asia/Tokyo"


async def test_credentials_come_from_secrets_and_may_change(
    bench: Bench, make_settings: Callable[..., Any], tmp_path: Path
) -> None:
    settings = make_settings(SecretsSettings, data_dir=tmp_path / "secrets")
    async with (
        harness.running(secrets_app, settings) as (secrets, channel),
        mcp_server.running(WANTED_KEY="one") as server,
    ):
        stub: Any = secrets_service_pb2_grpc.SecretsServiceStub(channel)
        kept = secret_pb2.Secret(provider="crm", display_name="test")
        created = secrets_service_pb2.CreateSecretRequest(secret=kept, values={"api_key": "one"})
        secret = (await stub.CreateSecret(created)).secret
        at = await bench(secrets_address=secrets.address)
        await register(at, http={"url": server.url, "headers": {"X-Api-Key": "secret:crm:api_key"}})
        await until_listed(at, "mcp/tests/add")
        assert (await use(at, "told", name="x-api-key")).output == "one"
        await stub.UpdateSecret(
            secrets_service_pb2.UpdateSecretRequest(
                secret=secret_pb2.Secret(secret_id=secret.secret_id),
                values={"api_key": "two"},
                update_mask={"paths": ["values"]},
            )
        )
        await server.kill()
        await server.start(WANTED_KEY="two")
        assert (await use_again(at, "told", name="x-api-key")).output == "two"


async def use_again(at: ExecutionBench, tool: str, **arguments: Any) -> Any:
    """Calls until the server is found again."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await use(at, tool, **arguments)
            except grpc.aio.AioRpcError as error:
                if harness.reason_of(error) != "TOOL_SOURCE_UNAVAILABLE":
                    raise
            await asyncio.sleep(0.05)


async def test_environment_of_a_process(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNAMIC_AGENTS_TEST_CANARY", "bird")
    at = await bench(**ALLOWED, mcp_variables=("CRM_*",))
    await register(at, stdio={**STDIO, "environment": {"CRM_REGION": "south"}})
    await until_listed(at, "mcp/tests/add")
    assert (await use(at, "told", name="CRM_REGION")).output == "south"
    assert (await use(at, "told", name="DYNAMIC_AGENTS_TEST_CANARY")).output == "None"


async def test_tenants_are_apart(bench: Bench) -> None:
    at = await bench(registry={"jwt_secret": SECRET}, jwt_secret=SECRET, **ALLOWED)
    at.metadata = bearer("acme")
    await register(at, stdio=STDIO)
    await until_listed(at, "mcp/tests/add")
    at.metadata = bearer("other")
    assert await listed(at, source="mcp") == {}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await use(at, "say", text="?")
    assert caught.value.code() is Code.NOT_FOUND
    at.metadata = bearer("acme")
    assert (await use(at, "say", text="mine")).output == "mine"


async def test_a_server_that_is_deleted_while_it_is_waited_for(bench: Bench) -> None:
    async with mute() as url:
        at = await bench(mcp_patience=20.0)
        await register(at, http={"url": url})
        async with asyncio.timeout(30):
            while not (await status(at)).source_id:
                await asyncio.sleep(0.05)
        waiting = asyncio.create_task(use(at, "say", text="?"))
        await status(at)  # asked later, on the same connection
        await delete(at)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(waiting, 15)
        assert harness.reason_of(caught.value) in ("TOOL_SOURCE_UNAVAILABLE", "RESOURCE_NOT_FOUND")


async def status(at: ExecutionBench) -> tool_pb2.ToolSourceStatus:
    watch = at.tools.WatchTools(tool_service_pb2.WatchToolsRequest(source="mcp/tests"))
    found = (await watch.read()).source_changed
    watch.cancel()
    return found


@asynccontextmanager
async def mute() -> AsyncIterator[str]:
    """The URL of a server that takes connections and says nothing."""
    held: list[asyncio.StreamWriter] = []
    listening = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/mcp"
    finally:
        listening.close()
        for writer in held:
            writer.close()
