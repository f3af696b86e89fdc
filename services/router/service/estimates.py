"""Tokens without a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from services.router.model import Call, ChatCall
from services.router.service.guardrails import texts
from services.router.service.state import DeploymentState

_CHARACTERS: Final = 4
_MEDIUM: Final = 1000
_TURN: Final = 8


def tokens(call: Call) -> int:
    """About how many tokens go to the model."""
    return sum(map(len, texts(call))) // _CHARACTERS + _around(call)


def most_tokens(call: Call) -> int:
    """As many as a tokenizer could make of it: one of each byte."""
    return sum(len(text.encode()) for text in texts(call)) + _CHARACTERS * _around(call)


def _around(call: Call) -> int:
    """Of tools, media, and what marks the turns."""
    if not isinstance(call, ChatCall):
        return 0
    turns = _TURN * len(call.messages) + sum(_media(m.get("content")) for m in call.messages) * _MEDIUM
    return turns + len(str(call.tools)) // _CHARACTERS if call.tools else turns


def _media(content: Any) -> int:
    if not isinstance(content, list | tuple):
        return 0
    return sum(1 for part in content if isinstance(part, Mapping) and part.get("type") != "text")


def cost(state: DeploymentState, input_tokens: int, output_tokens: int) -> float:
    """Dollars, 0 where the price is not known."""
    if state.facts is None:
        return 0.0
    pricing = state.facts.pricing
    return input_tokens * (pricing.input or 0.0) + output_tokens * (pricing.output or 0.0)
