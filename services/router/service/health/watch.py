"""What watchers are told, and how a slow one is: the newest of each deployment, never a queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from libs import errors
from libs.identity import Caller
from services.router.model.health import DeploymentHealth, GroupHealth

_HEARTBEAT: Final = 15.0


@dataclass(eq=False, slots=True)
class Snapshot:
    deployments: Sequence[DeploymentHealth]
    groups: Sequence[GroupHealth]
    shared: bool
    config_fresh: bool
    message: bytes = b""
    """What the transport made of it, for all who get it."""


@dataclass(eq=False, slots=True)
class Change:
    health: DeploymentHealth
    message: bytes = b""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    shared: bool
    config_fresh: bool


Item = Snapshot | Change | Heartbeat


class Source(Protocol):
    """What a watch asks of that which it watches."""

    def snapshot(self, tenant: str, groups: frozenset[str], ids: frozenset[str]) -> Snapshot: ...

    async def heartbeat(self, caller: Caller) -> Heartbeat: ...

    def reported(self, caller: Caller, deployment_id: str, *, failed: bool) -> None: ...

    def probe(self, watch: Watch, deployment_ids: Collection[str]) -> None: ...


class Watch:
    """One watcher. It is told the newest of each deployment, however slowly it reads."""

    def __init__(self, source: Source, caller: Caller) -> None:
        self._source, self.caller = source, caller
        self._groups: frozenset[str] = frozenset()
        self._ids: frozenset[str] = frozenset()
        self._interval: float | None = None
        self._snapshot_due = self._heartbeat_due = False
        self._pending: dict[str, Change] = {}
        self._wake = asyncio.Event()
        self._error: errors.Error | None = None

    def watch(self, groups: Collection[str], ids: Collection[str], interval: float | None) -> None:
        self._groups, self._ids, self._interval = frozenset(groups), frozenset(ids), interval or _HEARTBEAT
        self._pending.clear()
        self._snapshot_due = True
        self._wake.set()

    def report(self, deployment_id: str, *, failed: bool) -> None:
        self._source.reported(self.caller, deployment_id, failed=failed)

    def probe(self, ids: Collection[str]) -> None:
        self._source.probe(self, ids)

    def wants(self, health: DeploymentHealth) -> bool:
        everything = not self._groups and not self._ids
        return everything or health.model_group in self._groups or health.deployment_id in self._ids

    def changed(self, change: Change) -> None:
        if self._interval is None:
            return
        self._pending.pop(change.health.deployment_id, None)
        self._pending[change.health.deployment_id] = change
        self._wake.set()

    def tell(self) -> None:
        """What is true for all has changed."""
        self._heartbeat_due = self._interval is not None
        self._wake.set()

    def fail(self, error: errors.Error) -> None:
        self._error = error
        self._wake.set()

    async def items(self) -> AsyncIterator[Item]:
        while True:
            if self._error:
                raise self._error
            if self._snapshot_due:
                self._snapshot_due = self._heartbeat_due = False
                self._pending.clear()
                yield self._source.snapshot(self.caller.tenant, self._groups, self._ids)
            elif self._pending:
                yield self._pending.pop(next(iter(self._pending)))
            elif self._heartbeat_due or not await self._woken():
                self._heartbeat_due = False
                yield await self._source.heartbeat(self.caller)

    async def _woken(self) -> bool:
        try:
            async with asyncio.timeout(self._interval):
                await self._wake.wait()
        except TimeoutError:
            return False
        self._wake.clear()
        return True
