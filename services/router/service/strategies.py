"""How one of several deployments is chosen. Pure: what was seen of them comes in, scores and chances come out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from services.router.model import Deployment, Facts, Strategy, StrategySettings
from services.router.service.state import DeploymentState

_UNKNOWN_PRICE: Final = 5.0
"""Dollars per token, with LiteLLM."""
_NO_FACTS: Final = Facts()


@dataclass(frozen=True, slots=True)
class Question:
    settings: StrategySettings
    now: float
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Scored:
    """`chances` need not sum to 1. What `scores` mean is the strategy's."""

    scores: Sequence[float]
    chances: Sequence[float]
    parts: Sequence[Mapping[str, float]] = ()


Rule = Callable[[Sequence[DeploymentState], Question], Scored]


def simple_shuffle(states: Sequence[DeploymentState], question: Question) -> Scored:
    deployments = [state.deployment for state in states]
    for shares in (_weights(deployments), [d.rpm or 0 for d in deployments], [d.tpm or 0 for d in deployments]):
        if any(shares):
            return Scored(shares, shares)
    even = [1.0] * len(states)
    return Scored(even, even)


def _weights(deployments: Sequence[Deployment]) -> Sequence[float]:
    if all(d.weight is None for d in deployments):
        return ()
    return [d.share for d in deployments]


def least_busy(states: Sequence[DeploymentState], question: Question) -> Scored:
    return _least([float(state.in_flight) for state in states])


def usage_based(states: Sequence[DeploymentState], question: Question) -> Scored:
    return _least([float(state.tokens.used(question.now)) for state in states])


def latency_based(states: Sequence[DeploymentState], question: Question) -> Scored:
    return _least([_latency(state, question) or 0.0 for state in states], question.settings.lowest_latency_buffer)


def cost_based(states: Sequence[DeploymentState], question: Question) -> Scored:
    prices = [_price(state) for state in states]
    return _least([2 * _UNKNOWN_PRICE if price is None else price for price in prices])


def scored(**weights: float) -> Rule:
    """Chooses by a sum of parts, each 0 to 1."""

    def rule(states: Sequence[DeploymentState], question: Question) -> Scored:
        prices = [_price(state) for state in states]
        latencies = [_latency(state, question) for state in states]
        parts = [
            {
                "price": price,
                "latency": latency,
                "reliability": state.outcomes.reliability(question.now),
                "quality": state.deployment.quality,
            }
            for state, price, latency in zip(states, _nearness(prices, 0.5), _nearness(latencies, 1.0), strict=True)
        ]
        scores = [sum(weight * part[name] for name, weight in weights.items()) for part in parts]
        best = max(scores)
        return Scored(scores, [float(score == best) for score in scores], parts)

    return rule


RULES: Final[Mapping[Strategy, Rule]] = {
    Strategy.SIMPLE_SHUFFLE: simple_shuffle,
    Strategy.LEAST_BUSY: least_busy,
    Strategy.USAGE_BASED: usage_based,
    Strategy.LATENCY_BASED: latency_based,
    Strategy.COST_BASED: cost_based,
    Strategy.SCORE_COST: scored(price=0.7, latency=0.1, reliability=0.1, quality=0.1),
    Strategy.SCORE_SPEED: scored(price=0.1, latency=0.7, reliability=0.1, quality=0.1),
    Strategy.SCORE_QUALITY: scored(price=0.1, latency=0.1, reliability=0.1, quality=0.7),
    Strategy.SCORE_BALANCED: scored(price=0.25, latency=0.25, reliability=0.25, quality=0.25),
}
NEEDS_FACTS: Final = frozenset(Strategy) - {
    Strategy.SIMPLE_SHUFFLE,
    Strategy.LEAST_BUSY,
    Strategy.USAGE_BASED,
    Strategy.LATENCY_BASED,
}


def draw(chances: Sequence[float], number: float) -> int:
    """The index that `number`, from [0, 1), falls on."""
    left, last = number * sum(chances), 0
    for index, chance in enumerate(chances):
        if chance > 0:
            left, last = left - chance, index
            if left < 0:
                return index
    return last


def _least(scores: Sequence[float], buffer: float = 0.0) -> Scored:
    limit = min(scores) * (1 + buffer)
    return Scored(scores, [float(score <= limit) for score in scores])


def _latency(state: DeploymentState, question: Question) -> float | None:
    since, most = question.now - question.settings.latency_window, question.settings.max_latency_samples
    if question.stream and (first := state.first_tokens.mean(since, most)) is not None:
        return first
    return state.seconds_per_token.mean(since, most)


def _price(state: DeploymentState) -> float | None:
    """Of a token in and one out; one price counts as LiteLLM's unknown price where only the other is known."""
    pricing = (state.facts or _NO_FACTS).pricing
    if pricing.input is None and pricing.output is None:
        return None
    return sum(_UNKNOWN_PRICE if price is None else price for price in (pricing.input, pricing.output))


def _nearness(values: Sequence[float | None], unknown: float) -> list[float]:
    """1 for the lowest, less for the others in proportion."""
    lowest = min((value for value in values if value is not None), default=0.0)
    return [unknown if value is None else lowest / value if value > lowest else 1.0 for value in values]
