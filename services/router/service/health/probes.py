"""Tries of deployments that nobody else asks: each costs a token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from libs import deadline, errors, identity
from libs.identity import Caller
from services.router.model import Deployment
from services.router.service.health.board import Board, Record

log = structlog.get_logger()

_BETWEEN: Final = 10.0
"""Seconds between two probes of a deployment, however many ask."""
_AT_ONCE: Final = 8

TryOut = Callable[[Caller, Deployment], Awaitable[None]]
"""One short call of a deployment, which is counted as any other."""


class Probes:
    def __init__(self, try_out: TryOut | None) -> None:
        self._try_out = try_out
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def by_and_by(self, tenant: str, board: Board, now: float) -> None:
        """Those that are due and that nobody has called lately."""
        caller = board.caller or Caller(tenant, "router", frozenset({"*"}))
        for record in board.records.values() if board.probe_interval else ():
            if record.next_probe <= now:
                record.plan_probe(board.probe_interval, now, again=True)
                if not record.own.recent_requests:
                    self.ask(caller, record, now)

    def ask(self, caller: Caller, record: Record, now: float) -> None:
        if self._try_out and now - record.probed >= _BETWEEN:
            record.probed = now
            task = asyncio.create_task(self._ask(self._try_out, caller, record.deployment))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ask(self, try_out: TryOut, caller: Caller, deployment: Deployment) -> None:
        identity.enter(caller)
        deadline.enter(None)  # not that of the watch which asks
        async with self._room:
            try:
                await try_out(caller, deployment)
            except errors.Error as error:
                log.info("probe failed", deployment_id=deployment.deployment_id, reason=error.reason_code)
            except Exception:
                log.exception("probe failed", deployment_id=deployment.deployment_id)
