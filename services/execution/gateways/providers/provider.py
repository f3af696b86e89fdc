"""One tool provider of one tenant: its tools, and a channel while somebody uses it."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, Protocol

import grpc
import structlog

from libs import deadline, errors, identity
from libs.identity import Caller
from services.execution.gateways.providers import channels
from services.execution.gateways.providers.channels import MakeChannel
from services.execution.gateways.providers.dialect import Dialect, Listing, Metadata, Senseless
from services.execution.gateways.providers.faults import is_lost, meant, words
from services.execution.gateways.providers.targets import Bounds, Target, check
from services.execution.model.tools import SourceState, SourceStatus, Tool
from services.execution.service.sources import ToolError, idempotency_key, unavailable

log = structlog.get_logger()

_DIALECTS: Final = {
    "provider": ("own", "ToolProviders"),
    "mcp": ("google", "GoogleMcp"),
    "reflection": ("reflected", "Reflected"),
}
_GONE: Final = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED)
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 30.0
_LONGEST_TTL: Final = 86_400.0
_SHORTEST_SECRET: Final = 6


class Secrets(Protocol):
    async def resolved(self, values: Mapping[str, str], *, refresh: bool = False) -> dict[str, str]: ...


@dataclass(frozen=True, slots=True)
class Means:
    """What all providers use."""

    bounds: Bounds
    secrets: Secrets
    make_channel: MakeChannel
    context: contextvars.Context
    """Of the start: what nobody waits for belongs into no call's trace or deadline."""


