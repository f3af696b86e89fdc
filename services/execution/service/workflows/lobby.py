"""Where the branches of a run wait. While one of them is at work the others wait in the process; when all wait, the run
leaves it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

_LOOK: Final = 0.5
"""Seconds between looks for a signal."""


@dataclass
class Lobby:
    now: Callable[[], datetime]
    at_work: int = 1
    _waiting: set[asyncio.Event] = field(default_factory=set)

    def fork(self, count: int) -> Branches:
        return Branches(self, count)

    async def wait(self, until: datetime | None, came: Callable[[], Awaitable[bool]] | None = None) -> bool:
        """Waits for a time or for what `came`; False once nobody is at work any more."""
        with self._away() as all_wait:
            while True:
                left = (until - self.now()).total_seconds() if until else _LOOK
                if left <= 0:
                    return True
                if all_wait.is_set():
                    return False
                try:
                    async with asyncio.timeout(min(left, _LOOK) if came else left):
                        await all_wait.wait()
                except TimeoutError:
                    if came and await came():
                        return True

    @contextmanager
    def _away(self) -> Iterator[asyncio.Event]:
        all_wait = asyncio.Event()
        self._waiting.add(all_wait)
        self.left()
        try:
            yield all_wait
        finally:
            self._waiting.discard(all_wait)
            self.at_work += 1

    def left(self) -> None:
        self.at_work -= 1
        if self.at_work == 0:
            for all_wait in self._waiting:
                all_wait.set()


class Branches:
    """Of a fork: they are at work in place of the one that waits for them."""

    def __init__(self, lobby: Lobby, count: int) -> None:
        self._lobby, self._left = lobby, count

    @contextmanager
    def joined(self) -> Iterator[None]:
        self._lobby.at_work += self._left - 1
        try:
            yield
        finally:  # the last one handed its place on
            while self._left > 0:
                self._leave()

    @contextmanager
    def branch(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        self._left -= 1
        if self._left > 0:
            self._lobby.left()
