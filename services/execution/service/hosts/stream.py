"""One host, connected to this process: what it offers, the calls that it makes, and what is still to be said to it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final, Protocol

import orjson
import structlog

from libs import deadline, errors, ids, telemetry
from services.execution.model.hosts import (
    Beat,
    Call,
    Cancel,
    Draining,
    Errand,
    HostAnswer,
    Message,
    Registration,
)
from services.execution.model.tools import DEFAULT_TOOL_TIMEOUT, Progress
from services.execution.service.sources import OnProgress, ToolError, on_progress

log = structlog.get_logger()

SILENCE: Final = 3
"""Heartbeats without an answer after which a host is given up."""
_MOST_STRAYS: Final = 100
_REMEMBERED: Final = 1000
_PROOF: Final = 5.0
"""Seconds in which a stream must show that it lives after another one has taken its name."""


class Lost(Exception):
    """The host is gone before it answered."""

    def __init__(self, *, begun: bool) -> None:
        super().__init__("was lost before it answered")
        self.begun = begun
        """Whether it may have begun the call."""


class Full(Exception):
    """The host has no room for the call, which it was not given."""


class Seat(Protocol):
    """A place where calls are made: a host of this process, or of another one."""

    @property
    def registration(self) -> Registration: ...

    @property
    def is_there(self) -> bool: ...

    @property
    def is_free(self) -> bool: ...

    @property
    def load(self) -> float:
        """The part of its room that is taken."""

    async def call(self, errand: Errand) -> str:
        """The output; raises ToolError, Lost or Full. Takes its room before it waits for anything."""


@dataclass(slots=True)
class _Pending:
    call: Call
    told: OnProgress | None
    answer: asyncio.Future[HostAnswer]
    begun: bool = False


class HostStream:
    """`freed` is told that there is room, `closed` that there will be none any more."""

    def __init__(
        self,
        tenant: str,
        heartbeat: float,
        freed: Callable[[str], None] = lambda _: None,
        closed: Callable[[HostStream], None] = lambda _: None,
    ) -> None:
        self.tenant, self.stream_id = tenant, ids.new_id()
        self.offered: Registration | None = None
        self.leaving = self.over = False
        self.strays = 0
        self._heartbeat, self._freed, self._closed = heartbeat, freed, closed
        self._calls: dict[str, _Pending] = {}
        self._cancelled: OrderedDict[str, None] = OrderedDict()
        self._outbox: deque[Message] = deque()
        self._more = asyncio.Event()
        self._end: errors.Error | None = None
        self._loop = asyncio.get_running_loop()
        self._said = self._heard = self._loop.time()
        self._beat = self._loop.call_later(heartbeat, self._keep_alive)

    @property
    def registration(self) -> Registration:
        assert self.offered is not None
        return self.offered

    @property
    def is_there(self) -> bool:
        """Whether it takes calls."""
        return self.offered is not None and not self.leaving and not self.over

    @property
    def is_free(self) -> bool:
        return self.is_there and len(self._calls) < self.registration.max_concurrency

    @property
    def load(self) -> float:
        return len(self._calls) / self.registration.max_concurrency

    @property
    def in_flight(self) -> int:
        return len(self._calls)

    async def call(self, errand: Errand) -> str:
        if not self.is_free:
            raise Full
        left = deadline.remaining()
        seconds = DEFAULT_TOOL_TIMEOUT if left is None else left
        call = Call(ids.new_id(), errand, seconds, telemetry.trace_headers())
        pending = self._calls[call.call_id] = _Pending(call, on_progress(), self._loop.create_future())
        self.say(call)
        try:
            return output_of(await pending.answer)
        except asyncio.CancelledError:
            self._cancel(pending)
            raise
        finally:
            del self._calls[call.call_id]
            self._end_if_idle()
            self._freed(self.tenant)

    def _cancel(self, pending: _Pending) -> None:
        if not pending.begun:
            if pending.call in self._outbox:
                self._outbox.remove(pending.call)
            return
        late = deadline.remaining() == 0.0
        self.say(Cancel(pending.call.call_id, "its time is over" if late else "nobody waits for it any more"))
        self._cancelled[pending.call.call_id] = None
        if len(self._cancelled) > _REMEMBERED:
            self._cancelled.popitem(last=False)

    def hear(self) -> None:
        """The host gives a sign of life."""
        self._heard = self._loop.time()

    def progress(self, call_id: str, progress: Progress) -> None:
        pending = self._calls.get(call_id)
        if pending is not None and pending.told is not None:
            pending.told(progress)

    def answer(self, call_id: str, answer: HostAnswer) -> None:
        pending = self._calls.get(call_id)
        if pending is not None and pending.begun and not pending.answer.done():
            pending.answer.set_result(answer)
        elif call_id in self._cancelled:
            del self._cancelled[call_id]
        else:
            self._stray(call_id)

    def _stray(self, call_id: str) -> None:
        """An answer to no call: a second one, or one to what this host was never given."""
        self.strays += 1
        host_id = self.offered.host_id if self.offered else ""
        log.warning("host answers no call", tenant=self.tenant, host_id=host_id, call_id=call_id, strays=self.strays)
        if self.strays >= _MOST_STRAYS:
            self.end(errors.invalid("result.call_id", f"{self.strays} answers were to no call of this stream"))

    def drain(self) -> None:
        """The host is about to go: it gets no more calls, and the stream ends when those in flight have."""
        if not self.leaving and not self.over:
            self.leaving = True
            self._closed(self)
            self._end_if_idle()

    def replaced(self) -> None:
        """Another stream has its name. What is in flight here goes on, if this one shows that it lives."""
        assert self.offered is not None
        self._end = errors.Aborted(
            f"another stream has registered the host {self.offered.host_id!r}",
            reason="HOST_REPLACED",
            metadata={"host_id": self.offered.host_id},
        )
        self.say(Beat())
        self._loop.call_later(_PROOF, self._end_if_dead, self._loop.time())
        self.drain()

    def server_drains(self) -> None:
        """It still takes calls, of runs that end here."""
        self.say(Draining())

    def end(self, error: errors.Error | None = None) -> None:
        """Ends the stream; what is in flight is lost."""
        if self.over:
            return
        self.over, self._end = True, error
        self._beat.cancel()
        self._outbox.clear()
        for pending in self._calls.values():
            if not pending.answer.done():
                pending.answer.set_exception(Lost(begun=pending.begun))
        self._more.set()
        if not self.leaving:
            self._closed(self)

    def _end_if_dead(self, since: float) -> None:
        if self._heard < since:
            self.end(self._end)

    def _end_if_idle(self) -> None:
        if self.leaving and not self._calls:
            self.end(self._end)

    def say(self, message: Message) -> None:
        self._outbox.append(message)
        self._more.set()

    async def outgoing(self) -> AsyncGenerator[Message, None]:
        """What is to be said to the host, in order, until the stream ends."""
        while True:
            while self._outbox:
                message = self._outbox.popleft()
                if isinstance(message, Call):
                    self._calls[message.call_id].begun = True
                self._said = self._loop.time()
                yield message
            if self.over:
                break
            self._more.clear()
            await self._more.wait()
        if self._end is not None:
            raise self._end

    def _keep_alive(self) -> None:
        now = self._loop.time()
        if now - self._heard >= SILENCE * self._heartbeat:
            self.end(errors.DeadlineExceeded(f"nothing was heard of the host for {now - self._heard:.0f} s"))
            return
        if now - min(self._said, self._heard) >= 0.9 * self._heartbeat:
            self.say(Beat())
        self._beat = self._loop.call_later(self._heartbeat, self._keep_alive)


def output_of(answer: HostAnswer) -> str:
    if answer.is_error:
        raise ToolError(answer.output or "the tool failed and does not say why")
    return orjson.dumps(answer.data).decode() if answer.has_data else answer.output