class Provider:
    def __init__(self, caller: Caller, target: Target, means: Means, told: Callable[[], None]) -> None:
        self.caller, self.target = caller, target
        self._bounds, self._means, self._told = means.bounds, means, told
        self.status = SourceStatus(target.source_id)
        self.tools: Mapping[str, Tool] | None = None
        self.before: Mapping[str, Tool] | None = None
        """What they were before they last changed."""
        self._dialect: Dialect | None = None
        self._channel: grpc.aio.Channel | None = None
        self._listing: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._fresh_until, self._next_unasked, self._failures = 0.0, 0.0, 0
        self._used, self._calls, self._gone, self._lost = 0.0, 0, False, False

    async def close(self) -> None:
        self._gone = True
        tasks = [task for task in (self._listing, self._watching) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._disconnect()

    async def listed(self) -> Mapping[str, Tool]:
        """What is old is asked for anew, and believed meanwhile."""
        if self.tools is None:
            self._used = self._now()
            await self._bounded(self._list())
        else:
            self.ask()
        return self.tools or {}

    async def offered(self) -> Mapping[str, Tool]:
        if self.tools is None and self.status.state is not SourceState.FAILED:
            try:
                return await self.listed()
            except errors.Unavailable:
                return {}
        self.ask()
        return self.tools or {}

    def ask(self) -> None:
        self._used = now = self._now()
        if now >= self._next_unasked and (self.tools is None or now >= self._fresh_until):
            self._list()

    async def asked_anew(self) -> Mapping[str, Tool]:
        """Its tools as they are now; raises Unavailable where it does not tell."""
        self._used = self._now()
        await self._bounded(self._list())
        return self.tools or {}

    async def call(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
        self._used = self._now()
        self._calls += 1
        try:
            return await self._call(tool, arguments)
        finally:
            self._calls -= 1
            self._used = self._now()

    async def _call(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
        name = tool.tool_id.removeprefix(f"{self.target.source_id}/")
        harmless = tool.read_only or tool.idempotent or (tool.takes_key and bool(idempotency_key()))
        token, refused, lost = "", False, False
        while True:
            channel = await self._connected()
            try:
                token = await self._token(refresh=refused)
                dialect = await self._speaking()
                said = await dialect.call(
                    channel, name, arguments, _authorization(token), deadline.narrowed(tool.timeout)
                )
                return _without(token, said)
            except (ToolError, Senseless) as error:
                raise ToolError(_without(token, str(error))) from None
            except asyncio.CancelledError:
                if not self._gone or _is_cancelled():
                    raise
                raise unavailable(self.target.source_id, "is not there any more") from None
            except grpc.aio.AioRpcError as error:
                if self._was_refused(error) and not refused:
                    refused = True
                elif is_lost(error) and harmless and not lost:
                    lost = True
                else:
                    raise self._meant(error, token) from None

    def _was_refused(self, error: grpc.aio.AioRpcError) -> bool:
        return error.code() is grpc.StatusCode.UNAUTHENTICATED and bool(self.target.token_reference)

    def _meant(self, error: grpc.aio.AioRpcError, token: str) -> Exception:
        if error.code() in (*_GONE, grpc.StatusCode.UNAVAILABLE):
            self._fresh_until = 0.0  # the tool may be no more, or not what it was
        failure = meant(error, self.target.source_id)
        return ToolError(_without(token, str(failure))) if isinstance(failure, ToolError) else failure

    async def _connected(self) -> grpc.aio.Channel:
        """A channel with a connection; what is not sent over one was surely not done."""
        if self._channel is None:
            try:
                await check(self.target.address, self._bounds)
            except errors.Error as error:
                raise unavailable(self.target.source_id, error.message) from None
        if self._gone:
            raise unavailable(self.target.source_id, "is not there any more")
        if self._channel is None:  # nobody else was faster
            self._channel = self._means.make_channel(self.target)
            self._watching = self._start(self._watch(self._channel))
        channel = self._channel
        if not await channels.connected(channel, deadline.narrowed(self._bounds.patience) or 0.0):
            if deadline.remaining() != 0.0:  # it was given its time
                self._lose("cannot be reached")
            raise unavailable(self.target.source_id, "cannot be reached")
        return channel

    async def _token(self, *, refresh: bool) -> str:
        if not self.target.token_reference:
            return ""
        try:
            found = await self._means.secrets.resolved({"token": self.target.token_reference}, refresh=refresh)
        except errors.Error as error:
            raise unavailable(self.target.source_id, error.message) from None
        token = found["token"].strip()
        if not token.isascii() or not token.isprintable():
            raise unavailable(self.target.source_id, "its token is none that a header can carry")
        return token

    async def _speaking(self) -> Dialect:
        """Imported late: an Execution without providers does not pay for them."""
        if self._dialect is None:
            module, name = _DIALECTS[self.target.protocol]
            found = await asyncio.to_thread(import_module, f"{__package__}.{module}")
            self._dialect = self._dialect or getattr(found, name)(self.target)
        assert self._dialect is not None
        return self._dialect

    async def _bounded(self, listing: asyncio.Task[None]) -> None:
        """Others wait for it too, so it goes on whoever gives up."""
        await asyncio.wait({listing}, timeout=deadline.narrowed(2 * self._bounds.patience))
        if not listing.done():
            raise unavailable(self.target.source_id, "does not answer")
        if listing.cancelled():
            raise unavailable(self.target.source_id, "is not there any more")
        listing.result()

    def _list(self) -> asyncio.Task[None]:
        if self._listing is None or self._listing.done():
            self._listing = self._start(self._ask_for_tools())
            self._listing.add_done_callback(_retrieved)
        return self._listing

    async def _ask_for_tools(self) -> None:
        identity.enter(self.caller)
        try:
            async with asyncio.timeout(self._bounds.patience):
                listing = await self._asked()
        except TimeoutError:
            why = "does not list its tools"
        except Senseless as error:
            why = str(error)
        except errors.Error as error:
            why = error.message.removeprefix(f"{self.target.source_id}: ")
        except Exception as error:
            log.exception("listing tools failed unexpectedly", source=self.target.source_id)
            why = f"failed: {type(error).__name__}"
        else:
            self._take(listing)
            return
        self._failed(why)
        raise unavailable(self.target.source_id, why)

    async def _asked(self) -> Listing:
        channel, dialect = await self._connected(), await self._speaking()
        for refresh in (False, True):
            token = await self._token(refresh=refresh)
            try:
                return await dialect.tools(channel, _authorization(token))
            except Senseless as error:
                raise Senseless(_without(token, str(error))) from None
            except grpc.aio.AioRpcError as error:
                if refresh or not self._was_refused(error):
                    raise Senseless(_without(token, words(error))) from None
        raise AssertionError

    def _take(self, listing: Listing) -> None:
        if self.tools is not None and self.tools != listing.tools:
            self.before = self.tools
        self.tools = listing.tools
        self._failures, self._next_unasked = 0, 0.0
        self._fresh_until = self._now() + min(listing.ttl or self._bounds.ttl, _LONGEST_TTL)
        self._say(SourceState.READY, listing.said)

    def _failed(self, why: str) -> None:
        self._failures += 1
        pause = min(_FIRST_PAUSE * 2 ** min(self._failures, 20), _LONGEST_PAUSE) * random.uniform(0.5, 1.0)  # noqa: S311
        self._next_unasked = self._now() + pause
        self._say(SourceState.FAILED, why)

    async def _watch(self, channel: grpc.aio.Channel) -> None:
        """Closes the channel when nobody uses it. A server that was lost and is back may be another than before."""
        last, seen = None, False
        while (left := self._used + self._bounds.idle - self._now()) > 0 or self._is_busy():
            state = channel.get_state(try_to_connect=True)
            if state is channels.READY and last is not state:
                if seen or self._lost:
                    self._fresh_until = 0.0
                    self._list()
                seen, self._lost = True, False
            elif state is grpc.ChannelConnectivity.TRANSIENT_FAILURE and seen and not self._lost:
                self._lose("the connection was lost")
            last = state
            await channels.changed(channel, state, max(left, _FIRST_PAUSE))
        await self._disconnect()
        self._say(SourceState.IDLE if self.tools is not None else SourceState.PENDING)

    def _is_busy(self) -> bool:
        return self._calls > 0 or (self._listing is not None and not self._listing.done())

    def _lose(self, why: str) -> None:
        self._lost = True
        self._say(SourceState.FAILED, why)

    async def _disconnect(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    def _say(self, state: SourceState, message: str = "") -> None:
        version = self._dialect.version if self._dialect is not None else ""
        self.status = SourceStatus(self.target.source_id, state, message, len(self.tools or ()), version)
        self._told()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.create_task(work, context=self._means.context.copy())

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _is_cancelled() -> bool:
    """The task itself, and not what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _authorization(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),) if token else ()


def _without(token: str, text: str) -> str:
    """What a server says goes into events: there its token must not be, whatever it says."""
    return text.replace(token, "[token]") if len(token) >= _SHORTEST_SECRET else text


def _retrieved(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()
