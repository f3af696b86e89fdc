"""The direct lane's own ways: what is left open, what is kept, what is told."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from services.router.gateways.upstream import LiteLLMUpstream
from services.router.model import (
    ChatCall,
    Chunk,
    Credentials,
    Deployment,
    EmbedCall,
    Failure,
    FinishReason,
    Lane,
    Pricing,
    RerankCall,
    Usage,
)
from tests import anthropic_server, gemini_server, openai_server
from tests.openai_server import OpenAIServer
from tests.provider_server import ProviderServer, Reply

KEY = "sk-very-secret-0123456789"
HELLO = ChatCall("gpt", [{"role": "user", "content": "Hello"}], stream=True)


@pytest.fixture
async def upstream() -> AsyncIterator[LiteLLMUpstream]:
    async with LiteLLMUpstream(offline_delay=0.0) as made:
        await made.ready()
        yield made


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with openai_server.serving() as made:
        yield made


def deployment(server: ProviderServer, model: str = "openai/gpt-4o", **fields: Any) -> Deployment:
    return Deployment("main", "gpt", model, server.url, **fields)


async def whole(upstream: LiteLLMUpstream, asked: Deployment, call: ChatCall = HELLO, key: str | None = KEY) -> Chunk:
    answer = Chunk()
    async for chunk in upstream.chat(asked, Credentials(key), call):
        answer += chunk
    return answer


async def failed(upstream: LiteLLMUpstream, asked: Deployment, **parameters: str) -> Failure:
    with pytest.raises(Failure) as caught:
        async for _ in upstream.chat(asked, Credentials(KEY, parameters), HELLO):
            pass
    return caught.value


async def settled(condition: Any, within: float = 60.0) -> None:
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        (openai_server, "openai/gpt-4o"),
        (anthropic_server, "anthropic/claude-sonnet-4-5"),
        (gemini_server, "gemini/gemini-2.5-flash"),
    ],
)
@pytest.mark.parametrize("reply", [Reply(endless=True, word_delay=0.001), Reply(first_byte_delay=60)])
async def test_leaving_closes_the_connection(upstream: LiteLLMUpstream, kind: Any, model: str, reply: Reply) -> None:
    async with kind.serving() as server:
        server.reply = reply
        task = asyncio.create_task(whole(upstream, deployment(server, model)))
        await server.called.wait()
        task.cancel()
        await asyncio.wait_for(server.disconnected.wait(), 30)


async def test_closing_the_stream_closes_the_connection(upstream: LiteLLMUpstream, server: OpenAIServer) -> None:
    server.reply = Reply(endless=True, word_delay=0.001)
    async with aclosing(upstream.chat(deployment(server), Credentials(KEY), HELLO)) as chunks:
        assert (await anext(chunks)).text
        assert not server.disconnected.is_set()
    await asyncio.wait_for(server.disconnected.wait(), 30)


@pytest.mark.timeout(600)
async def test_cancelled_streams_leave_nothing(upstream: LiteLLMUpstream, server: OpenAIServer) -> None:
    server.reply = Reply(endless=True, word_delay=0.001)
    asked = deployment(server)

    async def leave() -> None:
        async with aclosing(upstream.chat(asked, Credentials(KEY), HELLO)) as chunks:
            await anext(chunks)

    before = len(asyncio.all_tasks())
    for _ in range(20):
        await asyncio.gather(*(leave() for _ in range(50)))
    await settled(lambda: server.gone == 1000)
    await settled(lambda: len(asyncio.all_tasks()) <= before + 5)
    lanes = await upstream._loaded()
    connector = lanes._direct._session.connector
    assert not connector._acquired
    assert sum(len(idle) for idle in connector._conns.values()) == 0


async def test_connection_is_used_again(upstream: LiteLLMUpstream, server: OpenAIServer) -> None:
    for call in (HELLO, ChatCall("gpt", HELLO.messages)):
        for _ in range(5):
            await whole(upstream, deployment(server), call)
    connector = (await upstream._loaded())._direct._session.connector
    assert sum(len(idle) for idle in connector._conns.values()) == 1


@pytest.mark.timeout(600)
async def test_long_stream_in_flat_memory(upstream: LiteLLMUpstream, server: OpenAIServer) -> None:
    async def read(words: int) -> int:
        """The most memory that it took."""
        server.reply = Reply(words=["x" * 100] * words)
        tracemalloc.start()
        count = 0
        async for chunk in upstream.chat(deployment(server), Credentials(KEY), HELLO):
            count += len(chunk.text)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert count == 100 * words
        return most

    await read(10)
    gc.collect()
    few, many = await read(1_000), await read(10_000)
    assert many < few + 2 * 2**20


async def test_several_pieces_that_are_there_go_as_one(upstream: LiteLLMUpstream, server: OpenAIServer) -> None:
    event = 'data: {{"choices": [{{"index": 0, "delta": {{"content": "{}"}}, "finish_reason": {}}}]}}\n\n'
    body = "".join(event.format(word, "null") for word in "abcdef") + event.format("", '"stop"')
    server.reply = Reply(raw=body.encode())
    chunks = [chunk async for chunk in upstream.chat(deployment(server), Credentials(KEY), HELLO)]
    assert "".join(chunk.text for chunk in chunks) == "abcdef"
    assert len(chunks) <= 2


async def test_key_is_in_no_error_and_in_no_log(
    upstream: LiteLLMUpstream,
    server: OpenAIServer,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for reply in (Reply(status=401), Reply(status=400), Reply(raw=KEY.encode()), Reply(malformed=True)):
        server.reply = reply
        for lane in (Lane.DIRECT, Lane.LIBRARY):
            failure = await failed(upstream, deployment(server, lane=lane))
            assert KEY not in repr(failure) + failure.error.message + str(failure.error.metadata)
            assert failure.__cause__ is None
    out, err = capfd.readouterr()
    assert KEY not in out + err + caplog.text


async def test_nothing_of_the_environment_is_used(
    upstream: LiteLLMUpstream, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "HOSTED_VLLM_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENAI_ORGANIZATION"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1")
    for lane in (Lane.DIRECT, Lane.LIBRARY):
        for model in ("openai/gpt-4o", "hosted_vllm/llama"):
            await whole(upstream, deployment(server, model, lane=lane), key=None)
    assert set(server.keys) == {"Bearer none"}
    assert KEY not in str([asked.headers for asked in server.asked])


async def test_redirection_is_not_followed(upstream: LiteLLMUpstream, server: OpenAIServer) -> None:
    server.reply = Reply(status=307)
    failure = await failed(upstream, deployment(server))
    assert failure.error.reason_code == "UPSTREAM_UNAVAILABLE"
    assert len(server.asked) == 1


async def test_messages_stay_as_they_were(upstream: LiteLLMUpstream, server: OpenAIServer) -> None:
    """The next attempt may go to another provider."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aa==", "format": "image/png"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hello"}, image]}]
    kept = repr(messages)
    for lane in (Lane.DIRECT, Lane.LIBRARY):
        await whole(upstream, deployment(server, lane=lane), ChatCall("gpt", messages))
    assert repr(messages) == kept


