from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from dynamicagents.registry.v1 import router_config_pb2, router_config_service_pb2
from dynamicagents.router.v1 import chat_pb2, router_service_pb2
from dynamicagents.secrets.v1 import secrets_service_pb2
from google.protobuf import field_mask_pb2, struct_pb2
from google.rpc import error_details_pb2

from tests import harness, router_bench
from tests.openai_server import Reply
from tests.router_bench import KEY, REFERENCE, Bench


@pytest.fixture
async def bench(make_settings: Callable[..., Any]) -> AsyncIterator[Bench]:
    async with router_bench.running(make_settings) as made:
        yield made


def tool(name: str = "calculator") -> chat_pb2.FunctionTool:
    parameters = struct_pb2.Struct()
    parameters.update(
        {
            "type": "object",
            "properties": {"expression": {"type": "string", "maxLength": 99}},
            "required": ["expression"],
        }
    )
    return chat_pb2.FunctionTool(name=name, description="Calculates.", parameters=parameters)


async def failed(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert KEY not in str(caught.value)
    assert KEY.encode() not in harness.status_of(caught.value).SerializeToString()
    return caught.value


def metadata_of(error: grpc.aio.AioRpcError) -> dict[str, str]:
    return dict(harness.detail(harness.status_of(error), error_details_pb2.ErrorInfo).metadata)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_stream_of_a_provider(bench: Bench) -> None:
    bench.provider.reply = Reply(reasoning="thinking")
    await bench.add()
    chunks = await bench.stream(settings=chat_pb2.SamplingSettings(temperature=0.5, max_output_tokens=9, seed=7))
    assert "".join(c.text for c in chunks) == "Hello from upstream"
    assert "".join(c.reasoning for c in chunks) == "thinking"
    assert bench.provider.keys == [f"Bearer {KEY}"]
    assert bench.secrets.asked == [REFERENCE]
    *others, last = chunks
    assert not any(c.finish_reason or c.HasField("usage") for c in others)
    assert last.finish_reason == chat_pb2.FINISH_REASON_STOP
    assert last.usage == chat_pb2.Usage(
        input_tokens=11, output_tokens=7, total_tokens=18, cached_input_tokens=3, reasoning_tokens=2
    )
    assert last.cost_usd > 0
    by = last.answered_by
    assert (by.deployment_id, by.model, by.provider, by.offline) == ("main", "openai/gpt-4o", "openai", False)
    assert chunks[0].answered_by == by
    sent = bench.provider.asked[0].body
    assert (sent["model"], sent["temperature"], sent["max_tokens"], sent["seed"]) == ("gpt-4o", 0.5, 9, 7)


async def test_whole_answer_of_a_provider(bench: Bench) -> None:
    bench.provider.reply = Reply(reasoning="thinking")
    await bench.add()
    response = await bench.chat()
    assert response.message == chat_pb2.ChatMessage(role=chat_pb2.ROLE_ASSISTANT, content="Hello from upstream")
    assert (response.reasoning, response.finish_reason) == ("thinking", chat_pb2.FINISH_REASON_STOP)
    assert (response.usage.total_tokens, response.answered_by.deployment_id) == (18, "main")
    assert response.cost_usd > 0
    assert not bench.provider.asked[0].body.get("stream")


@pytest.mark.parametrize("stream", [True, False])
async def test_tool_calls_come_whole(bench: Bench, stream: bool) -> None:
    calls = [("x", "calculator", '{"expression": "17 * 23"}'), ("y", "calculator", '{"expression": "1 + 1"}')]
    bench.provider.reply = Reply(words=(), tool_calls=calls)
    await bench.add()
    if stream:
        chunks = await bench.stream(tools=[tool()], tool_choice="calculator")
        seen = [call for chunk in chunks for call in chunk.tool_calls]
        finish_reason = chunks[-1].finish_reason
    else:
        response = await bench.chat(tools=[tool()], tool_choice="calculator")
        seen, finish_reason = list(response.message.tool_calls), response.finish_reason
    assert [(c.call_id, c.name, c.arguments) for c in seen] == calls
    assert finish_reason == chat_pb2.FINISH_REASON_TOOL_CALLS
    sent = bench.provider.asked[0].body
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "calculator"}}
    assert sent["tools"][0]["function"]["parameters"]["properties"]["expression"]["maxLength"] == 99


