"""The rules of a workflow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from libs.errors import Violation
from services.registry.model import Spec
from services.registry.model.expressions import LOOPED_STEP, STEP, Wanted, check_expression, steps_named_in
from services.registry.model.schemas import check_schema
from services.registry.model.steps import DEEPEST, Placed, nested_outputs, outputs, placed, step_lists
from services.registry.model.tool_ids import problem_of_tool_id

MOST_STEPS: Final = 1000
_STEPS: Final = "workflow.spec.steps"


@dataclass(frozen=True, slots=True)
class _Scope:
    """What the expressions at a place see; `known` are the steps of the whole workflow."""

    known: frozenset[str]
    earlier: frozenset[str] = frozenset()
    variables: tuple[str, ...] = STEP


def check_workflow(spec: Spec) -> list[Violation]:
    steps = spec.get("steps", ())
    places = list(placed(steps, _STEPS))
    if found := _check_size(places):
        return [found]
    known = frozenset(place.step["step_id"] for place in places)
    return [
        *_check_ids(places),
        *(violation for place in places for violation in _check_shape(place)),
        *_check_steps(steps, _STEPS, _Scope(known)),
        *_check_output(spec, _Scope(known, outputs(steps))),
        *(check_schema(spec["input_schema"], "workflow.spec.input_schema") if "input_schema" in spec else ()),
    ]


def _check_size(places: Sequence[Placed]) -> Violation | None:
    if not places:
        return Violation(_STEPS, "are required: at least one")
    if len(places) > MOST_STEPS:
        return Violation(_STEPS, f"are {len(places)}, nested ones counted; at most {MOST_STEPS} are allowed")
    deep = next((place for place in places if place.depth > DEEPEST), None)
    return Violation(deep.field, f"is nested deeper than {DEEPEST}") if deep else None


def _check_ids(places: Sequence[Placed]) -> Iterator[Violation]:
    fields: dict[str, str] = {}
    for place in places:
        step_id = place.step["step_id"]
        if step_id in fields:
            yield Violation(f"{place.field}.step_id", f"{step_id} is also the id of {fields[step_id]}")
        fields.setdefault(step_id, place.field)


def _check_shape(place: Placed) -> Iterator[Violation]:
    step, field = place.step, place.field
    wants_fallback = step.get("on_error") == "ON_ERROR_FALLBACK"
    if wants_fallback and "fallback" not in step:
        yield Violation(f"{field}.fallback", "is required with ON_ERROR_FALLBACK")
    if "fallback" in step and not wants_fallback:
        yield Violation(f"{field}.fallback", "is only for ON_ERROR_FALLBACK")
    if "output_schema" in step:
        yield from check_schema(step["output_schema"], f"{field}.output_schema")
    if "function" in step and (problem := problem_of_tool_id(step["function"]["tool_id"])):
        yield Violation(f"{field}.function.tool_id", problem)
    router = step.get("router", {})
    if router.get("default_choice") and router["default_choice"] not in router.get("choices", {}):
        yield Violation(f"{field}.router.default_choice", "is none of the choices")


def _check_steps(steps: Sequence[Spec], field: str, scope: _Scope) -> Iterator[Violation]:
    for index, step in enumerate(steps):
        yield from _check_step(step, f"{field}[{index}]", scope)
        scope = replace(scope, earlier=scope.earlier | outputs([step]))


def _check_step(step: Spec, field: str, scope: _Scope) -> Iterator[Violation]:
    inside = _inside(step, scope)
    for path, text, wanted in _expressions(step):
        yield from _check(text, f"{field}.{path}", inside if path == "loop.until" else scope, wanted)
    for steps, path in step_lists(step, field):
        yield from _check_steps(steps, path, inside)
    if "fallback" in step:
        tried = replace(scope, earlier=scope.earlier | nested_outputs(step))
        yield from _check_step(step["fallback"], f"{field}.fallback", tried)
    if "compensation" in step:
        yield from _check_step(step["compensation"], f"{field}.compensation", replace(scope, earlier=scope.known))


def _inside(step: Spec, scope: _Scope) -> _Scope:
    """From the second round on, a loop's steps find the outputs of the round before, later steps' too."""
    if "loop" not in step:
        return scope
    return replace(scope, variables=LOOPED_STEP, earlier=scope.earlier | nested_outputs(step))


def _expressions(step: Spec) -> Iterator[tuple[str, str, Wanted]]:
    """The expressions of a step itself: path, text and the type that is demanded; those left empty are none."""
    found = [
        ("input", step.get("input"), Wanted.ANY),
        ("condition.condition", step.get("condition", {}).get("condition"), Wanted.BOOL),
        ("loop.until", step.get("loop", {}).get("until"), Wanted.BOOL),
        ("router.selector", step.get("router", {}).get("selector"), Wanted.STRING),
        ("approval.question", step.get("approval", {}).get("question"), Wanted.STRING),
        ("wait.time", step.get("wait", {}).get("time"), Wanted.TIMESTAMP),
    ]
    yield from ((path, text, wanted) for path, text, wanted in found if text)
    for name, text in step.get("function", {}).get("arguments", {}).items():
        yield f'function.arguments["{name}"]', text, Wanted.ANY


def _check_output(spec: Spec, scope: _Scope) -> Iterator[Violation]:
    if spec.get("output"):
        yield from _check(spec["output"], "workflow.spec.output", scope, Wanted.ANY)


def _check(text: str, field: str, scope: _Scope, wanted: Wanted) -> Iterator[Violation]:
    if problem := check_expression(text, scope.variables, wanted):
        yield Violation(field, problem)
        return
    for name in steps_named_in(text):
        if name not in scope.known:
            yield Violation(field, f"names steps.{name}, but there is no such step")
        elif name not in scope.earlier:
            yield Violation(field, f"names steps.{name}, which has not run by then")
