"""Expressions in CEL, compiled and type-checked by the library that also evaluates them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import StrEnum
from functools import cache
from itertools import pairwise
from typing import Final

import re2
from cel_expr_python import cel

MOST_CHARACTERS: Final = 10_000

STEP: Final = ("input", "steps", "state")
LOOPED_STEP: Final = (*STEP, "iteration", "last")
EVENT: Final = ("event",)
TOOL_CALL: Final = ("tool", "arguments", "caller", "usage")


class Wanted(StrEnum):
    ANY = "any"
    BOOL = "bool"
    TRUTH = "bool or dyn"
    """For those who take what is no truth in the end for the safer one."""
    STRING = "string"
    TIMESTAMP = "timestamp"


def check_expression(text: str, variables: tuple[str, ...], wanted: Wanted = Wanted.ANY) -> str | None:
    """What is wrong with an expression, in one line; None if nothing is."""
    if len(text) > MOST_CHARACTERS:
        return f"is longer than {MOST_CHARACTERS} characters"
    try:
        compiled = _environment(variables).compile(text)
    except (RuntimeError, TypeError, ValueError) as error:
        return _text(str(error))
    return _problem_of_type(compiled.return_type(), wanted) or _problem_of_patterns(text)


@cache
def _environment(variables: tuple[str, ...]) -> cel.Env:
    return cel.NewEnv(variables={name: _type(name) for name in variables})


def _type(variable: str) -> cel.Type:
    if variable == "iteration":
        return cel.Type.INT
    if variable in ("steps", "state", "event", *TOOL_CALL):
        return cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    return cel.Type.DYN


def _problem_of_type(found: cel.Type, wanted: Wanted) -> str | None:
    name = found.name().lower()
    if wanted is Wanted.ANY or name in wanted.split(" or "):
        return None
    if name != "dyn":
        return f"is of type {name[:60]}, but {wanted} is demanded"
    comparison = " or a comparison" if wanted is Wanted.BOOL else ""
    return f"may be of any type, but {wanted} is demanded: write {wanted}(...){comparison}"


_ERROR: Final = re.compile(r"<input>:(-?\d+):(-?\d+): (.*)")


def _text(error: str) -> str:
    """The library adds the whole expression, and what it would have expected instead."""
    if "recursion" in error:
        return "is nested too deeply"
    first = _ERROR.search(error)
    if first is None:
        return "is not an expression of CEL"
    line, column, problem = first.groups()
    problem = problem.removesuffix(" [INVALID_ARGUMENT]").replace(" (in container '')", "")
    problem = "".join(sign for sign in re.sub(r" expecting \{.*\}", "", problem) if sign.isprintable())
    return f"line {line}, column {column}: {problem[:200]}"


_TOKEN: Final = re.compile(
    r"""
      //[^\n]*
    | (?:[rR][bB]?|[bB][rR])(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"[^"]*"|'[^']*')
    | [bB]?(?:\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    | [A-Za-z_]\w*
    | \S
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_NAME: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_LITERAL: Final = re.compile(r"[rR]?[\"'].*", re.DOTALL)
_QUOTED: Final = re.compile(r"""(["'])([A-Za-z_]\w*)\1""", re.ASCII)


def _tokens(text: str) -> list[str]:
    return [token for token in _TOKEN.findall(text) if not token.startswith("//")]


def _problem_of_patterns(text: str) -> str | None:
    """The library looks at a pattern of `matches` when it evaluates, which would be in a run."""
    tokens = _tokens(text)
    for at, (word, opening) in enumerate(pairwise(tokens)):
        if (word, opening) == ("matches", "(") and (pattern := _last_argument(tokens[at + 2 :])) is not None:
            try:
                re2.compile(pattern)
            except re2.error:
                return f"{pattern[:100]!r} is not a regular expression (RE2)"
    return None


def _last_argument(tokens: Sequence[str]) -> str | None:
    """The value of the last argument before the closing bracket, where that is a literal alone."""
    depth = 0
    for at, sign in enumerate(tokens):
        depth += (sign in "([{") - (sign in ")]}")
        if depth < 0:
            literal = at > 0 and _LITERAL.fullmatch(tokens[at - 1]) and (at == 1 or tokens[at - 2] == ",")
            return _value(tokens[at - 1]) if literal else None
    return None


def _value(literal: str) -> str | None:
    with suppress(SyntaxError, ValueError):
        return str(ast.literal_eval(literal))
    return None


def steps_named_in(text: str) -> list[str]:
    """The steps of `steps.name` and `steps["name"]` in an expression that compiles."""
    tokens = _tokens(text)
    if any(tokens[at : at + 3] == ["(", "steps", ","] for at in range(len(tokens))):
        return []  # a macro's own variable
    return list(dict.fromkeys(_steps_named_in(tokens)))


def _steps_named_in(tokens: list[str]) -> Iterator[str]:
    for at, word in enumerate(tokens):
        if word != "steps" or tokens[at - 1 : at] == ["."]:
            continue
        match tokens[at + 1 : at + 4]:
            case [".", _, "("]:
                pass
            case [".", name, *_] if _NAME.fullmatch(name):
                yield name
            case ["[", name, "]"] if quoted := _QUOTED.fullmatch(name):
                yield quoted[2]
