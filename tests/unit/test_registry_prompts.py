from __future__ import annotations

import asyncio
import io
import json
import struct
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from libs import errors
from libs.identity import Caller
from services.registry import model, rendering
from services.registry.model import Draft, Kind, Resource
from services.registry.rendering import LONGEST_TEXT, Sandbox
from services.registry.service.prompts import Feedback, Metrics, Prompts

ANN = Caller("acme", "ann", frozenset())
VARIABLES = [
    {"name": "name"},
    {"name": "count", "default_value": 3.0},
    {"name": "note", "default_value": None},
]
GREETING = "Hello {{ name }}, {{ count }} left{% if note %}: {{ note }}{% endif %}.\n"
LONG = "a" * 2000


class Kept:
    """Two revisions of a prompt."""

    def __init__(self) -> None:
        first = model.first(Kind.PROMPT, prompt(GREETING, VARIABLES), "ann")
        self.revisions = [first, first.next(prompt("Hi {{ name }}", [{"name": "name"}]), "bob")]

    async def get(self, caller: Caller, resource_id: str, revision: int = 0) -> Resource:
        if resource_id != "greeting" or revision > len(self.revisions):
            raise errors.NotFound(Kind.PROMPT, resource_id)
        return self.revisions[revision - 1]


class Remembered:
    def __init__(self) -> None:
        self.feedback: list[tuple[str, str, int, Feedback]] = []

    async def record(self, tenant: str, prompt_id: str, revision: int, feedback: Feedback) -> Metrics:
        self.feedback.append((tenant, prompt_id, revision, feedback))
        return Metrics(uses=1)

    async def metrics(self, tenant: str, prompt_id: str, revision: int) -> Metrics:
        return Metrics(uses=revision)


def prompt(template: str, variables: list[dict[str, Any]]) -> Draft:
    return Draft("greeting", "Greeting", spec={"template": template, "variables": variables})


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as made:
        yield made


@pytest.fixture
def remembered() -> Remembered:
    return Remembered()


@pytest.fixture
def prompts(sandbox: Sandbox, remembered: Remembered) -> Prompts:
    return Prompts(Kept(), remembered, sandbox)


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"name": "Ann"}, "Hello Ann, 3 left.\n"),
        ({"name": "Ann", "count": 0.5}, "Hello Ann, 0.5 left.\n"),
        ({"name": "<b>é☃</b>", "count": 2.0, "note": "soon"}, "Hello <b>é☃</b>, 2 left: soon.\n"),
        ({"name": {"a": [1.0, True, None]}}, "Hello {'a': [1, True, None]}, 3 left.\n"),
        ({"name": "{{ count }}"}, "Hello {{ count }}, 3 left.\n"),
    ],
)
async def test_variables_are_filled_in(prompts: Prompts, variables: Mapping[str, Any], text: str) -> None:
    rendered = await prompts.render(ANN, "greeting", 1, variables)
    assert (rendered.text, rendered.revision) == (text, 1)


async def test_the_current_revision_is_the_default(prompts: Prompts) -> None:
    rendered = await prompts.render(ANN, "greeting", 0, {"name": "Ann"})
    assert (rendered.text, rendered.revision) == ("Hi Ann", 2)


async def test_missing_and_unknown_variables_are_named(prompts: Prompts) -> None:
    with pytest.raises(errors.InvalidArgument) as refused:
        await prompts.render(ANN, "greeting", 1, {"colour": "red", "note": "x"})
    assert [violation.field for violation in refused.value.violations] == ["variables.colour", "variables.name"]


async def test_no_such_prompt(prompts: Prompts) -> None:
    with pytest.raises(errors.NotFound):
        await prompts.render(ANN, "nothing", 0, {})


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{ x.y }}", "no attribute 'y'"),
        ("{{ x() }}", "not callable"),
        ("{{ x + 1 }}", "TypeError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{% for %}", "Expected"),
        ("{% include 'passwd' %}", "no loader"),
        ("{{ x.__class__.__mro__ }}", "unsafe"),
        ("{{ x|attr('__class__') }}", "unsafe"),
        ("{{ cycler.__init__.__globals__ }}", "unsafe"),
        ("{% for i in range(10**9) %}{% endfor %}", "undefined"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{{ 'a' * 10**12 }}", "MemoryError"),
        ("{{ 'a'|center(10**12) }}", "Error"),
        ("{{ 'a' * 1048577 }}", "longer"),
        ("{% for a in x %}{% for b in x %}{{ x }}{% endfor %}{% endfor %}", "longer"),
    ],
)
async def test_what_cannot_be_rendered(sandbox: Sandbox, template: str, problem: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=problem) as refused:
        await sandbox.render(template, {"x": LONG})
    assert refused.value.violations[0].field == "variables"