async def test_providers_that_cannot_be_called_directly(upstream: LiteLLMUpstream) -> None:
    for asked in (
        Deployment("main", "gpt", "bedrock/anthropic.claude-v2", lane=Lane.DIRECT),
        Deployment("main", "gpt", "azure/gpt-4o", "https://example.com/openai/v1", lane=Lane.DIRECT),
        Deployment("main", "gpt", "nosuch/model"),
        Deployment("main", "gpt", "openai/gpt-4o", provider_parameters={"mock_response": "Hello"}),
        Deployment("main", "gpt", "bedrock/x", credential_references={"aws_web_identity_token": "secret:a:b"}),
        Deployment("main", "gpt", "vertex_ai/gemini-2.5-flash"),
        Deployment("main", "gpt", "azure/gpt-4o", provider_parameters={"api_version": "os.environ/HOME"}),
    ):
        failure = await failed(upstream, asked)
        assert failure.error.reason_code == "NOT_SUPPORTED", asked
        assert not failure.may_pass
        assert await upstream.problem(asked)


@pytest.mark.parametrize(
    "parameters",
    [
        {"azure_ad_token": "oidc/env/HOME"},
        {"vertex_credentials": "/etc/passwd"},
        {"vertex_credentials": '{"type": "external_account"}'},
    ],
)
async def test_credentials_that_refer_elsewhere(upstream: LiteLLMUpstream, parameters: dict[str, str]) -> None:
    asked = Deployment("main", "gpt", "azure/gpt-4o", "https://example.invalid")
    failure = await failed(upstream, asked, **parameters)
    assert failure.error.reason_code == "NOT_SUPPORTED"


@pytest.mark.parametrize("lane", [Lane.DIRECT, Lane.LIBRARY])
@pytest.mark.parametrize("token", [False, True])
async def test_azure(upstream: LiteLLMUpstream, server: OpenAIServer, lane: Lane, token: bool) -> None:
    references = {"azure_ad_token": "secret:azure:token"} if token else {}
    asked = Deployment(
        "main",
        "gpt",
        "azure/gpt-4o",
        server.url.removesuffix("/v1"),
        provider_parameters={"api_version": "2024-10-21"},
        credential_references=references,
        lane=lane,
    )
    assert await upstream.problem(asked) == ""
    credentials = Credentials(None, {"azure_ad_token": KEY}) if token else Credentials(KEY)
    chunks = [chunk async for chunk in upstream.chat(asked, credentials, HELLO)]
    assert "".join(chunk.text for chunk in chunks) == "Hello from upstream"
    assert server.asked[0].path == "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
    assert server.keys == [f"Bearer {KEY}" if token else KEY]


