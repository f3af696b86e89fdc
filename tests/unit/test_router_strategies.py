from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from services.router.model import Deployment, ErrorClass, Facts, Pricing, RoutingTable, Strategy, StrategySettings
from services.router.service import selection, strategies
from services.router.service.budgets import Ledger
from services.router.service.selection import Why, Wish
from services.router.service.state import DeploymentState, DeploymentStates
from tests.router_script import Clock, deployment


def states(*deployments: Deployment) -> list[DeploymentState]:
    made = DeploymentStates(Clock())
    return [made.of("default", d) for d in deployments]


def chances(strategy: Strategy, seen: list[DeploymentState], *, stream: bool = False, **settings: Any) -> list[float]:
    table = RoutingTable(strategy=strategy, strategy_settings=StrategySettings(**settings))
    found = selection.rank(table, seen, stream=stream).chances
    return [round(chance / sum(found), 3) for chance in found]


def test_draws_fall_where_the_chances_are() -> None:
    drawn = Counter(strategies.draw([1, 0, 3], number / 100) for number in range(100))
    assert drawn == {0: 25, 2: 75}
    assert strategies.draw([0.1, 0.2, 0], 0.9999999999999999) == 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([{"weight": 1.0}, {"weight": 3.0}], [0.25, 0.75]),
        ([{"weight": 3.0}, {}], [0.75, 0.25]),
        ([{"rpm": 10}, {"rpm": 30}], [0.25, 0.75]),
        ([{"tpm": 10}, {"tpm": 30, "rpm": 0}], [0.25, 0.75]),
        ([{"weight": 1.0, "rpm": 1}, {"weight": 1.0, "rpm": 9}], [0.5, 0.5]),
        ([{}, {}], [0.5, 0.5]),
    ],
)
def test_shuffle_goes_by_weight_then_rpm_then_tpm(fields: list[dict[str, Any]], expected: list[float]) -> None:
    made = states(*(deployment(str(n), **each) for n, each in enumerate(fields)))
    assert chances(Strategy.SIMPLE_SHUFFLE, made) == expected


def test_least_busy() -> None:
    made = states(deployment("a"), deployment("b"), deployment("c"))
    made[0].in_flight, made[1].in_flight, made[2].in_flight = 2, 1, 1
    assert chances(Strategy.LEAST_BUSY, made) == [0, 0.5, 0.5]


def test_usage_counts_the_running_minute() -> None:
    made = states(deployment("a"), deployment("b"))
    clock: Any = made[0].clock
    made[0].tokens.add(100, clock())
    assert chances(Strategy.USAGE_BASED, made) == [0, 1]
    clock.now += 60
    assert chances(Strategy.USAGE_BASED, made) == [0.5, 0.5]


def test_latency_and_its_buffer_and_window() -> None:
    made = states(deployment("a"), deployment("b"), deployment("c"))
    clock: Any = made[0].clock
    for state, latency in zip(made, (1.0, 1.4, 3.0), strict=True):
        state.seconds_per_token.add(latency, clock())
    assert chances(Strategy.LATENCY_BASED, made) == [1, 0, 0]
    assert chances(Strategy.LATENCY_BASED, made, lowest_latency_buffer=0.5) == [0.5, 0.5, 0]
    clock.now += 100
    made[2].seconds_per_token.add(0.1, clock())
    assert chances(Strategy.LATENCY_BASED, made, max_latency_samples=1) == [0, 0, 1]
    assert chances(Strategy.LATENCY_BASED, made, latency_window=50) == [0.5, 0.5, 0]


def test_streams_go_by_the_first_token() -> None:
    made = states(deployment("a"), deployment("b"))
    for state, whole, first in zip(made, (1.0, 2.0), (0.9, 0.1), strict=True):
        state.seconds_per_token.add(whole, state.clock())
        state.first_tokens.add(first, state.clock())
    assert chances(Strategy.LATENCY_BASED, made) == [1, 0]
    assert chances(Strategy.LATENCY_BASED, made, stream=True) == [0, 1]


def test_cost_and_the_unknown_price() -> None:
    made = states(deployment("a"), deployment("b"), deployment("c"))
    made[0].facts, made[1].facts = Facts(pricing=Pricing(3.0, 3.0)), Facts(pricing=Pricing(1.0, 4.0))
    assert chances(Strategy.COST_BASED, made) == [0, 1, 0]
    made[1].facts = Facts(pricing=Pricing(20.0, 20.0))
    made[0].facts = None
    assert chances(Strategy.COST_BASED, made) == [0.5, 0, 0.5]


