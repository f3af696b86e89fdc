"""The Router's HTTP door, asked by OpenAI's own client."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aiohttp
import jwt
import openai
import pytest
from dynamicagents.registry.v1 import router_config_pb2, router_config_service_pb2
from google.protobuf import field_mask_pb2
from openai import AsyncOpenAI
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from libs.config import StartError
from services.router.app import app as router_app
from services.router.config import RouterSettings
from tests import router_bench
from tests.openai_server import Reply
from tests.router_bench import KEY, Bench

SECRET = "0123456789abcdef0123456789abcdef"
SAID: list[Any] = [{"role": "user", "content": "Hello"}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Calculates.",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}},
        "strict": True,
    },
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def bench(make_settings: Callable[..., Any]) -> AsyncIterator[Bench]:
    async with router_bench.running(make_settings, openai_port=free_port(), max_message_bytes=2**22) as made:
        await made.add()
        yield made


def url(bench: Bench) -> str:
    return f"http://127.0.0.1:{bench.settings.openai_port}/v1"


@pytest.fixture
async def client(bench: Bench) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=url(bench), api_key="any", max_retries=0) as made:
        yield made


async def configure(bench: Bench, **fields: Any) -> None:
    request = router_config_service_pb2.UpdateRouterConfigRequest(
        router_config=router_config_pb2.RouterConfig(**fields),
        update_mask=field_mask_pb2.FieldMask(paths=list(fields)),
    )
    await bench.configs.UpdateRouterConfig(request)


async def served(client: AsyncOpenAI, **fields: Any) -> Any:
    """Asks until the newest configuration has reached the Router."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await client.chat.completions.create(**{"model": "gpt", "messages": SAID, **fields})
            except openai.NotFoundError:
                await asyncio.sleep(0.02)


async def test_whole_answer(bench: Bench, client: AsyncOpenAI) -> None:
    bench.provider.reply = Reply(reasoning="thinking")
    answer = await served(client, temperature=0.5, max_tokens=20, stop="END", user="somebody", seed=7)
    (choice,) = answer.choices
    assert (answer.object, answer.model, choice.finish_reason) == ("chat.completion", "gpt", "stop")
    assert (choice.message.role, choice.message.content) == ("assistant", "Hello from upstream")
    assert choice.message.reasoning_content == "thinking"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (11, 7, 18)
    assert answer.usage.prompt_tokens_details.cached_tokens == 3
    asked = bench.provider.asked[-1]
    assert asked.authorization == f"Bearer {KEY}"
    wanted = {"temperature": 0.5, "max_tokens": 20, "stop": ["END"], "seed": 7, "messages": SAID}
    assert {name: asked.body[name] for name in wanted} == wanted


async def test_stream(bench: Bench, client: AsyncOpenAI) -> None:
    stream = await served(client, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    said = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in said) == "Hello from upstream"
    assert [choice.finish_reason for choice in said if choice.finish_reason] == ["stop"]
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 18)


async def test_stream_without_usage(client: AsyncOpenAI) -> None:
    chunks = [chunk async for chunk in await served(client, stream=True)]
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


@pytest.mark.parametrize("stream", [False, True])
async def test_tools(bench: Bench, client: AsyncOpenAI, stream: bool) -> None:
    calls = [("call_1", "calculator", '{"expression": "6*7"}'), ("call_2", "calculator", '{"expression": "1+1"}')]
    bench.provider.reply = Reply(words=(), tool_calls=calls)
    await served(client)
    asked = {"model": "gpt", "messages": SAID, "tools": [TOOL], "tool_choice": "required"}
    if stream:
        async with client.chat.completions.stream(**asked) as events:
            message = (await events.get_final_completion()).choices[0].message
    else:
        message = (await client.chat.completions.create(**asked)).choices[0].message
    assert [(c.id, c.function.name, c.function.arguments) for c in message.tool_calls] == calls
    body = bench.provider.asked[-1].body
    assert (body["tools"], body["tool_choice"]) == ([TOOL], "required")
    bench.provider.reply = Reply()
    results = [{"role": "tool", "tool_call_id": call[0], "content": "42"} for call in calls]
    turn = {
        "role": "assistant",
        "tool_calls": [c.model_dump(include={"id", "type", "function"}) for c in message.tool_calls],
    }
    answer = await client.chat.completions.create(model="gpt", messages=[*SAID, turn, *results], tools=[TOOL])
    assert answer.choices[0].message.content == "Hello from upstream"
    assert [m["role"] for m in bench.provider.asked[-1].body["messages"]] == ["user", "assistant", "tool", "tool"]


