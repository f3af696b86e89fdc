"""Tables of what was measured, and how it stands to the aims."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from bench.report import Report
from bench.streams import Round, Target

Figure = Callable[[Round], float]
Pairs = Iterable[tuple[str, str]]


def table(targets: Sequence[Target], streams: Sequence[int]) -> None:
    columns = f"{'first text ms':>26}{'p95':>8}{'chunks/s':>22}{'chunks/s/core':>22}{'us CPU':>8}{'events':>8}"
    print(f"{'':<28}{'streams':>8}{columns}")
    for number in streams:
        for one in targets:
            print(f"{one.name:<28}{number:>8}{_row(one.rounds[number])}")


def _row(rounds: Sequence[Round]) -> str:
    first = sorted(one * 1e3 for each in rounds for one in each.first)
    late = first[int(len(first) * 0.95)]
    medians = spread([each.median_first * 1e3 for each in rounds], 1)
    rate, core = spread([each.rate for each in rounds]), spread([1 / each.per_chunk for each in rounds])
    cpu = statistics.median(each.per_chunk for each in rounds) * 1e6
    events = statistics.median(each.events for each in rounds)
    return f"{medians:>26}{late:>8.1f}{rate:>22}{core:>22}{cpu:>8.1f}{events:>8.0f}"


def spread(figures: Sequence[float], digits: int = 0) -> str:
    return f"{statistics.median(figures):.{digits}f} ({min(figures):.{digits}f}-{max(figures):.{digits}f})"


def note(report: Report, found: Mapping[str, Target], streams: Sequence[int], faster: Pairs, kept: Pairs) -> None:
    """Each figure beside that of a round that stood near it."""

    def tell(number: int, name: str, unit: str, sides: tuple[str, str], figure: Figure, **aim: float) -> None:
        one, other = ([figure(each) for each in found[side].rounds[number]] for side in sides)
        label = f"{sides[0]}: {name}, {number} at once"
        report.note("execution", label, unit, one, against=sides[1], baseline=other, **aim)

    for number in streams:
        for sides in faster:
            if sides[1] in found:
                tell(number, "pieces/s per core", "", sides, lambda one: 1 / one.per_chunk, least=3)
                tell(number, "first text", "ms", sides, lambda one: one.median_first * 1e3, most=1)
        for sides in kept:
            tell(number, "CPU a piece", "us", sides, lambda one: one.per_chunk * 1e6, most=1.3)
            tell(number, "time", "s", sides, lambda one: one.seconds, most=1.3)
