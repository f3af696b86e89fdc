"""Which deployment of a group a call goes to, and why each other one does not."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from libs import errors
from services.router.model import DEFAULT_TAG, Deployment, RoutingTable
from services.router.model.health import Circuit
from services.router.service import strategies
from services.router.service.budgets import Ledger, described, of_deployment, spent_error
from services.router.service.state import DeploymentState
from services.router.service.windows import until_next_minute

_SOON: Final = 1.0
"""Seconds after which a place may be free again."""


class Why(Enum):
    COOLING = auto()
    TRIAL = auto()
    PARALLEL = auto()
    RPM = auto()
    TPM = auto()
    BUDGET = auto()
    TAGS = auto()
    CONTEXT = auto()
    CAPABILITY = auto()


@dataclass(frozen=True, slots=True)
class Refusal:
    state: DeploymentState
    why: Why
    text: str
    wait: float = 0.0
    """Seconds until it may be otherwise."""
    error: errors.Error | None = None


@dataclass(slots=True)
class Wish:
    """What matters of a call when a deployment is chosen for it."""

    tags: Sequence[str] = ()
    needs: Collection[str] = ()
    tokens: int = 0
    stream: bool = False


@dataclass(slots=True)
class Sifted:
    states: list[DeploymentState] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


def sift(table: RoutingTable, states: Sequence[DeploymentState], wish: Wish, ledger: Ledger) -> Sifted:
    """Parts the deployments that could take the call from those that could not."""
    sifted = Sifted()
    allowed = (
        tagged([s.deployment for s in states], wish.tags, match_all=table.match_all_tags)
        if (table.tag_filtering)
        else None
    )
    for state in states:
        if allowed is not None and state.deployment.deployment_id not in allowed:
            sifted.refusals.append(Refusal(state, Why.TAGS, "tags"))
        elif refusal := _refusal(table, state, wish, ledger):
            sifted.refusals.append(refusal)
        else:
            sifted.states.append(state)
    return sifted


def _refusal(table: RoutingTable, state: DeploymentState, wish: Wish, ledger: Ledger) -> Refusal | None:
    deployment = state.deployment
    if state.cooldown_until is not None:
        if state.circuit is Circuit.OPEN:
            left = state.cooldown_left
            return Refusal(state, Why.COOLING, f"cooldown for {left:.1f} s", left)
        if state.trials:
            return Refusal(state, Why.TRIAL, "cooled down; one call tries it", _SOON)
    most = deployment.max_parallel_requests
    if most is not None and state.in_flight >= most:
        return Refusal(state, Why.PARALLEL, f"{state.in_flight} of {most} calls at a time", _SOON)
    if deployment.rpm is not None or deployment.tpm is not None:
        now = state.clock()
        if deployment.rpm is not None and (used := state.requests.used(now)) >= deployment.rpm:
            return Refusal(state, Why.RPM, f"rpm {used} of {deployment.rpm}", until_next_minute(now))
        if deployment.tpm is not None and (used := state.tokens.used(now)) + wish.tokens > deployment.tpm:
            return Refusal(state, Why.TPM, f"tpm {used} of {deployment.tpm}", until_next_minute(now))
    if table.budgets and (budget := ledger.exceeded(state.tenant, of_deployment(table, deployment))):
        error = spent_error(ledger, state.tenant, budget)
        return Refusal(state, Why.BUDGET, f"budget {described(budget)}", error.retry_after or 0.0, error)
    return _unable(state, wish) if table.pre_call_checks else None


def _unable(state: DeploymentState, wish: Wish) -> Refusal | None:
    if (facts := state.facts) is None:
        return None
    unheard_of = not facts.capabilities and facts.max_output_tokens is None
    for need in wish.needs:
        denied = f"!{need}" in state.deployment.capabilities
        if denied or not (unheard_of or need in facts.capabilities):
            return Refusal(state, Why.CAPABILITY, f"capability {need}")
    if facts.context_window is not None and wish.tokens > facts.context_window:
        text = f"context window {facts.context_window}, the call has {wish.tokens} tokens"
        return Refusal(state, Why.CONTEXT, text)
    return None


def over_limit(state: DeploymentState) -> Refusal:
    """What other replicas have used makes it full."""
    return Refusal(state, Why.RPM, "rpm or tpm of all replicas", until_next_minute(time.time()))


def preferred(states: Sequence[DeploymentState], tried: Collection[str]) -> list[DeploymentState]:
    """Of those that could: not tried yet, of the lowest order, with a weight, as far as there are such."""
    fresh = [s for s in states if s.deployment.deployment_id not in tried] if tried else states
    lowest = min((s.deployment.order for s in fresh or states), default=0)
    first = [s for s in fresh or states if s.deployment.order == lowest]
    return [s for s in first if s.deployment.weight != 0] or first


def rank(table: RoutingTable, states: Sequence[DeploymentState], *, stream: bool) -> strategies.Scored:
    question = strategies.Question(table.strategy_settings, states[0].clock(), stream)
    return strategies.RULES[table.strategy](states, question)


def choose(table: RoutingTable, states: Sequence[DeploymentState], *, stream: bool, number: float) -> DeploymentState:
    if len(states) == 1:
        return states[0]
    return states[strategies.draw(rank(table, states, stream=stream).chances, number)]


def tagged(deployments: Sequence[Deployment], tags: Sequence[str], *, match_all: bool) -> frozenset[str]:
    """Ids of the deployments that a call with these tags may use, with LiteLLM's meaning of "default", "!" and "&"."""
    required = {tag[1:] for tag in tags if tag.startswith("&") and len(tag) > 1}
    excluded = {tag[1:] for tag in tags if tag.startswith("!") and len(tag) > 1}
    wanted = {tag for tag in tags if tag[:1] not in ("&", "!")}
    left = [d for d in deployments if not excluded.intersection(d.tags)]
    if required:
        left = [d for d in left if required.issubset(d.tags)]
    if not wanted:
        if required:
            return _ids(left)
        pool = _ids(_default(deployments))
        return frozenset(d.deployment_id for d in left if d.deployment_id in pool)
    found = [d for d in left if (wanted <= set(d.tags) if match_all else wanted.intersection(d.tags))]
    known = any(wanted.intersection(d.tags) for d in deployments)
    return _ids(found) if found or known else _ids([d for d in left if DEFAULT_TAG in d.tags])


