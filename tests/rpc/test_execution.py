from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import grpc
import jwt
import pytest
from dynamicagents.execution.v1 import execution_service_pb2
from dynamicagents.registry.v1 import (
    agent_pb2,
    agent_service_pb2,
    prompt_pb2,
    prompt_service_pb2,
    prompt_service_pb2_grpc,
)
from dynamicagents.router.v1 import chat_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict
from google.rpc import code_pb2, error_details_pb2

from libs import errors
from tests import harness
from tests.rpc.conftest import CANCELLED, COMPLETED, FAILED, RUNNING, kinds, rest, sequences, text_of
from tests.scripted_router import call, calls, last, text

Bench = Callable[..., Any]
SECRET = "s" * 32


def token(**claims: Any) -> str:
    return jwt.encode({"sub": "ann", "exp": time.time() + 60, "scope": "*", **claims}, SECRET, "HS256")


def bearer(tenant: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token(tenant=tenant)}"),)


async def test_events_of_a_run_with_a_tool(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    at.router.turns = [calls(call("calculator", '{"expression": "17 * 23"}')), text("It is 391.")]
    await at.create(tools=[{"tool_id": "builtin/calculator"}])
    events = await at.run(session_id="s-1")
    assert kinds(events) == [
        "execution_started",
        "usage_reported",
        "tool_call_started",
        "tool_call_completed",
        "content_delta",
        "usage_reported",
        "execution_completed",
    ]
    assert sequences(events) == list(range(1, len(events) + 1))
    assert {event.execution_id for event in events} == {events[0].execution_id}
    assert [list(event.source.path) for event in events] == [["helper"]] * len(events)
    times = [event.time.ToNanoseconds() for event in events]
    assert times == sorted(times)
    started = events[0].execution_started
    assert (started.agent_id, started.revision, started.session_id) == ("helper", 1, "s-1")
    used = events[1].usage_reported
    assert (used.input_tokens, used.cost_usd, used.deployment_id, used.model) == (10, 0.25, "d1", "openai/scripted")
    called, answered = events[2].tool_call_started, events[3].tool_call_completed
    assert (called.tool_id, MessageToDict(called.arguments)) == ("builtin/calculator", {"expression": "17 * 23"})
    assert (answered.call_id, answered.output, answered.is_error) == (called.call_id, "391", False)
    done = events[-1].execution_completed
    assert (done.output, done.HasField("structured_output")) == ("It is 391.", False)
    assert (done.usage.total_tokens, done.usage.model_calls, done.usage.tool_calls) == (30, 2, 1)
    assert done.usage.cost_usd == 0.5


async def test_router_is_asked_as_the_agent_says(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [calls(call("calculator", '{ "expression": "1"}')), text("ok")]
    await at.create(
        model={"model": "gpt", "temperature": 0.5, "seed": 2**60, "stop": ["END"], "parallel_tool_calls": False},
        instructions=["Be brief."],
        tools=[{"tool_id": "builtin/calculator"}],
        tool_choice="builtin/calculator",
    )
    events = await at.run(input="{agent} $x")
    first, second = at.router.requests
    assert (first.model, first.execution_id, first.tool_choice) == ("gpt", events[0].execution_id, "calculator")
    assert (first.settings.temperature, first.settings.seed, list(first.settings.stop)) == (0.5, 2**60, ["END"])
    assert first.settings.HasField("parallel_tool_calls")
    assert not first.settings.HasField("top_p")
    assert [m.role for m in first.messages] == [chat_pb2.ROLE_SYSTEM, chat_pb2.ROLE_USER]
    assert "Be brief." in first.messages[0].content
    assert first.messages[1].content == "{agent} $x"
    assert [tool.name for tool in first.tools] == ["calculator"]
    assert MessageToDict(first.tools[0].parameters)["required"] == ["expression"]
    assert second.tool_choice == "auto"
    asked, result = second.messages[2:]
    assert (asked.role, asked.tool_calls[0].arguments) == (chat_pb2.ROLE_ASSISTANT, '{ "expression": "1"}')
    assert (result.role, result.content, result.name) == (chat_pb2.ROLE_TOOL, "1", "calculator")
    assert asked.tool_calls[0].call_id == result.tool_call_id == "call-1"


async def test_structured_output(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [text('{"n": ', "1}"), text("no JSON")]
    await at.create(output_schema={"type": "object", "properties": {"n": {"type": "integer"}}})
    events = await at.run()
    assert kinds(events).count("content_delta") == 1
    assert MessageToDict(events[-1].execution_completed.structured_output) == {"n": 1.0}
    sent = at.router.requests[0].response_format.json_schema
    assert MessageToDict(sent.schema)["type"] == "object"
    assert MessageToDict((await at.get(events[0].execution_id)).structured_output) == {"n": 1.0}
    failed = (await at.run())[-1].execution_failed
    assert failed.error.code == code_pb2.FAILED_PRECONDITION
    assert harness.detail(failed.error, error_details_pb2.ErrorInfo).reason == "OUTPUT_INVALID"


async def test_execute_waits_for_the_answer(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [text("Hello there")]
    await at.create()
    done = await at.execute(session_id="s", user_id="u", metadata={"k": "v"})
    assert (done.status, done.output, done.last_sequence) == (COMPLETED, "Hello there", 4)
    assert (done.agent_id, done.revision, done.input) == ("helper", 1, "hi")
    assert (done.session_id, done.user_id, dict(done.metadata)) == ("s", "u", {"k": "v"})
    assert (done.usage.input_tokens, done.usage.output_tokens, done.usage.total_tokens) == (10, 5, 15)
    assert done.create_time.ToNanoseconds() <= done.end_time.ToNanoseconds()
    assert not done.HasField("error")
    found = await at.get(done.execution_id)
    found.ClearField("steps")
    assert found == done


async def test_execute_of_a_run_that_fails_is_an_execution_with_an_error(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [[errors.FailedPrecondition("no", reason="CONTENT_POLICY")]]
    await at.create()
    failed = await at.execute()
    assert (failed.status, failed.output, failed.error.code) == (FAILED, "", code_pb2.FAILED_PRECONDITION)
    assert harness.detail(failed.error, error_details_pb2.ErrorInfo).reason == "CONTENT_POLICY"
    assert failed.HasField("end_time")


async def test_get_while_it_runs_and_after(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [[chat_pb2.ChatChunk(text="so"), 0.3, *text(" far")]]
    await at.create()
    stream, execution_id = await at.begin()
    assert (await stream.read()).content_delta.text == "so"
    running = await at.get(execution_id)
    assert (running.status, running.output, running.last_sequence) == (RUNNING, "", 2)
    assert not running.HasField("end_time")
    assert kinds(await rest(stream))[-1] == "execution_completed"
    ended = await at.get(execution_id)
    assert (ended.status, ended.output) == (COMPLETED, "so far")


async def test_model_may_answer_nothing(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [[last()]]
    await at.create()
    events = await at.run()
    assert kinds(events) == ["execution_started", "usage_reported", "execution_completed"]
    assert events[-1].execution_completed.output == ""


async def test_nul_characters_of_the_model(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    at.router.turns = [calls(call("calculator", '{"expression": "1\\u0000"}')), text("a\0b")]
    await at.create(tools=[{"tool_id": "builtin/calculator"}])
    events = await at.run()
    assert text_of(events) == events[-1].execution_completed.output == "a\ufffdb"
    assert await at.watch(events[0].execution_id) == events


async def test_revision_is_pinned(bench: Bench) -> None:
    at = await bench()
    agent = await at.create(instructions=["the first"])
    at.router.turns = [[0.2, *calls(call("missing", "{}"))], text("ok")]
    stream, _ = await at.begin()
    changed = agent_pb2.Agent(agent_id="helper", spec=agent_pb2.AgentSpec(instructions=["the second"]), etag=agent.etag)
    mask = FieldMask(paths=["spec.instructions"])
    await at.agents.UpdateAgent(agent_service_pb2.UpdateAgentRequest(agent=changed, update_mask=mask))
    assert kinds(await rest(stream))[-1] == "execution_completed"
    assert [request.messages[0].content for request in at.router.requests] == ["the first"] * 2
    assert (await at.execute()).revision == 2
    assert "the second" in at.router.requests[-1].messages[0].content
    assert (await at.execute(revision=1)).revision == 1
    assert "the first" in at.router.requests[-1].messages[0].content
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await at.execute(revision=9)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


# Bad input


async def test_unknown_agent(bench: Bench) -> None:
    at = await bench()
    for asking in (at.run(agent_id="gone"), at.execute(agent_id="gone")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asking
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert harness.reason_of(caught.value) == "RESOURCE_NOT_FOUND"
        resource = harness.detail(harness.status_of(caught.value), error_details_pb2.ResourceInfo)
        assert (resource.resource_type, resource.resource_name) == ("agent", "gone")


async def test_bad_fields(bench: Bench) -> None:
    at = await bench()
    bad: list[tuple[str, dict[str, Any]]] = [
        ("input", {"input": ""}),
        ("input", {"input": "x" * 1_000_001}),
        ("agent_id", {"agent_id": "Not An Id"}),
        ("target", {"agent_id": None}),
        ("revision", {"revision": -1}),
        ("session_id", {"session_id": "x" * 129}),
        ("request_id", {"request_id": "x" * 129}),
        ("timeout", {"timeout": Duration(seconds=0)}),
        ("timeout", {"timeout": Duration(seconds=90000)}),
        ("on_disconnect", {"on_disconnect": 9}),
    ]
    for field, fields in bad:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await at.run(**fields)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert harness.fields_of(caught.value) == [field]


async def test_agent_with_a_tool_that_is_not_there(bench: Bench) -> None:
    at = await bench()
    await at.create(tools=[{"tool_id": "builtin/gone"}])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await at.run()
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert harness.reason_of(caught.value) == "TOOL_UNKNOWN"
    assert at.router.requests == []


async def test_unknown_execution(bench: Bench) -> None:
    at = await bench()
    for asking in (at.get("gone"), at.watch("gone"), at.cancel("gone")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asking
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        resource = harness.detail(harness.status_of(caught.value), error_details_pb2.ResourceInfo)
        assert (resource.resource_type, resource.resource_name) == ("execution", "gone")


# request_id


async def test_repeated_request_gives_the_same_execution(bench: Bench) -> None:
    at = await bench()
    await at.create()
    first = await at.run(request_id="r-1")
    assert await at.run(request_id="r-1") == first
    assert (await at.execute(request_id="r-1")).execution_id == first[0].execution_id
    assert (await at.execute(request_id="r-2")).execution_id != first[0].execution_id
    assert len(at.router.requests) == 2


async def test_request_repeated_at_the_same_time(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    await at.create()
    runs = await asyncio.gather(*(at.run(request_id="r-1") for _ in range(5)))
    assert all(run == runs[0] for run in runs)
    assert kinds(runs[0])[-1] == "execution_completed"
    assert len(at.router.requests) == 1


async def test_request_id_of_another_request(bench: Bench) -> None:
    at = await bench()
    await at.create()
    await at.run(request_id="r-1")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await at.run(request_id="r-1", input="something else")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert harness.reason_of(caught.value) == "REQUEST_ID_REUSED"
    assert harness.fields_of(caught.value) == ["request_id"]


# Time


async def test_callers_deadline_ends_the_run_and_its_model_call(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [[chat_pb2.ChatChunk(text="so"), 30.0]]
    await at.create()
    stream, execution_id = await at.begin(deadline=0.6)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rest(stream)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(at.router.cancelled.wait(), 1)
    ended = await at.settled(execution_id)
    assert (ended.status, ended.error.code) == (FAILED, code_pb2.DEADLINE_EXCEEDED)
    assert harness.detail(ended.error, error_details_pb2.ErrorInfo).reason == "DEADLINE_EXCEEDED"
    assert kinds(await at.watch(execution_id))[-1] == "execution_failed"
    assert 0 < at.router.remaining[0] < 0.7


async def test_timeout_of_the_request(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [[30.0]]
    await at.create()
    started = time.perf_counter()
    events = await at.run(timeout=Duration(nanos=300_000_000))
    assert 0.25 < time.perf_counter() - started < 1.5
    assert events[-1].execution_failed.error.code == code_pb2.DEADLINE_EXCEEDED
    assert events[-1].execution_failed.usage.model_calls == 1
    assert at.router.remaining[0] < 0.4
    await asyncio.wait_for(at.router.cancelled.wait(), 1)


async def test_time_that_nobody_limits_is_limited(bench: Bench) -> None:
    at = await bench(default_timeout=0.2)
    at.router.turns = [[30.0]]
    await at.create()
    assert kinds(await at.run(deadline=None))[-1] == "execution_failed"


async def test_continuing_run_outlives_its_callers_deadline(bench: Bench) -> None:
    at = await bench(resume_grace=0.1)
    at.router.turns = [[0.8, *text("ok")]]
    await at.create()
    stream, execution_id = await at.begin(deadline=0.3, on_disconnect=execution_service_pb2.ON_DISCONNECT_CONTINUE)
    with pytest.raises(grpc.aio.AioRpcError):
        await rest(stream)
    ended = await at.settled(execution_id)
    assert (ended.status, ended.output) == (COMPLETED, "ok")
    assert at.router.remaining[0] > 100


# Identity


async def test_callers_token_goes_to_router_and_registry(bench: Bench) -> None:
    at = await bench(registry={"jwt_secret": SECRET}, jwt_secret=SECRET)
    at.metadata = bearer("acme")
    await at.create()
    assert (await at.execute()).status == COMPLETED
    assert at.router.metadata[0]["authorization"] == at.metadata[0][1]


async def test_service_token_says_for_whom_it_calls(bench: Bench) -> None:
    own = token(tenant="ops", scope="service")
    at = await bench(registry={"jwt_secret": SECRET}, jwt_secret=SECRET, service_token=own)
    at.metadata = bearer("acme")
    await at.create()
    assert (await at.execute()).status == COMPLETED
    sent = at.router.metadata[0]
    assert sent["authorization"] == f"Bearer {own}"
    assert (sent["dynamic-agents-tenant"], sent["dynamic-agents-subject"]) == ("acme", "ann")


async def test_no_token_no_run(bench: Bench) -> None:
    at = await bench(jwt_secret=SECRET)
    for asking in (at.run(), at.execute(), at.get("x"), at.watch("x"), at.cancel("x")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asking
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_tenants_are_apart(bench: Bench) -> None:
    at = await bench(registry={"jwt_secret": SECRET}, jwt_secret=SECRET)
    at.metadata = bearer("acme")
    at.router.turns = [text("ok"), [30.0]]
    await at.create()
    ended = (await at.run(request_id="r"))[0].execution_id
    stream, running = await at.begin()
    at.metadata = bearer("other")
    for execution_id in (ended, running):
        for asking in (at.get(execution_id), at.watch(execution_id), at.cancel(execution_id)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await asking
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await at.run(request_id="r")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    at.metadata = bearer("acme")
    assert (await at.get(running)).status == RUNNING
    assert (await at.cancel(running)).status == CANCELLED
    assert kinds(await rest(stream))[-1] == "execution_cancelled"


async def test_a_prompt_of_registry_goes_before_the_instructions(bench: Bench) -> None:
    at = await bench()
    prompts = prompt_service_pb2_grpc.PromptServiceStub(at.registry)
    spec = prompt_pb2.PromptSpec(template="Speak {{ how }}.", variables=[prompt_pb2.PromptVariable(name="how")])
    prompt = prompt_pb2.Prompt(prompt_id="tone", spec=spec)
    await prompts.CreatePrompt(prompt_service_pb2.CreatePromptRequest(prompt=prompt))
    reference = agent_pb2.PromptReference(prompt_id="tone")
    reference.variables["how"] = "softly"
    await at.create(prompt=reference, instructions=["Be brief."])
    assert kinds(await at.run())[-1] == "execution_completed"
    system = at.router.requests[0].messages[0].content
    assert system.index("Speak softly.") < system.index("Be brief.")
