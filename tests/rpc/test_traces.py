"""One trace for a run through all services, whoever goes on with it, and without a word of what is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest
from dynamicagents.execution.v1 import execution_service_pb2, execution_service_pb2_grpc
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

from libs.config import StartError
from services.execution.app import app as execution_app
from services.execution.config import ExecutionSettings
from tests import four_services, mcp_server, openai_server
from tests.four_services import FourServices
from tests.openai_server import Reply
from tests.rpc import test_execution_mcp
from tests.rpc.test_execution_takeover import take_away
from tests.scripted_router import call, calls, text

CANARY = "canary-3f1c"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class Traced:
    services: FourServices
    exporter: InMemorySpanExporter

    def spans(self, of: str = "") -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if of in span.name]

    def one(self, of: str) -> ReadableSpan:
        (span,) = self.spans(of)
        return span


@asynccontextmanager
async def traced(folder: Path, **overrides: Any) -> AsyncIterator[Traced]:
    """All services and a provider whose model calls the calculator once."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with openai_server.serving() as openai, four_services.serving(folder, provider, **overrides) as services:
        call = ("call_1", "calculator", '{"expression": "6*7"}')
        openai.replies = [Reply(words=(), tool_calls=[call]), Reply(words=(CANARY, " is 42"))]
        await services.keep_key("sk-test")
        await services.add_deployment("group", openai.url, "secret:openai:api_key")
        await services.create_agent("helper", "group", tools=[{"tool_id": "builtin/calculator"}])
        exporter.clear()
        yield Traced(services, exporter)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_one_trace_of_a_run(tmp_path: Path) -> None:
    async with traced(tmp_path) as at:
        events = await at.services.run("helper", f"{CANARY}?")
        assert events[-1].HasField("execution_completed"), events[-1]
    run = at.one("invoke_agent helper")
    spans = [span for span in at.spans() if span.context.trace_id == run.context.trace_id]
    names = [span.name.rpartition("/")[2] for span in spans]
    for name, times in {
        "ExecuteStream": 1,
        "invoke_agent helper": 1,
        "chat group": 2,
        "execute_tool calculator": 1,
        "attempt chat group": 2,
        "ChatStream": 4,  # of the caller and of the called
        "ResolveReferences": 4,
        "GetAgent": 2,
    }.items():
        assert names.count(name) == times, (name, names)
    by_id = {span.context.span_id: span for span in spans}
    for chat in at.spans("chat group"):
        if chat.name.startswith("chat"):
            assert chat.parent
            assert by_id[chat.parent.span_id] is run
    assert run.parent
    assert by_id[run.parent.span_id].name.endswith("ExecuteStream")
    tool = at.one("execute_tool")
    assert tool.parent
    assert by_id[tool.parent.span_id] is run
    said = attributes(run)
    assert (said["gen_ai.operation.name"], said["openinference.span.kind"]) == ("invoke_agent", "AGENT")
    assert said["dynamic_agents.execution_id"] == events[0].execution_id
    turn = attributes(next(span for span in at.spans("chat group") if span.name == "chat group"))
    assert turn["gen_ai.response.model"] == turn["llm.model_name"] == "scripted"
    assert turn["gen_ai.provider.name"] == "openai"
    assert turn["llm.token_count.total"] == turn["gen_ai.usage.input_tokens"] + turn["gen_ai.usage.output_tokens"] > 0
    assert attributes(tool)["dynamic_agents.tool_id"] == "builtin/calculator"
    whole = "".join(span.to_json() for span in at.spans())
    assert CANARY not in whole
    assert "sk-test" not in whole
    assert "6*7" not in whole


async def test_payloads_where_they_are_allowed(tmp_path: Path) -> None:
    async with traced(tmp_path, trace_payloads=True) as at:
        await at.services.run("helper", f"{CANARY}?")
    run, tool = attributes(at.one("invoke_agent")), attributes(at.one("execute_tool"))
    assert (run["input.value"], run["output.value"]) == (f"{CANARY}?", f"{CANARY} is 42")
    assert (tool["input.value"], tool["output.value"]) == ('{"expression":"6*7"}', "42")
    first, second = (attributes(s) for s in at.spans("chat group") if s.name == "chat group")
    assert first["llm.output_messages.0.message.tool_calls.0.tool_call.function.name"] == "calculator"
    assert second["llm.output_messages.0.message.content"] == f"{CANARY} is 42"
    assert "sk-test" not in "".join(span.to_json() for span in at.spans())


async def test_the_callers_trace_goes_on_and_decides(tmp_path: Path) -> None:
    async with traced(tmp_path) as at:
        stub: Any = execution_service_pb2_grpc.ExecutionServiceStub(at.services.execution)
        request = execution_service_pb2.ExecuteRequest(agent_id="helper", input="hi")
        for flags in ("01", "00"):
            metadata = (("traceparent", PARENT[:-2] + flags),)
            assert [event async for event in stub.ExecuteStream(request, metadata=metadata, timeout=30)]
    assert f"{at.one('invoke_agent').context.trace_id:032x}" == PARENT.split("-")[1]


