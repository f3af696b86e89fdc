"""The suite of workflows: each case undisturbed, and once more for each step of its journal with a crash after it."""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.execution.model.events import Event, Source
from services.execution.model.executions import Usage
from services.execution.model.journal import Step
from services.execution.model.tools import Tool
from tests.workflow_cases import Case, Memory, Told, ToolsOfTests, World, by_scope, play, run

CASES = [
    Case(**given)
    for path in sorted((Path(__file__).parent / "workflows").glob("*.yaml"))
    for given in yaml.safe_load(path.read_text())
]
MARK = {"n": "iteration", "text": "string(iteration) + string(state.filler)"}
WAIT = {"step_id": "w", "wait": {"time": "timestamp('2020-01-01T00:00:00Z')"}}
INTERRUPTED = "forever"
"""An agent that others put an end to: nobody knows after a crash what it had taken by then."""


def same(case: Case, told: Told) -> None:
    if not case.unordered:
        assert told.lines == list(case.expected)
        return
    assert by_scope(told.lines) == by_scope(case.expected)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_undisturbed(case: Case) -> None:
    told = await play(case)
    same(case, told)
    assert sorted(told.world.effects) == sorted(case.effects)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_crash_after_each_step_of_the_journal(case: Case) -> None:
    undisturbed = await play(case)
    for crash_after in range(1, undisturbed.world.kept + 1):
        told = await play(case, crash_after)
        same(case, told)
        assert Counter(told.world.effects) == Counter(case.effects), f"after a crash at {crash_after}"
        if INTERRUPTED not in _kinds(list(case.steps)):
            assert told.usage == undisturbed.usage, f"after a crash at {crash_after}"


class Forgetful(Memory):
    """Keeps nothing, as a record does once it is committed."""

    def append(self, event: Event, source: Source | None = None) -> None: ...

    def keep(self, step: Step, *, soon: bool = True) -> None: ...


async def test_a_loop_of_a_thousand_rounds_keeps_memory_flat() -> None:
    body = [
        {"step_id": "mark", "function": {"tool_id": "test/echo", "arguments": MARK}},
        {"step_id": "check", "condition": {"condition": "steps.mark != ''", "then": {"steps": [WAIT]}}},
    ]
    loop = {"step_id": "l", "loop": {"max_iterations": 1000, "body": {"steps": body}}}
    case = Case("flat", [loop], state={"filler": "x" * 10_000})
    sizes: dict[int, int] = {}

    class Marks(ToolsOfTests):
        async def call(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
            if arguments["n"] in (100, 1000):
                gc.collect()
                sizes[arguments["n"]] = tracemalloc.get_traced_memory()[0]
            return str(arguments["text"])

    tracemalloc.start()
    try:
        await run(case, Forgetful(World()), Marks(World()), Usage())
    finally:
        tracemalloc.stop()
    assert sizes[1000] - sizes[100] < 500_000, sizes


def test_there_are_enough() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names)) >= 50


def _kinds(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {*value, *(kind for inner in value.values() for kind in _kinds(inner))}
    return {kind for inner in value for kind in _kinds(inner)} if isinstance(value, list) else {str(value)}


def test_each_kind_of_step_and_each_policy_has_a_case() -> None:
    seen = _kinds([list(case.steps) for case in CASES])
    kinds = {"agent", "team", "function", "parallel", "condition", "loop", "router", "workflow", "approval", "wait"}
    policies = {"ON_ERROR_SKIP", "ON_ERROR_FALLBACK", "ON_ERROR_COMPENSATE", "FAILURE_POLICY_COLLECT"}
    assert kinds | policies | {"retry", "timeout", "compensation", "fallback", "output_schema"} <= seen
