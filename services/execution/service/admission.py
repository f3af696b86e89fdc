"""Who runs next: bounded concurrency, with a queue that is fair between tenants.

Tenants take turns; within a tenant the higher priority goes first, then the older. Runs of one session go one after the
other, in the order in which they came, whatever their priority.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from libs import errors

_SHORTEST, _LONGEST = 0.5, 60.0
"""Bounds of the seconds that a caller is asked to wait when the queue is full."""
_SMOOTHING: Final = 0.1
_FIRST_LOOK, _LATER_LOOK = 0.05, 1.0
"""Seconds until a run looks again whether the run before it in its session, not of this process, has ended."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one process; 0 for a tenant is no bound of its own."""

    running: int
    running_per_tenant: int
    queued: int
    queued_per_tenant: int


@dataclass(eq=False, slots=True)
class Ticket:
    """A run's place in the queue, then its slot."""

    tenant: str
    execution_id: str
    session_id: str
    priority: int
    granted: bool = False
    granted_at: float = 0.0
    present: bool = False
    parked: bool = False
    """Its session runs elsewhere."""
    given: asyncio.Event | None = None
    """Set with the slot. Whoever has it at once needs none, and one takes more than all else here."""

    async def turn(self) -> None:
        if not self.granted:
            self.given = asyncio.Event()
            await self.given.wait()
            self.given = None

    @property
    def order(self) -> tuple[int, str]:
        return -self.priority, self.execution_id

    @property
    def line(self) -> tuple[str, ...]:
        return (self.tenant, "session", self.session_id) if self.session_id else (self.tenant, self.execution_id)


@dataclass(slots=True)
class _Tenant:
    waiting: list[tuple[int, str]] = field(default_factory=list)
    ready: list[tuple[int, str]] = field(default_factory=list)
    """Those of the waiting that no other run of their session is before."""
    running: int = 0


class FairQueue:
    """Tickets, and which of them have a slot. Nothing here waits."""

    def __init__(self, bounds: Bounds, clock: Callable[[], float] = time.monotonic) -> None:
        self._bounds, self._clock = bounds, clock
        self._tickets: dict[str, Ticket] = {}
        self._tenants: dict[str, _Tenant] = {}
        self._turns: deque[str] = deque()
        """Tenants with a ready ticket, the next one first."""
        self._lines: dict[tuple[str, ...], list[Ticket]] = {}
        """Those of a session, the oldest first; one without a session has a line of its own."""
        self.running = self.queued = 0

    def enter(self, ticket: Ticket) -> None:
        """Gives the ticket its place, and its slot if one is free."""
        self._tickets[ticket.execution_id] = ticket
        tenant = self._tenants.setdefault(ticket.tenant, _Tenant())
        insort(tenant.waiting, ticket.order)
        ticket.present = True
        self.queued += 1
        line = self._lines.setdefault(ticket.line, [])
        insort(line, ticket, key=lambda one: one.execution_id)
        self._settle(line)
        self._grant()

    def leave(self, ticket: Ticket) -> None:
        """Takes the ticket out, and hands its slot on."""
        if not ticket.present:
            return
        ticket.present = False
        tenant = self._tenants[ticket.tenant]
        if ticket.granted:
            self.running -= 1
            tenant.running -= 1
        else:
            self.queued -= 1
            _remove(tenant.waiting, ticket.order)
            _remove(tenant.ready, ticket.order)
        line = self._lines[ticket.line]
        line.remove(ticket)
        for other in line:
            other.parked = False
        if not line:
            del self._lines[ticket.line]
        self._settle(line)
        if not tenant.waiting and not tenant.running:
            del self._tenants[ticket.tenant]
        del self._tickets[ticket.execution_id]
        self._grant()

    def give_back(self, ticket: Ticket) -> None:
        """The ticket waits again, in its old place, but has no slot before `ready` says so."""
        if not ticket.granted:
            return
        tenant = self._tenants[ticket.tenant]
        ticket.granted, ticket.parked = False, True
        self.running, self.queued = self.running - 1, self.queued + 1
        tenant.running -= 1
        insort(tenant.waiting, ticket.order)
        self._settle(self._lines[ticket.line])
        self._grant()

    def ready(self, ticket: Ticket) -> None:
        ticket.parked = False
        if ticket.present and not ticket.granted:
            self._settle(self._lines[ticket.line])
            self._grant()

    def position(self, ticket: Ticket) -> int:
        """How many of its tenant wait before it, plus one; 0 if it does not wait."""
        if ticket.granted or not ticket.present:
            return 0
        return bisect_left(self._tenants[ticket.tenant].waiting, ticket.order) + 1

    def of_tenant(self, tenant: str) -> tuple[int, int]:
        """How many run, and how many wait."""
        found = self._tenants.get(tenant)
        return (found.running, len(found.waiting)) if found else (0, 0)

    def ahead(self, ticket: Ticket) -> str | None:
        """The execution that is the first of the ticket's session, if that is another one."""
        first = self._lines[ticket.line][0]
        return first.execution_id if first is not ticket else None

    def _grant(self) -> None:
        passed = 0
        while self.running < self._bounds.running and passed < len(self._turns):
            name = self._turns.popleft()
            tenant = self._tenants.get(name)
            if tenant is None or not tenant.ready:
                continue
            self._turns.append(name)
            if self._bounds.running_per_tenant and tenant.running >= self._bounds.running_per_tenant:
                passed += 1
                continue
            passed = 0
            self._start(tenant, tenant.ready.pop(0))

    def _start(self, tenant: _Tenant, order: tuple[int, str]) -> None:
        ticket = self._tickets[order[1]]
        _remove(tenant.waiting, order)
        tenant.running += 1
        self.running, self.queued = self.running + 1, self.queued - 1
        ticket.granted, ticket.granted_at = True, self._clock()
        if ticket.given:
            ticket.given.set()

    def _settle(self, line: list[Ticket]) -> None:
        """Of the waiting of a session the oldest is ready, if none runs."""
        runs = any(ticket.granted for ticket in line)
        for number, ticket in enumerate(line):
            tenant = self._tenants[ticket.tenant]
            _remove(tenant.ready, ticket.order)
            if number == 0 and not runs and not ticket.parked:
                insort(tenant.ready, ticket.order)
                if ticket.tenant not in self._turns:
                    self._turns.append(ticket.tenant)