@asynccontextmanager
async def second(at: Any, provider: TracerProvider, **overrides: Any) -> AsyncIterator[Any]:
    settings: ExecutionSettings = at.settings.model_copy(update=overrides)
    async with execution_app(settings, provider) as server, grpc.aio.insecure_channel(server.address) as channel:
        yield execution_service_pb2_grpc.ExecutionServiceStub(channel)


async def test_a_run_that_is_taken_up_stays_in_its_trace(bench: Callable[..., Any]) -> None:
    """And a stream that only watches it has a trace of its own, with a link."""
    at = await bench(lease=600)
    at.router.turns = [[60.0], text("done")]
    await at.create()
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    request = execution_service_pb2.ExecuteRequest(agent_id="helper", input="hi", on_disconnect=1)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(second(at, provider, lease=600))
        stream = one.ExecuteStream(request, metadata=(("traceparent", PARENT),), timeout=60)
        execution_id = (await stream.read()).execution_id
        async with asyncio.timeout(30):
            while not at.router.requests:
                await asyncio.sleep(0.01)
        other = await stack.enter_async_context(second(at, provider, lease=1))
        await take_away(at)
        watch = execution_service_pb2.WatchExecutionRequest(execution_id=execution_id)
        seen = [answer.event async for answer in other.WatchExecution(watch, timeout=60)]
        assert seen[-1].execution_completed.output == "done"
    trace_id = int(PARENT.split("-")[1], 16)
    runs = [span for span in exporter.get_finished_spans() if span.name == "invoke_agent helper"]
    assert {span.context.trace_id for span in runs} == {trace_id}
    assert "OK" not in {span.status.status_code.name for span in runs}
    assert any(not span.attributes.get("error.type") for span in runs if span.attributes)
    watches = [span for span in exporter.get_finished_spans() if "WatchExecution" in span.name]
    assert watches
    for span in watches:
        assert span.context.trace_id != trace_id
        assert [link.context.trace_id for link in span.links] == [trace_id]


async def test_members_are_in_the_trace_of_their_team(bench: Callable[..., Any]) -> None:
    at = await bench()
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    await at.create("writer", model={"model": "writer"})
    await at.create_team("desk", "writer")
    asked = call("delegate_task_to_member", '{"member_id": "writer", "task": "Write."}')
    at.router.scripts |= {"desk": [calls(asked), text("done")], "writer": [text("words")]}
    async with second(at, provider) as stub:
        request = execution_service_pb2.ExecuteRequest(team_id="desk", input="hi")
        assert [event async for event in stub.ExecuteStream(request, timeout=30)][-1].HasField("execution_completed")
    spans = {span.name: span for span in exporter.get_finished_spans()}
    path = ["chat writer", "invoke_agent writer", "execute_tool delegate_task_to_member", "invoke_team desk"]
    for inner, outer in pairwise(path):
        parent = spans[inner].parent
        assert parent
        assert parent.span_id == spans[outer].context.span_id


async def test_nothing_is_recorded_where_the_root_is_not_sampled(bench: Callable[..., Any]) -> None:
    at = await bench()
    await at.create()
    exporter, provider = InMemorySpanExporter(), TracerProvider(sampler=ParentBased(ALWAYS_OFF))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with second(at, provider) as stub:
        request = execution_service_pb2.ExecuteRequest(agent_id="helper", input="hi")
        assert [event async for event in stub.ExecuteStream(request, timeout=30)]
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize("ratio", [-0.1, 1.1])
def test_the_ratio_is_a_part(make_settings: Callable[..., Any], ratio: float) -> None:
    with pytest.raises(StartError, match="trace_sample_ratio"):
        make_settings(ExecutionSettings, trace_sample_ratio=ratio)


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_mcp_servers_are_told_where_the_call_stands(bench: Callable[..., Any], transport: str) -> None:
    at = await bench(**test_execution_mcp.ALLOWED)
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with AsyncExitStack() as stack:
        if transport == "stdio":
            spec: dict[str, Any] = {"stdio": test_execution_mcp.STDIO}
        else:
            server = await stack.enter_async_context(mcp_server.running("http"))
            spec = {"http": {"url": server.url}}
        await test_execution_mcp.register(at, **spec)
        await at.create(tools=[{"tool_id": "mcp/tests/trace"}])
        at.router.turns = [calls(call("trace", "{}")), text("done")]
        stub = await stack.enter_async_context(second(at, provider))
        request = execution_service_pb2.ExecuteRequest(agent_id="helper", input="hi")
        events = [event async for event in stub.ExecuteStream(request, timeout=60)]
    (told,) = [event.tool_call_completed.output for event in events if event.HasField("tool_call_completed")]
    (tool,) = [span for span in exporter.get_finished_spans() if span.name == "execute_tool trace"]
    assert told.split("-")[1:3] == [f"{tool.context.trace_id:032x}", f"{tool.context.span_id:016x}"]
