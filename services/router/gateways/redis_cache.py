"""Answers in Redis. One that is down costs a call nothing but the try."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import structlog
from redis.exceptions import RedisError

log = structlog.get_logger()

_PATIENCE: Final = 0.5
_RESPITE: Final = 5.0
"""Seconds for which a Redis that is down is left alone."""
_FAULTS: Final = (RedisError, OSError, TimeoutError)


class RedisStore:
    def __init__(self, redis: Any, *, prefix: str) -> None:
        self._redis, self._prefix = redis, prefix
        self._down_until = 0.0

    async def get(self, key: str) -> bytes | None:
        if self._is_down:
            return None
        try:
            async with asyncio.timeout(_PATIENCE):
                found = await self._redis.get(self._name(key))
        except _FAULTS as error:
            self._lost(error)
            return None
        return bytes(found) if found is not None else None

    async def put(self, key: str, answer: bytes, ttl: float) -> None:
        if self._is_down:
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._redis.set(self._name(key), answer, px=max(1, int(ttl * 1000)))
        except _FAULTS as error:
            self._lost(error)

    @property
    def _is_down(self) -> bool:
        return time.monotonic() < self._down_until

    def _name(self, key: str) -> str:
        return f"{self._prefix}answer:{key}"

    def _lost(self, error: Exception) -> None:
        log.warning("no cache of answers: redis does not answer", kind=type(error).__name__)
        self._down_until = time.monotonic() + _RESPITE
