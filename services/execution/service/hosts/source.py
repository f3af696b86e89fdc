"""The source `host`: tools of backends that connect to Execution, wherever their streams are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence, Sized
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final, Self

import structlog

from libs import deadline, errors, identity, ids
from libs.identity import Caller
from services.execution.model.hosts import Errand, Presence, Registered, Registration
from services.execution.model.tools import SourceState, SourceStatus, Tool
from services.execution.service.hosts.offers import listed, taken
from services.execution.service.hosts.presence import Elsewhere, HostStore, Relay
from services.execution.service.hosts.stream import Full, HostStream, Lost, Seat
from services.execution.service.leases import Drain
from services.execution.service.sources import Changes, ToolError, origin, unavailable
from services.execution.service.tools import violations

log = structlog.get_logger()

DEFAULT_CONCURRENCY: Final = 16
_ATTEMPTS: Final = 3
"""Hosts that are given a call which may be made more than once."""
_LOOK: Final = 1.0
"""Seconds between looks at the hosts of other processes; of changes PostgreSQL tells at once."""
_LAST_WORDS: Final = 0.5
_PAUSE: Final = 0.05
_DAY: Final = 86400.0


class Hosts:
    name: Final = "host"

    def __init__(
        self, store: HostStore, relay: Relay, *, owner: str, heartbeat: float, lease: float, patience: float
    ) -> None:
        self._store, self._owner = store, owner
        self._heartbeat, self._lease, self._patience = heartbeat, lease, patience
        self._streams: dict[str, HostStream] = {}
        self._elsewhere = Elsewhere(store, relay, owner, self._freed)
        self._waiting: dict[str, dict[asyncio.Event, None]] = {}
        self._views: dict[str, dict[str, Tool]] = {}
        self._forgetting: set[asyncio.Task[None]] = set()
        self._house: asyncio.Task[None] | None = None
        self.address = ""
        """Where other processes reach the hosts of this one."""
        self.changes = Changes()
        self.wanted = asyncio.Event()
        """Set where hosts of other processes are not what they were."""

    async def __aenter__(self) -> Self:
        self._house = asyncio.create_task(self._keep_house())
        return self

    async def __aexit__(self, *_: object) -> None:
        for stream in list(self._streams.values()):
            stream.end(_stopping())
        if self._house:
            self._house.cancel()
        await asyncio.gather(*filter(None, [self._house]), *self._forgetting, return_exceptions=True)

    # A host of this process.

    @asynccontextmanager
    async def connected(self, caller: Caller) -> AsyncIterator[HostStream]:
        stream = HostStream(caller.tenant, self._heartbeat, self._freed, self._closed)
        self._streams[stream.stream_id] = stream
        try:
            yield stream
        finally:
            stream.end()
            del self._streams[stream.stream_id]

    async def register(
        self, stream: HostStream, host_id: str, offered: Sequence[tuple[str, Tool]], max_concurrency: int
    ) -> None:
        """Takes what a host offers, in place of what it offered before; every replica knows of it then."""
        before = stream.offered
        if before is not None and host_id not in ("", before.host_id):
            raise errors.invalid("register.host_id", f"is not {before.host_id!r}, which the stream has registered")
        tools, rejected = await asyncio.to_thread(taken, offered)
        registration = Registration(
            host_id=host_id or (before.host_id if before else ids.new_id()),
            registration_id=ids.new_id(),
            tools=tools,
            max_concurrency=max_concurrency or DEFAULT_CONCURRENCY,
            time=datetime.now(UTC),
        )
        presence = self._presence(stream, registration)
        await self._store.put(presence, self._lease)
        stream.offered = registration
        if not stream.is_there:  # it has gone, or is about to, meanwhile
            await self._store.drop(stream.tenant, stream.stream_id)
        self._replace(stream)
        self._changed(stream.tenant)
        stream.say(Registered(registration.host_id, list(tools), rejected))
        log.info(
            "host registered",
            tenant=stream.tenant,
            host_id=registration.host_id,
            tools=len(tools),
            rejected=len(rejected) or None,
        )

    def _presence(self, stream: HostStream, registration: Registration) -> Presence:
        return Presence(stream.tenant, stream.stream_id, self._owner, self.address, registration)

    def _replace(self, stream: HostStream) -> None:
        for other in self._open(stream.tenant):
            if other is not stream and other.registration.host_id == stream.registration.host_id:
                other.replaced()

    def _closed(self, stream: HostStream) -> None:
        """It takes no calls any more."""
        if stream.offered is not None:
            task = asyncio.create_task(self._forget(stream))
            self._forgetting.add(task)
            task.add_done_callback(self._forgetting.discard)
            self._changed(stream.tenant)

    async def _forget(self, stream: HostStream) -> None:
        with suppress(errors.Unavailable):  # its lease ends then
            await self._store.drop(stream.tenant, stream.stream_id)

    def stream(self, tenant: str, stream_id: str) -> HostStream | None:
        """For a call that came from another process."""
        found = self._streams.get(stream_id)
        return found if found is not None and found.tenant == tenant else None

    # What all hosts offer.

    async def find(self, caller: Caller, pattern: str) -> Sequence[Tool]:
        self._turned(await self._elsewhere.follow(caller.tenant))
        found = _matching(self._view(caller.tenant), pattern)
        if pattern.endswith("*") or not found:
            self._turned(await self._elsewhere.look())
            found = _matching(self._view(caller.tenant), pattern)
        return found

    async def known(self, caller: Caller) -> tuple[Sequence[Tool], Sequence[SourceStatus]]:
        self._turned(await self._elsewhere.follow(caller.tenant))
        tools = list(self._view(caller.tenant).values())
        return tools, self._statuses(caller.tenant, tools)

    def _statuses(self, tenant: str, tools: Sequence[Tool]) -> Sequence[SourceStatus]:
        """One for all hosts, while there are any."""
        seats = self._seats(tenant)
        if not seats:
            return []
        notes = [f"{len(seats)} host{'s' if len(seats) > 1 else ''}"]
        if warned := [tool.function_name for tool in tools if tool.warning]:
            notes.append(f"described differently by some: {', '.join(warned[:10])}")
        if strays := sum(stream.strays for stream in self._open(tenant)):
            notes.append(f"answers to no call: {strays}")
        return [SourceStatus(self.name, SourceState.READY, "; ".join(notes), len(tools))]

    def _view(self, tenant: str) -> dict[str, Tool]:
        if tenant not in self._views:
            newest = sorted((seat.registration for seat in self._seats(tenant)), key=lambda one: one.time, reverse=True)
            self._views[tenant] = listed((one.host_id, one.tools) for one in newest)
        return self._views[tenant]

    def _open(self, tenant: str) -> list[HostStream]:
        return [stream for stream in self._streams.values() if stream.tenant == tenant and stream.is_there]

    def _seats(self, tenant: str) -> list[Seat]:
        return [*self._open(tenant), *self._elsewhere.of(tenant)]

    # A call.

    async def call(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
        tenant, name = identity.current().tenant, tool.tool_id.partition("/")[2]
        self._turned(await self._elsewhere.follow(tenant))
        of = origin()
        errand = Errand(name, arguments, of.key, of.execution_id, of.user_id)
        attempts, until = 0, self._until()
        while True:
            seat = await self._seat(tenant, tool, errand, until)
            hosted = seat.registration.tools[name]
            _check(hosted, tool, arguments)
            try:
                return await seat.call(errand)
            except Full:
                continue
            except Lost as lost:
                attempts, until = attempts + 1, self._until()
                self.wanted.set()
                if lost.begun and not (hosted.read_only or hosted.idempotent):
                    raise unavailable(tool.tool_id, f"its host {lost}; whether it did anything is not known") from None
                if attempts == _ATTEMPTS:
                    raise unavailable(tool.tool_id, f"its host {lost}, {attempts} times") from None

    async def _seat(self, tenant: str, tool: Tool, errand: Errand, until: float) -> Seat:
        """The host that has most room. It is to be called before anything is waited for."""
        with self._heard(tenant) as freed:
            while True:
                freed.clear()
                there = (seat for seat in self._seats(tenant) if seat.is_there)
                seats = [seat for seat in there if errand.tool in seat.registration.tools]
                if free := [seat for seat in _of_version(seats, tool) if seat.is_free]:
                    return min(free, key=lambda one: one.load)
                await self._wait(freed, until, tool, is_full=bool(seats))

    def _until(self) -> float:
        """When a call that has found no host gives up: early enough to say why."""
        left = deadline.remaining()
        return self._now() + (self._patience if left is None else min(self._patience, 0.9 * left))

    async def _wait(self, freed: asyncio.Event, until: float, tool: Tool, *, is_full: bool) -> None:
        try:
            async with asyncio.timeout_at(until):
                await freed.wait()
        except TimeoutError:
            if is_full:
                raise _busy(tool.tool_id) from None
            raise unavailable(tool.tool_id, "no host of it is connected") from None

    @contextmanager
    def _heard(self, tenant: str) -> Iterator[asyncio.Event]:
        """An event that is set when there may be room; in the order in which they came."""
        freed = asyncio.Event()
        waiting = self._waiting.setdefault(tenant, {})
        waiting[freed] = None
        try:
            yield freed
        finally:
            del waiting[freed]
            if not waiting:
                self._waiting.pop(tenant, None)

    # What becomes of them.

    def _freed(self, tenant: str) -> None:
        for event in self._waiting.get(tenant, ()):
            event.set()

    def _changed(self, tenant: str) -> None:
        self._views.pop(tenant, None)
        self._freed(tenant)
        self.changes.tell()

    def _turned(self, tenants: set[str]) -> None:
        for tenant in tenants:
            self._changed(tenant)

    async def _keep_house(self) -> None:
        """Says that the hosts of this process live, and hears of those of others."""
        renewed = self._now()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(_LOOK, self._lease / 4)):
                    await self.wanted.wait()
            self.wanted.clear()
            try:
                self._turned(await self._elsewhere.look())
                if self._now() - renewed >= self._lease / 4 or self._is_contested():
                    await self._renew()
                    renewed = self._now()
            except errors.Unavailable:
                log.warning("hosts: the database does not answer")
            except Exception:
                log.exception("housekeeping of hosts failed")

    def _is_contested(self) -> bool:
        """Whether a host of this process may have connected to another one."""
        return any(
            stream.registration.host_id == other.registration.host_id
            for stream in self._streams.values()
            if stream.is_there
            for other in self._elsewhere.of(stream.tenant)
        )

    async def _renew(self) -> None:
        streams = [stream for stream in self._streams.values() if stream.is_there]
        if not streams:
            return
        held = await self._store.renew(self._owner, self._lease)
        for stream in streams:
            if not (stream.stream_id in held or await self._is_kept(stream)):
                stream.replaced()

    async def _is_kept(self, stream: HostStream) -> bool:
        """Whether its name is still its own, though its lease was lost."""
        presence = self._presence(stream, stream.registration)
        return not stream.is_there or await self._store.keep(presence, self._lease)

    @asynccontextmanager
    async def ending_with(self, drain: Drain, runs: Sized, grace: float) -> AsyncIterator[None]:
        """Ends the streams when the server stops: at once, or when no run needs them any more."""
        ending = asyncio.create_task(self._end_with(drain, runs, grace))
        try:
            yield
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)

    async def _end_with(self, drain: Drain, runs: Sized, grace: float) -> None:
        with suppress(errors.Unavailable):
            while True:
                await drain.wait_for(asyncio.sleep(_DAY), _DAY)
        for stream in self._streams.values():
            stream.server_drains()
        until = self._now() + max(0.0, grace - _LAST_WORDS)
        while self._now() < until and (len(runs) or self._in_flight()):  # noqa: ASYNC110  runs tell nobody
            await asyncio.sleep(_PAUSE)
        for stream in list(self._streams.values()):
            stream.end(_stopping())

    def _in_flight(self) -> int:
        return sum(stream.in_flight for stream in self._streams.values())

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _matching(tools: Mapping[str, Tool], pattern: str) -> list[Tool]:
    if pattern.endswith("*"):
        return [tool for tool_id, tool in tools.items() if tool_id.startswith(pattern[:-1])]
    return [tools[pattern]] if pattern in tools else []


def _of_version(seats: Sequence[Seat], tool: Tool) -> Sequence[Seat]:
    """Hosts that describe the tool as the caller knows it; where there are none, any."""
    name = tool.tool_id.partition("/")[2]
    same = [seat for seat in seats if seat.registration.tools[name].version == tool.version]
    return same or seats


def _check(hosted: Tool, known: Tool, arguments: Mapping[str, Any]) -> None:
    """Arguments were checked against the tool as it was known; another version has its own schema."""
    if hosted.version != known.version and (problems := violations(hosted, arguments)):
        said = "; ".join(f"{v.field}: {v.description}" for v in problems)
        raise ToolError(f"the tool is no longer what it was: {said}")


def _busy(tool_id: str) -> errors.ResourceExhausted:
    return errors.ResourceExhausted(
        f"{tool_id}: all hosts have as many calls as they take",
        reason="TOOL_SOURCE_BUSY",
        metadata={"source": tool_id},
        retry_after=1.0,
    )


def _stopping() -> errors.Unavailable:
    return errors.Unavailable("the server is stopping, connect again", reason="SHUTTING_DOWN", retry_after=0.1)
