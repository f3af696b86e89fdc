from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from libs import errors
from services.execution.service.workflows import expressions
from services.execution.service.workflows.expressions import View, evaluate, moment, plain, truth, words

VIEW = View({"n": 3, "odd": "x"}, {"mood": "calm"}, {"a": {"b": [1, 2.0]}, "c": "text", "odd.name": 1}, "last", 2)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("input.n + 1", 4),
        ("steps.a.b[1]", 2),
        ("steps['c'] + '!'", "text!"),
        ('steps["odd.name"]', 1),
        ("steps.size()", 3),
        ("has(steps.nobody)", False),
        ("'c' in steps", True),
        ("steps.filter(name, name == 'c')", ["c"]),
        ("state.mood", "calm"),
        ("iteration * 2", 4),
        ("last", "last"),
        ("'steps.nobody'", "steps.nobody"),
        ("{'a': [1, null, true]}", {"a": [1, None, True]}),
        ("timestamp('2026-01-02T03:04:05Z')", "2026-01-02T03:04:05Z"),
        ("duration('90s')", "90s"),
        ("b'ab'", "YWI="),
        ("2.0 * 3.0", 6),
    ],
)
def test_values(text: str, value: Any) -> None:
    assert evaluate(text, VIEW) == value


@pytest.mark.parametrize(
    "text",
    [
        "steps.nobody",
        "steps.a.b[9]",
        "input.nothing > 1",
        "1 / 0",
        "bool(input.odd)",
        "int(last)",
        "1.0 / 0.0",
        "{1: 'x'}",
        "type(1)",
        "nobody",
        "(",
    ],
)
def test_whatever_goes_wrong_is_a_failure(text: str) -> None:
    for ask in (evaluate, truth, words, moment):
        with pytest.raises(errors.FailedPrecondition) as caught:
            ask(text, VIEW)
        assert caught.value.reason_code == "EXPRESSION_FAILED"
        assert caught.value.metadata["expression"] == text


@pytest.mark.parametrize(("ask", "text"), [(truth, "'true'"), (truth, "1"), (words, "1"), (moment, "'2026-01-01'")])
def test_wrong_types_are_failures(ask: Any, text: str) -> None:
    with pytest.raises(errors.FailedPrecondition):
        ask(f"dyn({text})", VIEW)


def test_types_that_are_demanded() -> None:
    assert truth("input.n == 3", VIEW) is True
    assert words("'n' + string(input.n)", VIEW) == "n3"
    assert moment("timestamp('2026-01-01T01:00:00+01:00')", VIEW) == datetime(2026, 1, 1, tzinfo=UTC)


def test_an_expression_is_compiled_once() -> None:
    before = expressions._compiled.cache_info().misses
    for _ in range(3):
        evaluate("input.n + 4711", VIEW)
    assert expressions._compiled.cache_info().misses == before + 1


def test_numbers_are_the_same_however_they_were_stored() -> None:
    assert plain([1.0, 1.5, 10**30, True]) == [1, 1.5, 1e30, True]
    assert plain(plain([1.0, 10**30])) == plain([1.0, 10**30])
    with pytest.raises(ValueError):
        plain({"deep": _deep(30)})


def _deep(levels: int) -> Any:
    return [_deep(levels - 1)] if levels else 1
