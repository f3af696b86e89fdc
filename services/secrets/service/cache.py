"""What backends answered: fresh, refreshed ahead, stale for as long as the backend is silent, gone."""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import structlog

from libs import deadline, errors

log = structlog.get_logger()
Clock = Callable[[], float]
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Policy:
    ttl: float = 300.0
    """Seconds for which an answer is served without a look at the backend."""
    max_stale: float = 3600.0
    """Seconds after which an answer is not served at all."""
    negative: float = 10.0
    """Seconds for which an absence is believed."""
    ahead: tuple[float, float] = (0.7, 0.95)
    """Between which parts of the ttl a refresh in the background begins."""
    size: int = 10_000


@dataclass(frozen=True, slots=True)
class Hit(Generic[V]):
    value: V
    age: float = 0.0
    stale: bool = False
    cached: bool = False


@dataclass(slots=True)
class _Entry(Generic[V]):
    value: V
    fetched: float
    refresh_at: float
    retry_at: float = 0.0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class _Absence:
    error: errors.NotFound
    until: float


class Cache(Generic[K, V]):
    def __init__(self, policy: Policy, *, clock: Clock = time.monotonic) -> None:
        self._policy, self._clock = policy, clock
        self._entries: OrderedDict[K, _Entry[V] | _Absence] = OrderedDict()
        self._loading: dict[K, asyncio.Task[V]] = {}
        self.lookups = {"hit": 0, "stale": 0, "miss": 0}

    def peek(self, key: K, load: Callable[[], Awaitable[V]]) -> Hit[V] | None:
        """What can be served at once."""
        entry, now = self._entries.get(key), self._clock()
        if isinstance(entry, _Absence):
            if now < entry.until:
                self.lookups["hit"] += 1
                raise _again(entry.error)
            del self._entries[key]
            return None
        if entry is None:
            return None
        age = now - entry.fetched
        if age < self._policy.ttl:
            self._entries.move_to_end(key)
            if now >= max(entry.refresh_at, entry.retry_at) and key not in self._loading:
                self._start(key, load)
            self.lookups["hit"] += 1
            return Hit(entry.value, age, cached=True)
        if now < entry.retry_at and age <= self._policy.max_stale:
            self.lookups["stale"] += 1
            return Hit(entry.value, age, stale=True, cached=True)
        return None

    async def get(self, key: K, load: Callable[[], Awaitable[V]], *, refresh: bool = False) -> Hit[V]:
        if not refresh and (hit := self.peek(key, load)):
            return hit
        self.lookups["miss"] += 1
        try:
            async with asyncio.timeout(deadline.remaining()):
                return Hit(await asyncio.shield(self._loading.get(key) or self._start(key, load)))
        except errors.Unavailable:
            if stale := self._stale(key):
                return stale
            raise
        except TimeoutError:
            if stale := self._stale(key):
                return stale
            raise errors.DeadlineExceeded("the backend did not answer in time") from None

    def discard(self, matches: Callable[[K], bool]) -> None:
        """Forgets, and what is being loaded will not be remembered."""
        for key in [key for key in self._entries if matches(key)]:
            del self._entries[key]
        for key in [key for key in self._loading if matches(key)]:
            del self._loading[key]

    def known(self) -> set[K]:
        return {*self._entries, *self._loading}

    async def close(self) -> None:
        tasks = list(self._loading.values())
        self._entries.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _stale(self, key: K) -> Hit[V] | None:
        entry = self._entries.get(key)
        if not isinstance(entry, _Entry):
            return None
        age = self._clock() - entry.fetched
        return Hit(entry.value, age, stale=True, cached=True) if age <= self._policy.max_stale else None

    def _start(self, key: K, load: Callable[[], Awaitable[V]]) -> asyncio.Task[V]:
        """One load for all who wait; it goes on though each of them leaves."""
        task = self._loading[key] = asyncio.create_task(self._load(key, load))
        task.add_done_callback(_observed)
        return task

    async def _load(self, key: K, load: Callable[[], Awaitable[V]]) -> V:
        deadline.enter(None)  # not that of the one who happened to come first
        began = self._clock()
        try:
            value = await load()
        except errors.Unavailable as error:
            if self._is_current(key):
                self._postpone(key, error.retry_after or 0.0)
            raise
        except errors.NotFound as error:
            if self._is_current(key):
                self._keep(key, _Absence(error, self._clock() + self._policy.negative))
            raise
        except errors.Error:
            if self._is_current(key):
                self._entries.pop(key, None)
            raise
        else:
            if self._is_current(key):
                part = random.uniform(*self._policy.ahead)  # noqa: S311
                self._keep(key, _Entry(value, began, began + self._policy.ttl * part))
            return value
        finally:
            if self._is_current(key):
                del self._loading[key]

    def _is_current(self, key: K) -> bool:
        return self._loading.get(key) is asyncio.current_task()

    def _keep(self, key: K, entry: _Entry[V] | _Absence) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        while len(self._entries) > self._policy.size:
            self._entries.popitem(last=False)

    def _postpone(self, key: K, retry_after: float) -> None:
        entry = self._entries.get(key)
        if isinstance(entry, _Entry):
            pause = min(_FIRST_PAUSE * 2**entry.failures, _LONGEST_PAUSE) * random.uniform(0.5, 1.0)  # noqa: S311
            entry.retry_at = self._clock() + max(pause, retry_after)
            entry.failures = min(entry.failures + 1, 10)


def _observed(task: asyncio.Task[Any]) -> None:
    if task.cancelled() or (error := task.exception()) is None:
        return
    if not isinstance(error, errors.Error):
        log.error("a load failed", exc_info=error)


def _again(error: errors.NotFound) -> errors.NotFound:
    return errors.NotFound(error.kind, error.name, message=error.message, metadata=error.metadata)
