"""Leases: a sign of life for each run of this process; those of processes that have died are taken up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol, Self

import structlog

from libs import errors
from services.execution.model.executions import Execution
from services.execution.service.continuation import Continuation
from services.execution.service.log import taken_over
from services.execution.service.runs import Limits, Runs

log = structlog.get_logger()

_LAST_WORDS: Final = 0.5
"""Seconds of the drain's grace in which runs that it ends say so to their watchers."""
_DAY: Final = 86400.0
_CLAIMED_AT_ONCE: Final = 50


class LeaseStore(Protocol):
    async def renew(self, owner: str, execution_ids: Collection[str], lease: float) -> Mapping[str, str | None]:
        """Renews the owner's leases, for so many seconds; gives those that it still has, with the reason for which
        somebody wants them cancelled.
        """

    async def claim(self, owner: str, lease: float, *, besides: Collection[str], limit: int) -> Sequence[Execution]:
        """Takes executions whose lease is over; each can be had once."""


class Calls(Protocol):
    async def hear(self, wanted: Callable[[], None]) -> None:
        """Says when another process has left an execution to whoever takes it up; where nothing can be heard, ends."""


class Drain(Protocol):
    async def wait_for(self, awaitable: Coroutine[Any, Any, Any], seconds: float) -> Any:
        """Raises Unavailable as soon as the server stops."""


class Leases:
    def __init__(
        self, store: LeaseStore, calls: Calls, runs: Runs, continuation: Continuation, drain: Drain, limits: Limits
    ) -> None:
        self._store, self._calls, self._runs, self._continuation = store, calls, runs, continuation
        self._drain, self._limits = drain, limits
        self._tasks: list[asyncio.Task[None]] = []
        self._claiming, self._patient_until = True, 0.0

    async def __aenter__(self) -> Self:
        hearing = self._calls.hear(self._runs.wanted.set)
        self._tasks = [asyncio.create_task(work) for work in (self._keep_house(), self._end_with_server(), hearing)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        self._runs.leave_all()
        await asyncio.gather(*self._tasks, self._runs.ended(), return_exceptions=True)

    async def _end_with_server(self) -> None:
        with contextlib.suppress(errors.Unavailable):
            while True:
                await self._drain.wait_for(asyncio.sleep(_DAY), _DAY)
        self._claiming = False
        await asyncio.sleep(self._limits.drain_grace / 2)
        self._runs.prepare_to_leave()
        await asyncio.sleep(self._limits.drain_grace / 2 - _LAST_WORDS)
        self._runs.leave_all()

    async def _keep_house(self) -> None:
        """Renews this process's leases, hears cancellations from others, and takes up runs whose process has died."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(0.5, self._limits.lease / 4)):
                    await self._runs.wanted.wait()
            self._runs.wanted.clear()
            try:
                await self._renew()
                await self._continuation.look()
                if self._claiming and asyncio.get_running_loop().time() >= self._patient_until:
                    await self._claim()
            except errors.Unavailable:
                log.warning("housekeeping: the database does not answer")
                # When it is back, those who live renew their leases first.
                self._patient_until = asyncio.get_running_loop().time() + self._limits.lease / 3
            except Exception:
                log.exception("housekeeping failed")

    async def _renew(self) -> None:
        asked = {execution_id: self._runs.get(execution_id) for execution_id in self._runs}
        held = await self._store.renew(self._runs.owner, list(asked), self._limits.lease)
        for execution_id, run in asked.items():
            if run is None or run.record.ended:
                continue
            if execution_id not in held:
                run.record.broken(taken_over(), moved=True)
            elif (reason := held[execution_id]) is not None:
                run.cancel(reason)

    async def _claim(self) -> None:
        limit = min(_CLAIMED_AT_ONCE, self._runs.room)
        if limit <= 0:
            return
        besides, lease = list(self._runs), self._limits.lease
        for execution in await self._store.claim(self._runs.owner, lease, besides=besides, limit=limit):
            try:
                await self._runs.take_up(execution)
            except errors.Unavailable:
                raise
            except Exception:
                log.exception("execution cannot be taken up", execution_id=execution.execution_id)
