from __future__ import annotations

import pytest

from services.registry.model.expressions import (
    EVENT,
    LOOPED_STEP,
    MOST_CHARACTERS,
    STEP,
    Wanted,
    check_expression,
    steps_named_in,
)
from services.registry.model.patterns import problem_of_pattern


@pytest.mark.parametrize(
    ("text", "variables", "wanted"),
    [
        ("input", STEP, Wanted.ANY),
        ("{'question': input, 'facts': [steps.search, state['x']]}", STEP, Wanted.ANY),
        ("steps.score.value > 3", STEP, Wanted.BOOL),
        ("bool(state.done)", STEP, Wanted.BOOL),
        ("has(steps.score) && steps['score'] == 1", STEP, Wanted.BOOL),
        ("state.all(key, key.startsWith('a'))", STEP, Wanted.BOOL),
        ("string(input)", STEP, Wanted.STRING),
        ("'Sell ' + string(state.shares) + '?'", STEP, Wanted.STRING),
        ("timestamp(input.at) + duration('1h')", STEP, Wanted.TIMESTAMP),
        ("iteration >= 3 || last == 'done'", LOOPED_STEP, Wanted.BOOL),
        ("event.text.contains('olá') // a comment", EVENT, Wanted.BOOL),
        ("event.metadata.tier in ['gold', 'silver']", EVENT, Wanted.BOOL),
        (
            "event.text.matches('^a+(-[0-9]{1,3})?$') && event.text.matches(string(event.at))",
            EVENT,
            Wanted.BOOL,
        ),
        ("event.text.matches('(' + 'a)')", EVENT, Wanted.BOOL),
    ],
)
def test_good_expressions(text: str, variables: tuple[str, ...], wanted: Wanted) -> None:
    assert check_expression(text, variables, wanted) is None


@pytest.mark.parametrize(
    ("text", "variables", "wanted", "problem"),
    [
        ("", STEP, Wanted.ANY, "line 1, column 1: Syntax error: mismatched input '<EOF>'"),
        ("1 +", STEP, Wanted.ANY, "line 1, column 4: Syntax error: mismatched input '<EOF>'"),
        ("1 ==\n  nope", STEP, Wanted.ANY, "line 2, column 3: undeclared reference to 'nope'"),
        ("'a' + 1", STEP, Wanted.ANY, "line 1, column 5: found no matching overload for '_+_'"),
        ("iteration > 1", STEP, Wanted.BOOL, "line 1, column 1: undeclared reference to 'iteration'"),
        ("iteration == 'a'", LOOPED_STEP, Wanted.BOOL, "line 1, column 11: found no matching overload"),
        ("steps[1] == 1", STEP, Wanted.BOOL, "line 1, column 6: found no matching overload"),
        ("input == 1", EVENT, Wanted.BOOL, "line 1, column 1: undeclared reference to 'input'"),
        ("cel.bind(x, 1, x)", STEP, Wanted.ANY, "line 1, column"),
        ("input", STEP, Wanted.BOOL, "may be of any type, but bool is demanded: write bool(...) or a comparison"),
        ("true ? input : 1", STEP, Wanted.BOOL, "may be of any type"),
        ("state.name", STEP, Wanted.STRING, "may be of any type, but string is demanded: write string(...)"),
        ("state.at", STEP, Wanted.TIMESTAMP, "may be of any type, but timestamp is demanded: write timestamp(...)"),
        ("1", STEP, Wanted.BOOL, "is of type int, but bool is demanded"),
        ("'2020-01-01T00:00:00Z'", STEP, Wanted.TIMESTAMP, "is of type string, but timestamp is demanded"),
        ("[1]", STEP, Wanted.STRING, "is of type list<int>, but string is demanded"),
        ("string(input).matches('(')", STEP, Wanted.BOOL, "'(' is not a regular expression (RE2)"),
        ("true && matches(string(input), r'a\\1')", STEP, Wanted.BOOL, "'a\\\\1' is not a regular expression"),
    ],
)
def test_bad_expressions(text: str, variables: tuple[str, ...], wanted: Wanted, problem: str) -> None:
    assert (check_expression(text, variables, wanted) or "").startswith(problem)


HOSTILE = {
    "parentheses": "(" * 4999 + "1" + ")" * 4999,
    "open": "(" * 10_000,
    "lists": "[" * 5000 + "]" * 5000,
    "maps": "{1:" * 2500 + "1" + "}" * 2499,
    "calls": "size(" * 1666 + "1" + ")" * 1666,
    "choices": "true?1:" * 1400 + "1",
    "sum": "1" + "+1" * 4999,
    "fields": "input" + ".a" * 4990,
    "items": "input" + "[0]" * 3330,
    "macros": "[1].map(x," * 900 + "1" + ")" * 900,
    "chain": "[1]" + ".map(x,[x,x])" * 700,
    "messages": "google.protobuf.Struct{fields:" * 300 + "1" + "}" * 300,
    "unknown": "nope&&" * 1600 + "nope",
    "garbage": "`~@#$%^&*" * 1100,
    "number": "9" * 9999,
    "text": "'" + "x" * 9990,
    "backslashes": "\\" * 9000,
    "surrogate": "'\ud800'",
    "control": "\x01\x1b[31m\n\0",
    "long": "true" + " " * MOST_CHARACTERS,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_expressions_are_refused_in_one_short_line(text: str) -> None:
    problem = check_expression(text, STEP)
    assert problem
    assert len(problem) < 300
    assert problem.isprintable()


def test_long_expressions_that_are_flat() -> None:
    assert check_expression("!" * 9996 + "true", STEP, Wanted.BOOL) is None
    assert check_expression("[" + "1," * 4990 + "1]", STEP) is None
    assert check_expression("true" + "&&true" * 1600, STEP, Wanted.BOOL) is None


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("input", []),
        ("steps", []),
        ("steps.a + steps.b.c + steps.a", ["a", "b"]),
        ("steps['a'] == steps[\"b\"]", ["a", "b"]),
        ("has(steps . a)", ["a"]),
        ("steps[input]", []),
        ("state.steps.a", []),
        ("steps.exists(key, key == 'a') || steps.size() == 1", []),
        ("'steps.a' + \"it's steps.b\" + r'\\' + steps.c // steps.d", ["c"]),
        ("'''it's\n steps.a''' + 'x\\'steps.b' + steps.c", ["c"]),
        ("[{'a': 1}].all(steps, steps.a == 1)", []),
        ("mysteps.a + steps2.a", []),
    ],
)
def test_steps_named_in(text: str, names: list[str]) -> None:
    assert steps_named_in(text) == names


@pytest.mark.parametrize("pattern", ["", "a", r"\bcpf\b", "(?i)olá", "^a{1,900}$", r"\p{L}+"])
def test_good_patterns(pattern: str) -> None:
    assert problem_of_pattern(pattern) is None


@pytest.mark.parametrize(
    "pattern", ["(", r"(a)\1", "(?=a)", "(?<!a)b", "(?>a)", "(a{1000}){1000}", "(" * 2000, "a" * 1025, "\ud800"]
)
def test_bad_patterns(pattern: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert "regular expression" in (problem_of_pattern(pattern) or "")
    assert capfd.readouterr().err == ""
