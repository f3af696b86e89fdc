"""The rules of an event rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from libs.errors import Violation
from services.registry.model import Spec
from services.registry.model.expressions import EVENT, Wanted, check_expression
from services.registry.model.patterns import problem_of_pattern

_TARGETS: Final = ("agent_id", "team_id", "workflow_id")


def check_event_rule(spec: Spec) -> list[Violation]:
    return list(_violations(spec))


def _violations(spec: Spec) -> Iterator[Violation]:
    if not any(spec.get(name) for name in _TARGETS):
        yield Violation("event_rule.spec.target", "is required: an agent, a team or a workflow")
    if spec.get("pattern") and (problem := problem_of_pattern(spec["pattern"])):
        yield Violation("event_rule.spec.pattern", problem)
    if spec.get("condition") and (problem := check_expression(spec["condition"], EVENT, Wanted.BOOL)):
        yield Violation("event_rule.spec.condition", problem)