class Admission:
    """The queue of a process, and the waiting in it."""

    def __init__(self, bounds: Bounds, clock: Callable[[], float] = time.monotonic) -> None:
        self._bounds, self._clock = bounds, clock
        self._queue = FairQueue(bounds, clock)
        self._mean = 1.0

    @property
    def running(self) -> int:
        return self._queue.running

    @property
    def queued(self) -> int:
        return self._queue.queued

    @property
    def room(self) -> int:
        """Further runs that could have a slot or a place in the queue."""
        return max(0, self._bounds.running + self._bounds.queued - self._queue.running - self._queue.queued)

    def check(self, tenant: str) -> None:
        """Raises if a further run of the tenant would have to wait in a queue that is full."""
        bounds, (running, queued) = self._bounds, self._queue.of_tenant(tenant)
        of_tenant = bounds.running_per_tenant or bounds.running
        if self._queue.running < bounds.running and running < of_tenant:
            return
        if bounds.queued == 0:
            raise errors.ResourceExhausted(
                "the server runs as many executions as it may", retry_after=self._wait(bounds.running)
            )
        if self._queue.queued >= bounds.queued or (bounds.queued_per_tenant and queued >= bounds.queued_per_tenant):
            raise errors.ResourceExhausted(
                "the queue is full", reason="QUEUE_FULL", retry_after=self._wait(min(bounds.running, of_tenant))
            )

    def _wait(self, slots: int) -> float:
        """Seconds until a place should be free: one run in `slots` ends within the mean duration."""
        return min(max(self._mean / slots, _SHORTEST), _LONGEST)

    def enter(self, tenant: str, execution_id: str, session_id: str, priority: int) -> Ticket:
        ticket = Ticket(tenant, execution_id, session_id, priority)
        self._queue.enter(ticket)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        if ticket.granted and ticket.present:
            self._mean += _SMOOTHING * (self._clock() - ticket.granted_at - self._mean)
        self._queue.leave(ticket)

    def ahead(self, ticket: Ticket) -> str | None:
        """The execution of this process that has the ticket's session."""
        return self._queue.ahead(ticket)

    def position(self, ticket: Ticket) -> int:
        return self._queue.position(ticket)

    async def turn(self, ticket: Ticket, begin: Callable[[], Awaitable[bool]]) -> None:
        """Waits for a slot with which `begin` succeeds: it says False while somebody else has the session."""
        delay = _FIRST_LOOK
        while True:
            await ticket.turn()
            if await begin():
                return
            self._queue.give_back(ticket)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await ticket.turn()
            self._queue.ready(ticket)
            delay = min(2 * delay, _LATER_LOOK)


def _remove(ordered: list[tuple[int, str]], order: tuple[int, str]) -> None:
    at = bisect_left(ordered, order)
    if at < len(ordered) and ordered[at] == order:
        del ordered[at]
