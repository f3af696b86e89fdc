"""The names under which models see tools."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from services.execution.model.tools import BoundTool

_LONGEST: Final = 64
_RESERVED: Final = ("update_session_state", "update_user_memory")
"""Of tools that an agent has of itself."""


def named(bound: Sequence[BoundTool], besides: Sequence[BoundTool] = ()) -> tuple[BoundTool, ...]:
    """Each under a name of its own, that every provider takes; the first of those with the same name keeps it."""
    taken = {*_RESERVED, *(one.tool.function_name for one in besides)}
    found = []
    for one in bound:
        name = next(name for name in _candidates(one) if name not in taken)
        taken.add(name)
        is_own = name == one.tool.function_name
        found.append(one if is_own else replace(one, tool=replace(one.tool, function_name=name)))
    return tuple(found)


def _candidates(bound: BoundTool) -> Iterator[str]:
    tool = bound.tool
    yield fitted(tool.function_name)
    yield fitted(tool.tool_id)
    yield f"{fitted(tool.tool_id)[: _LONGEST - 9]}_{_digest(tool.tool_id)}"


def told_apart(tool_ids: Sequence[str]) -> dict[str, str]:
    """A name for each id, its own; the first of those that would have the same keeps it."""
    taken: dict[str, str] = {}
    for tool_id in tool_ids:
        name = fitted(tool_id)
        taken[f"{name[: _LONGEST - 9]}_{_digest(tool_id)}" if name in taken else name] = tool_id
    return {tool_id: name for name, tool_id in taken.items()}


def fitted(name: str) -> str:
    """The name in letters, digits, underscores and hyphens, at most 64; one that had to be cut ends in its digest."""
    fit = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    if len(fit) <= _LONGEST:
        return fit
    return f"{fit[: _LONGEST - 9]}_{_digest(name)}"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]
