"""What both bindings say in the same words."""

from __future__ import annotations

from typing import Final

from libs import errors
from services.execution.service.offers import Said

TTL: Final = 60_000
"""Milliseconds for which a list may be believed by who does not hear of changes."""
_EXECUTION: Final = "dynamicagents.dev/execution-id"
_REASON: Final = "dynamicagents.dev/reason"
_INVALID_PARAMS: Final = -32602
_INTERNAL_ERROR: Final = -32603
_REFUSED: Final = -32000


def meta(said: Said) -> dict[str, str]:
    """What goes along with a result."""
    told = {_EXECUTION: said.execution_id, _REASON: said.reason}
    return {key: value for key, value in told.items() if value}


def code_of(error: errors.Error) -> int:
    """JSON-RPC's number; the reason says more."""
    match error:
        case errors.InvalidArgument() | errors.NotFound():
            return _INVALID_PARAMS
        case errors.Internal():
            return _INTERNAL_ERROR
    return _REFUSED
