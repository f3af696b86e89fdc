"""Arithmetic."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any, Final

import simpleeval

from services.execution.service.builtin.offers import Offer, declared
from services.execution.service.sources import ToolError

_MAX_EXPRESSION: Final = 1000
_MAX_DIGITS: Final = 1000
_TOO_LARGE: Final = 10**_MAX_DIGITS


def calculate(expression: str) -> str:
    """Arithmetic on numbers: operators, parentheses and a few functions; no names, no strings, no `eval`."""
    try:
        parsed = ast.parse(expression.strip(), mode="eval")
        value = _evaluator().eval(expression, parsed.body)
    except ZeroDivisionError:
        raise ToolError("division by zero") from None
    except (RecursionError, MemoryError):
        raise ToolError("the expression is nested too deeply") from None
    except (simpleeval.InvalidExpression, SyntaxError, ArithmeticError, TypeError, ValueError) as error:
        raise ToolError(f"cannot evaluate the expression: {str(error)[:200]}") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise ToolError("the result is not a finite number")
    if abs(value) >= _TOO_LARGE:
        raise ToolError(f"the result has more than {_MAX_DIGITS} digits")
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    return str(value)


def _power(base: float, exponent: float) -> Any:
    if isinstance(base, int) and abs(base) > 1 and abs(exponent) * math.log10(abs(base)) > _MAX_DIGITS:
        raise ToolError(f"the result has more than {_MAX_DIGITS} digits")
    return base**exponent


def _round(value: float, digits: int | None = None) -> Any:
    if digits is not None and abs(digits) > _MAX_DIGITS:
        raise ToolError(f"cannot round to more than {_MAX_DIGITS} digits")
    return round(value, digits)


def _is_finite(value: float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


def _number(node: ast.Constant) -> Any:
    """Texts are no part of arithmetic, and `"%1000000000d" % 1` would take the memory of the process."""
    if type(node.value) not in (int, float):
        raise ToolError(f"{node.value!r:.50} is not a number")
    return node.value


def _evaluator() -> simpleeval.SimpleEval:
    evaluator = simpleeval.SimpleEval(operators=_OPERATORS, functions=_FUNCTIONS, names={"pi": math.pi, "e": math.e})
    evaluator.nodes = {kind: evaluator.nodes[kind] for kind in _NODES} | {ast.Constant: _number}
    return evaluator


_NODES: Final = (ast.Name, ast.UnaryOp, ast.BinOp, ast.Call)
_OPERATORS: Final[dict[type[ast.AST], Callable[..., Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_MATH: Final = ("sqrt", "log", "log10", "log2", "exp", "sin", "cos", "tan", "floor", "ceil")
_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    **{name: getattr(math, name) for name in _MATH},
    **{"abs": abs, "round": _round, "min": min, "max": max},
}


CALCULATOR: Final = Offer(
    declared(
        "calculator",
        "Calculator",
        "Evaluates an arithmetic expression and returns the result. "
        "Operators + - * / // % ** and parentheses; functions sqrt, log, log10, log2, exp, sin, cos, tan, "
        "floor, ceil, abs, round, min, max; constants pi and e.",
        {
            "expression": {
                "type": "string",
                "minLength": 1,
                "maxLength": _MAX_EXPRESSION,
                "description": 'For example "(17 + 4) * 2".',
            }
        },
        ["expression"],
        examples=[{"expression": "(17 + 4) * 2"}],
    ),
    calculate,
)
