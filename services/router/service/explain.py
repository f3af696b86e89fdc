"""What a call would be sent to now, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.router.model import RoutingTable, Strategy
from services.router.service import selection
from services.router.service.attempts import upcoming
from services.router.service.selection import Refusal, Sifted
from services.router.service.state import DeploymentState


@dataclass(frozen=True, slots=True)
class Candidate:
    deployment_id: str
    model: str
    eligible: bool
    reason: str = ""
    score: float = 0.0
    parts: Mapping[str, float] = field(default_factory=dict)
    probability: float = 0.0
    cooldown_left: float = 0.0


@dataclass(frozen=True, slots=True)
class Explanation:
    group: str
    strategy: Strategy
    candidates: Sequence[Candidate]
    chosen: str
    fallback_groups: Sequence[str]


def explain(table: RoutingTable, group: str, sifted: Sifted, *, stream: bool, fallbacks: bool) -> Explanation:
    first = selection.preferred(sifted.states, ())
    ranked = _ranked(table, first, stream=stream)
    later = [_later(state, first) for state in sifted.states if state not in first]
    return Explanation(
        group,
        table.strategy,
        [*ranked, *later, *map(_refused, sifted.refusals)],
        ranked[0].deployment_id if ranked else "",
        upcoming(table, group) if fallbacks else (),
    )


def _ranked(table: RoutingTable, states: Sequence[DeploymentState], *, stream: bool) -> list[Candidate]:
    """The likeliest first."""
    if not states:
        return []
    scored = selection.rank(table, states, stream=stream)
    total = sum(scored.chances)
    parts = scored.parts or [{}] * len(states)
    found = [
        Candidate(
            state.deployment.deployment_id,
            state.deployment.model,
            eligible=True,
            reason="" if chance > 0 else "another has a better score",
            score=score,
            parts=part,
            probability=chance / total if total else 0.0,
        )
        for state, score, chance, part in zip(states, scored.scores, scored.chances, parts, strict=True)
    ]
    return sorted(found, key=lambda candidate: -candidate.probability)


def _later(state: DeploymentState, first: Sequence[DeploymentState]) -> Candidate:
    deployment, order = state.deployment, first[0].deployment.order
    reason = f"order {deployment.order} after {order}" if deployment.order > order else "weight 0"
    return Candidate(deployment.deployment_id, deployment.model, eligible=True, reason=reason)


def _refused(refusal: Refusal) -> Candidate:
    state = refusal.state
    return Candidate(
        state.deployment.deployment_id,
        state.deployment.model,
        eligible=False,
        reason=refusal.text,
        cooldown_left=state.cooldown_left,
    )
