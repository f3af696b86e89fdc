"""Results of tools that answer further calls with the same arguments."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final

from services.execution.model.tools import ToolResult

_OF_THE_REST: Final = 256


@dataclass(slots=True)
class _Flight:
    """A call that is under way, for all who ask the same meanwhile."""

    landed: asyncio.Event = field(default_factory=asyncio.Event)
    result: ToolResult | None = None


class ResultCache:
    """Of one process. What was not used for the longest goes first."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self._bytes = most_bytes, 0
        self._kept: OrderedDict[str, tuple[float, ToolResult]] = OrderedDict()
        self._flights: dict[str, _Flight] = {}

    async def get(self, key: str, ttl: float, patience: float, ask: Callable[[], Awaitable[ToolResult]]) -> ToolResult:
        """A result that is not older than `ttl`. Who asks while another one is asking, gets that one's; raises
        TimeoutError where it has to wait for longer than `patience`.
        """
        started = time.perf_counter()
        while True:
            if (found := self._found(key, ttl)) is None:
                if (flight := self._flights.get(key)) is None:
                    return await self._lead(key, ask)
                async with asyncio.timeout(patience):
                    await flight.landed.wait()
                found = flight.result
            if found is not None:
                return replace(found, cached=True, duration=time.perf_counter() - started)

    def _found(self, key: str, ttl: float) -> ToolResult | None:
        kept_at, result = self._kept.get(key, (0.0, None))
        if result is None or time.monotonic() - kept_at >= ttl:
            return None
        self._kept.move_to_end(key)
        return result

    async def _lead(self, key: str, ask: Callable[[], Awaitable[ToolResult]]) -> ToolResult:
        flight = self._flights[key] = _Flight()
        try:
            flight.result = await ask()
        finally:  # whoever waited for one that was given up asks anew
            del self._flights[key]
            flight.landed.set()
        if not flight.result.is_error:
            self._keep(key, flight.result)
        return flight.result

    def _keep(self, key: str, result: ToolResult) -> None:
        self._forget(key)
        self._kept[key] = (time.monotonic(), result)
        self._bytes += _size(result)
        while self._bytes > self._most:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: str) -> None:
        if (kept := self._kept.pop(key, None)) is not None:
            self._bytes -= _size(kept[1])


def _size(result: ToolResult) -> int:
    return len(result.output.encode()) + _OF_THE_REST