def test_scores_weigh_their_parts() -> None:
    """One is cheap, one quick, one good; all answer."""
    made = states(deployment("a", quality=0.1), deployment("b", quality=0.2), deployment("c", quality=1.0))
    for state, price, latency in zip(made, (1.0, 9.0, 9.0), (2.0, 0.2, 2.0), strict=True):
        state.facts = Facts(pricing=Pricing(price, price))
        state.seconds_per_token.add(latency, state.clock())
    assert chances(Strategy.SCORE_COST, made) == [1, 0, 0]
    assert chances(Strategy.SCORE_SPEED, made) == [0, 1, 0]
    assert chances(Strategy.SCORE_QUALITY, made) == [0, 0, 1]
    scored = selection.rank(RoutingTable(strategy=Strategy.SCORE_BALANCED), made, stream=False)
    assert all(0 <= part <= 1 for parts in scored.parts for part in parts.values())
    assert scored.scores == pytest.approx([sum(parts.values()) / 4 for parts in scored.parts])


def test_what_fails_scores_less() -> None:
    made = states(deployment("a"), deployment("b"))
    made[0].outcomes.at(made[0].clock()).failures += 3
    assert chances(Strategy.SCORE_BALANCED, made) == [0, 1]


def sift(table: RoutingTable, made: list[DeploymentState], **wish: Any) -> dict[str, Why]:
    sifted = selection.sift(table, made, Wish(**wish), Ledger())
    assert len(sifted.states) + len(sifted.refusals) == len(made)
    return {refusal.state.deployment.deployment_id: refusal.why for refusal in sifted.refusals}


def test_what_is_full_or_cools_is_left_out() -> None:
    made = states(
        deployment("free"),
        deployment("busy", max_parallel_requests=1),
        deployment("rpm", rpm=1),
        deployment("tpm", tpm=10),
        deployment("cooling"),
        deployment("tried"),
    )
    made[1].in_flight = 1
    made[2].requests.add(1, made[2].clock())
    made[3].tokens.add(5, made[3].clock())
    made[4].cooldown_until = made[4].clock() + 5
    made[5].cooldown_until, made[5].trials = made[5].clock(), 1
    expected = {"busy": Why.PARALLEL, "rpm": Why.RPM, "tpm": Why.TPM, "cooling": Why.COOLING, "tried": Why.TRIAL}
    assert sift(RoutingTable(), made, tokens=6) == expected
    clock: Any = made[0].clock
    clock.now += 60
    assert sift(RoutingTable(), made, tokens=6) == {"busy": Why.PARALLEL, "tried": Why.TRIAL}


def test_pre_call_checks_are_made_where_they_are_wanted() -> None:
    made = states(deployment("small"), deployment("blind"), deployment("able"), deployment("unheard-of"))
    made[0].facts = Facts(context_window=10, capabilities=frozenset({"vision"}))
    made[1].facts, made[3].facts = Facts(context_window=1000, max_output_tokens=100), Facts()
    made[2].facts = Facts(context_window=1000, capabilities=frozenset({"vision"}))
    wish = {"tokens": 100, "needs": {"vision"}}
    assert sift(RoutingTable(), made, **wish) == {}
    checked = sift(RoutingTable(pre_call_checks=True), made, **wish)
    assert checked == {"small": Why.CONTEXT, "blind": Why.CAPABILITY}


def test_order_and_weight_prefer() -> None:
    first, second, spare = states(deployment("a", weight=0.0), deployment("b"), deployment("c", order=1))
    assert selection.preferred([first, second, spare], ()) == [second]
    assert selection.preferred([first, second, spare], {"b"}) == [first]
    assert selection.preferred([first, second, spare], {"a", "b"}) == [spare]
    assert selection.preferred([first], {"a"}) == [first]


def test_a_deployments_figures_go_before_litellms() -> None:
    own = deployment("a", context_window=5, capabilities=("vision", "!tools"), pricing=Pricing(output=2.0), quality=1.0)
    facts = Facts("chat", frozenset({"tools", "audio"}), 100, 10, Pricing(1.0, 1.0, 0.5)).corrected(own)
    assert facts == Facts("chat", frozenset({"vision", "audio"}), 5, 10, Pricing(1.0, 2.0, 0.5))


def test_classes_are_counted_apart() -> None:
    made = DeploymentStates(Clock())
    state = made.of("default", deployment("a"))
    for kind in (ErrorClass.BAD_REQUEST, ErrorClass.TIMEOUT):
        made.begin(state).failed(kind, "X")
    totals = state.outcomes.within(60, state.clock())
    assert (totals.failures, dict(totals.classes)) == (1, {"bad_request": 1, "timeout": 1})
