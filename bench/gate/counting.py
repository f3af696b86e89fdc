"""What a piece of work does, counted: a count is the same on a busy machine."""

from __future__ import annotations

import asyncio
import gc
import itertools
import sqlite3
import statistics
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, Final
from unittest.mock import patch

import asyncpg

KINDS: Final = ("calls", "statements", "commits")
_ENDS: Final = ("COMMIT", "END")


async def settle() -> None:
    """Lets a stream come to where it waits for what is next: what comes before that is taken with fewer calls."""
    await asyncio.sleep(0.002)


@dataclass(frozen=True, slots=True)
class Work:
    """A round of it is so many `units`; what `besides` does is no part of them."""

    name: str
    once: Callable[[], Awaitable[object]]
    units: int = 1
    besides: Callable[[], Awaitable[object]] | None = None


class Counts:
    """Calls of functions, in Python and in C, of this thread and of those begun since; and what is said in SQL."""

    def __init__(self) -> None:
        self._calls, self._statements, self._commits = itertools.count(), itertools.count(), itertools.count()
        self.called: Counter[CodeType] | None = None
        """How often each function of Python was, where that is asked for."""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within, connections that are opened and threads that are begun are counted too."""
        open_sqlite, open_postgres = sqlite3.connect, asyncpg.connect

        def sqlite(*arguments: Any, **named: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = open_sqlite(*arguments, **named)
            connection.set_trace_callback(self._said)
            return connection

        async def postgres(*arguments: Any, **named: Any) -> Any:
            connection = await open_postgres(*arguments, **named)
            connection.add_query_logger(lambda said: self._said(said.query))
            return connection

        threading.setprofile(self._profile)
        try:
            with patch.object(sqlite3, "connect", sqlite), patch.object(asyncpg, "connect", postgres):
                yield
        finally:
            threading.setprofile(None)

    async def of(self, work: Work, rounds: int) -> dict[str, float]:
        """Of one unit, the median of the rounds: in a few of them something else happened too."""
        whole = await self._median(work.once, rounds)
        besides = await self._median(work.besides, rounds) if work.besides else (0,) * len(KINDS)
        return {kind: (a - b) / work.units for kind, a, b in zip(KINDS, whole, besides, strict=True)}

    async def _median(self, once: Callable[[], Awaitable[object]], rounds: int) -> tuple[int, ...]:
        await once()
        gc.freeze()
        gc.disable()  # what it would call when it comes is no part of the work
        try:
            found = [await self._round(once) for _ in range(rounds)]
        finally:
            gc.enable()
            gc.unfreeze()
        return tuple(map(statistics.median_low, zip(*found, strict=True)))

    async def _round(self, once: Callable[[], Awaitable[object]]) -> tuple[int, ...]:
        before = self._now()
        sys.setprofile(self._profile)
        try:
            await asyncio.ensure_future(once())  # with nobody above it: who awaits is called again with who is awaited
        finally:
            sys.setprofile(None)
        return tuple(now - then - 1 for then, now in zip(before, self._now(), strict=True))

    def _now(self) -> tuple[int, ...]:
        return tuple(map(next, (self._calls, self._statements, self._commits)))

    def _profile(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event in ("call", "c_call"):
            next(self._calls)
            if self.called is not None and event == "call":
                self.called[frame.f_code] += 1

    def _said(self, text: str) -> None:
        next(self._statements)
        if text.startswith(_ENDS):
            next(self._commits)
