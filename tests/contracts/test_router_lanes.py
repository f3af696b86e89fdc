"""Each kind of provider, over real HTTP, through both lanes: the same request sent, the same answer, the same error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest

from services.router.gateways.upstream import LiteLLMUpstream
from services.router.model import (
    ChatCall,
    Chunk,
    Credentials,
    Deployment,
    Failure,
    FinishReason,
    Lane,
    ToolCall,
    Usage,
)
from tests import anthropic_server, gemini_server, openai_server
from tests.provider_server import ProviderServer, Reply

KEY = "sk-very-secret-0123456789"
KINDS: dict[str, tuple[Any, str]] = {
    "openai": (openai_server, "openai/gpt-4o"),
    "azure": (openai_server, "azure/gpt-4o"),
    "vllm": (openai_server, "hosted_vllm/llama"),
    "mistral": (openai_server, "mistral/mistral-large-latest"),
    "anthropic": (anthropic_server, "anthropic/claude-sonnet-4-5"),
    "gemini": (gemini_server, "gemini/gemini-2.5-flash"),
}
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
TOOLS = [{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": SCHEMA}}]
CALLS = (("x", "add", '{"n": 12345}'), ("y", "add", '{"n": 2}'))
IMAGE = "data:image/png;base64,iVBORw0KGgo="
HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]


@dataclass
class Provider:
    server: ProviderServer
    model: str
    upstream: LiteLLMUpstream

    async def ask(self, lane: Lane, reply: Reply, **fields: Any) -> tuple[Chunk, Failure | None, list[Any]]:
        """What came, what went wrong, and what was sent."""
        self.server.reply = reply
        self.server.asked.clear()
        azure = self.model.startswith("azure/")
        base = self.server.url.removesuffix("/v1") if azure else self.server.url
        parameters = {"api_version": "2024-10-21"} if azure else {}
        deployment = Deployment("main", "gpt", self.model, base, lane=lane, provider_parameters=parameters)
        call = ChatCall(**{"model": "gpt", "messages": HELLO, "stream": True, **fields})
        whole, failure = Chunk(), None
        try:
            async for chunk in self.upstream.chat(deployment, Credentials(KEY), call):
                whole += chunk
        except Failure as raised:
            failure = raised
        sent = [(asked.path, asked.authorization, _without_default(asked.body)) for asked in self.server.asked]
        return whole, failure, sent

    async def both(self, reply: Reply, **fields: Any) -> tuple[Chunk, Failure | None, Any]:
        direct, library = [await self.ask(lane, reply, **fields) for lane in (Lane.DIRECT, Lane.LIBRARY)]
        assert _told(direct[1]) == _told(library[1])
        if direct[1] is None:
            assert _comparable(direct[0]) == _comparable(library[0])
        assert direct[2] == library[2]
        assert len(direct[2]) == 1
        return direct[0], direct[1], direct[2][0]


def _without_default(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if (name, value) != ("stream", False)}


def _comparable(chunk: Chunk) -> Chunk:
    """Gemini names no calls: LiteLLM does, at random."""
    calls = tuple(
        replace(call, call_id="" if call.call_id.startswith("call_") else call.call_id) for call in chunk.tool_calls
    )
    return replace(chunk, tool_calls=calls, tool_call_deltas=())


def _told(failure: Failure | None) -> Any:
    if failure is None:
        return None
    error = failure.error
    assert KEY not in error.message + str(error.metadata)
    return type(error), error.reason_code, error.metadata, error.retry_after, failure.may_pass


@pytest.fixture(params=KINDS)
async def provider(request: pytest.FixtureRequest) -> AsyncIterator[Provider]:
    kind, model = KINDS[request.param]
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(LiteLLMUpstream(offline_delay=0.0))
        await upstream.ready()
        yield Provider(await stack.enter_async_context(kind.serving()), model, upstream)


@pytest.fixture(params=[True, False], ids=["stream", "whole"])
def stream(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def test_text(provider: Provider, stream: bool) -> None:
    settings = {"temperature": 0.5, "max_tokens": 9, "top_p": 0.9, "stop": ["END"]}
    answer, _, sent = await provider.both(Reply(reasoning="thinking"), stream=stream, settings=settings)
    assert (answer.text, answer.reasoning) == ("Hello from upstream", "thinking")
    assert answer.finish_reason is FinishReason.STOP
    assert answer.usage is not None
    told = answer.usage
    assert (told.input_tokens, told.output_tokens, told.total_tokens, told.estimated) == (11, 7, 18, False)
    assert told.cached_input_tokens == 3
    assert sent[1] in (KEY, f"Bearer {KEY}")


async def test_cost(provider: Provider, stream: bool) -> None:
    answer, _, _ = await provider.both(Reply(), stream=stream)
    assert (answer.cost is None) == provider.model.startswith("hosted_vllm/")
    assert answer.cost is None or answer.cost > 0
    assert not answer.cost_estimated


async def test_tool_calls(provider: Provider, stream: bool) -> None:
    reply = Reply(words=(), tool_calls=CALLS)
    answer, _, sent = await provider.both(reply, stream=stream, tools=TOOLS, tool_choice="required")
    assert [(call.name, call.arguments) for call in answer.tool_calls] == [(name, given) for _, name, given in CALLS]
    assert answer.finish_reason is FinishReason.TOOL_CALLS
    assert "tools" in sent[2]


async def test_tool_calls_grow(provider: Provider) -> None:
    for lane in (Lane.DIRECT, Lane.LIBRARY):
        answer, _, _ = await provider.ask(lane, Reply(words=("One", " two"), tool_calls=CALLS), tools=TOOLS)
        grown: dict[int, ToolCall] = {}
        for delta in answer.tool_call_deltas:
            call = grown.setdefault(delta.index, ToolCall(delta.call_id, delta.name, ""))
            grown[delta.index] = replace(call, arguments=call.arguments + delta.arguments)
        assert tuple(grown.values()) == answer.tool_calls
        assert answer.text == "One two"


async def test_one_tool_by_name(provider: Provider) -> None:
    choice = {"type": "function", "function": {"name": "add"}}
    _, failure, _ = await provider.both(Reply(words=(), tool_calls=CALLS[:1]), tools=TOOLS, tool_choice=choice)
    assert failure is None


async def test_tool_results_go_back(provider: Provider) -> None:
    function = {"name": "add", "arguments": '{"n": 1}'}
    messages = [
        {"role": "user", "content": "Add."},
        {"role": "assistant", "tool_calls": [{"id": "x", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "x", "content": "2"},
    ]
    answer, failure, _ = await provider.both(Reply(), messages=messages, tools=TOOLS)
    assert (answer.text, failure) == ("Hello from upstream", None)


async def test_reasoning_goes_back_where_it_is_wanted(provider: Provider) -> None:
    said = {"role": "assistant", "content": "2", "reasoning_content": "counting"}
    messages = [{"role": "user", "content": "1 + 1?"}, said, {"role": "user", "content": "Sure?"}]
    _, failure, sent = await provider.both(Reply(), messages=messages)
    assert failure is None
    assert ("counting" in str(sent[2])) == provider.model.startswith("hosted_vllm/")


async def test_goes_on_from_what_was_said(provider: Provider) -> None:
    messages = [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "One,", "prefix": True}]
    _, failure, sent = await provider.both(Reply(), messages=messages)
    assert failure is None
    assert "One," in str(sent[2])
    assert ("prefix" in str(sent[2])) == provider.model.startswith("mistral/")


async def test_schema(provider: Provider, stream: bool) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    answer, failure, sent = await provider.both(Reply(words=['{"n":', " 1}"]), stream=stream, response_format=form)
    assert (answer.text, failure) == ('{"n": 1}', None)
    assert "integer" in str(sent[2])


async def test_image(provider: Provider) -> None:
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": IMAGE}}]
    answer, failure, sent = await provider.both(Reply(), messages=[{"role": "user", "content": parts}])
    assert (answer.text, failure) == ("Hello from upstream", None)
    assert IMAGE.partition(",")[2] in str(sent[2])


async def test_document(provider: Provider) -> None:
    file = {"file_data": "data:application/pdf;base64,JVBERg==", "filename": "a.pdf"}
    parts = [{"type": "text", "text": "What is it?"}, {"type": "file", "file": file}]
    answer, failure, sent = await provider.both(Reply(), messages=[{"role": "user", "content": parts}])
    assert (answer.text, failure) == ("Hello from upstream", None)
    assert "JVBERg==" in str(sent[2])


async def test_sound(provider: Provider) -> None:
    parts = [{"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}]
    if provider.model.startswith("anthropic/"):
        _, failure, sent = await provider.ask(Lane.DIRECT, Reply(), messages=[{"role": "user", "content": parts}])
        assert failure is not None
        assert (failure.error.reason_code, sent) == ("CAPABILITY_MISSING", [])
        return
    _, _, sent = await provider.both(Reply(), messages=[{"role": "user", "content": parts}])
    assert "UklGRg==" in str(sent[2])


async def test_addresses_within_the_network_are_not_fetched(provider: Provider) -> None:
    """What a provider does not fetch itself the Router fetches for it."""
    fetched: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fetched.append(await reader.readline())
        writer.close()

    async with await asyncio.start_server(note, "127.0.0.1", 0) as inside:
        address = f"http://127.0.0.1:{inside.sockets[0].getsockname()[1]}/a"
        for part in (
            {"type": "image_url", "image_url": {"url": f"{address}.png"}},
            {"type": "file", "file": {"file_id": f"{address}.pdf", "format": "application/pdf"}},
        ):
            for lane in (Lane.DIRECT, Lane.LIBRARY):
                messages = [{"role": "user", "content": [part]}]
                _, failure, sent = await provider.ask(lane, Reply(), messages=messages)
                assert address in str(sent) or (failure and failure.error.reason_code == "UPSTREAM_REJECTED")
    assert fetched == []


async def test_longest_answer(provider: Provider, stream: bool) -> None:
    answer, _, _ = await provider.both(Reply(truncated=True), stream=stream)
    assert answer.finish_reason is FinishReason.LENGTH


async def test_citations(provider: Provider, stream: bool) -> None:
    answer, _, _ = await provider.both(Reply(citations=[("https://example.com/a", "A")]), stream=stream)
    assert [(cited.url, cited.title) for cited in answer.citations] == [("https://example.com/a", "A")]


async def test_usage_that_is_not_told(provider: Provider) -> None:
    answer, _, _ = await provider.ask(Lane.DIRECT, Reply(usage={}))
    assert answer.usage is not None
    assert answer.usage.estimated
    assert answer.usage.input_tokens > 5
    assert answer.usage.output_tokens == 5
    assert answer.cost_estimated == (answer.cost is not None)


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (400, "bad", "UPSTREAM_REJECTED"),
        (401, "no", "UPSTREAM_AUTH"),
        (403, "no", "UPSTREAM_AUTH"),
        (404, "no", "UPSTREAM_REJECTED"),
        (408, "no", "DEADLINE_EXCEEDED"),
        (409, "no", "UPSTREAM_UNAVAILABLE"),
        (413, "no", "UPSTREAM_REJECTED"),
        (422, "no", "UPSTREAM_REJECTED"),
        (429, "no", "UPSTREAM_RATE_LIMITED"),
        (500, "no", "UPSTREAM_UNAVAILABLE"),
        (503, "no", "UPSTREAM_UNAVAILABLE"),
        (504, "no", "DEADLINE_EXCEEDED"),
        (529, "no", "UPSTREAM_UNAVAILABLE"),
    ],
)
async def test_refusals(provider: Provider, status: int, error: str, reason: str, stream: bool) -> None:
    _, failure, _ = await provider.both(Reply(status=status, error=error), stream=stream)
    assert failure is not None
    assert failure.error.reason_code == reason


@pytest.mark.parametrize(
    ("model", "text", "reason"),
    [
        ("openai", "This model's maximum context length is 9", "CONTEXT_WINDOW_EXCEEDED"),
        ("openai", "content_policy_violation", "CONTENT_POLICY"),
        ("anthropic", "prompt is too long: 9 tokens > 8 maximum", "CONTEXT_WINDOW_EXCEEDED"),
        (
            "gemini",
            "The input token count (9) exceeds the maximum number of tokens allowed (8).",
            "CONTEXT_WINDOW_EXCEEDED",
        ),
    ],
)
async def test_refusals_by_their_text(provider: Provider, model: str, text: str, reason: str) -> None:
    if not provider.model.startswith(f"{model}/"):
        return
    _, failure, _ = await provider.both(Reply(status=400, error=text))
    assert failure is not None
    assert failure.error.reason_code == reason


@pytest.mark.parametrize(
    ("given", "seconds"), [(17, 17.0), (0.5, 0.5), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("nan", 0.0), ("soon", None)]
)
async def test_time_to_wait(provider: Provider, given: Any, seconds: float | None) -> None:
    _, failure, _ = await provider.both(Reply(status=429, retry_after=given))
    assert failure is not None
    assert failure.error.retry_after == seconds


@pytest.mark.parametrize(
    "reply",
    [
        Reply(split=1),
        Reply(words=["grüße ", "日本 ", "🎉"], split=3),
        Reply(newline="\r\n"),
        Reply(comments=True, newline="\r\n", split=5),
        Reply(words=["x" * 300_000]),
    ],
    ids=["bytes", "characters", "crlf", "comments", "long"],
)
async def test_streams_whatever_the_pieces(provider: Provider, reply: Reply) -> None:
    answer, failure, _ = await provider.ask(Lane.DIRECT, reply)
    assert (answer.text, failure) == ("".join(reply.words), None)
    assert answer.finish_reason is FinishReason.STOP


def _broken() -> Sequence[Any]:
    return [
        pytest.param(Reply(end_after=1), id="ended"),
        pytest.param(Reply(cut_after=1, word_delay=0.05), id="cut"),
        pytest.param(Reply(malformed=True), id="malformed"),
        pytest.param(Reply(broken="overloaded_error"), id="error"),
        pytest.param(Reply(raw=b"<html>busy</html>", content_type="text/html"), id="html"),
        pytest.param(Reply(raw=b"[]", content_type="application/json"), id="json"),
        pytest.param(Reply(raw=b""), id="empty"),
        pytest.param(Reply(raw=b"data: 7\n\n"), id="number"),
        pytest.param(Reply(raw=b"data: {}\n\n" * 3), id="nothing"),
        pytest.param(Reply(raw=b"data: " + b"x" * (9 * 2**20)), id="giant"),
        pytest.param(Reply(raw=b'data: {"a": "\xff"}\n\n'), id="utf-8"),
    ]


@pytest.mark.parametrize("reply", _broken())
async def test_broken_streams(provider: Provider, reply: Reply) -> None:
    _, failure, _ = await provider.ask(Lane.DIRECT, reply)
    assert failure is not None
    assert (failure.error.reason_code, failure.may_pass) == ("UPSTREAM_UNAVAILABLE", True)


@pytest.mark.parametrize("raw", [b"", b"<html>", b"{", b"[]", b"{}", b'{"choices": []}', b"\xff"])
async def test_broken_answers(provider: Provider, raw: bytes) -> None:
    _, failure, _ = await provider.ask(Lane.DIRECT, Reply(raw=raw), stream=False)
    assert failure is not None
    assert (failure.error.reason_code, failure.may_pass) == ("UPSTREAM_UNAVAILABLE", True)


async def test_what_was_said_before_a_fault_is_not_lost(provider: Provider) -> None:
    answer, failure, _ = await provider.ask(Lane.DIRECT, Reply(malformed=True))
    assert answer.text == "Hello from upstream"
    assert failure is not None


async def test_logprobs() -> None:
    async with openai_server.serving() as server, LiteLLMUpstream(offline_delay=0.0) as upstream:
        await upstream.ready()
        provider = Provider(server, "openai/gpt-4o", upstream)
        for streamed in (True, False):
            settings = {"logprobs": True, "top_logprobs": 1}
            answer, _, sent = await provider.both(Reply(logprobs=True), stream=streamed, settings=settings)
            (token,) = answer.logprobs
            assert (token.token, token.logprob, token.top[0].token) == ("Hello", -0.5, "Hi")
            assert sent[2]["top_logprobs"] == 1
            assert answer.usage == Usage(11, 7, 18, 3, 2)
