"""Tools of backends that connect to Execution."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import orjson
import pytest
from dynamicagents.tools.v1 import host_pb2, tool_pb2, tool_service_pb2, tool_service_pb2_grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct, Value
from opentelemetry.sdk.trace import TracerProvider

from libs import ids
from services.execution.app import app as execution_app
from services.execution.config import ExecutionSettings
from services.execution.service.hosts import stream as host_stream
from tests import harness
from tests.rpc.conftest import CANCELLED, ExecutionBench, rest
from tests.rpc.test_execution import SECRET, bearer
from tests.scripted_router import call, calls, text
from tests.tool_host import ToolHost, hosting, tool

Bench = Callable[..., Any]
Code = grpc.StatusCode
READ_ONLY = {"annotations": {"read_only": True}}


async def listed(at: ExecutionBench, **asked: Any) -> dict[str, tool_pb2.Tool]:
    request = tool_service_pb2.ListToolsRequest(page_size=1000, **{"source": "host", **asked})
    answer = await at.tools.ListTools(request, timeout=20, metadata=at.metadata)
    return {tool.tool_id: tool for tool in answer.tools}


async def status_of(at: ExecutionBench) -> list[str]:
    answer = await at.tools.ListTools(tool_service_pb2.ListToolsRequest(source="host"), metadata=at.metadata)
    return [f"{one.source_id}: {one.message}" for one in answer.sources]


def use(at: ExecutionBench, name: str = "say", *, timeout: float = 20, **arguments: Any) -> Any:
    given = Struct()
    given.update({"text": "hello", **arguments})
    request = tool_service_pb2.CallToolRequest(tool_id=f"host/{name}", arguments=given)
    return asyncio.ensure_future(_answered(at.tools.CallTool(request, timeout=timeout, metadata=at.metadata)))


async def _answered(call: Any) -> Any:
    return await call


async def failed(awaitable: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaitable
    return caught.value.code(), harness.reason_of(caught.value)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not (condition() if not asyncio.iscoroutinefunction(condition) else await condition()):
            await asyncio.sleep(0.02)


async def test_registering_and_calling(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    described = tool(
        "find.lead",
        title="Find a lead",
        description="Finds it.",
        annotations={"read_only": True, "open_world": True},
        examples=[{"text": "Ann"}],
    )
    described.output_schema.update({"type": "object", "properties": {"n": {"type": "integer"}}})
    async with hosting(at.tools) as host:
        answer = await host.register(described, tool("say"), host_id="crm-1")
        assert (answer.host_id, list(answer.accepted_tools)) == ("crm-1", ["find.lead", "say"])
        assert answer.heartbeat_interval.ToTimedelta() == timedelta(seconds=15)
        assert answer.max_message_bytes == 8 * 1024 * 1024
        found = await listed(at)
        assert list(found) == ["host/find.lead", "host/say"]
        one = found["host/find.lead"]
        assert (one.function_name, one.title, one.description, one.source) == (
            "find_lead",
            "Find a lead",
            "Finds it.",
            "host",
        )
        assert MessageToDict(one.annotations) == {"readOnly": True, "openWorld": True}
        assert [MessageToDict(example) for example in one.examples] == [{"text": "Ann"}]
        assert one.version
        assert await status_of(at) == ["host: 1 host"]

        calling = use(at, "find.lead", text="Ann")
        asked = await host.call()
        assert (asked.tool, MessageToDict(asked.arguments)) == ("find.lead", {"text": "Ann"})
        assert (asked.idempotency_key, asked.execution_id) == ("", "")
        assert 0 < asked.timeout.ToTimedelta().total_seconds() < 21
        left = asked.deadline.ToDatetime(UTC) - datetime.now(UTC)
        assert timedelta(0) < left < timedelta(seconds=21)
        data = Value()
        data.struct_value.update({"n": 3})
        await host.answer(asked, "three", structured_output=data)
        result = await calling
        assert (orjson.loads(result.output), result.is_error) == ({"n": 3}, False)

        calling = use(at, "find.lead")
        data.struct_value.update({"n": "three"})
        await host.answer(await host.call(), structured_output=data)
        assert "breaks its output schema" in (await calling).output

        calling = use(at)
        await host.answer(await host.call(), "no such lead", is_error=True)
        result = await calling
        assert (result.output, result.is_error) == ("no such lead", True)

        assert await failed(use(at, text=1)) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
        assert await failed(use(at, "none")) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
        assert host.calls.empty()

    async def gone() -> bool:
        return not await listed(at) and not await status_of(at)

    await until(gone)
    assert await failed(use(at)) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")


async def test_watching(bench: Bench) -> None:
    at = await bench()
    watch = at.tools.WatchTools(tool_service_pb2.WatchToolsRequest(source="host"), timeout=20)
    assert (await watch.read()).HasField("snapshot_complete")
    async with hosting(at.tools, tool("say")) as host:
        assert (await watch.read()).source_changed.source_id == "host"
        assert (await watch.read()).tool_upserted.tool_id == "host/say"
        await host.register(tool("sing"))
        seen = [await watch.read() for _ in range(2)]
        assert seen[0].tool_upserted.tool_id == "host/sing"
        assert seen[1].tool_removed.tool_id == "host/say"
    seen = [await watch.read() for _ in range(2)]
    assert seen[0].tool_removed.tool_id == "host/sing"
    assert seen[1].source_removed.source_id == "host"
    watch.cancel()


async def test_an_agent_uses_them(bench: Bench) -> None:
    at = await bench()
    async with hosting(at.tools, tool("say"), tool("key", {"type": "object"})) as host:
        at.router.turns = [
            calls(call("say", '{"text": "a"}', "c1")),
            calls(call("say", '{"text": 1}', "c2"), call("key", "{}", "c3")),
            text("done"),
        ]
        await at.create(tools=[{"tool_id": "host/*"}])
        stream, execution_id = await at.begin(user_id="ann")
        asked = await host.call()
        assert (asked.execution_id, asked.user_id) == (execution_id, "ann")
        for step in (1, 2):
            progress = host_pb2.HostCallProgress(call_id=asked.call_id, progress=step, total=2, message=f"step {step}")
            await host.send(progress=progress)
        await host.answer(asked, "said a")
        keyed = await host.call()
        assert keyed.idempotency_key.startswith(f"{execution_id}/")
        await host.answer(keyed, keyed.idempotency_key)
        events = await rest(stream)
        assert events[-1].HasField("execution_completed")
        (told,) = [e.tool_call_progress for e in events if e.HasField("tool_call_progress")]
        assert (told.call_id, told.tool_id, told.progress, told.total) == ("c1", "host/say", 1, 2)
        assert told.message == "step 1"
        done = {
            e.tool_call_completed.call_id: e.tool_call_completed for e in events if e.HasField("tool_call_completed")
        }
        assert [(one.output, one.is_error) for one in (done["c1"], done["c3"])] == [
            ("said a", False),
            (keyed.idempotency_key, False),
        ]
        assert done["c2"].is_error
        assert "arguments.text" in done["c2"].output
        assert host.calls.empty()


async def test_the_trace_goes_along(make_settings: Callable[..., Any]) -> None:
    settings = make_settings(ExecutionSettings)
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    async with harness.running(execution_app, settings, TracerProvider()) as (_, channel):
        stub: Any = tool_service_pb2_grpc.ToolServiceStub(channel)
        async with hosting(stub, tool("say", {"type": "object"})) as host:
            request = tool_service_pb2.CallToolRequest(tool_id="host/say")
            metadata = (("traceparent", f"00-{trace_id}-b7ad6b7169203331-01"), ("tracestate", "crm=1"))
            calling = asyncio.ensure_future(_answered(stub.CallTool(request, metadata=metadata, timeout=20)))
            asked = await host.call()
            assert asked.traceparent.split("-")[1] == trace_id
            assert asked.traceparent.split("-")[2] != "b7ad6b7169203331"
            assert asked.tracestate == "crm=1"
            await host.answer(asked)
            await calling


async def test_an_agent_without_its_host(bench: Bench) -> None:
    at = await bench()
    await at.create(tools=[{"tool_id": "host/say"}])
    assert await failed(at.run()) == (Code.FAILED_PRECONDITION, "TOOL_UNKNOWN")


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"register": {"tools": [tool("say")], "host_id": "No Id"}}, "register.host_id"),
        ({"register": {"tools": [tool("say"), tool("a/b")]}}, "register.tools[1].name"),
        ({"register": {"tools": [tool("")]}}, "register.tools[0].name"),
        ({"register": {"tools": [tool("say")], "max_concurrency": 1001}}, "register.max_concurrency"),
        ({"register": {"tools": [tool(f"t{n}") for n in range(10_000)]}}, "register.tools"),
        (
            {"register": {"tools": [tool("say", {"type": "object", "minimum": float("nan")})]}},
            "register.tools[0].input_schema",
        ),
        ({"heartbeat": {}}, "register"),
        ({"result": {"call_id": "c"}}, "register"),
        ({}, "message"),
    ],
)
async def test_a_bad_first_message_ends_the_stream(bench: Bench, message: dict[str, Any], field: str) -> None:
    at = await bench()
    async with hosting(at.tools) as host:
        await host.send(**message)
        error = await host.ended()
        assert error is not None
        assert (error.code(), harness.fields_of(error)) == (Code.INVALID_ARGUMENT, [field])


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"result": {"call_id": ""}}, "result.call_id"),
        ({"result": {"call_id": "c", "structured_output": {"number_value": float("inf")}}}, "result.structured_output"),
        ({"progress": {"call_id": "c", "progress": float("nan")}}, "progress.progress"),
        ({"register": {"host_id": "another"}}, "register.host_id"),
    ],
)
async def test_a_bad_message_ends_the_stream(bench: Bench, message: dict[str, Any], field: str) -> None:
    at = await bench()
    async with hosting(at.tools, tool("say"), host_id="one") as host:
        calling = use(at)
        await host.call()
        await host.send(**message)
        error = await host.ended()
        assert error is not None
        assert (error.code(), harness.fields_of(error)) == (Code.INVALID_ARGUMENT, [field])
        assert await failed(calling) == (Code.UNAVAILABLE, "TOOL_SOURCE_UNAVAILABLE")


async def test_what_is_no_message_ends_the_stream(bench: Bench) -> None:
    at = await bench()
    async with grpc.aio.insecure_channel(at.server.address) as channel:
        raw: Any = channel.stream_stream("/dynamicagents.tools.v1.ToolService/HostTools")
        stream = raw(timeout=20)
        await stream.write(b"\xff\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
    assert (caught.value.code(), harness.reason_of(caught.value)) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")


async def test_tools_that_are_not_taken(bench: Bench) -> None:
    at = await bench()
    wrong_example = tool("example", examples=[{"text": 1}])
    wrong_output = tool("output")
    wrong_output.output_schema.update({"type": "no type"})
    async with hosting(at.tools) as host:
        answer = await host.register(
            tool("say"), tool("say"), tool("list", {"type": "array"}), wrong_example, wrong_output
        )
        assert list(answer.accepted_tools) == ["say"]
        assert [(one.name, one.field) for one in answer.rejected_tools] == [
            ("say", "register.tools[1].name"),
            ("list", "register.tools[2].input_schema"),
            ("example", "register.tools[3].examples[0]"),
            ("output", "register.tools[4].output_schema"),
        ]
        assert all(one.reason for one in answer.rejected_tools)
        assert list(await listed(at)) == ["host/say"]


async def test_as_many_tools_as_a_host_may_have(bench: Bench) -> None:
    at = await bench()
    async with hosting(at.tools) as host:
        answer = await host.register(*(tool(f"t{n:04}") for n in range(1000)))
        assert len(answer.accepted_tools) == 1000
        assert len(await listed(at)) == 1000


async def test_a_second_answer_and_one_to_no_call_are_ignored(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(host_stream, "_MOST_STRAYS", 3)
    at = await bench()
    async with hosting(at.tools, tool("say"), host_id="crm-1") as host:
        calling = use(at)
        asked = await host.call()
        await host.answer(asked, "first")
        await host.answer(asked, "second")
        assert (await calling).output == "first"
        await host.answer(host_pb2.HostCall(call_id=ids.new_id()), "third")
        calling = use(at)
        await host.answer(await host.call(), "still there")
        assert (await calling).output == "still there"
        assert await status_of(at) == ["host: 1 host; answers to no call: 2"]
        assert capsys.readouterr().out.count("host answers no call") == 2
        await host.answer(asked, "fourth")
        error = await host.ended()
        assert error is not None
        assert (error.code(), harness.fields_of(error)) == (Code.INVALID_ARGUMENT, ["result.call_id"])


async def test_progress_of_no_call_is_ignored(bench: Bench) -> None:
    at = await bench()
    async with hosting(at.tools, tool("say")) as host:
        for _ in range(500):
            await host.send(progress=host_pb2.HostCallProgress(call_id="none", progress=1))
        calling = use(at)
        await host.answer(await host.call())
        assert (await calling).output == "done"


async def test_tenants_see_nothing_of_each_other(bench: Bench) -> None:
    at = await bench(registry={"jwt_secret": SECRET}, jwt_secret=SECRET)
    at.metadata = bearer("one")
    async with (
        hosting(at.tools, tool("say"), host_id="crm", metadata=bearer("one")) as ours,
        hosting(at.tools, tool("say"), tool("spy"), host_id="crm", metadata=bearer("two")) as theirs,
    ):
        assert list(await listed(at)) == ["host/say"]
        assert await failed(use(at, "spy")) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
        calling = use(at)
        asked = await ours.call()
        await theirs.answer(asked, "forged")
        at.metadata = bearer("two")
        theirs_too = use(at)
        await theirs.answer(await theirs.call(), "theirs")
        assert (await theirs_too).output == "theirs"
        assert await status_of(at) == ["host: 1 host; answers to no call: 1"]
        assert not calling.done()
        await ours.answer(asked, "ours")
        assert (await calling).output == "ours"


async def test_hosts_need_credentials(bench: Bench) -> None:
    at = await bench(registry={"jwt_secret": SECRET}, jwt_secret=SECRET)
    async with hosting(at.tools) as host:
        error = await host.ended()
        assert error is not None
        assert error.code() is Code.UNAUTHENTICATED


async def test_hosts_share_the_load(bench: Bench) -> None:
    at = await bench()
    async with (
        hosting(at.tools, tool("say"), max_concurrency=2) as one,
        hosting(at.tools, tool("say"), max_concurrency=4) as two,
    ):
        calling = [use(at) for _ in range(6)]
        got = [await one.call() for _ in range(2)], [await two.call() for _ in range(4)]
        late = use(at)
        await asyncio.sleep(0.1)
        assert one.calls.empty()
        assert two.calls.empty()
        await two.answer(got[1][0], "two")
        await two.answer(await two.call(), "late")
        assert (await late).output == "late"
        for asked in got[0]:
            await one.answer(asked, "one")
        for asked in got[1][1:]:
            await two.answer(asked, "two")
        assert sorted([(await one).output for one in calling]) == ["one"] * 2 + ["two"] * 4


async def test_a_call_that_finds_no_room_says_so(bench: Bench) -> None:
    at = await bench(host_patience=0.3)
    async with hosting(at.tools, tool("say"), max_concurrency=1) as host:
        first = use(at)
        asked = await host.call()
        assert await failed(use(at)) == (Code.RESOURCE_EXHAUSTED, "TOOL_SOURCE_BUSY")
        await host.answer(asked)
        assert (await first).output == "done"
        assert host.calls.empty()


async def test_a_call_that_waits_is_told_before_its_deadline(bench: Bench) -> None:
    at = await bench(host_patience=60)
    async with hosting(at.tools, tool("say"), max_concurrency=1) as host:
        first = use(at)
        asked = await host.call()
        assert await failed(use(at, timeout=3)) == (Code.RESOURCE_EXHAUSTED, "TOOL_SOURCE_BUSY")
        await host.answer(asked)
        await first


async def test_registering_again_replaces(bench: Bench) -> None:
    at = await bench()
    async with hosting(at.tools, tool("say"), tool("sing"), host_id="crm-1") as host:
        calling = use(at, "sing")
        asked = await host.call()
        before = (await listed(at))["host/say"].version
        await host.register(tool("say", description="Now with words."), max_concurrency=1)
        found = await listed(at)
        assert list(found) == ["host/say"]
        assert found["host/say"].version != before
        assert await failed(use(at, "sing")) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
        await host.answer(asked, "la")
        assert (await calling).output == "la"
        calling = use(at)
        await host.answer(await host.call())
        await calling


async def test_a_stream_of_the_same_name_replaces(bench: Bench) -> None:
    at = await bench()
    async with hosting(at.tools, tool("say"), host_id="crm-1") as old:
        calling = use(at)
        asked = await old.call()
        async with hosting(at.tools, tool("say"), host_id="crm-1") as new:
            assert await status_of(at) == ["host: 1 host"]
            second = use(at)
            await new.answer(await new.call(), "new")
            assert (await second).output == "new"
            await old.answer(asked, "old")
            assert (await calling).output == "old"
            error = await old.ended()
            assert error is not None
            assert (error.code(), harness.reason_of(error)) == (Code.ABORTED, "HOST_REPLACED")
            assert list(await listed(at)) == ["host/say"]


async def test_a_stream_that_was_replaced_and_is_dead_is_given_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_stream, "_PROOF", 0.2)
    at = await bench()
    async with hosting(at.tools, tool("say", **READ_ONLY), host_id="crm-1") as old:
        old.answers_beats = False
        calling = use(at)
        await old.call()
        async with hosting(at.tools, tool("say", **READ_ONLY), host_id="crm-1") as new:
            await new.answer(await new.call(), "again")
            assert (await calling).output == "again"


async def test_hosts_that_describe_a_tool_differently(bench: Bench) -> None:
    at = await bench()
    number = {"type": "object", "properties": {"text": {"type": "integer"}}, "required": ["text"]}
    await at.create(tools=[{"tool_id": "host/say"}])
    async with hosting(at.tools, tool("say"), host_id="old") as old:
        at.router.turns = [
            calls(call("say", '{"text": "a"}', "c1")),
            calls(call("say", '{"text": "b"}', "c2")),
            text("done"),
        ]
        stream, _ = await at.begin()
        first = await old.call()
        async with hosting(at.tools, tool("say", number), host_id="new") as new:
            found = (await listed(at))["host/say"]
            assert MessageToDict(found.input_schema)["properties"] == {"text": {"type": "integer"}}
            assert found.warning == "older hosts describe it differently: old"
            assert await status_of(at) == ["host: 2 hosts; described differently by some: say"]
            calling = use(at, text=1)
            await new.answer(await new.call(), "one")
            assert (await calling).output == "one"
            # A run keeps to what it began with, and to hosts that know it.
            await old.answer(first, "a")
            second = await old.call()
            old.vanish()
            events = await rest(stream)
            assert second.arguments["text"] == "b"
            done = [e.tool_call_completed for e in events if e.HasField("tool_call_completed")]
            assert [one.is_error for one in done] == [False, True]
            assert new.calls.empty()


async def test_losing_the_host_of_a_tool_that_may_be_called_again(bench: Bench) -> None:
    at = await bench()
    async with (
        hosting(at.tools, tool("say", **READ_ONLY)) as one,
        hosting(at.tools, tool("say", **READ_ONLY)) as two,
    ):
        calling = use(at)
        first, second = (one, two) if (await _first_of(one, two)) is one else (two, one)
        first.vanish()
        await second.answer(await second.call(), "again")
        assert (await calling).output == "again"


async def _first_of(one: ToolHost, two: ToolHost) -> ToolHost:
    await until(lambda: not (one.calls.empty() and two.calls.empty()))
    return one if two.calls.empty() else two


async def test_losing_the_host_of_a_tool_that_may_not(bench: Bench) -> None:
    at = await bench()
    await at.create(tools=[{"tool_id": "host/say"}])
    async with hosting(at.tools, tool("say")) as one:
        calling = use(at)
        await one.call()
        one.vanish()
        assert await failed(calling) == (Code.UNAVAILABLE, "TOOL_SOURCE_UNAVAILABLE")
    at.router.turns = [calls(call("say", '{"text": "a"}', "c1")), text("done")]
    async with hosting(at.tools, tool("say")) as one, hosting(at.tools, tool("other")) as two:
        stream, _ = await at.begin()
        await one.call()
        one.vanish()
        events = await rest(stream)
        (done,) = [e.tool_call_completed for e in events if e.HasField("tool_call_completed")]
        assert done.is_error
        assert "is not known" in done.output
        assert events[-1].HasField("execution_completed")
        assert two.calls.empty()


async def test_a_call_waits_for_a_host_that_connects_again(bench: Bench) -> None:
    at = await bench(host_patience=30)
    await at.create(tools=[{"tool_id": "host/say"}])
    at.router.turns = [calls(call("say", '{"text": "a"}', "c1")), calls(call("say", '{"text": "b"}', "c2")), text("ok")]
    async with hosting(at.tools, tool("say"), host_id="crm-1") as host:
        stream, _ = await at.begin()
        asked = await host.call()
        await host.answer(asked, "a")
    async with hosting(at.tools, tool("say"), host_id="crm-1") as host:
        await host.answer(await host.call(), "b")
        done = [e.tool_call_completed for e in await rest(stream) if e.HasField("tool_call_completed")]
        assert [(one.output, one.is_error) for one in done] == [("a", False), ("b", False)]


async def test_calls_are_cancelled(bench: Bench) -> None:
    at = await bench()
    await at.create(tools=[{"tool_id": "host/say", "timeout": {"seconds": 1}}])
    await at.create("patient", tools=[{"tool_id": "host/say"}])
    async with hosting(at.tools, tool("say"), max_concurrency=1) as host:
        calling = use(at)
        first = await host.call()
        calling.cancel()
        cancel = await host.soon(host.cancels.get())
        assert (cancel.call_id, cancel.reason) == (first.call_id, "nobody waits for it any more")

        at.router.turns = [calls(call("say", '{"text": "a"}', "c1")), text("done")]
        stream, _ = await at.begin()
        second = await host.call()
        cancel = await host.soon(host.cancels.get())
        assert (cancel.call_id, cancel.reason) == (second.call_id, "its time is over")
        (done,) = [e.tool_call_completed for e in await rest(stream) if e.HasField("tool_call_completed")]
        assert (done.output, done.is_error) == ("the tool did not answer within 1 s", True)

        at.router.requests.clear()
        stream, execution_id = await at.begin(agent_id="patient")
        third = await host.call()
        assert (await at.cancel(execution_id)).status == CANCELLED
        assert (await host.soon(host.cancels.get())).call_id == third.call_id
        await rest(stream)

        # Answers that cross a cancellation are nobody's fault.
        for late in (first, second, third):
            await host.answer(late, "late")
        calling = use(at)
        await host.answer(await host.call(), "in time")
        assert (await calling).output == "in time"
        assert await status_of(at) == ["host: 1 host"]


async def test_draining(bench: Bench) -> None:
    at = await bench(host_patience=0.2)
    async with hosting(at.tools, tool("say")) as host, hosting(at.tools, tool("sing")) as other:
        calling = use(at)
        asked = await host.call()
        await host.send(drain={})

        async def gone() -> bool:
            return list(await listed(at)) == ["host/sing"]

        await until(gone)
        assert await failed(use(at)) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
        await host.answer(asked, "the last")
        assert (await calling).output == "the last"
        assert await host.ended() is None
        await other.send(drain={})
        assert await other.ended() is None


async def test_a_silent_host_is_given_up(bench: Bench) -> None:
    at = await bench(heartbeat=0.1)
    async with hosting(at.tools, tool("say")) as silent, hosting(at.tools, tool("sing")) as other:
        silent.answers_beats = False
        error = await silent.ended()
        assert error is not None
        assert error.code() is Code.DEADLINE_EXCEEDED
        assert silent.beats >= 1
        await until(lambda: other.beats > 5)
        assert list(await listed(at)) == ["host/sing"]


async def test_a_server_that_stops_tells_its_hosts(bench: Bench) -> None:
    at = await bench()
    async with at.beside(drain_grace=20) as beside:
        host = ToolHost(beside.tools)
        await host.register(tool("say"))
        calling = use(beside)
        asked = await host.call()

        async def answer_when_told() -> None:
            await host.draining.wait()
            await host.answer(asked, "the last")

        answering = asyncio.create_task(answer_when_told())
    assert (await calling).output == "the last"
    await answering
    error = await host.ended()
    assert error is not None
    assert (error.code(), harness.reason_of(error)) == (Code.UNAVAILABLE, "SHUTTING_DOWN")


async def test_a_host_that_closes_its_side_is_gone(bench: Bench) -> None:
    at = await bench()
    async with hosting(at.tools) as host:
        await host.stream.done_writing()
        error = await host.ended()
        assert error is not None
        assert (error.code(), harness.fields_of(error)) == (Code.INVALID_ARGUMENT, ["register"])
    async with hosting(at.tools, tool("say")) as host:
        calling = use(at)
        await host.call()
        await host.stream.done_writing()
        assert await host.ended() is None
        assert await failed(calling) == (Code.UNAVAILABLE, "TOOL_SOURCE_UNAVAILABLE")
