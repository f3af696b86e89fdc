"""A question to the user, which only a run can put."""

from __future__ import annotations

from typing import Any, Final

from services.execution.service.builtin.offers import Offer, declared
from services.execution.service.sources import ToolError

_MAX_QUESTION: Final = 10_000


def _ask_user(**_: Any) -> str:
    raise ToolError("only a run can ask its user")


ASKING: Final = Offer(
    declared(
        "ask_user",
        "Ask the user",
        "Asks the user a question and returns the answer: a text or, with a schema, a JSON object.",
        {
            "prompt": {
                "type": "string",
                "minLength": 1,
                "maxLength": _MAX_QUESTION,
                "description": "The question.",
            },
            "schema": {
                "type": "object",
                "properties": {"type": {"const": "object"}},
                "required": ["type"],
                "description": "JSON Schema of the answer, an object. Left out: a text.",
            },
        },
        ["prompt"],
    ),
    _ask_user,
)
