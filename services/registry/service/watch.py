"""Watches: the present state, then each change in the order of commits, none missed and none twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

import structlog

from libs import errors
from libs.identity import Caller
from services.registry.model import Change, Kind, Resource

log = structlog.get_logger()
_BATCH: Final = 64
"""Changes that a watch holds at most; each may have 1 MiB."""
UNKNOWN: Final = -1
"""Position of what comes before snapshot_complete: a watch cannot go on from the middle of a snapshot."""


class ChangeStore(Protocol):
    async def span(self, tenant: str) -> tuple[int, int]:
        """From which position on the tenant's changes are told again, and the newest one."""

    async def positions(self, tenants: Collection[str]) -> dict[str, int]:
        """How many commits each of these tenants has; one with none may be left out."""

    async def changes(
        self, tenant: str, kinds: Sequence[Kind], *, after: int, limit: int
    ) -> tuple[Sequence[Change], int]:
        """Changes after a position in order, and the position up to which they are complete."""

    async def state(
        self, tenant: str, kinds: Sequence[Kind], *, position: int, after: tuple[str, str], limit: int
    ) -> Sequence[Change]:
        """Resources as they were at `position`, by kind and id."""

    async def get(self, tenant: str, kind: Kind, resource_id: str, revision: int = 0) -> Resource | None: ...

    async def notified(self, changed: Callable[[str], None], begins: Callable[[], None]) -> None:
        """Tells of each tenant for which another process commits, and when it begins to; returns where it cannot."""


class Drain(Protocol):
    async def wait_for(self, awaitable: Awaitable[bool], seconds: float) -> bool | None: ...


class Feed:
    """Wakes watchers: at once for a commit of this process or one that the database tells of, else by polling."""

    def __init__(self, store: ChangeStore, *, poll: float) -> None:
        self._store, self._poll = store, poll
        self._wakers: dict[str, asyncio.Event] = {}
        self._listeners: list[Callable[[str], None]] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        listening = self._store.notified(self.announce, self._announce_all)
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(listening)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def listen(self, listener: Callable[[str], None]) -> None:
        """Tells `listener` of each tenant at once for which this process commits, or the database says that one did."""
        self._listeners.append(listener)

    def announce(self, tenant: str) -> None:
        for listener in self._listeners:
            listener(tenant)
        if waker := self._wakers.pop(tenant, None):
            waker.set()

    def _announce_all(self) -> None:
        for tenant in list(self._wakers):
            self.announce(tenant)

    async def changed(self, tenant: str) -> bool:
        """Returns after the next commit; call it before looking whether there is one already."""
        return await self.waker(tenant).wait()

    def waker(self, tenant: str) -> asyncio.Event:
        """What the next commit sets: a read that begins now misses none that does not set it."""
        return self._wakers.setdefault(tenant, asyncio.Event())

    async def _run(self) -> None:
        seen: dict[str, int] = {}
        while True:
            await asyncio.sleep(self._poll)
            if not self._wakers:
                continue
            try:
                positions = await self._store.positions(list(self._wakers))
            except errors.Unavailable:  # it is logged where it was found
                continue
            except Exception:
                log.exception("the feed of changes goes on after an error")
                continue
            for tenant, position in positions.items():
                if position != seen.get(tenant):
                    self.announce(tenant)
            seen = positions


@dataclass(frozen=True, slots=True)
class SnapshotComplete:
    position: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    position: int


class Watches:
    def __init__(self, store: ChangeStore, feed: Feed, drain: Drain, *, heartbeat: float) -> None:
        self._store, self._feed, self._drain, self._heartbeat = store, feed, drain, heartbeat
        self._reads: dict[tuple[Any, ...], asyncio.Future[tuple[Sequence[Change], int]]] = {}

    async def watch(
        self,
        caller: Caller,
        kinds: Sequence[Kind],
        labels: Mapping[str, str],
        resume_token: str,
        *,
        snapshot: bool,
    ) -> AsyncGenerator[Change | SnapshotComplete | Heartbeat, None]:
        if snapshot and resume_token:
            raise errors.invalid("snapshot", "contradicts resume_token")
        kinds = kinds or list(Kind)
        oldest, position = await self._store.span(caller.tenant)
        if resume_token:
            position = _position(resume_token, oldest, position)
        if snapshot:
            async for change in self._state(caller.tenant, kinds, position):
                if _carries(change.resource, labels):
                    yield change
            yield SnapshotComplete(position)
        else:
            yield Heartbeat(position)  # from where to go on, should the connection be lost before the first change
        while True:
            waiting = asyncio.ensure_future(self._feed.changed(caller.tenant))
            await asyncio.sleep(0)  # lets it register before we look
            try:
                found, complete = await self._changes(caller.tenant, kinds, position)
                for change in found:
                    if _carries(change.resource, labels) or await self._carried(caller.tenant, change.resource, labels):
                        yield change
                moved, position = complete > position, complete
                if not moved and not await self._drain.wait_for(waiting, self._heartbeat):
                    yield Heartbeat(position)
            finally:
                waiting.cancel()

    async def _changes(self, tenant: str, kinds: Sequence[Kind], after: int) -> tuple[Sequence[Change], int]:
        """One read for all the watchers that the same commit wakes."""
        key = (self._feed.waker(tenant), tuple(kinds), after)
        reading = self._reads.get(key)
        if reading is None:
            reading = asyncio.ensure_future(self._store.changes(tenant, kinds, after=after, limit=_BATCH))
            self._reads[key] = reading
            reading.add_done_callback(lambda done: (self._reads.pop(key), done.cancelled() or done.exception()))
        return await asyncio.shield(reading)

    async def _carried(self, tenant: str, resource: Resource, labels: Mapping[str, str]) -> bool:
        """Whether the revision before was one to tell of."""
        if resource.revision == 1:
            return False
        before = await self._store.get(tenant, resource.kind, resource.resource_id, resource.revision - 1)
        return before is not None and not before.deleted and _carries(before, labels)

    async def _state(self, tenant: str, kinds: Sequence[Kind], position: int) -> AsyncIterator[Change]:
        after = ("", "")
        while found := await self._store.state(tenant, kinds, position=position, after=after, limit=_BATCH):
            for change in found:
                yield Change(UNKNOWN, change.resource)
            last = found[-1].resource
            after = (last.kind, last.resource_id)


def _carries(resource: Resource, labels: Mapping[str, str]) -> bool:
    return labels.items() <= resource.labels.items()


def to_token(position: int) -> str:
    return "" if position == UNKNOWN else f"p{position}"


def _position(token: str, oldest: int, newest: int) -> int:
    number = token.removeprefix("p")
    if not token.startswith("p") or not number.isascii() or not number.isdigit():
        raise errors.invalid("resume_token", "is not a token of this service")
    if not oldest <= int(number) <= newest:
        raise errors.OutOfRange(
            "the history that resume_token belongs to is gone: watch again with a snapshot",
            metadata={"oldest_resume_token": to_token(oldest)},
        )
    return int(number)
