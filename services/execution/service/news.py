"""Word of the runs of other processes, for those who watch them from here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class News:
    """It may be late or missing: who waits for it looks from time to time all the same."""

    def __init__(self) -> None:
        self.comes = False
        """Whether there is a way on which it comes."""
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def tell(self, execution_id: str) -> None:
        for waiting in self._waiting.get(execution_id, ()):
            waiting.set()

    @contextmanager
    def coming(self) -> Iterator[None]:
        """All look once when it begins to come, and when it ends."""
        self._turn(True)
        try:
            yield
        finally:
            self._turn(False)

    def _turn(self, comes: bool) -> None:
        self.comes = comes
        for execution_id in self._waiting:
            self.tell(execution_id)

    @contextmanager
    def of(self, execution_id: str) -> Iterator[asyncio.Event]:
        told = asyncio.Event()
        self._waiting.setdefault(execution_id, set()).add(told)
        try:
            yield told
        finally:
            self._waiting[execution_id].discard(told)
            if not self._waiting[execution_id]:
                del self._waiting[execution_id]
