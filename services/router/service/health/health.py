"""What was seen of deployments, made into states and told to watchers and other replicas as it changes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Final, Self, TypeVar

import structlog

from libs import errors
from libs.identity import Caller
from services.router import model
from services.router.model import Deployment, RoutingTable
from services.router.model.health import HealthState, Seen
from services.router.service.health.board import Board, Record
from services.router.service.health.ports import Drain, Exchange, Followed
from services.router.service.health.probes import Probes
from services.router.service.health.watch import Heartbeat, Snapshot, Watch

log = structlog.get_logger()
T = TypeVar("T")

_PAUSE: Final = 0.02
"""Seconds between two rounds: what happens meanwhile is told at once."""
_FIGURES: Final = 1.0
"""Seconds between two changes of a deployment that differ in figures alone."""
_SWEEP: Final = 10.0
_MOST_SNAPSHOTS: Final = 100
"""Kept of a tenant, for the filters that its watchers share."""
_FOLLOWING: Final = 1.0
"""Seconds that a heartbeat waits for a configuration that is not known."""
_REQUEST_AT_FAULT: Final = frozenset(
    {"UPSTREAM_REJECTED", "CONTEXT_WINDOW_EXCEEDED", "CONTENT_POLICY", "GUARDRAIL", "CAPABILITY_MISSING"}
)
_NOBODY_AT_FAULT: Final = frozenset(
    {"CANCELLED", "SECRET_UNRESOLVED", "SERVICE_UNAVAILABLE", "CREDENTIAL_INVALID", "SCOPE_MISSING"}
)
Key = tuple[str, str]
"""Tenant and deployment."""


class Health:
    def __init__(
        self,
        configurations: Followed,
        drain: Drain,
        *,
        exchange: Exchange | None = None,
        try_out: Callable[[Caller, Deployment], Awaitable[None]] | None = None,
        offline: bool = False,
        most_watches: int = 10_000,
    ) -> None:
        self._configurations, self._drain, self._exchange = configurations, drain, exchange
        self._probes, self._most_watches = Probes(try_out), most_watches
        self._always = tuple(model.OFFLINE.deployments()) if offline else ()
        self._boards: dict[str, Board] = {}
        self._watches = 0
        self._due: dict[Key, None] = {}
        self._later: dict[Key, None] = {}
        self._active: set[Key] = set()
        self._cooling: dict[Key, float] = {}
        self._wake = asyncio.Event()
        self._flags: dict[str, Heartbeat] = {}
        self._tasks: list[asyncio.Task[None]] = []
        configurations.listen(self._configured)
        if exchange:
            exchange.listen(self._heard, self._asked)

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._end_with_the_server())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, self._probes.stop(), return_exceptions=True)

    # What the Router tells of its calls.

    def began(self, tenant: str, deployment: Deployment) -> None:
        if record := self._find(tenant, deployment.deployment_id):
            record.in_flight += 1
            self._active.add((tenant, deployment.deployment_id))
            self._later[tenant, deployment.deployment_id] = None

    def ended(
        self, tenant: str, deployment: Deployment, seconds: float, first_token: float | None, reason: str | None
    ) -> None:
        record, key, now = self._find(tenant, deployment.deployment_id), (tenant, deployment.deployment_id), time.time()
        if record is None:
            return
        record.in_flight = max(0, record.in_flight - 1)
        self._later[key] = None
        if reason in _NOBODY_AT_FAULT:
            return
        if reason is None or reason in _REQUEST_AT_FAULT:
            record.window.succeeded(now, seconds, first_token)
        else:
            record.window.failed(now, reason)
        if reason is not None or record.last.state is not HealthState.HEALTHY:
            self._hurry(key)

    def cooling(self, tenant: str, deployment_id: str, until: float) -> None:
        if record := self._find(tenant, deployment_id):
            record.cooldown_until, record.half_open = until, until > 0
            self._cooling[tenant, deployment_id] = until
            self._active.add((tenant, deployment_id))
            self._hurry((tenant, deployment_id))

    def counts(self) -> Mapping[tuple[str, str], int]:
        """Deployments of all tenants, by model group and state."""
        boards = list(self._boards.values())
        seen = [record.last for board in boards for record in list(board.records.values())]
        return Counter((health.model_group, health.state.value) for health in seen)

    # What watchers say.

    @contextmanager
    def watching(self, caller: Caller, table: RoutingTable) -> Iterator[Watch]:
        self._drain.check()
        if self._watches >= self._most_watches:
            raise errors.ResourceExhausted("too many watchers of health", reason="QUEUE_FULL", retry_after=1.0)
        board = self._board(caller.tenant)
        if not board.configured:
            self._configured(caller.tenant, table)
        board.caller = caller
        watch = Watch(self, caller)
        board.watches.add(watch)
        self._watches += 1
        try:
            yield watch
        finally:
            board.watches.discard(watch)
            self._watches -= 1
            if not (board.watches or board.configured):
                self._boards.pop(caller.tenant, None)
                self._flags.pop(caller.tenant, None)

    async def table(self, caller: Caller) -> RoutingTable:
        return await self._configurations.table(caller)

    def reported(self, caller: Caller, deployment_id: str, *, failed: bool) -> None:
        """One that is not there, or no longer, is nothing to tell a client of."""
        if record := self._find(caller.tenant, deployment_id):
            record.window.reports.add(time.time(), caller.subject, failed=failed)
            self._active.add((caller.tenant, deployment_id))
            self._hurry((caller.tenant, deployment_id))

    def probe(self, watch: Watch, deployment_ids: Collection[str]) -> None:
        for name, record in self._board(watch.caller.tenant).records.items():
            if watch.wants(record.last) and (not deployment_ids or name in deployment_ids):
                self._probes.ask(watch.caller, record, time.time())

    def snapshot(self, tenant: str, groups: frozenset[str], ids: frozenset[str]) -> Snapshot:
        self._round(time.time(), everything=True)
        board, flags = self._board(tenant), self._flags_of(tenant)
        known = board.snapshots.get((groups, ids))
        if known is None or (known.shared, known.config_fresh) != (flags.shared, flags.config_fresh):
            if len(board.snapshots) >= _MOST_SNAPSHOTS:
                board.snapshots.clear()
            known = board.snapshots[groups, ids] = board.snapshot(groups, ids, flags)
        return known

    async def heartbeat(self, caller: Caller) -> Heartbeat:
        """While somebody watches, the tenant is followed."""
        with suppress(errors.Error, TimeoutError):
            async with asyncio.timeout(_FOLLOWING):
                await self._configurations.table(caller)
        return self._flags_of(caller.tenant)

    # What is made of it.

    async def _run(self) -> None:
        swept = figures = 0.0
        while True:
            try:
                async with asyncio.timeout(self._patience(time.time())):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            now = time.time()
            try:
                if now - swept >= _SWEEP:
                    swept = now
                    self._sweep()
                self._wake_the_cooled(now)
                self._round(now, everything=now - figures >= _FIGURES)
                if now - figures >= _FIGURES:
                    figures = now
                    self._tell_flags()
                    for tenant, board in self._boards.items():
                        self._probes.by_and_by(tenant, board, now)
            except Exception:
                log.exception("health goes on after an error")
            await asyncio.sleep(_PAUSE)

    def _patience(self, now: float) -> float:
        return max(0.0, min([_FIGURES, *(until - now for until in self._cooling.values() if until > now)]))

    def _sweep(self) -> None:
        """Windows move on though nothing happens; replicas that have just come hear what we know."""
        self._later |= dict.fromkeys(self._active)
        self._asked()

    def _wake_the_cooled(self, now: float) -> None:
        for key in [key for key, until in self._cooling.items() if until <= now]:
            del self._cooling[key]
            self._due[key] = None

    def _round(self, now: float, *, everything: bool) -> None:
        due = self._due
        self._due = {}
        if everything:
            due |= self._later
            self._later = {}
        said: dict[str, dict[str, Seen]] = {}
        for tenant, name in due:
            board = self._boards.get(tenant)
            record = board.records.get(name) if board else None
            if board and record:
                self._assess(board, record, now)
                if board.share_state and record.own != record.sent:
                    record.sent = said.setdefault(tenant, {})[name] = record.own
            if not (record and (record.others or not record.own.is_empty)):
                self._active.discard((tenant, name))
        if self._exchange:
            for tenant, seen_there in said.items():
                self._exchange.send(tenant, seen_there)

    def _assess(self, board: Board, record: Record, now: float) -> None:
        health = record.assess(now)
        if health != record.last:
            record.last = health
            board.publish(health)

    def _hurry(self, key: Key) -> None:
        self._due[key] = None
        self._wake.set()

    # What the configuration says.

    def _configured(self, tenant: str, table: RoutingTable | None) -> None:
        board = self._boards.get(tenant)
        if table is None:
            self._flags.pop(tenant, None)
            if board:
                board.configured = False
                if not board.watches:
                    del self._boards[tenant]
            return
        board = self._board(tenant)
        board.configured, board.share_state = True, table.share_state
        board.probe_interval = table.probe_interval
        board.snapshots.clear()
        wanted = {d.deployment_id: d for d in (*self._always, *table.deployments())}
        for name in [name for name in board.records if name not in wanted]:
            record = board.records.pop(name)
            board.publish(replace(record.last, removed=True, since=time.time()))
        for deployment in wanted.values():
            self._place(board, tenant, deployment)

    def _place(self, board: Board, tenant: str, deployment: Deployment) -> None:
        record = board.records.get(deployment.deployment_id)
        if record and _is_another(record.deployment, deployment):
            record = None
        if record is None:
            record = board.records[deployment.deployment_id] = Record(deployment)
            board.publish(record.last)
        record.deployment = deployment
        record.plan_probe(board.probe_interval, time.time())
        self._hurry((tenant, deployment.deployment_id))

    def _board(self, tenant: str) -> Board:
        board = self._boards.get(tenant)
        if board is None:
            board = self._boards[tenant] = Board(self._always)
        return board

    def _find(self, tenant: str, deployment_id: str) -> Record | None:
        board = self._boards.get(tenant)
        return board.records.get(deployment_id) if board else None

    # What other replicas say.

    def _heard(self, tenant: str, replica: str, said: Mapping[str, Seen]) -> None:
        board, now = self._boards.get(tenant), time.time()
        if board is None or not board.share_state:
            return
        for name, seen in said.items():
            if record := board.records.get(name):
                urgent = record.others.get(replica, (0.0, Seen()))[1].urgent != seen.urgent
                record.others[replica] = (now, seen)
                if seen.cooldown_until > now:
                    self._cooling[tenant, name] = max(seen.cooldown_until, self._cooling.get((tenant, name), 0.0))
                self._active.add((tenant, name))
                if urgent:
                    self._hurry((tenant, name))
                else:
                    self._later[tenant, name] = None

    def _asked(self) -> None:
        """Says all again."""
        for tenant, name in self._active:
            if record := self._find(tenant, name):
                record.sent = Seen()
                self._later[tenant, name] = None

    def _flags_of(self, tenant: str) -> Heartbeat:
        board = self._boards.get(tenant)
        shared = bool(self._exchange and self._exchange.connected and board and board.share_state)
        return Heartbeat(shared, self._configurations.is_fresh(tenant))

    def _tell_flags(self) -> None:
        for tenant, board in self._boards.items():
            flags = self._flags_of(tenant)
            if flags != self._flags.get(tenant, flags):
                for watch in board.watches:
                    watch.tell()
            self._flags[tenant] = flags

    async def _end_with_the_server(self) -> None:
        try:
            while True:
                await self._drain.wait_for(asyncio.Event().wait(), 3600.0)
        except errors.Unavailable as stopping:
            for board in self._boards.values():
                for watch in board.watches:
                    watch.fail(stopping)


def _is_another(before: Deployment, after: Deployment) -> bool:
    """What was seen of the one says nothing of the other."""
    return (before.model, before.api_base, before.model_group) != (after.model, after.api_base, after.model_group)
