"""What serves streams of runs to a load, and what they cost it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import statistics
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHUNKS: Final = 200
PIECES: Final = [f" token{number % 10}" for number in range(CHUNKS)]
"""As bench.provider sends them."""
PACE: Final = 0.02
"""Seconds between two pieces for those with the agent "paced"."""
INPUT: Final = f"chunks-{CHUNKS}"
IDLE: Final = 200
_LENGTH: Final = sum(map(len, PIECES))
_LEAST: Final = 8


@dataclass(frozen=True)
class Round:
    """`cpu` is that of the server, in seconds."""

    chunks: int
    seconds: float
    cpu: float
    first: Sequence[float]
    events: float
    """With text, of a stream."""

    @property
    def rate(self) -> float:
        return self.chunks / self.seconds

    @property
    def per_chunk(self) -> float:
        return self.cpu / self.chunks

    @property
    def median_first(self) -> float:
        return statistics.median(self.first)


class Target(ABC):
    def __init__(self, name: str, pids: Sequence[int], agent: str = "helper") -> None:
        self.name, self._pids, self._agent = name, pids, agent
        self.rounds: dict[int, list[Round]] = defaultdict(list)

    @abstractmethod
    def events(self, agent: str) -> AsyncGenerator[str, None]:
        """The text of each event of a run, "" where it has none."""

    @abstractmethod
    async def resume(self) -> float:
        """Seconds that the events of a run that has ended take from its middle on."""

    def cpu(self) -> float:
        # The clock of a process, see clock_getcpuclockid(3).
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self._pids)

    def memory(self) -> int:
        pages = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self._pids)
        return sum(pages) * os.sysconf("SC_PAGE_SIZE")

    async def stream(self) -> tuple[float, int]:
        """Seconds to the first text, and how many events brought text."""
        started, first, length, events = time.perf_counter(), 0.0, 0, 0
        async with asyncio.timeout(240):
            async for text in self.events(self._agent):
                if text and not first:
                    first = time.perf_counter() - started
                length += len(text)
                events += bool(text)
        assert length == _LENGTH, (self.name, length)
        return first, events

    async def round(self, streams: int) -> Round:
        started, cpu, found = time.perf_counter(), self.cpu(), list[tuple[float, int]]()
        least = 1 if self._agent == "paced" else _LEAST
        for _ in range(max(1, least // streams)):
            found += await asyncio.gather(*(self.stream() for _ in range(streams)))
        seconds, spent = time.perf_counter() - started, self.cpu() - cpu
        first, events = zip(*found, strict=True)
        return Round(len(found) * CHUNKS, seconds, spent, first, statistics.mean(events))

    async def idle(self) -> float:
        """Bytes of memory that an open stream takes whose run says nothing."""
        before = self.memory()
        streams = [self.events("idle") for _ in range(IDLE)]
        await asyncio.gather(*(anext(stream) for stream in streams))
        used = self.memory() - before
        await asyncio.gather(*(stream.aclose() for stream in streams))
        await self._calm()
        return used / IDLE

    async def _calm(self) -> None:
        """Until it has cleared up what was broken off."""
        spent = 1.0
        async with asyncio.timeout(60):
            while spent > 0.05:
                before = self.cpu()
                await asyncio.sleep(0.5)
                spent = self.cpu() - before


@asynccontextmanager
async def process(*argv: str, **env: str) -> AsyncIterator[int]:
    """A process of its own; its pid."""
    started = await asyncio.create_subprocess_exec(*argv, env={**os.environ, **env}, stdout=asyncio.subprocess.DEVNULL)
    try:
        yield started.pid
    finally:
        if started.returncode is None:
            started.terminate()
        try:
            async with asyncio.timeout(20):
                await started.wait()
        except TimeoutError:
            started.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def calculator(expression: str) -> str:
    """Multiplies two numbers, as in 6 * 7."""
    one, other = expression.split("*")
    return str(int(one) * int(other))


def family(pid: int) -> list[int]:
    """The process and all that it has started, and so on."""
    children: dict[int, list[int]] = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children[parent].append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += children[one]
    return found