async def test_prices_of_the_deployment(upstream: LiteLLMUpstream, server: OpenAIServer) -> None:
    asked = deployment(server, "openai/gpt-4o", pricing=Pricing(1.0, 10.0, 0.5))
    assert (await whole(upstream, asked)).cost == 8 * 1.0 + 3 * 0.5 + 7 * 10.0


async def test_prices_are_litellms(upstream: LiteLLMUpstream) -> None:
    import litellm

    from services.router.gateways import prices

    usage, compared = Usage(1000, 200, 1200, 300), 0
    for model in litellm.open_ai_chat_completion_models:
        asked = Deployment("main", "gpt", f"openai/{model}")
        given = litellm.Usage(
            prompt_tokens=1000, completion_tokens=200, prompt_tokens_details={"cached_tokens": 300}, total_tokens=1200
        )
        ours, theirs = prices.cost(asked, usage), prices.cost(asked, usage, given)
        assert ours == pytest.approx(theirs)
        compared += ours is not None
    assert compared > 50


async def test_reply_without_a_reason_to_finish(upstream: LiteLLMUpstream, server: OpenAIServer) -> None:
    server.reply = Reply(raw=b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\ndata: [DONE]\n\n')
    answer = await whole(upstream, deployment(server))
    assert (answer.text, answer.finish_reason) == ("Hi", FinishReason.STOP)


async def test_facts(upstream: LiteLLMUpstream) -> None:
    facts = await upstream.facts(Deployment("main", "gpt", "openai/gpt-4o"))
    assert {"tools", "vision", "json_schema"} <= facts.capabilities
    assert (facts.mode, facts.context_window) == ("chat", 128_000)
    assert facts.pricing.input
    assert (await upstream.facts(Deployment("main", "gpt", "openai/text-embedding-3-small"))).mode == "embedding"
    assert (await upstream.facts(Deployment("main", "gpt", "openai/nosuch"))).context_window is None


async def test_tokens(upstream: LiteLLMUpstream) -> None:
    own = await upstream.count_tokens(Deployment("main", "gpt", "openai/gpt-4o"), HELLO)
    other = await upstream.count_tokens(Deployment("main", "gpt", "anthropic/claude-sonnet-4-5"), HELLO)
    assert (own.tokens, own.estimated, other.estimated) == (8, False, True)
    long = ChatCall("gpt", [{"role": "user", "content": "word " * 10_000}])
    assert (await upstream.count_tokens(Deployment("main", "gpt", "openai/gpt-4o"), long)).tokens > 10_000


@pytest.mark.parametrize("lane", [Lane.DIRECT, Lane.LIBRARY])
async def test_vectors(upstream: LiteLLMUpstream, server: OpenAIServer, lane: Lane) -> None:
    asked = deployment(server, "openai/text-embedding-3-small", lane=lane)
    found = await upstream.embed(asked, Credentials(KEY), EmbedCall("e", ["a", "bcd"], dimensions=2))
    assert [list(vector) for vector in found.vectors] == [[1.0, 1.0], [3.125, 3.125]]
    assert found.usage is not None
    assert (found.usage.input_tokens, found.usage.total_tokens) == (5, 5)
    assert found.cost
    server.reply = Reply(status=429, retry_after=3)
    with pytest.raises(Failure) as caught:
        await upstream.embed(asked, Credentials(KEY), EmbedCall("e", ["a"]))
    assert (caught.value.error.reason_code, caught.value.error.retry_after) == ("UPSTREAM_RATE_LIMITED", 3.0)
    assert len(server.asked) == 2


async def test_order(upstream: LiteLLMUpstream, server: OpenAIServer) -> None:
    asked = deployment(server, "hosted_vllm/reranker")
    found = await upstream.rerank(asked, Credentials(KEY), RerankCall("r", "q", ["long text", "a", "bcd"], top_n=2))
    assert [result.index for result in found.results] == [1, 0]
    assert server.keys == [f"Bearer {KEY}"]


async def test_offline_needs_no_library() -> None:
    async with LiteLLMUpstream(offline_delay=0.0) as upstream:
        offline = Deployment("offline", "offline", "offline/demo")
        assert "offline model" in (await whole(upstream, offline)).text
        texts = ["red apple", "red apple", "green apple", "blue sky"]
        first, second, third, fourth = (
            await upstream.embed(offline, Credentials(), EmbedCall("offline", texts))
        ).vectors
        assert first == second
        assert abs(sum(value * value for value in first) - 1) < 1e-9
        near, far = (sum(a * b for a, b in zip(first, other, strict=True)) for other in (third, fourth))
        assert near > far
        ranked = await upstream.rerank(offline, Credentials(), RerankCall("offline", "blue sky", texts, top_n=1))
        assert [found.index for found in ranked.results] == [3]
        await upstream.ready()
