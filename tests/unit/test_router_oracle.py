"""LiteLLM's Router, asked the same questions."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from libs import errors
from services.router.gateways.upstream import LiteLLMUpstream
from services.router.model import (
    Deployment,
    Facts,
    Failure,
    Pricing,
    RoutingTable,
    Strategy,
    StrategySettings,
    grouped,
)
from services.router.service import cooldowns, selection
from services.router.service.budgets import Ledger
from services.router.service.selection import Wish
from services.router.service.state import DeploymentState, DeploymentStates
from tests.router_script import Clock, deployment

MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
async def _library() -> AsyncIterator[None]:
    async with LiteLLMUpstream(offline_delay=0.0) as upstream:
        await upstream.ready()
        yield


@contextmanager
def oracle(*deployments: Deployment, **settings: Any) -> Iterator[Any]:
    import litellm

    router = litellm.Router(model_list=[entry(d) for d in deployments], **settings)
    try:
        yield router
    finally:
        router.discard()


def entry(one: Deployment) -> dict[str, Any]:
    params: dict[str, Any] = {"model": one.model, "api_key": "none", "api_base": "http://127.0.0.1:0"}
    params |= {name: value for name in ("weight", "rpm", "tpm") if (value := getattr(one, name)) is not None}
    if one.order:
        params["order"] = one.order
    if one.tags:
        params["tags"] = list(one.tags)
    if one.pricing.input is not None:
        params |= {"input_cost_per_token": one.pricing.input, "output_cost_per_token": one.pricing.output}
    return {"model_name": one.model_group, "litellm_params": params, "model_info": {"id": one.deployment_id}}


def states(*deployments: Deployment) -> list[DeploymentState]:
    made = DeploymentStates(Clock())
    found = [made.of("default", d) for d in deployments]
    for state in found:
        state.facts = Facts(pricing=state.deployment.pricing)
    return found


def ours(seen: list[DeploymentState], number: float = 0.5, *, stream: bool = False, **settings: Any) -> str:
    table = RoutingTable(**settings)
    return selection.choose(table, seen, stream=stream, number=number).deployment.deployment_id


async def theirs(router: Any, group: str = "g", **request: Any) -> str:
    found = await router.async_get_available_deployment(model=group, messages=MESSAGES, request_kwargs=request)
    return str(found["model_info"]["id"])


@pytest.mark.parametrize("fields", [{"weight": [1.0, 3.0, 0.5]}, {"rpm": [10, 30, 60]}, {"tpm": [1000, 10, 500]}])
async def test_simple_shuffle_draws_the_same(fields: dict[str, list[Any]]) -> None:
    name, values = next(iter(fields.items()))
    given = [deployment(f"d{n}", **{name: value}) for n, value in enumerate(values)]
    with oracle(*given) as router:
        for seed in range(200):
            random.seed(seed)
            expected = await theirs(router)
            number = random.Random(seed).random()
            assert ours(states(*given), number) == expected


async def test_least_busy_chooses_the_same() -> None:
    given = [deployment(f"d{n}") for n in range(4)]
    rng = random.Random(1)
    for _ in range(30):
        in_flight = rng.sample(range(10), 4)
        with oracle(*given, routing_strategy="least-busy") as router:
            seen = states(*given)
            for state, count in zip(seen, in_flight, strict=True):
                state.in_flight = count
                router.cache.set_cache(f"g_request_count:{state.deployment.deployment_id}", count)
            assert ours(seen, strategy=Strategy.LEAST_BUSY) == await theirs(router)


async def test_cost_chooses_the_same() -> None:
    rng = random.Random(2)
    for _ in range(20):
        prices = [None, *((p, q) for p, q in zip(rng.sample(range(1, 9), 3), rng.sample(range(1, 9), 3), strict=True))]
        given = [
            deployment(f"d{n}", model=f"openai/unheard-{n}", pricing=Pricing(*price) if price else Pricing())
            for n, price in enumerate(prices)
        ]
        if len({sum(price) if price else 10 for price in prices}) < len(prices):
            continue
        with oracle(*given, routing_strategy="cost-based-routing") as router:
            assert ours(states(*given), strategy=Strategy.COST_BASED) == await theirs(router)


async def test_usage_chooses_the_same() -> None:
    given = [deployment(f"d{n}") for n in range(3)]
    rng = random.Random(3)
    for _ in range(20):
        tokens = rng.sample(range(1, 10_000), 3)
        with oracle(*given, routing_strategy="usage-based-routing-v2") as router:
            seen = states(*given)
            keys, _ = router.lowesttpm_logger_v2.usage_counter_keys(router.model_list)
            for state, key, count in zip(seen, keys, tokens, strict=True):
                state.tokens.add(count, state.clock())
                router.cache.set_cache(key, count, ttl=60)
            assert ours(seen, strategy=Strategy.USAGE_BASED) == await theirs(router)


@pytest.mark.parametrize("stream", [False, True])
async def test_latency_chooses_the_same(*, stream: bool) -> None:
    given = [deployment(f"d{n}") for n in range(4)]
    rng = random.Random(4)
    for buffer in (0.0, 0.5):
        for _ in range(20):
            samples = {d.deployment_id: [rng.random() for _ in range(rng.randint(1, 15))] for d in given}
            firsts = {d.deployment_id: [rng.random() for _ in range(3)] for d in given}
            arguments = {"lowest_latency_buffer": buffer}
            with oracle(*given, routing_strategy="latency-based-routing", routing_strategy_args=arguments) as router:
                minute = datetime.now(UTC).strftime("%Y-%m-%d-%H-%M")
                kept = {
                    name: {"latency": values[-10:], "time_to_first_token_seconds": firsts[name], minute: {}}
                    for name, values in samples.items()
                }
                router.cache.set_cache("g_map", kept)
                allowed = {await theirs(router, stream=stream) for _ in range(30)}
            seen = states(*given)
            for state in seen:
                for value in samples[state.deployment.deployment_id]:
                    state.seconds_per_token.add(value, state.clock())
                for value in firsts[state.deployment.deployment_id]:
                    state.first_tokens.add(value, state.clock())
            settings = {
                "strategy": Strategy.LATENCY_BASED,
                "strategy_settings": StrategySettings(lowest_latency_buffer=buffer),
            }
            found = {ours(seen, n / 30, stream=stream, **settings) for n in range(30)}
            assert allowed <= found if buffer else allowed == found


TAGGED = [
    deployment("plain"),
    deployment("default", tags=("default",)),
    deployment("free", tags=("free",)),
    deployment("eu", tags=("paid", "eu")),
    deployment("us", tags=("paid", "us")),
]
TAGS: list[list[str]] = [
    [],
    ["free"],
    ["paid"],
    ["paid", "eu"],
    ["free", "eu"],
    ["!eu"],
    ["paid", "!eu"],
    ["&eu"],
    ["&eu", "&paid"],
    ["&eu", "free"],
    ["unheard"],
    ["!default"],
    ["&unheard"],
    ["paid", "&us"],
    ["eu", "us"],
]


@pytest.mark.parametrize("tags", TAGS, ids=",".join)
@pytest.mark.parametrize("match_all", [False, True])
@pytest.mark.parametrize("given", [TAGGED, TAGGED[2:]], ids=["all", "without default"])
async def test_tags_leave_the_same(tags: list[str], given: list[Deployment], *, match_all: bool) -> None:
    from litellm.router_strategy.tag_based_routing import get_deployments_for_tag

    with oracle(*given, enable_tag_filtering=True, tag_filtering_match_any=not match_all) as router:
        try:
            found: Any = await get_deployments_for_tag(router, "g", router.model_list, {"metadata": {"tags": tags}})
        except ValueError:
            found = []
        expected = {str(one["model_info"]["id"]) for one in found}
    table = RoutingTable(grouped(given), tag_filtering=True, match_all_tags=match_all)
    sifted = selection.sift(table, states(*given), Wish(tags=tags), Ledger())
    assert {state.deployment.deployment_id for state in sifted.states} == expected


async def test_the_lowest_order_is_preferred() -> None:
    given = [deployment("a", order=2), deployment("b", order=1), deployment("c", order=1)]
    with oracle(*given) as router:
        expected = {await theirs(router) for _ in range(50)}
    found = selection.preferred(states(*given), ())
    assert {state.deployment.deployment_id for state in found} == expected


def failure(status: int) -> Failure:
    reason = {401: "UPSTREAM_AUTH", 408: "DEADLINE_EXCEEDED", 429: "UPSTREAM_RATE_LIMITED"}.get(status)
    reason = reason or ("UPSTREAM_REJECTED" if status < 500 else "UPSTREAM_UNAVAILABLE")
    return Failure(errors.Unavailable("x", reason=reason), may_pass=True, status=status)


def exception(status: int) -> Exception:
    import httpx
    import litellm

    kind: Any = {
        400: litellm.BadRequestError,
        401: litellm.AuthenticationError,
        404: litellm.NotFoundError,
        408: litellm.Timeout,
        429: litellm.RateLimitError,
    }.get(status, litellm.InternalServerError)
    made: Exception
    if kind is litellm.Timeout:
        made = litellm.Timeout("x", model="m", llm_provider="openai")
        return made
    response = httpx.Response(status, request=httpx.Request("POST", "http://127.0.0.1"))
    made = kind("x", model="m", llm_provider="openai", response=response)
    return made


@pytest.mark.parametrize("status", [400, 401, 404, 408, 422, 429, 500, 503])
@pytest.mark.parametrize(("successes", "failures"), [(0, 1), (0, 4), (0, 5), (3, 3), (2, 3), (10, 3)])
async def test_the_same_failures_cool_down(status: int, successes: int, failures: int) -> None:
    """In groups of several deployments. The counts have the failure in question in them."""
    from litellm.router_utils import cooldown_handlers as handlers
    from litellm.router_utils.router_callbacks import track_deployment_metrics as metrics

    given = [deployment("a"), deployment("b")]
    with oracle(*given) as router:
        for _ in range(successes):
            metrics.increment_deployment_successes_for_current_minute(router, "a")
        for _ in range(failures):
            metrics.increment_deployment_failures_for_current_minute(router, "a")
        expected = handlers._should_run_cooldown_logic(router, "a", status, exception(status))
        expected = expected and handlers._should_cooldown_deployment(router, "a", status, exception(status))
    table, (state, _) = RoutingTable(grouped(given)), states(*given)
    state.outcomes.at(state.clock()).successes += successes
    state.outcomes.at(state.clock()).failures += failures
    seconds = cooldowns.cooldown(table, state, failure(status), alone=False, trial=False)
    assert (seconds > 0) == expected
