"""Differences between two contents, and the merge of two changes to a third. Lists are values as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


LONGEST_PATH: Final = 1000
"""Characters; what lies deeper is a value as a whole, or the paths would be far larger than what they lead through."""
MISSING: Final = _Missing()
"""The value of a field that is not there."""


@dataclass(frozen=True, slots=True)
class Difference:
    path: str
    base: Any
    target: Any


@dataclass(frozen=True, slots=True)
class Conflict:
    path: str
    base: Any
    mine: Any
    current: Any


def equal(one: Any, other: Any) -> bool:
    """As JSON has it: true is not 1, and 1 is 1.0, however a database gives it back."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return float(one) == float(other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def differences(base: Mapping[str, Any], target: Mapping[str, Any], path: str = "") -> Iterator[Difference]:
    for key in sorted({*base, *target}):
        here = f"{path}.{key}" if path else key
        one, other = base.get(key, MISSING), target.get(key, MISSING)
        if isinstance(one, Mapping) and isinstance(other, Mapping) and len(here) <= LONGEST_PATH:
            yield from differences(one, other, here)
        elif not equal(one, other):
            yield Difference(here, one, other)


def merge(
    base: Mapping[str, Any], mine: Mapping[str, Any], current: Mapping[str, Any], path: str = ""
) -> tuple[dict[str, Any], list[Conflict]]:
    """`current` with what `mine` changed since `base`; fields that both changed differently are conflicts."""
    merged: dict[str, Any] = {}
    conflicts: list[Conflict] = []
    for key in sorted({*base, *mine, *current}):
        here = f"{path}.{key}" if path else key
        was, my, now = (side.get(key, MISSING) for side in (base, mine, current))
        if equal(my, was) or equal(my, now):
            value = now
        elif equal(now, was):
            value = my
        elif isinstance(my, Mapping) and isinstance(now, Mapping) and len(here) <= LONGEST_PATH:
            value, inner = merge(was if isinstance(was, Mapping) else {}, my, now, here)
            conflicts += inner
        else:
            conflicts.append(Conflict(here, was, my, now))
            continue
        if value is not MISSING:
            merged[key] = value
    return merged, conflicts
