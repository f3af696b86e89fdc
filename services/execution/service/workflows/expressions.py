"""Expressions in CEL, evaluated. Whatever goes wrong is a failure: never a false, never an empty text."""

from __future__ import annotations

import base64
import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from cel_expr_python import cel

from libs import errors

_DEEPEST: Final = 20
_WHOLE: Final = 2.0**63
_CLIP: Final = 200


@dataclass(slots=True)
class View:
    """What expressions see."""

    input: Any
    state: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, Any] = field(default_factory=dict)
    last: Any = None
    """The output of the step before; of the first one, the workflow's input."""
    iteration: int = 0

    def apart(self) -> View:
        """The same for steps that run beside others."""
        return View(self.input, self.state, dict(self.steps), self.last, self.iteration)


def evaluate(text: str, view: View) -> Any:
    """The value as JSON data."""
    value = _value(text, view)
    try:
        return plain(value)
    except ValueError as error:
        raise _failure(text, str(error)) from None


def truth(text: str, view: View) -> bool:
    if isinstance(value := _value(text, view), bool):
        return value
    raise _failure(text, f"gives {_type(value)}, but a bool is demanded")


def words(text: str, view: View) -> str:
    if isinstance(value := _value(text, view), str):
        return value
    raise _failure(text, f"gives {_type(value)}, but a string is demanded")


def moment(text: str, view: View) -> datetime:
    if isinstance(value := _value(text, view), datetime):
        return value.astimezone(UTC)
    raise _failure(text, f"gives {_type(value)}, but a timestamp is demanded")


def _value(text: str, view: View) -> Any:
    compiled, names = _compiled(text)
    data = {name: getattr(view, name) for name in names if name != "steps"}
    if "steps" in names:
        named = names["steps"]
        steps = view.steps
        data["steps"] = steps if named is None else {key: steps[key] for key in named if key in steps}
    try:
        value = compiled.eval(data=data)
    except (RuntimeError, TypeError, ValueError) as error:
        raise _failure(text, str(error)) from None
    if value.type() in _NO_VALUES:
        raise _failure(text, str(value.value()))
    return value.plain_value()


_NO_VALUES: Final = (cel.Type.ERROR, cel.Type.UNKNOWN)
_ENVIRONMENT: Final = cel.NewEnv(
    variables={
        "input": cel.Type.DYN,
        "steps": cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
        "state": cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
        "iteration": cel.Type.INT,
        "last": cel.Type.DYN,
    }
)
_VARIABLES: Final = ("input", "steps", "state", "iteration", "last")
_STEP: Final = re.compile(
    r"\bsteps\b(?:\s*\.\s*([A-Za-z_]\w*)(?!\w)(?!\s*\()|\s*\[\s*([\"'])([A-Za-z_]\w*)\2\s*\])?", re.ASCII
)


@lru_cache(maxsize=4096)
def _compiled(text: str) -> tuple[Any, dict[str, frozenset[str] | None]]:
    """The expression and the variables that it may name: handing over all outputs of all steps each time takes longer
    than evaluating. Of the steps None stands for all.
    """
    try:
        compiled = _ENVIRONMENT.compile(text)
    except (RuntimeError, TypeError, ValueError) as error:
        raise _failure(text, str(error).partition("\n")[0]) from None
    names: dict[str, frozenset[str] | None] = {name: None for name in _VARIABLES if re.search(rf"\b{name}\b", text)}
    if "steps" in names:
        found = [one[1] or one[3] for one in _STEP.finditer(text)]
        names["steps"] = frozenset(found) if all(found) else None
    return compiled, names


def plain(value: Any, level: int = 0) -> Any:
    """The value as JSON data, the same however often it is stored; raises ValueError where it is none."""
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if abs(value) < _WHOLE else float(value)
        case float():
            if not math.isfinite(value):
                raise ValueError("gives a number that is not finite")
            return int(value) if value.is_integer() and abs(value) < _WHOLE else value
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case timedelta():
            return f"{value.total_seconds():.9f}".rstrip("0").rstrip(".") + "s"
        case bytes() | bytearray():
            return base64.b64encode(value).decode()
    if level >= _DEEPEST:
        raise ValueError(f"gives a value that is nested deeper than {_DEEPEST}")
    match value:
        case dict():
            if not all(isinstance(key, str) for key in value):
                raise ValueError("gives a map with keys that are no strings")
            return {key: plain(inner, level + 1) for key, inner in value.items()}
        case list() | tuple():
            return [plain(inner, level + 1) for inner in value]
    raise ValueError(f"gives {_type(value)}, which is no data")


def _type(value: Any) -> str:
    names = {"NoneType": "null", "str": "a string", "int": "an int", "float": "a double", "dict": "a map"}
    return names.get(type(value).__name__, f"a {type(value).__name__}")


def _failure(text: str, problem: str) -> errors.FailedPrecondition:
    shown = text if len(text) <= _CLIP else text[:_CLIP] + "…"
    return errors.FailedPrecondition(
        f"the expression {shown!r} {_said(problem)}", reason="EXPRESSION_FAILED", metadata={"expression": shown}
    )


def _said(problem: str) -> str:
    return problem if problem.startswith("gives") else f"cannot be evaluated: {problem[:300]}"
