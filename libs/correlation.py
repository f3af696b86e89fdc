"""The execution on whose behalf something is done: it goes with calls, so that the logs of all services name it."""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import Final

KEY: Final = "dynamic-agents-execution"
_ID: Final = re.compile(r"[0-9A-Za-z-]{1,64}")
_current: ContextVar[str] = ContextVar("execution", default="")


def enter(execution_id: str) -> None:
    """Names the execution for the rest of this task; what cannot be an id is no name."""
    if _ID.fullmatch(execution_id):
        _current.set(execution_id)


def current() -> str:
    """Empty outside of any execution."""
    return _current.get()