async def test_parts_and_formats(bench: Bench, client: AsyncOpenAI) -> None:
    schema = {"name": "answer", "schema": {"type": "object", "properties": {}}}
    pixel = "data:image/png;base64,iVBORw0KGgo="
    parts = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": pixel, "detail": "low"}},
    ]
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    form = {"type": "json_schema", "json_schema": schema}
    await served(client, messages=messages, response_format=form)
    body = bench.provider.asked[-1].body
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    text, image = body["messages"][1]["content"]
    assert text == parts[0]
    assert image["image_url"]["url"] == pixel
    assert body["response_format"]["json_schema"]["schema"] == schema["schema"]


async def test_embeddings(bench: Bench, client: AsyncOpenAI) -> None:
    await served(client)
    await bench.add("vectors", "embed", model="openai/text-embedding-3-small")
    async with asyncio.timeout(60):
        while "embed" not in [model.id async for model in await client.models.list()]:
            await asyncio.sleep(0.02)
    packed = await client.embeddings.create(model="embed", input=["a", "b"])
    plain = await client.embeddings.create(model="embed", input=["a", "b"], encoding_format="float")
    assert [one.index for one in plain.data] == [0, 1]
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding)
    assert (await client.embeddings.create(model="embed", input="a")).data[0].embedding == packed.data[0].embedding
    assert plain.usage.total_tokens > 0


async def test_models(bench: Bench, client: AsyncOpenAI) -> None:
    await served(client)
    assert [model.id async for model in await client.models.list()] == ["gpt", "offline"]
    assert (await client.models.retrieve("gpt")).owned_by == "dynamic-agents"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("nobody")


async def test_offline_group(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="offline", messages=SAID)
    assert "offline model" in (answer.choices[0].message.content or "")


