from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from libs.identity import Caller
from services.router.gateways import redis_cache
from services.router.gateways.redis_cache import RedisStore
from services.router.model import (
    AnsweredBy,
    CacheBackend,
    CallOptions,
    ChatCall,
    Chunk,
    Citation,
    Deployment,
    FinishReason,
    Guardrail,
    ResponseCache,
    RoutingTable,
    TokenLogprob,
    ToolCall,
    TopLogprob,
    Usage,
    grouped,
)
from services.router.service.cache import AnswerCache, AnswerStore, MemoryStore

CALLER = Caller("t", "me", frozenset({"*"}))
MAIN = Deployment("main", "gpt", "openai/a", api_base="http://127.0.0.1:1")
TABLE = RoutingTable(grouped([MAIN]), cache=ResponseCache(), aliases={"nick": "gpt"})
CALL = ChatCall("gpt", [{"role": "user", "content": "hello"}], settings={"temperature": 0.5})
ANSWER = Chunk(
    "hi",
    "thought",
    finish_reason=FinishReason.STOP,
    usage=Usage(1, 2, 3, estimated=True),
    cost=0.25,
    answered_by=AnsweredBy(MAIN),
    citations=(Citation("http://x", "X"),),
    logprobs=(TokenLogprob("hi", -0.5, (TopLogprob("ho", -1.0),)),),
    cost_estimated=True,
)


def cache(store: AnswerStore | None = None) -> AnswerCache:
    return AnswerCache({CacheBackend.MEMORY: store or MemoryStore()})


async def test_an_equal_call_gets_the_answer_for_nothing() -> None:
    answers = cache()
    assert await answers.find(CALLER, TABLE, CALL) is None
    await answers.keep(CALLER, TABLE, CALL, ANSWER)
    found = await answers.find(CALLER, TABLE, replace(CALL, stream=True))
    expected = replace(ANSWER, cost=0.0, cost_estimated=False, answered_by=AnsweredBy(MAIN, cached=True))
    assert found == expected
    assert await answers.find(CALLER, TABLE, replace(CALL, model="nick")) == expected


@pytest.mark.parametrize(
    "other",
    [
        replace(CALL, messages=[{"role": "user", "content": "Hello"}]),
        replace(CALL, settings={"temperature": 0.6}),
        replace(CALL, tools=[{"type": "function", "function": {"name": "f"}}]),
        replace(CALL, tool_choice="none"),
        replace(CALL, response_format={"type": "json_object"}),
        replace(CALL, options=CallOptions(top_logprobs=0)),
        replace(CALL, options=CallOptions(tags=("eu",))),
        replace(CALL, options=CallOptions(no_cache=True)),
    ],
)
async def test_another_call_does_not(other: ChatCall) -> None:
    answers = cache()
    await answers.keep(CALLER, TABLE, CALL, ANSWER)
    assert await answers.find(CALLER, TABLE, other) is None


async def test_an_answer_is_not_kept_from_a_new_guardrail() -> None:
    answers = cache()
    await answers.keep(CALLER, TABLE, CALL, ANSWER)
    guarded = replace(TABLE, guardrails=(Guardrail("g", "blocked_words", output=True, arguments={"words": "hi"}),))
    assert await answers.find(CALLER, guarded, CALL) is None
    await answers.keep(CALLER, guarded, CALL, ANSWER)
    assert await answers.find(CALLER, guarded, CALL) is not None


async def test_another_tenant_does_not() -> None:
    answers = cache()
    await answers.keep(CALLER, TABLE, CALL, ANSWER)
    assert await answers.find(replace(CALLER, tenant="u"), TABLE, CALL) is None
    assert await answers.find(replace(CALLER, subject="you"), TABLE, CALL) is not None


@pytest.mark.parametrize(
    "answer",
    [
        replace(ANSWER, tool_calls=(ToolCall("1", "f", "{}"),)),
        replace(ANSWER, finish_reason=FinishReason.CONTENT_FILTER),
        replace(ANSWER, finish_reason=None),
    ],
)
async def test_what_is_not_kept(answer: Chunk) -> None:
    answers = cache()
    await answers.keep(CALLER, TABLE, CALL, answer)
    assert await answers.find(CALLER, TABLE, CALL) is None


@pytest.mark.parametrize(
    "table",
    [replace(TABLE, cache=None), replace(TABLE, cache=ResponseCache(model_groups=frozenset({"other"})))],
)
async def test_where_nothing_is_kept(table: RoutingTable) -> None:
    answers = cache()
    await answers.keep(CALLER, table, CALL, ANSWER)
    assert await answers.find(CALLER, TABLE, CALL) is None


async def test_a_deployment_that_is_gone_still_has_answered() -> None:
    answers = cache()
    await answers.keep(CALLER, TABLE, CALL, ANSWER)
    found = await answers.find(CALLER, replace(TABLE, groups={}), CALL)
    assert found
    assert found.answered_by == AnsweredBy(Deployment("main", "gpt", "openai/a"), cached=True)


@pytest.mark.parametrize("kept", [b"no json", b"[]", b'{"usage": {"other": 1}}'])
async def test_an_answer_that_cannot_be_read_is_none(kept: bytes) -> None:
    store = MemoryStore()
    answers = cache(store)
    await answers.keep(CALLER, TABLE, CALL, ANSWER)
    (name,) = store._answers
    await store.put(name, kept, 60.0)
    assert await answers.find(CALLER, TABLE, CALL) is None
    await answers.keep(CALLER, TABLE, CALL, ANSWER)
    assert await answers.find(CALLER, TABLE, CALL)


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    store = MemoryStore(most_answers=3, most_bytes=100)
    for name in "abc":
        await store.put(name, b"1" * 20, 10.0)
    assert await store.get("a")
    await store.put("d", b"1" * 20, 10.0)
    assert [bool(await store.get(name)) for name in "abcd"] == [True, False, True, True]
    await store.put("e", b"1" * 75, 10.0)
    assert [bool(await store.get(name)) for name in "acde"] == [False, False, True, True]
    await store.put("f", b"1" * 101, 10.0)
    assert not await store.get("f")
    now = 10.0
    assert not await store.get("e")
    assert not await store.get("d")
    assert not store._answers
    assert store._bytes == 0


async def test_redis(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_cache, "_PATIENCE", 60.0)
    prefix = f"test-{uuid.uuid4().hex}:"
    async with Redis.from_url(redis_url) as redis:
        answers = cache(RedisStore(redis, prefix=prefix))
        await answers.keep(CALLER, TABLE, CALL, ANSWER)
        found = await cache(RedisStore(redis, prefix=prefix)).find(CALLER, TABLE, CALL)
        assert found
        assert found.text == "hi"
        (name,) = [key async for key in redis.scan_iter(f"{prefix}*")]
        assert 0 < await redis.pttl(name) <= 600_000
        await redis.delete(name)
        assert await answers.find(CALLER, TABLE, CALL) is None


async def test_redis_that_is_down() -> None:
    async with Redis(host="127.0.0.1", port=1) as redis:
        answers = cache(RedisStore(redis, prefix="x:"))
        await answers.keep(CALLER, TABLE, CALL, ANSWER)
        assert await answers.find(CALLER, TABLE, CALL) is None
