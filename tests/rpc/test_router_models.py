from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from dynamicagents.registry.v1 import router_config_pb2, router_config_service_pb2
from dynamicagents.router.v1 import chat_pb2, router_service_pb2
from google.protobuf import field_mask_pb2

from tests import router_bench
from tests.openai_server import Reply
from tests.router_bench import Bench


@pytest.fixture
async def bench(make_settings: Callable[..., Any]) -> AsyncIterator[Bench]:
    async with router_bench.running(make_settings) as made:
        yield made


async def listed(bench: Bench, *names: str) -> dict[str, router_service_pb2.ModelGroup]:
    """The groups, once these have reached the Router."""
    async with asyncio.timeout(60):
        while True:
            response = await bench.stubs.ListModels(router_service_pb2.ListModelsRequest())
            found = {group.model: group for group in response.models}
            if set(names) <= found.keys():
                return found
            await asyncio.sleep(0.02)


async def test_groups_with_what_is_known_of_them(bench: Bench) -> None:
    await bench.add(model="openai/gpt-4o")
    await bench.add("claude", model="anthropic/claude-sonnet-4-5", context_window=100_000)
    await bench.add("vectors", "embed", model="openai/text-embedding-3-small")
    await bench.add("order", "rerank", model="cohere/rerank-v3.5")
    await bench.add("own", "own", model="openai/nobody-knows-it", capabilities=["tools", "vision"])
    await bench.add(
        "own-too",
        "priced",
        model="openai/gpt-4o",
        capabilities=["!vision", "reasoning"],
        pricing={"input_cost_per_token": 0.5},
    )
    found = await listed(bench, "priced")
    assert sorted(found) == ["embed", "gpt", "offline", "own", "priced", "rerank"]
    gpt = found["gpt"]
    assert list(gpt.deployment_models) == ["openai/gpt-4o", "anthropic/claude-sonnet-4-5"]
    assert {"tools", "vision", "json_schema"} <= set(gpt.capabilities)
    assert not {"prefill", "parallel_tools"} & set(gpt.capabilities)
    assert (gpt.context_window, gpt.max_output_tokens, gpt.mode) == (100_000, 16_384, "chat")
    assert 0 < gpt.input_cost_per_token < gpt.output_cost_per_token < 1e-4
    assert (found["embed"].mode, found["rerank"].mode) == ("embedding", "rerank")
    own = found["own"]
    assert (list(own.capabilities), own.context_window) == (["tools", "vision"], 0)
    assert not own.HasField("input_cost_per_token")
    priced = found["priced"]
    assert "vision" not in priced.capabilities
    assert "reasoning" in priced.capabilities
    assert priced.input_cost_per_token == 0.5
    assert found["offline"].offline


async def configure(bench: Bench, **fields: Any) -> None:
    request = router_config_service_pb2.UpdateRouterConfigRequest(
        router_config=router_config_pb2.RouterConfig(**fields),
        update_mask=field_mask_pb2.FieldMask(paths=list(fields)),
    )
    await bench.configs.UpdateRouterConfig(request)


async def cached(bench: Bench) -> router_service_pb2.ChatResponse:
    """Asks until the answer comes from the cache."""
    async with asyncio.timeout(60):
        while not (answer := await bench.chat()).answered_by.cached:
            pass
    return answer


async def test_cache(bench: Bench) -> None:
    await bench.add()
    await configure(bench, cache={"ttl": {"seconds": 60}})
    answer = await cached(bench)
    assert (answer.message.content, answer.cost_usd) == ("Hello from upstream", 0.0)
    assert answer.usage.total_tokens == 18
    assert answer.answered_by.deployment_id == "main"
    asked = len(bench.provider.asked)
    (chunk,) = await bench.stream()
    assert (chunk.text, chunk.finish_reason) == ("Hello from upstream", chat_pb2.FINISH_REASON_STOP)
    assert chunk.answered_by.cached
    assert len(bench.provider.asked) == asked
    assert not (await bench.chat(options={"no_cache": True})).answered_by.cached
    assert not (await bench.chat("Something else")).answered_by.cached
    assert len(bench.provider.asked) == asked + 2


async def test_stream_that_ended_well_is_kept_and_one_that_broke_is_not(bench: Bench) -> None:
    await bench.add()
    await configure(bench, cache={"ttl": {"seconds": 60}}, num_retries=0)
    await cached(bench)
    await bench.stream("In pieces")
    assert (await bench.chat("In pieces")).answered_by.cached
    bench.provider.reply = Reply(cut_after=2)
    with pytest.raises(Exception, match="UNAVAILABLE"):
        await bench.stream("Broken")
    bench.provider.reply = Reply()
    assert not (await bench.chat("Broken")).answered_by.cached


async def test_cache_in_redis(make_settings: Callable[..., Any], redis_url: str) -> None:
    shared = {"redis_url": redis_url, "redis_prefix": f"test-{uuid.uuid4().hex}:"}
    async with router_bench.running(make_settings, **shared) as bench:
        await bench.add()
        await configure(bench, cache={"backend": router_config_pb2.CACHE_BACKEND_REDIS, "ttl": {"seconds": 60}})
        assert (await cached(bench)).message.content == "Hello from upstream"


async def test_cache_in_a_redis_that_is_not_there(make_settings: Callable[..., Any]) -> None:
    async with router_bench.running(make_settings, redis_url="redis://127.0.0.1:1/0") as bench:
        await bench.add()
        await configure(bench, cache={"backend": router_config_pb2.CACHE_BACKEND_REDIS})
        for _ in range(3):
            assert not (await bench.chat()).answered_by.cached
