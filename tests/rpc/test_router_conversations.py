"""What is asked, as it reaches a provider, and what is refused before any is asked."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from dynamicagents.registry.v1 import router_config_pb2
from dynamicagents.router.v1 import chat_pb2, router_service_pb2
from google.protobuf import struct_pb2

from tests import harness, router_bench
from tests.provider_server import Reply
from tests.router_bench import KEY, Bench

USER, ASSISTANT, TOOL = chat_pb2.ROLE_USER, chat_pb2.ROLE_ASSISTANT, chat_pb2.ROLE_TOOL
PNG = b"\x89PNG\r\n"
ENCODED = base64.b64encode(PNG).decode()


@pytest.fixture
async def bench(make_settings: Callable[..., Any]) -> AsyncIterator[Bench]:
    async with router_bench.running(make_settings) as made:
        await made.add()
        yield made


def message(role: Any = USER, content: str = "Hello", **fields: Any) -> chat_pb2.ChatMessage:
    return chat_pb2.ChatMessage(role=role, content=content, **fields)


def schema(**fields: Any) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(fields)
    return made


def call(call_id: str = "x", name: str = "add") -> chat_pb2.ToolCall:
    return chat_pb2.ToolCall(call_id=call_id, name=name, arguments="{}")


def image(**fields: Any) -> chat_pb2.MediaPart:
    return chat_pb2.MediaPart(**{"data": PNG, "mime_type": "image/png", **fields})


def form(given: struct_pb2.Struct) -> chat_pb2.ResponseFormat:
    return chat_pb2.ResponseFormat(json_schema=chat_pb2.JsonSchemaFormat(name="answer", schema=given))


@pytest.mark.parametrize(
    ("request_fields", "field"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [message(role=99)]}, "messages[0].role"),
        ({"messages": [message(), message(TOOL)]}, "messages[1].tool_call_id"),
        ({"messages": [message(), message(TOOL, tool_call_id="x")]}, "messages[1].tool_call_id"),
        ({"messages": [message(tool_call_id="x")]}, "messages[0].tool_call_id"),
        ({"messages": [message(tool_calls=[call()])]}, "messages[0].tool_calls"),
        ({"messages": [message(), message(ASSISTANT, tool_calls=[call()])]}, "messages[1].tool_calls"),
        (
            {
                "messages": [
                    message(ASSISTANT, tool_calls=[call("")]),
                    message(TOOL, tool_call_id="x"),
                ]
            },
            "messages[0].tool_calls[0]",
        ),
        ({"messages": [message(media=[image(mime_type="")])]}, "messages[0].media[0].mime_type"),
        ({"messages": [message(media=[image(url="file:///etc/passwd")])]}, "messages[0].media[0].url"),
        ({"messages": [message(media=[chat_pb2.MediaPart()])]}, "messages[0].media[0].content"),
        ({"messages": [message(ASSISTANT, media=[image()]), message()]}, "messages[0].media[0]"),
        ({"messages": [message(media=[image()] * 65)]}, "messages[0].media"),
        ({"response_format": form(schema(type="array"))}, "response_format.json_schema.schema"),
        ({"tools": [chat_pb2.FunctionTool(name="add", parameters=schema(type="string"))]}, "tools[0].parameters"),
        ({"tools": [chat_pb2.FunctionTool(name="add")] * 2}, "tools[1].name"),
        ({"tool_choice": "nosuch"}, "tool_choice"),
        ({"options": chat_pb2.CallOptions(top_logprobs=99)}, "options.top_logprobs"),
    ],
)
async def test_refused_before_any_provider_is_asked(bench: Bench, request_fields: dict[str, Any], field: str) -> None:
    for asked in (bench.chat(**request_fields), bench.stream(**request_fields)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asked
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert field in harness.fields_of(caught.value)
    assert bench.provider.asked == []


async def test_image_over_the_limit(bench: Bench) -> None:
    """Whatever the server takes as a message, this is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await bench.chat(messages=[message(media=[image(data=b"x" * (20 * 2**20 + 1))])])
    assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert bench.provider.asked == []


