"""What is kept for a time: request ids, and the changes that a resumed watch is told again.

Changes are told from the revisions, which stay: runs are pinned to them, rollbacks go back to them, and the audit
speaks of them. What has an end is how far back a watch may resume; from further back a snapshot is quicker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, Self

import structlog

from libs import errors

log = structlog.get_logger()
_FIRST_PAUSE: Final = 60.0
_BATCH: Final = 500


class RetentionStore(Protocol):
    async def claim(self, now: datetime, every: timedelta) -> bool:
        """Whether this process does the round that is due; of several that ask at once, one does."""

    async def forget_requests(self, before: datetime, limit: int) -> int:
        """How many of at most `limit` were forgotten."""

    async def longer_than(self, kept: int, *, after: str, limit: int) -> Sequence[str]:
        """Tenants with more changes than `kept`, by name."""

    async def forget_changes(self, tenant: str, before: datetime, kept: int, limit: int) -> int:
        """Forgets at most `limit` of the oldest changes, never of the newest `kept`; 0 if there was none to forget."""


@dataclass(frozen=True, slots=True)
class Limits:
    every: timedelta
    changes: timedelta
    fewest_changes: int
    requests: timedelta


class Retention:
    def __init__(self, store: RetentionStore, limits: Limits, *, batch: int = _BATCH) -> None:
        self._store, self._limits, self._batch = store, limits, batch
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def round(self) -> bool:
        """Forgets what is too old, in small batches; False if it was another process's turn."""
        now = datetime.now(UTC)
        if not await self._store.claim(now, self._limits.every):
            return False
        while await self._store.forget_requests(now - self._limits.requests, self._batch) == self._batch:
            pass
        tenant, kept = "", self._limits.fewest_changes
        while found := await self._store.longer_than(kept, after=tenant, limit=self._batch):
            for tenant in found:
                while await self._store.forget_changes(tenant, now - self._limits.changes, kept, self._batch):
                    pass
        return True

    async def _run(self) -> None:
        every = self._limits.every.total_seconds()
        await asyncio.sleep(min(_FIRST_PAUSE, every))
        while True:
            try:
                await self.round()
            except errors.Unavailable:  # it is logged where it was found
                pass
            except Exception:
                log.exception("the upkeep goes on after an error")
            await asyncio.sleep(every)