def _default(deployments: Sequence[Deployment]) -> Sequence[Deployment]:
    return [d for d in deployments if DEFAULT_TAG in d.tags] or deployments


def _ids(deployments: Sequence[Deployment]) -> frozenset[str]:
    return frozenset(d.deployment_id for d in deployments)


def none_left(group: str, refusals: Sequence[Refusal]) -> errors.Error:
    """Why nobody could take the call: what may pass first, for then it is worth waiting."""
    by_reason: Mapping[Why, Refusal] = {r.why: r for r in reversed(refusals)}
    waits = [r.wait for r in refusals if r.why in _MAY_PASS]
    if waits:
        text = f"no deployment of group {group!r} takes a call now: {_listed(refusals)}"
        metadata = {"model_group": group}
        return errors.Unavailable(
            text, reason="NO_DEPLOYMENT_AVAILABLE", metadata=metadata, retry_after=max(0.001, min(waits))
        )
    if (found := by_reason.get(Why.BUDGET)) and found.error:
        return found.error
    if found := by_reason.get(Why.CONTEXT):
        text = f"the conversation is longer than any context of group {group!r}: {found.text}"
        return errors.InvalidArgument([], message=text, reason="CONTEXT_WINDOW_EXCEEDED")
    missing = by_reason[Why.CAPABILITY].text.removeprefix("capability ") if Why.CAPABILITY in by_reason else "tags"
    return errors.FailedPrecondition(
        f"no deployment of group {group!r} has what the call needs: {missing}",
        reason="CAPABILITY_MISSING",
        metadata={"capability": missing, "model_group": group},
    )


def _listed(refusals: Sequence[Refusal]) -> str:
    return "; ".join(f"{r.state.deployment.deployment_id}: {r.text}" for r in refusals[:3])


_MAY_PASS: Final = frozenset({Why.COOLING, Why.TRIAL, Why.PARALLEL, Why.RPM, Why.TPM})