async def test_media_reach_the_provider(bench: Bench) -> None:
    media = [
        image(detail="low"),
        chat_pb2.MediaPart(url="https://example.com/a.png"),
        chat_pb2.MediaPart(data=b"RIFF", mime_type="audio/x-wav"),
        chat_pb2.MediaPart(data=b"%PDF", mime_type="application/pdf", file_name="a.pdf"),
    ]
    response = await bench.chat(messages=[message(content="See.", media=media)])
    assert response.message.content == "Hello from upstream"
    assert bench.provider.asked[0].body["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "See."},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{ENCODED}", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
                {
                    "type": "file",
                    "file": {"file_data": "data:application/pdf;base64,JVBERg==", "filename": "a.pdf"},
                },
            ],
        }
    ]


async def test_everything_of_a_request_reaches_the_provider(bench: Bench) -> None:
    settings = chat_pb2.SamplingSettings(
        temperature=0.0,
        max_output_tokens=5,
        top_p=0.5,
        stop=["a", "b"],
        seed=2**40,
        frequency_penalty=0.1,
        presence_penalty=-0.1,
        parallel_tool_calls=False,
    )
    tool = chat_pb2.FunctionTool(name="add", description="Adds.", parameters=schema(type="object"), strict=True)
    await bench.chat(settings=settings, tools=[tool], tool_choice="required", options={"top_logprobs": 2})
    sent = bench.provider.asked[0].body
    function = {"name": "add", "description": "Adds.", "parameters": {"type": "object"}, "strict": True}
    expected = {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "Hello"}],
        "temperature": 0.0,
        "max_tokens": 5,
        "top_p": 0.5,
        "stop": ["a", "b"],
        "seed": 2**40,
        "frequency_penalty": 0.1,
        "presence_penalty": -0.1,
        "parallel_tool_calls": False,
        "tools": [{"type": "function", "function": function}],
        "tool_choice": "required",
        "logprobs": True,
        "top_logprobs": 2,
    }
    assert {name: sent.get(name) for name in expected} == expected


@pytest.mark.parametrize("stream", [True, False])
async def test_everything_of_an_answer_comes_back(bench: Bench, stream: bool) -> None:
    bench.provider.reply = Reply(
        reasoning="thinking", citations=[("https://example.com/a", "A")], logprobs=True, tool_calls=[("x", "add", "{}")]
    )
    fields: dict[str, Any] = {
        "tools": [chat_pb2.FunctionTool(name="add", parameters=schema(type="object"))],
        "options": chat_pb2.CallOptions(top_logprobs=1),
    }
    cited = chat_pb2.Citation(url="https://example.com/a", title="A", start_index=1, end_index=4)
    weighed = chat_pb2.TokenLogprob(token="Hello", logprob=-0.5, top=[{"token": "Hi", "logprob": -1.5}])
    made = chat_pb2.ToolCall(call_id="x", name="add", arguments="{}")
    if stream:
        chunks = await bench.stream(**fields)
        assert [one for chunk in chunks for one in chunk.citations] == [cited]
        assert [one for chunk in chunks for one in chunk.logprobs] == [weighed]
        assert [one for chunk in chunks for one in chunk.tool_calls] == [made]
        deltas = [one for chunk in chunks for one in chunk.tool_call_deltas]
        assert (deltas[0].index, deltas[0].call_id, deltas[0].name) == (0, "x", "add")
        assert "".join(delta.arguments for delta in deltas) == "{}"
        last: Any = chunks[-1]
    else:
        last = await bench.chat(**fields)
        assert (list(last.citations), list(last.logprobs)) == ([cited], [weighed])
        assert (list(last.message.tool_calls), last.reasoning) == ([made], "thinking")
    assert last.finish_reason == chat_pb2.FINISH_REASON_TOOL_CALLS
    assert last.answered_by.model_group == "gpt"
    assert (last.cost_estimated, last.usage.estimated) == (False, False)


