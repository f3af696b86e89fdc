"""Prompts in use: filled in, judged by how their uses went, and compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from libs import errors
from libs.errors import Violation
from libs.identity import Caller
from services.registry.model import Resource, Spec
from services.registry.model.changes import Difference, differences


@dataclass(frozen=True, slots=True)
class Feedback:
    """How a use went; `latency` in seconds, `failure_pattern` only of a failure."""

    success: bool
    latency: float = 0.0
    tokens: int = 0
    cost_usd: float = 0.0
    failure_pattern: str = ""


@dataclass(frozen=True, slots=True)
class Metrics:
    """Moving averages over the uses of a revision, and its failing patterns with their counts, most frequent first."""

    uses: int = 0
    success_rate: float = 0.0
    latency: float = 0.0
    tokens: float = 0.0
    cost_usd: float = 0.0
    failing_patterns: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True, slots=True)
class Rendered:
    text: str
    revision: int


@dataclass(frozen=True, slots=True)
class Comparison:
    base: Resource
    base_metrics: Metrics
    target: Resource
    target_metrics: Metrics
    differences: Sequence[Difference]


class Resources(Protocol):
    async def get(self, caller: Caller, resource_id: str, revision: int = 0) -> Resource: ...


class FeedbackStore(Protocol):
    async def record(self, tenant: str, prompt_id: str, revision: int, feedback: Feedback) -> Metrics:
        """The averages with this use in them; of two at once, both count."""

    async def metrics(self, tenant: str, prompt_id: str, revision: int) -> Metrics: ...


class Renderer(Protocol):
    async def render(self, template: str, variables: Mapping[str, Any]) -> str:
        """Raises InvalidArgument for what cannot be rendered, or not within bounds of time, memory and length."""


class Prompts:
    def __init__(self, resources: Resources, feedback: FeedbackStore, renderer: Renderer) -> None:
        self._resources, self._feedback, self._renderer = resources, feedback, renderer

    async def render(self, caller: Caller, prompt_id: str, revision: int, variables: Mapping[str, Any]) -> Rendered:
        prompt = await self._resources.get(caller, prompt_id, revision)
        values = filled(prompt.spec, variables)
        return Rendered(await self._renderer.render(prompt.spec["template"], values), prompt.revision)

    async def record_feedback(self, caller: Caller, prompt_id: str, revision: int, feedback: Feedback) -> Metrics:
        if feedback.success and feedback.failure_pattern:
            raise errors.invalid("failure_pattern", "contradicts success")
        for field, value in (("cost_usd", feedback.cost_usd), ("latency", feedback.latency)):
            if not (math.isfinite(value) and value >= 0):
                raise errors.invalid(field, "is not a number from 0 up")
        prompt = await self._resources.get(caller, prompt_id, revision)
        return await self._feedback.record(caller.tenant, prompt_id, prompt.revision, feedback)

    async def metrics(self, caller: Caller, prompt_id: str, revision: int = 0) -> Metrics:
        prompt = await self._resources.get(caller, prompt_id, revision)
        return await self._feedback.metrics(caller.tenant, prompt_id, prompt.revision)

    async def compare(self, caller: Caller, prompt_id: str, base_revision: int, target_revision: int) -> Comparison:
        base = await self._resources.get(caller, prompt_id, base_revision)
        target = await self._resources.get(caller, prompt_id, target_revision)
        return Comparison(
            base,
            await self._feedback.metrics(caller.tenant, prompt_id, base.revision),
            target,
            await self._feedback.metrics(caller.tenant, prompt_id, target.revision),
            list(differences(base.draft().content(), target.draft().content())),
        )


def filled(spec: Spec, variables: Mapping[str, Any]) -> dict[str, Any]:
    """A value for each declared variable: the one given, or else its default."""
    declared = {variable["name"]: variable for variable in spec.get("variables", ())}
    unknown = [Violation(f"variables.{name}", "is not declared by the prompt") for name in variables.keys() - declared]
    missing = [
        Violation(f"variables.{name}", "is missing and has no default")
        for name, variable in declared.items()
        if name not in variables and "default_value" not in variable
    ]
    if unknown or missing:
        raise errors.InvalidArgument(sorted([*unknown, *missing], key=lambda violation: violation.field))
    defaults = {name: variable["default_value"] for name, variable in declared.items() if name not in variables}
    return {name: _plain(value) for name, value in {**defaults, **variables}.items()}


def _plain(value: Any) -> Any:
    """A Struct knows only floats: 3.0 was written as 3."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case Mapping():
            return {key: _plain(inner) for key, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
    return value
