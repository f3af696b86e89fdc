"""`python -m bench gate` fails where a hot path does more than it did, or so much less that its budget is too high.

Times are worth nothing on a machine that others use too; counts are the same there. Each path runs in this process,
with real servers and a real database, and one thing is said after the other: nothing is put together by chance.
"""

from __future__ import annotations

import os
import platform
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import CodeType
from typing import Any, Final
from unittest.mock import patch

import structlog
import uvloop

from bench.execution import POSTGRES, postgres, service
from bench.gate import events, router, runs, unary
from bench.gate.budgets import TOLERANCE, Budgets, Found
from bench.gate.counting import Counts, Work
from bench.streams import free_port
from libs import logs
from services.execution.config import ExecutionSettings
from services.execution.service import log

ROUNDS: Final = 20
"""Short ones: services keep house a few times a second, and in some rounds they do not."""
_ADVICE: Final = """
DEARER: `python -m bench gate --only PATH --functions` says what is called most. Where the price is worth it, and
CHEAPER or NEW: make gate UPDATE=1, and say why in the commit."""


async def run(only: str = "", *, rounds: int = ROUNDS, functions: bool = False) -> Found:
    """What a unit of each path does."""
    found: dict[str, Mapping[str, float]] = {}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _quiet(stack, folder)
        # No commit waits for what may come: chance would decide what does. See commit_window, which is 0 for the same.
        stack.enter_context(patch.object(log, "_PAUSE", 0.0))
        port = free_port()
        env = {"DYNAMIC_AGENTS_DATA_DIR": str(folder), "DYNAMIC_AGENTS_REGISTRY_PORT": str(port)}
        await stack.enter_async_context(service("services.registry", port=port, **env))
        async for counts, work in _works(folder, f"127.0.0.1:{port}"):
            if only not in work.name:
                continue
            found[work.name] = await counts.of(work, rounds)
            if functions:
                await _tell(counts, work)
    return found


def _quiet(stack: AsyncExitStack, folder: Path) -> None:
    """Logs are made as they are in a service, and go nowhere."""
    logs.configure(ExecutionSettings.load(data_dir=folder, log_format="json"))
    nowhere = stack.enter_context(Path(os.devnull).open("wb"))  # noqa: SIM115
    structlog.configure(logger_factory=structlog.BytesLoggerFactory(nowhere))


async def _works(folder: Path, registry: str) -> AsyncIterator[tuple[Counts, Work]]:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(postgres()) if POSTGRES in os.environ else ""
        sources: list[Any] = [events.works(folder, "SQLite")]
        sources += [events.works(folder, "PostgreSQL", database_url=url)] if url else []
        sources += [unary.works(folder), runs.works(folder, registry)]
        for source in sources:
            counts = Counts()
            with counts.listening():
                async with source as works:
                    for work in works:
                        yield counts, work
        async with router.works(folder, registry) as works:  # LiteLLM is imported by a thread, which takes long enough
            for work in works:
                yield Counts(), work


async def _tell(counts: Counts, work: Work) -> None:
    counts.called = called = Counter[CodeType]()
    await counts.of(work, 1)
    counts.called = None
    print(f"\n{work.name}: functions of Python, a unit")
    for code, times in called.most_common(40):
        print(f"{times / work.units:10.2f}  {code.co_qualname}  {code.co_filename}:{code.co_firstlineno}")


def gate(*, update: bool, only: str, functions: bool) -> bool:
    """Whether all is as the budgets say."""
    version = ".".join(platform.python_version_tuple()[:2])
    budgets = Budgets.load()
    if version != budgets.python and not update:
        print(f"gate: left out, its budgets are for Python {budgets.python} and this is {version}")
        return True
    found = uvloop.run(run(only, functions=functions))
    if update:
        Budgets(version, TOLERANCE, {**budgets.paths, **_rounded(found)}).save()
        return True
    wrong = list(_table(budgets, found))
    if wrong:
        print(_ADVICE)
    return not wrong


def _rounded(found: Found) -> Found:
    return {name: {kind: round(count, 2) for kind, count in counts.items()} for name, counts in found.items()}


def _table(budgets: Budgets, found: Found) -> Iterator[str]:
    print(f"{'':40}{'':12}{'budget':>10}{'found':>10}")
    for name, kind, budget, count, wrong in budgets.judge(found):
        print(f"{name:40}{kind:12}{budget:10.5g}{count:10.5g}  {wrong}")
        if wrong:
            yield name
