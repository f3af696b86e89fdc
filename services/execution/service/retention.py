"""What is kept for a time: the events and journals of executions that have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, Self

import structlog

from libs import errors

log = structlog.get_logger()
_EVERY: Final = 60.0
_BATCH: Final = 50


class RetentionStore(Protocol):
    async def forget(self, before: datetime, limit: int, *, tenant: str | None, besides: Collection[str]) -> int:
        """Forgets the events, all but the last, and the journals of at most `limit` executions that ended before then,
        of one tenant or of all besides some; gives how many.
        """

    async def forget_calls(self, before: datetime, *, tenant: str | None, besides: Collection[str]) -> None:
        """Forgets the records of tool calls that ended before then."""

    async def compact(self, before: datetime, limit: int) -> int:
        """Puts the text of at most `limit` executions together; gives how many."""


@dataclass(frozen=True, slots=True)
class Periods:
    events: timedelta | None
    """None: for ever."""
    by_tenant: Mapping[str, timedelta]
    compact_after: timedelta | None


class Retention:
    def __init__(self, store: RetentionStore, periods: Periods) -> None:
        self._store, self._periods = store, periods
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def round(self) -> None:
        """Several processes may be at it at once: each takes what no other has taken."""
        now, periods = datetime.now(UTC), self._periods
        for tenant, period in periods.by_tenant.items():
            await self._forget(now - period, tenant, ())
        if periods.events is not None:
            await self._forget(now - periods.events, None, list(periods.by_tenant))
        if periods.compact_after is not None:
            while await self._store.compact(now - periods.compact_after, _BATCH) == _BATCH:
                pass

    async def _forget(self, before: datetime, tenant: str | None, besides: Collection[str]) -> None:
        await self._store.forget_calls(before, tenant=tenant, besides=besides)
        while await self._store.forget(before, _BATCH, tenant=tenant, besides=besides) == _BATCH:
            pass

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            try:
                await self.round()
            except errors.Unavailable:  # it is logged where it was found
                pass
            except Exception:
                log.exception("the upkeep goes on after an error")
