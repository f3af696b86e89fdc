"""The tree of a workflow's steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from services.registry.model import Spec

DEEPEST: Final = 16
_IN_ITS_PLACE: Final = ("fallback", "compensation")


@dataclass(frozen=True, slots=True)
class Placed:
    """A step, the path of its field, and how deep it stands, from 1."""

    step: Spec
    field: str
    depth: int = 1


def placed(steps: Sequence[Spec], field: str, depth: int = 1) -> Iterator[Placed]:
    """The steps and all that are nested in them; below a step that is too deep nothing is looked at."""
    for index, step in enumerate(steps):
        yield from _with_nested(Placed(step, f"{field}[{index}]", depth))


def _with_nested(at: Placed) -> Iterator[Placed]:
    yield at
    if at.depth > DEEPEST:
        return
    for steps, field in step_lists(at.step, at.field):
        yield from placed(steps, field, at.depth + 1)
    for name in _IN_ITS_PLACE:
        if name in at.step:
            yield from _with_nested(Placed(at.step[name], f"{at.field}.{name}", at.depth + 1))


def step_lists(step: Spec, field: str) -> Iterator[tuple[Sequence[Spec], str]]:
    """The lists of steps that a step runs, each with the path of its field."""
    for index, branch in enumerate(step.get("parallel", {}).get("branches", ())):
        yield branch.get("steps", ()), f"{field}.parallel.branches[{index}].steps"
    for name in ("then", "otherwise"):
        if name in step.get("condition", {}):
            yield step["condition"][name].get("steps", ()), f"{field}.condition.{name}.steps"
    if "body" in step.get("loop", {}):
        yield step["loop"]["body"].get("steps", ()), f"{field}.loop.body.steps"
    for name, choice in step.get("router", {}).get("choices", {}).items():
        yield choice.get("steps", ()), f'{field}.router.choices["{name}"].steps'


def outputs(steps: Sequence[Spec]) -> frozenset[str]:
    """The ids under which later steps find outputs. Compensations run when there are no later steps."""
    found: set[str] = set()
    for step in steps:
        found.add(step["step_id"])
        found |= nested_outputs(step)
        found |= outputs([step["fallback"]] if "fallback" in step else ())
    return frozenset(found)


def nested_outputs(step: Spec) -> frozenset[str]:
    return frozenset().union(*(outputs(steps) for steps, _ in step_lists(step, "")))
