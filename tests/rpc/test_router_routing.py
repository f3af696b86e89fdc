"""How calls find their deployment, over the wire."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from dynamicagents.registry.v1 import router_config_pb2, router_config_service_pb2
from dynamicagents.router.v1 import chat_pb2, router_service_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2
from grpc import StatusCode as Code

from tests import harness, openai_server, router_bench
from tests.openai_server import Reply
from tests.router_bench import Bench

Config = router_config_pb2.RouterConfig


@pytest.fixture
async def bench(make_settings: Callable[..., Any]) -> AsyncIterator[Bench]:
    async with router_bench.running(make_settings) as made:
        yield made


async def configure(bench: Bench, **fields: Any) -> None:
    mask = FieldMask(paths=[*fields])
    request = router_config_service_pb2.UpdateRouterConfigRequest(router_config=Config(**fields), update_mask=mask)
    revision = (await bench.configs.UpdateRouterConfig(request)).router_config.revision
    assert revision


async def explain(bench: Bench, model: str = "gpt", **fields: Any) -> router_service_pb2.ExplainRouteResponse:
    request = router_service_pb2.ExplainRouteRequest(model=model, **fields)
    return await bench.stubs.ExplainRoute(request, timeout=30)


async def until(condition: Callable[[], Any]) -> None:
    """The Router follows the Registry by and by."""
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.01)


async def refused(call: Any, code: Code, reason: str) -> error_details_pb2.ErrorInfo:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert (caught.value.code(), harness.reason_of(caught.value)) == (code, reason)
    return harness.detail(harness.status_of(caught.value), error_details_pb2.ErrorInfo)


def listed(found: router_service_pb2.ExplainRouteResponse) -> list[tuple[str, bool, str]]:
    return [(c.deployment_id, c.eligible, c.reason) for c in found.candidates]


async def knows(bench: Bench, count: int, model: str = "gpt") -> None:
    async def seen() -> bool:
        try:
            return len((await explain(bench, model)).candidates) == count
        except grpc.aio.AioRpcError:
            return False

    await until(seen)


async def test_explain_tells_the_choice_and_why_the_others_were_not_taken(bench: Bench) -> None:
    await bench.add("often", weight=3.0)
    await bench.add("seldom", weight=1.0)
    await bench.add("spare", order=1)
    await bench.add("full", rpm=0)
    await bench.add("other", "claude")
    fallbacks = [router_config_pb2.Fallback(model_group="gpt", fallback_groups=["claude"])]
    await configure(bench, model_group_aliases={"best": "gpt"}, fallbacks=fallbacks)
    await knows(bench, 4, "best")
    found = await explain(bench, "best")
    assert listed(found) == [
        ("often", True, ""),
        ("seldom", True, ""),
        ("spare", True, "order 1 after 0"),
        ("full", False, "rpm 0 of 0"),
    ]
    assert (found.model_group, found.chosen_deployment_id, [*found.fallback_groups]) == ("gpt", "often", ["claude"])
    assert [candidate.probability for candidate in found.candidates] == [0.75, 0.25, 0, 0]
    assert found.strategy == router_config_pb2.ROUTING_STRATEGY_SIMPLE_SHUFFLE
    assert not bench.provider.asked
    await refused(explain(bench, "nosuch"), Code.NOT_FOUND, "MODEL_GROUP_UNKNOWN")
    alone = await explain(bench, options=chat_pb2.CallOptions(disable_fallbacks=True))
    assert not alone.fallback_groups


async def test_explain_tells_scores(bench: Bench) -> None:
    pricing = router_config_pb2.Pricing(input_cost_per_token=1, output_cost_per_token=1)
    await bench.add("cheap", pricing=pricing, quality=0.0)
    await bench.add("good", quality=1.0)
    await configure(bench, routing_strategy=router_config_pb2.ROUTING_STRATEGY_SCORE_QUALITY)

    async def scored() -> bool:
        found = await explain(bench)
        return found.strategy == router_config_pb2.ROUTING_STRATEGY_SCORE_QUALITY and len(found.candidates) == 2

    await until(scored)
    found = await explain(bench)
    assert found.chosen_deployment_id == "good"
    assert sorted(found.candidates[0].parts) == ["latency", "price", "quality", "reliability"]
    assert found.candidates[0].score > found.candidates[1].score
    assert found.candidates[1].reason == "another has a better score"


async def test_a_dry_run_changes_nothing(bench: Bench) -> None:
    await bench.add("main")
    tried = Config(
        deployments=[router_config_pb2.Deployment(deployment_id="a", model_group="new", model="openai/gpt-4o")],
        routing_strategy=router_config_pb2.ROUTING_STRATEGY_LEAST_BUSY,
    )
    found = await explain(bench, "new", config=tried)
    assert (found.chosen_deployment_id, found.strategy) == ("a", router_config_pb2.ROUTING_STRATEGY_LEAST_BUSY)
    await refused(explain(bench, "new"), Code.NOT_FOUND, "MODEL_GROUP_UNKNOWN")
    await refused(explain(bench, "gpt", config=tried), Code.NOT_FOUND, "MODEL_GROUP_UNKNOWN")


async def test_a_dry_run_names_what_cannot_work(bench: Bench) -> None:
    fine = router_config_pb2.Deployment(deployment_id="a", model_group="g", model="openai/gpt-4o")
    direct = router_config_pb2.UPSTREAM_LANE_DIRECT
    not_so = router_config_pb2.Deployment(deployment_id="b", model_group="g", model="bedrock/x", lane=direct)
    guardrail = router_config_pb2.RouterGuardrail(name="own", kind="nobody_installed_it", input=True)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await explain(bench, "g", config=Config(deployments=[fine, not_so], guardrails=[guardrail]))
    assert caught.value.code() is Code.INVALID_ARGUMENT
    assert harness.fields_of(caught.value) == ["config.deployments[1]", "config.guardrails[0].kind"]


async def test_a_cooldown_is_told_with_the_time_to_wait(bench: Bench) -> None:
    await bench.add(cooldown=Duration(seconds=300))
    await configure(bench, allowed_fails=0, num_retries=0)

    async def follows() -> bool:
        bench.provider.reply = Reply(status=500)
        with pytest.raises(grpc.aio.AioRpcError):
            await bench.chat()
        return (await explain(bench)).candidates[0].HasField("cooldown_left")

    await until(follows)
    bench.provider.reply = Reply()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await bench.chat()
    assert (caught.value.code(), harness.reason_of(caught.value)) == (Code.UNAVAILABLE, "NO_DEPLOYMENT_AVAILABLE")
    wait = harness.detail(harness.status_of(caught.value), error_details_pb2.RetryInfo).retry_delay
    assert 200 < wait.seconds <= 300
    candidate = (await explain(bench)).candidates[0]
    assert (candidate.eligible, candidate.reason.startswith("cooldown")) == (False, True)


async def test_errors_of_the_request_have_their_reasons(bench: Bench) -> None:
    await bench.add(capabilities=["!tools"], pricing=router_config_pb2.Pricing(output_cost_per_token=1))
    words = router_config_pb2.RouterGuardrail(name="w", kind="blocked_words", input=True, arguments={"words": "bomb"})
    day = Duration(seconds=86400)
    budget = router_config_pb2.CostBudget(tag="batch", max_cost_usd=0.1, period=day)
    await configure(bench, enable_pre_call_checks=True, guardrails=[words], budgets=[budget])
    tools = [chat_pb2.FunctionTool(name="f")]

    async def follows() -> bool:
        return not (await explain(bench, tools=tools)).chosen_deployment_id

    await knows(bench, 1)
    await until(follows)
    info = await refused(bench.chat(tools=tools), Code.FAILED_PRECONDITION, "CAPABILITY_MISSING")
    assert dict(info.metadata) == {"capability": "tools", "model_group": "gpt"}
    info = await refused(bench.chat("a bomb"), Code.FAILED_PRECONDITION, "GUARDRAIL")
    assert dict(info.metadata) == {"guardrail": "w", "side": "input"}
    options = chat_pb2.CallOptions(tags=["batch"])
    assert (await bench.chat(options=options)).cost_usd > 0.1
    info = await refused(bench.chat(options=options), Code.RESOURCE_EXHAUSTED, "BUDGET_EXCEEDED")
    assert info.metadata["budget"] == "tag:batch"
    assert (await bench.chat()).message.content


async def test_attempts_in_other_groups_are_reported(bench: Bench) -> None:
    async with openai_server.serving() as broken:
        broken.reply = Reply(status=500)
        await bench.add("broken", api_base=broken.url)
        await bench.add("fine", "other")
        await configure(bench, default_fallbacks=["other"], num_retries=0)
        await knows(bench, 1, "other")

        async def follows() -> bool:
            return bool((await explain(bench)).fallback_groups)

        await until(follows)
        answered_by = (await bench.chat()).answered_by
    assert (answered_by.deployment_id, answered_by.model_group) == ("fine", "other")
    failed = [(f.deployment_id, f.model_group, f.reason) for f in answered_by.failed_attempts]
    assert failed == [("broken", "gpt", "UPSTREAM_UNAVAILABLE")]


async def test_a_stream_that_breaks_begins_again_where_that_is_wanted(bench: Bench) -> None:
    async with openai_server.serving() as broken:
        broken.reply = Reply(cut_after=1)
        await bench.add("broken", api_base=broken.url)
        await bench.add("fine", order=1)
        await knows(bench, 2)
        mode = chat_pb2.MID_STREAM_FAILURE_RESTART
        chunks = await bench.stream(options=chat_pb2.CallOptions(mid_stream_failure=mode, num_retries=0))
    at = next(n for n, chunk in enumerate(chunks) if chunk.HasField("restarted"))
    assert chunks[at].restarted.failed_attempt.deployment_id == "broken"
    assert "".join(chunk.text for chunk in chunks[at:]) == "Hello from upstream"
    assert chunks[-1].answered_by.deployment_id == "fine"


async def test_calls_in_flight_end_well_while_the_configuration_changes(bench: Bench) -> None:
    bench.provider.reply = Reply(words=["one "] * 20, word_delay=0.02)
    await bench.add("first")
    running = [asyncio.create_task(bench.stream()) for _ in range(20)]
    async with asyncio.timeout(60):
        while len(bench.provider.asked) < 20:
            await asyncio.sleep(0.01)
    for number in range(10):
        await bench.add(f"new-{number}", weight=float(number))
    await bench.configs.RemoveDeployment(router_config_service_pb2.RemoveDeploymentRequest(deployment_id="first"))
    for chunks in await asyncio.gather(*running):
        assert "".join(chunk.text for chunk in chunks) == "one " * 20
        assert chunks[-1].answered_by.deployment_id == "first"

    async def follows() -> bool:
        return "first" not in [c.deployment_id for c in (await explain(bench)).candidates]

    await until(follows)
    assert (await bench.stream())[-1].answered_by.deployment_id != "first"


@pytest.mark.timeout(600)
async def test_a_thousand_streams_that_are_left_leave_nothing(bench: Bench) -> None:
    bench.provider.reply = Reply(endless=True, word_delay=0.05)
    await bench.add(max_parallel_requests=50)
    await knows(bench, 1)

    async def leave() -> None:
        call = bench.streaming(timeout=60)
        await call.read()
        call.cancel()

    async def gone(count: int) -> None:
        async def all_gone() -> bool:
            return bench.provider.gone >= count

        await until(all_gone)

    await asyncio.gather(*(leave() for _ in range(50)))
    await gone(50)
    tasks, files = len(asyncio.all_tasks()), len([*Path("/proc/self/fd").iterdir()])
    for round_ in range(1, 20):
        await asyncio.gather(*(leave() for _ in range(50)))
        await gone(50 + 50 * round_)

    async def settled() -> bool:
        gc.collect()
        return len(asyncio.all_tasks()) <= tasks + 5 and len([*Path("/proc/self/fd").iterdir()]) <= files + 5

    await until(settled)
    bench.provider.reply = Reply()
    assert (await bench.chat()).message.content == "Hello from upstream"
