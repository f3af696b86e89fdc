"""A chat of 200 tokens with one call of a tool, through the whole suite and through what it is compared with.

`dynamic-agents up` with one and with two processes a service, on SQLite, and on PostgreSQL where
DYNAMIC_AGENTS_TEST_POSTGRES names one, beside AgentOS, an agent by hand behind FastAPI that keeps nothing, and grpc.aio
alone, which sends a message for each piece and asks nobody. All ask the same provider, which sends at once; the load is
a program in Go. CPU and memory are those of all processes of what is loaded, PostgreSQL's own not counted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from bench import whole
from bench.execution import POSTGRES, postgres
from bench.report import Report, spread
from bench.streams import CHUNKS
from bench.whole import Round, Served, quantile

STREAMS: Final = (1, 16, 100, 1000)
WORKERS: Final = (1, 2)
INPUT: Final = f"tool-first chunks-{CHUNKS}"
PER_CORE: Final = "pieces/s per core"
_LEAST: Final = 8
ALONE: Final = "pieces/s per core of Execution alone"
_LEAST_OF: Final = {(PER_CORE, "AgentOS"): 3.0, (ALONE, "grpc.aio"): 1.0}
_CHARACTERS: Final = CHUNKS * len(" token0")


async def run(report: Report, *, quick: bool) -> None:
    async with AsyncExitStack() as stack:
        folder, upstream = await stack.enter_async_context(whole.ready())
        pairs = [await _side_by_side(stack, folder, upstream, workers) for workers in WORKERS]
        everything = [one for pair in pairs for side in pair for one in side]
        alone = await stack.enter_async_context(whole.bare())
        for streams in STREAMS:
            few = (1, 2) if streams == STREAMS[-1] else (2, 5)
            for number in range(few[0] if quick else few[1]):
                targets = [*everything, alone]
                for one in targets if number % 2 else reversed(targets):
                    await _round(one, streams)
    for ours, theirs in pairs:
        for one in ours:
            for streams in STREAMS:
                _note(report, one, [*theirs, alone], streams)


async def _side_by_side(
    stack: AsyncExitStack, folder: Path, upstream: str, workers: int
) -> tuple[list[Served], list[Served]]:
    """Ours and theirs, of so many processes."""
    enter = stack.enter_async_context
    name = "1 process" if workers == 1 else f"{workers} processes"
    ours = [await enter(whole.suite(f"SQLite, {name}", upstream, folder / f"sqlite-{workers}", workers=workers))]
    if POSTGRES in os.environ:
        url = await enter(postgres())
        called = f"PostgreSQL, {name}"
        ours.append(
            await enter(whole.suite(called, upstream, folder / f"postgres-{workers}", workers=workers, url=url))
        )
    theirs = []
    for start in (whole.agent_os(upstream, folder, workers=workers), whole.fastapi(upstream, workers=workers)):
        try:
            theirs.append(await enter(start))
        except (RuntimeError, TimeoutError) as error:
            print(f"left out: {error or 'it does not start'}")
    return ours, theirs


async def _round(target: Served, streams: int) -> None:
    made = await target.round(streams, runs=max(streams, _LEAST), at_once=streams, input=INPUT, characters=_CHARACTERS)
    if errors := made.seen.errors:
        print(f"{target.name}, {streams} at once: {len(errors)} failed, {', '.join(sorted(set(errors))[:3])}")


_FIGURES: Final[Sequence[tuple[str, str, Callable[[Round], float]]]] = (
    ("pieces/s", "", lambda one: _pieces(one) / one.seen.seconds),
    (PER_CORE, "", lambda one: _per_core(one)),
    (ALONE, "", lambda one: _pieces(one) / one.execution),
    ("first text, median", "ms", lambda one: quantile(one.seen.first_texts, 0.5)),
    ("first text, p99", "ms", lambda one: quantile(one.seen.first_texts, 0.99)),
    ("whole run, median", "ms", lambda one: quantile(one.seen.totals, 0.5)),
    ("memory of all processes", "MiB", lambda one: one.memory / 2**20),
)


def _pieces(one: Round) -> int:
    return len(one.seen.totals) * CHUNKS


def _per_core(one: Round) -> float:
    return _pieces(one) / one.cpu


def _note(report: Report, one: Served, others: Sequence[Served], streams: int) -> None:
    rounds = one.rounds[streams]
    for each in (one, *others):
        lost = [len(made.seen.errors) for made in each.rounds[streams]]
        report.note("suite", f"{each.name}: failed runs, {streams} at once", "", lost, most=0)
    for name, unit, figure in _FIGURES:
        found = [figure(each) for each in rounds]
        for other in others:
            beside = [(_per_core if name == ALONE else figure)(each) for each in other.rounds[streams]]
            label = f"{one.name}: {name}, {streams} at once"
            aim = {"least": _LEAST_OF.get((name, other.name.partition(",")[0]))}
            report.note("suite", label, unit, found, against=other.name, baseline=beside, **aim)
    print(f"{one.name}, {streams} at once: {spread([_per_core(each) for each in rounds])} pieces/s per core")