async def test_conversation_reaches_the_provider(bench: Bench) -> None:
    await bench.add()
    messages = [
        chat_pb2.ChatMessage(role=chat_pb2.ROLE_SYSTEM, content="Be brief."),
        chat_pb2.ChatMessage(role=chat_pb2.ROLE_USER, content="17 * 23?"),
        chat_pb2.ChatMessage(
            role=chat_pb2.ROLE_ASSISTANT,
            tool_calls=[chat_pb2.ToolCall(call_id="x", name="calculator", arguments="{}")],
        ),
        chat_pb2.ChatMessage(role=chat_pb2.ROLE_TOOL, content="391", tool_call_id="x"),
    ]
    await bench.stream(messages=messages)
    function = {"name": "calculator", "arguments": "{}"}
    assert bench.provider.asked[0].body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "17 * 23?"},
        {"role": "assistant", "tool_calls": [{"id": "x", "type": "function", "function": function}]},
        {"role": "tool", "content": "391", "tool_call_id": "x"},
    ]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("status", "error", "code", "reason"),
    [
        (400, "bad", grpc.StatusCode.INVALID_ARGUMENT, "UPSTREAM_REJECTED"),
        (400, "This model's maximum context length is 9", grpc.StatusCode.INVALID_ARGUMENT, "CONTEXT_WINDOW_EXCEEDED"),
        (400, "content_policy_violation", grpc.StatusCode.FAILED_PRECONDITION, "CONTENT_POLICY"),
        (401, "no", grpc.StatusCode.INTERNAL, "UPSTREAM_AUTH"),
        (402, "no", grpc.StatusCode.RESOURCE_EXHAUSTED, "UPSTREAM_RATE_LIMITED"),
        (403, "no", grpc.StatusCode.INTERNAL, "UPSTREAM_AUTH"),
        (404, "no", grpc.StatusCode.INVALID_ARGUMENT, "UPSTREAM_REJECTED"),
        (408, "no", grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
        (413, "no", grpc.StatusCode.INVALID_ARGUMENT, "UPSTREAM_REJECTED"),
        (422, "no", grpc.StatusCode.INVALID_ARGUMENT, "UPSTREAM_REJECTED"),
        (429, "no", grpc.StatusCode.RESOURCE_EXHAUSTED, "UPSTREAM_RATE_LIMITED"),
        (500, "no", grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE"),
        (503, "no", grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE"),
        (529, "no", grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE"),
    ],
)
async def test_what_a_refusal_becomes(
    bench: Bench,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    status: int,
    error: str,
    code: grpc.StatusCode,
    reason: str,
    stream: bool,
) -> None:
    bench.provider.reply = Reply(status=status, error=error)
    await bench.add()
    caught = await failed(bench.stream() if stream else bench.chat())
    assert (caught.code(), harness.reason_of(caught)) == (code, reason)
    assert metadata_of(caught)["deployment_id"] == "main"
    passing = status in (408, 429) or status >= 500
    assert len(bench.provider.asked) == (3 if passing else 1)
    out, err = capfd.readouterr()
    assert KEY not in out + err + caplog.text


async def test_time_to_wait_is_passed_on(bench: Bench) -> None:
    bench.provider.reply = Reply(status=429, retry_after=17)
    await bench.add()
    caught = await failed(bench.stream())
    assert harness.detail(harness.status_of(caught), error_details_pb2.RetryInfo).retry_delay.seconds == 17
    assert len(bench.provider.asked) == 1  # 17 s is too long to wait here


async def test_another_deployment_answers(bench: Bench) -> None:
    await bench.add("broken", api_base=f"http://127.0.0.1:{closed_port()}/v1", weight=1e6)
    await bench.add("spare", weight=1e-6)
    chunks = await bench.stream()
    assert chunks[-1].answered_by.deployment_id == "spare"
    (attempt,) = chunks[-1].answered_by.failed_attempts
    assert (attempt.deployment_id, attempt.reason) == ("broken", "UPSTREAM_UNAVAILABLE")
    assert attempt.duration.ToNanoseconds() > 0


async def test_a_provider_that_recovers(bench: Bench) -> None:
    bench.provider.reply = Reply(status=500)
    await bench.add()
    answer = asyncio.create_task(bench.stream())
    await bench.provider.called.wait()
    bench.provider.reply = Reply()
    chunks = await answer
    assert "".join(c.text for c in chunks) == "Hello from upstream"
    assert len(chunks[-1].answered_by.failed_attempts) >= 1


async def test_refused_connection(bench: Bench) -> None:
    await bench.add(api_base=f"http://127.0.0.1:{closed_port()}/v1")
    caught = await failed(bench.stream())
    assert (caught.code(), harness.reason_of(caught)) == (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE")
    assert metadata_of(caught) == {"deployment_id": "main", "attempts": "3"}


@pytest.mark.parametrize(
    "reply",
    [Reply(cut_after=2, word_delay=0.02), Reply(end_after=2), Reply(malformed=True)],
    ids=["cut", "ended", "malformed"],
)
async def test_broken_stream(bench: Bench, reply: Reply) -> None:
    bench.provider.reply = reply
    await bench.add()
    caught = await failed(bench.stream())
    assert (caught.code(), harness.reason_of(caught)) == (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE")
    assert len(bench.provider.asked) == 1


async def test_silent_provider(bench: Bench) -> None:
    bench.provider.reply = Reply(first_byte_delay=60)
    await bench.add()
    config = router_config_pb2.RouterConfig(num_retries=0)
    config.timeout.FromMilliseconds(2000)
    await bench.configs.UpdateRouterConfig(
        router_config_service_pb2.UpdateRouterConfigRequest(
            router_config=config, update_mask=field_mask_pb2.FieldMask(paths=["timeout", "num_retries"])
        )
    )
    caught = await failed(bench.stream())
    assert (caught.code(), harness.reason_of(caught)) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    await asyncio.wait_for(bench.provider.disconnected.wait(), 30)


@pytest.mark.parametrize("reply", [Reply(first_byte_delay=60), Reply(endless=True, word_delay=0.01)])
async def test_deadline_ends_the_call_to_the_provider(bench: Bench, reply: Reply) -> None:
    bench.provider.reply = reply
    await bench.add()
    await bench.stubs.ListModels(router_service_pb2.ListModelsRequest())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in bench.streaming(timeout=2.0):
            pass
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(bench.provider.disconnected.wait(), 30)


@pytest.mark.parametrize("reply", [Reply(first_byte_delay=60), Reply(endless=True, word_delay=0.01)])
async def test_cancel_closes_the_connection_to_the_provider(bench: Bench, reply: Reply) -> None:
    bench.provider.reply = reply
    await bench.add()
    call = bench.streaming()
    if reply.endless:
        assert (await call.read()).chunk.text
    await bench.provider.called.wait()
    call.cancel()
    await asyncio.wait_for(bench.provider.disconnected.wait(), 30)


async def test_cancel_of_one_who_does_not_read(bench: Bench) -> None:
    bench.provider.reply = Reply(words=["x" * 10_000], endless=True)
    await bench.add()
    call = bench.streaming()
    await call.read()
    await asyncio.sleep(0.5)
    assert not bench.provider.disconnected.is_set()
    call.cancel()
    await asyncio.wait_for(bench.provider.disconnected.wait(), 30)


async def test_cancel_of_a_whole_answer(bench: Bench) -> None:
    bench.provider.reply = Reply(first_byte_delay=60)
    await bench.add()
    call = asyncio.create_task(bench.chat())
    await bench.provider.called.wait()
    call.cancel()
    await asyncio.wait_for(bench.provider.disconnected.wait(), 30)


async def test_key_of_the_environment_is_never_sent(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    await bench.add(api_key_reference="")
    await bench.stream()
    assert bench.provider.keys == ["Bearer none"]
    assert bench.secrets.asked == []


async def test_new_key_is_used_at_once(bench: Bench) -> None:
    await bench.add()
    await bench.stream()
    bench.secrets.values[REFERENCE] = "sk-other"
    await bench.stream()
    assert bench.provider.keys == [f"Bearer {KEY}", "Bearer sk-other"]


async def test_reference_to_nothing(bench: Bench) -> None:
    await bench.add(api_key_reference="secret:openai:nosuch")
    caught = await failed(bench.stream())
    assert (caught.code(), harness.reason_of(caught)) == (grpc.StatusCode.FAILED_PRECONDITION, "SECRET_UNRESOLVED")
    assert metadata_of(caught)["reference"] == "secret:openai:nosuch"
    assert bench.provider.asked == []


async def test_backend_of_secrets_down(bench: Bench) -> None:
    bench.secrets.failure = secrets_service_pb2.RESOLUTION_FAILURE_UNAVAILABLE
    await bench.add(api_key_reference="secret:openai:other")
    caught = await failed(bench.stream())
    assert (caught.code(), metadata_of(caught)["service"]) == (grpc.StatusCode.UNAVAILABLE, "secrets")


async def test_provider_that_nobody_knows(bench: Bench) -> None:
    await bench.add(model="nosuch/model")
    caught = await failed(bench.stream())
    assert (caught.code(), harness.reason_of(caught)) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_SUPPORTED")


async def test_tool_result_without_its_call(bench: Bench) -> None:
    messages = [
        chat_pb2.ChatMessage(role=chat_pb2.ROLE_USER, content="hello"),
        chat_pb2.ChatMessage(role=chat_pb2.ROLE_TOOL, content="391"),
    ]
    caught = await failed(bench.stream(messages=messages))
    assert caught.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert harness.fields_of(caught) == ["messages[1].tool_call_id"]


@pytest.mark.parametrize(("choice", "tools"), [("nosuch", [tool()]), ("required", [])])
async def test_tool_choice_that_is_none(bench: Bench, choice: str, tools: list[Any]) -> None:
    caught = await failed(bench.chat(tool_choice=choice, tools=tools))
    assert harness.fields_of(caught) == ["tool_choice"]


async def test_offline_model_streams(bench: Bench) -> None:
    chunks = await bench.stream("Hello there", model="offline")
    text = "".join(c.text for c in chunks)
    assert "offline model" in text
    assert "Hello there" in text
    assert len(chunks) > 5
    by = chunks[-1].answered_by
    assert (by.deployment_id, by.model, by.provider, by.offline) == ("offline", "offline/demo", "offline", True)
    assert chunks[-1].usage.input_tokens == 2
    assert chunks[-1].finish_reason == chat_pb2.FINISH_REASON_STOP
    assert (await bench.chat("Hello there", model="offline")).message.content == text


@pytest.mark.parametrize("stream", [True, False])
async def test_offline_model_calls_the_calculator_and_tells_the_result(bench: Bench, stream: bool) -> None:
    settings = chat_pb2.SamplingSettings(temperature=0.1, reasoning_effort="low", parallel_tool_calls=True)
    asked: dict[str, Any] = {"model": "offline", "tools": [tool("builtin_calculator")], "settings": settings}
    if stream:
        (call,) = [c for chunk in await bench.stream("What is 17 * 23?", **asked) for c in chunk.tool_calls]
    else:
        (call,) = (await bench.chat("What is 17 * 23?", **asked)).message.tool_calls
    assert (call.name, json.loads(call.arguments)) == ("builtin_calculator", {"expression": "17 * 23"})
    messages = [
        chat_pb2.ChatMessage(role=chat_pb2.ROLE_USER, content="What is 17 * 23?"),
        chat_pb2.ChatMessage(role=chat_pb2.ROLE_ASSISTANT, tool_calls=[call]),
        chat_pb2.ChatMessage(role=chat_pb2.ROLE_TOOL, content="391", tool_call_id=call.call_id),
    ]
    response = await bench.chat(messages=messages, **asked)
    assert response.message.content == "The result is 391."
    assert not response.message.tool_calls


async def test_offline_model_fits_a_schema(bench: Bench) -> None:
    schema = struct_pb2.Struct()
    schema.update({"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}, "required": ["n"]})
    form = chat_pb2.ResponseFormat(json_schema=chat_pb2.JsonSchemaFormat(name="answer", schema=schema))
    assert json.loads((await bench.chat(model="offline", response_format=form)).message.content) == {"n": 3}


async def test_offline_model_takes_its_time(make_settings: Callable[..., Any]) -> None:
    async with router_bench.running(make_settings, offline_delay=0.05) as bench:
        await bench.stream(model="offline")
        started = time.monotonic()
        await bench.stream(model="offline")
        assert time.monotonic() - started > 0.3


async def test_offline_model_switched_off(make_settings: Callable[..., Any]) -> None:
    async with router_bench.running(make_settings, offline=False) as bench:
        caught = await failed(bench.chat(model="offline"))
        assert harness.reason_of(caught) == "MODEL_GROUP_UNKNOWN"
        assert not (await bench.stubs.ListModels(router_service_pb2.ListModelsRequest())).models


async def test_health_says_when_the_model_library_is_there(bench: Bench) -> None:
    for _ in range(200):
        if await bench.serving():
            return
        await asyncio.sleep(0.1)
    pytest.fail("never SERVING")
