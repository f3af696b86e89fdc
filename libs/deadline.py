"""The current call's deadline, which bounds every call that it makes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


def enter(seconds: float | None) -> None:
    """Sets what is left, in seconds from now, for the rest of this task; None is no deadline."""
    _deadline.set(None if seconds is None else asyncio.get_running_loop().time() + seconds)


def remaining() -> float | None:
    """Seconds left, never negative; None without a deadline."""
    at = _deadline.get()
    return None if at is None else max(0.0, at - asyncio.get_running_loop().time())


def narrowed(seconds: float | None) -> float | None:
    """The lesser of `seconds` and what is left."""
    left = remaining()
    return min((value for value in (seconds, left) if value is not None), default=None)


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Narrows what is left for what is done inside."""
    token = _deadline.set(_deadline.get())
    try:
        enter(narrowed(seconds))
        yield
    finally:
        _deadline.reset(token)