async def test_a_bomb_harms_nobody_else(sandbox: Sandbox) -> None:
    loop = "{% for a in x %}" * 5 + "{% endfor %}" * 5

    async def ticks() -> int:
        count = 0
        while not bomb.done():
            await asyncio.sleep(0.01)
            count += 1
        return count

    bomb = asyncio.ensure_future(sandbox.render(loop, {"x": LONG}))
    watch = asyncio.ensure_future(ticks())
    assert await sandbox.render("{{ x }}", {"x": "y"}) == "y"
    assert not bomb.done()
    with pytest.raises(errors.InvalidArgument, match="takes more than"):
        await bomb
    assert await watch > 3  # the loop went on meanwhile
    assert await sandbox.render("{{ x }}", {"x": "z"}) == "z"


async def test_a_cancelled_rendering_gives_nobody_its_answer() -> None:
    async with Sandbox(processes=1) as sandbox:
        assert await sandbox.render("a", {}) == "a"
        cut_off = asyncio.ensure_future(sandbox.render("{% for a in x %}" * 4 + "{% endfor %}" * 4, {"x": LONG}))
        await asyncio.sleep(0.05)
        cut_off.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cut_off
        assert await sandbox.render("b", {}) == "b"


async def test_a_dead_process_is_replaced() -> None:
    async with Sandbox(processes=1) as sandbox:
        assert await sandbox.render("a", {}) == "a"
        sandbox._idle[0].kill()
        await sandbox._idle[0].wait()
        assert await sandbox.render("b", {}) == "b"


async def test_a_process_that_does_not_start_is_no_fault_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    async with Sandbox() as sandbox:
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await sandbox.render("a", {})


async def test_many_renderings_at_once(sandbox: Sandbox) -> None:
    found = await asyncio.gather(*(sandbox.render("{{ x }}", {"x": str(number)}) for number in range(200)))
    assert found == [str(number) for number in range(200)]


async def test_the_longest_text(sandbox: Sandbox) -> None:
    text = "é" * (LONGEST_TEXT // 2)
    assert await sandbox.render("{{ x }}", {"x": text}) == text


def test_questions_and_answers() -> None:
    questions = [json.dumps({"template": t, "variables": {"x": 1}}).encode() for t in ("{{ x }}", "{{ y }}", "{% if")]
    answers = io.BytesIO()
    rendering.serve(io.BytesIO(b"".join(struct.pack(">I", len(q)) + q for q in questions)), answers)
    found, at = [], 0
    while at < len(answers.getvalue()):
        (size,) = struct.unpack_from(">I", answers.getvalue(), at)
        found.append(json.loads(answers.getvalue()[at + 4 : at + 4 + size]))
        at += 4 + size
    assert found[0] == {"text": "1"}
    assert [*found[1], *found[2]] == ["problem", "problem"]
    assert rendering.rendered("{{ x * 1048577 }}", {"x": "a"})["problem"].startswith("is longer")
    assert rendering.rendered("{{ 1 / x }}", {"x": 0})["problem"].startswith("ZeroDivisionError")


async def test_feedback_goes_to_the_revision_that_was_used(prompts: Prompts, remembered: Remembered) -> None:
    failure = Feedback(False, 1.5, 10, 0.01, "wrong language")
    assert (await prompts.record_feedback(ANN, "greeting", 0, failure)).uses == 1
    await prompts.record_feedback(ANN, "greeting", 1, Feedback(True))
    assert remembered.feedback == [("acme", "greeting", 2, failure), ("acme", "greeting", 1, Feedback(True))]
    assert (await prompts.metrics(ANN, "greeting")).uses == 2


@pytest.mark.parametrize(
    ("feedback", "field"),
    [
        (Feedback(True, failure_pattern="late"), "failure_pattern"),
        (Feedback(True, cost_usd=float("inf")), "cost_usd"),
        (Feedback(True, cost_usd=float("nan")), "cost_usd"),
        (Feedback(True, latency=-1.0), "latency"),
    ],
)
async def test_bad_feedback(prompts: Prompts, feedback: Feedback, field: str) -> None:
    with pytest.raises(errors.InvalidArgument) as refused:
        await prompts.record_feedback(ANN, "greeting", 1, feedback)
    assert refused.value.violations[0].field == field


async def test_two_revisions_side_by_side(prompts: Prompts) -> None:
    comparison = await prompts.compare(ANN, "greeting", 1, 0)
    assert (comparison.base.revision, comparison.target.revision) == (1, 2)
    assert (comparison.base_metrics.uses, comparison.target_metrics.uses) == (1, 2)
    assert [difference.path for difference in comparison.differences] == ["spec.template", "spec.variables"]