@pytest.mark.parametrize("stream", [True, False])
async def test_tokens_that_nobody_told_are_estimated(bench: Bench, stream: bool) -> None:
    bench.provider.reply = Reply(usage={})
    last: Any = (await bench.stream())[-1] if stream else await bench.chat()
    assert last.usage.estimated
    assert last.usage.total_tokens == last.usage.input_tokens + last.usage.output_tokens > 0
    assert last.cost_estimated
    assert last.cost_usd > 0


async def test_schema_reaches_the_provider(bench: Bench) -> None:
    given = schema(type="object", properties={"n": {"type": "integer"}})
    await bench.chat(response_format=form(given))
    sent = bench.provider.asked[0].body["response_format"]
    assert sent["json_schema"]["schema"]["properties"] == {"n": {"type": "integer"}}


async def test_conversation_may_end_with_the_assistant(bench: Bench) -> None:
    await bench.chat(messages=[message(), message(ASSISTANT, "I say")])
    assert bench.provider.asked[0].body["messages"][-1] == {"role": "assistant", "content": "I say"}


async def test_lane_of_a_deployment(bench: Bench) -> None:
    library = router_config_pb2.UPSTREAM_LANE_LIBRARY
    await bench.add("library", model_group="library", lane=library)
    await bench.add("refused", model_group="refused", model="bedrock/x", lane=router_config_pb2.UPSTREAM_LANE_DIRECT)
    assert (await bench.chat(model="library")).message.content == "Hello from upstream"
    assert "OpenAI" in bench.provider.asked[0].headers["User-Agent"]
    await bench.chat()
    assert "OpenAI" not in bench.provider.asked[1].headers["User-Agent"]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await bench.chat(model="refused")
    assert (caught.value.code(), harness.reason_of(caught.value)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "NOT_SUPPORTED",
    )


async def test_embed(bench: Bench) -> None:
    await bench.add("vectors", model_group="vectors", model="openai/text-embedding-3-small")
    request = router_service_pb2.EmbedRequest(model="vectors", inputs=["a", "bcd"], dimensions=2)
    response = await bench.stubs.Embed(request, timeout=30)
    assert [list(one.values) for one in response.embeddings] == [[1.0, 1.0], [3.125, 3.125]]
    assert (response.usage.input_tokens, response.answered_by.deployment_id) == (5, "vectors")
    assert response.cost_usd > 0
    assert bench.provider.keys == [f"Bearer {KEY}"]


async def test_embed_offline(bench: Bench) -> None:
    request = router_service_pb2.EmbedRequest(model="offline", inputs=["a", "b", "a"])
    first, second, third = (await bench.stubs.Embed(request, timeout=30)).embeddings
    assert first == third != second


async def test_rerank(bench: Bench) -> None:
    await bench.add("order", model_group="order", model="hosted_vllm/reranker")
    request = router_service_pb2.RerankRequest(model="order", query="q", documents=["long text", "a", "bcd"], top_n=2)
    response = await bench.stubs.Rerank(request, timeout=30)
    assert [found.index for found in response.results] == [1, 0]
    assert response.results[0].score > response.results[1].score
    assert response.answered_by.deployment_id == "order"


async def test_count_tokens(bench: Bench) -> None:
    messages = [message(content="Hello there, how are you?")]
    counted = await bench.stubs.CountTokens(router_service_pb2.CountTokensRequest(model="gpt", messages=messages))
    assert (counted.tokens, counted.estimated, counted.context_window) == (14, False, 128_000)
    tools = [chat_pb2.FunctionTool(name="add", description="Adds.", parameters=schema(type="object"))]
    request = router_service_pb2.CountTokensRequest(model="gpt", messages=messages, tools=tools)
    assert (await bench.stubs.CountTokens(request)).tokens > counted.tokens
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await bench.stubs.CountTokens(router_service_pb2.CountTokensRequest(model="nosuch", messages=messages))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert bench.provider.asked == []
