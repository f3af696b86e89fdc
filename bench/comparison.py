"""Tables of what was measured, and how it stands to the aims."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from bench.streams import Round, Target

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


def aims(found: Mapping[str, Target], streams: Sequence[int], faster: Pairs, kept: Pairs) -> None:
    """Each figure is a ratio of two rounds that stood near each other."""
    print(f"\n{'streams':<9}{'aim':<68}{'found':>26}")
    for number in streams:
        for ours, theirs in faster:
            if theirs in found:
                of = _ratios(found[ours].rounds[number], found[theirs].rounds[number])
                _aim(number, f"chunks/s per core: {ours} / {theirs}", of(lambda r: 1 / r.per_chunk), least=3)
                _aim(number, f"first text: {ours} / {theirs}", of(lambda r: r.median_first), most=1)
        for ours, without in kept:
            of = _ratios(found[ours].rounds[number], found[without].rounds[number])
            _aim(number, f"CPU: {ours} / {without}", of(lambda r: r.per_chunk), most=1.3)
            _aim(number, f"time: {ours} / {without}", of(lambda r: r.seconds), most=1.3)


def _ratios(one: Sequence[Round], other: Sequence[Round]) -> Callable[[Callable[[Round], float]], list[float]]:
    return lambda figure: [figure(a) / figure(b) for a, b in zip(one, other, strict=True)]


def _aim(streams: int, name: str, figures: Sequence[float], *, least: float = 0, most: float = float("inf")) -> None:
    wanted = f">= {least:g}" if least else f"<= {most:g}"
    met = "met" if least <= statistics.median(figures) <= most else "MISSED"
    print(f"{streams:<9}{name:<68}{wanted:>8}{spread(figures, 2):>18}  {met}")