@pytest.mark.parametrize(
    ("reply", "kind", "code"),
    [
        (Reply(status=400), openai.BadRequestError, "upstream_rejected"),
        (Reply(status=401), openai.InternalServerError, "upstream_auth"),
        (Reply(status=429, retry_after=7), openai.RateLimitError, "rate_limit_exceeded"),
        (Reply(status=500), openai.InternalServerError, "upstream_unavailable"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_providers_errors(
    bench: Bench, client: AsyncOpenAI, reply: Reply, kind: type[openai.APIStatusError], code: str, stream: bool
) -> None:
    await served(client)
    await configure(bench, num_retries=0)
    bench.provider.reply = reply
    with pytest.raises(kind) as caught:
        await client.chat.completions.create(model="gpt", messages=SAID, stream=stream)
    assert caught.value.code == code
    assert KEY not in caught.value.response.text
    if reply.retry_after:
        assert 1 <= int(caught.value.response.headers["Retry-After"]) <= 7


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0]"),
        ({"n": 2}, "n"),
        ({"extra_body": {"surprise": 1}}, "surprise"),
        ({"temperature": "hot"}, "body"),
        ({"tools": [{"type": "custom"}]}, "tools[0]"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"response_format": {"type": "poem"}}, "response_format"),
    ],
)
async def test_bad_requests(client: AsyncOpenAI, fields: Mapping[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(**{"model": "gpt", "messages": SAID, **fields})
    assert (caught.value.param, caught.value.type) == (param, "invalid_request_error")


async def test_unknown_group(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="nobody", messages=SAID, stream=True)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/chat/completions", "no json", 400),
        ("POST", "/chat/completions", "[]", 400),
        ("POST", "/chat/completions", json.dumps({"model": "gpt", "messages": 1}), 400),
        ("POST", "/chat/completions", " " * 5_000_000, 413),
        ("GET", "/chat/completions", "", 405),
        ("GET", "/nowhere", "", 404),
        ("POST", "/embeddings", json.dumps({"model": "gpt", "input": [[1, 2]]}), 400),
        ("POST", "/embeddings", json.dumps({"model": "gpt"}), 400),
    ],
)
async def test_errors_have_openais_shape(bench: Bench, method: str, path: str, body: str, status: int) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.request(method, url(bench) + path, data=io.BytesIO(body.encode())) as response:
            assert response.status == status
            error = (await response.json())["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"


async def test_stream_that_breaks(bench: Bench, client: AsyncOpenAI) -> None:
    bench.provider.reply = Reply(cut_after=2)
    stream = await served(client, stream=True)
    said: list[str] = []

    async def read() -> None:
        async for chunk in stream:
            said.append(chunk.choices[0].delta.content or "")

    with pytest.raises(openai.APIError) as caught:
        await read()
    assert "".join(said) == "Hello from"
    assert caught.value.code == "upstream_unavailable"


async def test_client_that_goes_away(bench: Bench, client: AsyncOpenAI) -> None:
    bench.provider.reply = Reply(endless=True, word_delay=0.01)
    stream = await served(client, stream=True)
    await anext(stream)
    await stream.close()
    async with asyncio.timeout(60):
        await bench.provider.disconnected.wait()


async def test_client_that_goes_away_before_the_answer(bench: Bench, client: AsyncOpenAI) -> None:
    await served(client)
    bench.provider.called.clear()
    bench.provider.reply = Reply(first_byte_delay=60)
    asking = asyncio.create_task(client.chat.completions.create(model="gpt", messages=SAID))
    async with asyncio.timeout(60):
        await bench.provider.called.wait()
        asking.cancel()
        await bench.provider.disconnected.wait()


async def test_cached_answers(bench: Bench, client: AsyncOpenAI) -> None:
    await served(client)
    await configure(bench, cache={"ttl": {"seconds": 60}})
    async with asyncio.timeout(60):
        while True:
            answer = await client.chat.completions.with_raw_response.create(model="gpt", messages=SAID)
            if answer.headers.get("x-cache") == "hit":
                break
    assert answer.headers["x-deployment-id"] == "main"
    assert answer.parse().choices[0].message.content == "Hello from upstream"
    asked = len(bench.provider.asked)
    stream = await client.chat.completions.create(model="gpt", messages=SAID, stream=True)
    (first, *_) = [chunk async for chunk in stream]
    assert first.choices[0].delta.content == "Hello from upstream"
    assert len(bench.provider.asked) == asked


def token(tenant: str, secret: str = SECRET) -> str:
    claims = {"sub": "backend", "tenant": tenant, "scope": "*", "exp": time.time() + 600}
    return jwt.encode(claims, secret, "HS256")


async def test_callers_are_verified(make_settings: Callable[..., Any]) -> None:
    settings = make_settings(RouterSettings, jwt_secret=SECRET, openai_port=free_port())
    async with router_app(settings, None):
        base = f"http://127.0.0.1:{settings.openai_port}/v1"
        async with AsyncOpenAI(base_url=base, api_key=token("acme"), max_retries=0) as known:
            assert (await known.chat.completions.create(model="offline", messages=SAID)).choices
        for key in ("sk-anything", token("acme", "f" * 32)):
            async with AsyncOpenAI(base_url=base, api_key=key, max_retries=0) as stranger:
                with pytest.raises(openai.AuthenticationError) as caught:
                    await stranger.chat.completions.create(model="offline", messages=SAID)
                assert caught.value.code == "invalid_api_key"


async def test_traces_go_on(make_settings: Callable[..., Any]) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    came_from = "0af7651916cd43dd8448eb211c80319c"
    async with router_bench.running(make_settings, provider, openai_port=free_port()) as bench:
        await bench.add()
        headers = {"traceparent": f"00-{came_from}-b7ad6b7169203331-01"}
        async with AsyncOpenAI(base_url=url(bench), api_key="any", max_retries=0, default_headers=headers) as client:
            await served(client)
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(model="nobody", messages=SAID)
    spans = [span for span in exporter.get_finished_spans() if span.name == "POST /v1/chat/completions"]
    assert {f"{span.context.trace_id:032x}" for span in spans} == {came_from}
    assert [span.status.is_ok for span in spans[-2:]] == [True, False]
    resolved = [span for span in exporter.get_finished_spans() if "ResolveReferences" in span.name]
    assert came_from in {f"{span.context.trace_id:032x}" for span in resolved}


async def test_it_is_closed_by_default(make_settings: Callable[..., Any]) -> None:
    assert make_settings(RouterSettings).openai_port is None


async def test_port_that_is_taken(make_settings: Callable[..., Any]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = make_settings(RouterSettings, openai_port=taken.getsockname()[1])
        with pytest.raises(StartError, match="cannot listen"):
            async with router_app(settings, None):
                pass
