"""Counts over the last minutes, in constant memory."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

MINUTE: Final = 60.0
WINDOW: Final = 300.0
_SLOT: Final = 5.0


@dataclass(slots=True)
class Totals:
    successes: int = 0
    failures: int = 0
    classes: Counter[str] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        return self.successes + self.failures


class Outcomes:
    """How calls ended in the last five minutes, in slots of five seconds."""

    __slots__ = ("_slots",)

    def __init__(self) -> None:
        self._slots: deque[tuple[int, Totals]] = deque(maxlen=int(WINDOW / _SLOT) + 1)

    def at(self, now: float) -> Totals:
        """The slot to count in."""
        number = int(now / _SLOT)
        if not self._slots or self._slots[-1][0] != number:
            self._slots.append((number, Totals()))
        return self._slots[-1][1]

    def within(self, seconds: float, now: float) -> Totals:
        first, sums = int((now - seconds) / _SLOT), Totals()
        for number, totals in self._slots:
            if number >= first:
                sums.successes += totals.successes
                sums.failures += totals.failures
                sums.classes.update(totals.classes)
        return sums

    def reliability(self, now: float) -> float:
        """Part of the calls of the window that were answered, from 1 on while little is known."""
        first, successes, failures = int((now - WINDOW) / _SLOT), 2, 0
        for number, totals in self._slots:
            if number >= first:
                successes += totals.successes
                failures += totals.failures
        return successes / (successes + failures)


class MinuteCount:
    """What was used in the running minute."""

    __slots__ = ("_minute", "_used")

    def __init__(self) -> None:
        self._minute, self._used = 0, 0

    def add(self, amount: int, now: float) -> None:
        self._used = max(0, self.used(now) + amount)

    def used(self, now: float) -> int:
        if (minute := int(now / MINUTE)) != self._minute:
            self._minute, self._used = minute, 0
        return self._used


class Samples:
    """The newest measurements, each of which counts for a while."""

    __slots__ = ("_samples",)

    def __init__(self, most: int) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=most)

    def add(self, value: float, now: float) -> None:
        self._samples.append((now, value))

    def since(self, at: float) -> list[float]:
        return [value for when, value in self._samples if when >= at]

    def mean(self, at: float, most: int) -> float | None:
        """Of the newest `most` since `at`."""
        newest = islice(reversed(self._samples), most)
        values = [value for when, value in newest if when >= at]
        return sum(values) / len(values) if values else None


def until_next_minute(now: float) -> float:
    return MINUTE - now % MINUTE
