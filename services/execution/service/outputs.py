"""Answers that are data: checked, and asked for once more where they do not fit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import jsonschema
import referencing.exceptions

from libs import errors
from services.execution.service.schemas import validator
from services.execution.service.tools import parse_object


class Unfit(Exception):
    """A text that is no answer; `text` is kept for whoever looks for the cause."""

    def __init__(self, problem: str, text: str) -> None:
        super().__init__(problem)
        self.problem, self.text = problem, text

    def error(self) -> errors.Error:
        return errors.FailedPrecondition(f"the model's answer {self.problem}", reason="OUTPUT_INVALID")

    def request(self) -> str:
        """What the model is asked."""
        return (
            f"Your answer {self.problem}. Answer again with nothing but a JSON object that fits the schema: "
            "no explanation, no Markdown."
        )


class Uncheckable(Unfit):
    """The schema is to blame: another answer would be no better."""


def parsed(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    value = parse_object(_unfenced(text))
    if value is None:
        raise Unfit("is not a JSON object", text)
    try:
        validator(schema).validate(value)
    except referencing.exceptions.Unresolvable as error:
        raise Uncheckable(f"cannot be checked: its schema refers to {error.ref!r:.200}, which it lacks", text) from None
    except RecursionError:
        raise Uncheckable("cannot be checked: its schema refers to itself without end", text) from None
    except jsonschema.ValidationError as error:
        where = ".".join(map(str, error.absolute_path)) or "the whole"
        raise Unfit(f"does not fit the output schema: {where}: {error.message[:200]}", text) from None
    return value


async def repaired(
    text: str, schema: Mapping[str, Any], again: Callable[[str], Awaitable[str]]
) -> tuple[str, dict[str, Any]]:
    """The answer as text and as data; what does not fit is asked for `again`, once."""
    try:
        return text, parsed(text, schema)
    except Uncheckable:
        raise
    except Unfit as unfit:
        second = await again(unfit.request())
    return second, parsed(second, schema)


def _unfenced(text: str) -> str:
    """Without the Markdown fence that models like to put around JSON."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        return text[text.index("\n") + 1 : -3]
    return text
