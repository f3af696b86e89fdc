"""One MCP server of one tenant: its tools, and a connection while somebody uses it."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from typing import Any, Final, Protocol

import structlog

from libs import deadline, errors, identity
from libs.identity import Caller
from services.execution.gateways.mcp.targets import Bounds, Target, check
from services.execution.model.tools import SourceState, SourceStatus, Tool
from services.execution.service.sources import ToolError, idempotency_key, on_progress, unavailable

log = structlog.get_logger()

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0
"""Seconds that a call may wait for the next attempt."""
_BACKGROUND_PAUSE: Final = 30.0
_NEXT_LISTING: Final = 0.5
"""Seconds until a server is asked again that changed its tools while it was asked for them."""


class Secrets(Protocol):
    async def resolved(self, values: Mapping[str, str], *, refresh: bool = False) -> dict[str, str]: ...


class Server:
    def __init__(
        self,
        caller: Caller,
        target: Target,
        bounds: Bounds,
        secrets: Secrets,
        context: contextvars.Context,
        told: Callable[[], None],
    ) -> None:
        self.caller, self.target = caller, target
        self._bounds, self._secrets, self._context, self._told = bounds, secrets, context, told
        self.status = SourceStatus(target.source_id)
        self.tools: Mapping[str, Tool] | None = None
        self._fresh_until = 0.0
        self._connection: Any = None
        self._past: list[Any] = []
        self._attempt: asyncio.Task[Any] | None = None
        self._listing: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._failures, self._next_attempt, self._next_unasked = 0, 0.0, 0.0
        self._legacy = self._refresh = self._gone = self._changed_since = False
        self._used, self._calls = 0.0, 0

    async def close(self) -> None:
        self._gone = True
        tasks = [task for task in (self._attempt, self._listing, self._watching) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(connection.closed() for connection in self._past))

    async def listed(self) -> Mapping[str, Tool]:
        """Its tools, asked for where they are unknown or old; raises Unavailable where none are known."""
        self._use()
        if self.tools is None or self._now() >= self._fresh_until:
            try:
                await self._bounded(self._list())
            except errors.Unavailable:
                if self.tools is None:
                    raise
        return self.tools or {}

    async def offered(self) -> Mapping[str, Tool]:
        """Likewise; none where it has failed, rather than to wait for it again."""
        if self.status.state is SourceState.FAILED:
            self.ask()
            return self.tools or {}
        try:
            return await self.listed()
        except errors.Unavailable:
            return {}

    def ask(self) -> None:
        """Asks for its tools without waiting for them."""
        self._use()
        now = self._now()
        if now >= self._next_unasked and (self.tools is None or now >= self._fresh_until):
            self._list()

    async def call(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
        self._use()
        self._calls += 1
        try:
            return await self._call(tool, arguments)
        finally:
            self._calls -= 1
            self._used = self._now()

    async def _call(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
        name = tool.tool_id.removeprefix(f"{self.target.source_id}/")
        for last in (False, True):
            connection = await self._bounded(self._connected())
            lost = _connection_module().Lost
            try:
                said: str = await connection.call(name, arguments, idempotency_key(), on_progress())
                return said
            except lost as error:
                self._refresh = self._refresh or connection.rejected
                if last or not (error.unsent or tool.read_only or tool.idempotent):
                    raise unavailable(self.target.source_id, str(error)) from None
        raise AssertionError

    async def _bounded(self, awaitable: Awaitable[Any]) -> Any:
        """What others wait for too, so it goes on whoever gives up."""
        awaited = asyncio.ensure_future(awaitable)
        await asyncio.wait({awaited}, timeout=deadline.narrowed(self._bounds.patience + _LONGEST_PAUSE))
        if not awaited.done():
            raise unavailable(self.target.source_id, "does not answer")
        if awaited.cancelled():
            raise unavailable(self.target.source_id, "is not there any more")
        return awaited.result()

    def _connected(self) -> asyncio.Future[Any]:
        if self._gone:
            raise unavailable(self.target.source_id, "is not there any more")
        if self._connection is not None and self._connection.alive:
            found = asyncio.get_running_loop().create_future()
            found.set_result(self._connection)
            return found
        if self._attempt is None or self._attempt.done():
            self._attempt = self._start(self._connect())
            self._attempt.add_done_callback(_retrieved)
        return self._attempt

    async def _connect(self) -> Any:
        identity.enter(self.caller)
        await asyncio.sleep(self._next_attempt - self._now())
        try:
            check(self.target, self._bounds)
            module = await asyncio.to_thread(_connection_module)
            values = await self._secrets.resolved(self.target.values, refresh=self._refresh)
            made = module.Connection(self.target, self._bounds, legacy=self._legacy, changed=self._changed)
            try:
                await made.open(values)
            except module.Lost as error:
                self._refresh = made.rejected
                raise errors.Unavailable(str(error)) from None
        except errors.Error as error:
            self._failed(error)
            raise unavailable(self.target.source_id, error.message) from None
        self._opened(made)
        return made

    def _opened(self, connection: Any) -> None:
        self._past = [*(one for one in self._past if not one.over.is_set()), connection]
        self._connection, self._legacy, self._refresh = connection, connection.legacy, False
        self._failures, self._next_attempt, self._next_unasked = 0, 0.0, 0.0
        self._use()
        self._say(SourceState.READY if self.tools is not None else SourceState.PENDING, self.status.message)
        if self._watching is None or self._watching.done():
            self._watching = self._start(self._watch())
            self._watching.add_done_callback(_retrieved)
        self._changed()

    def _failed(self, error: errors.Error) -> None:
        self._failures += 1
        self._legacy = False
        pause = min(_FIRST_PAUSE * 2 ** min(self._failures, 20), _BACKGROUND_PAUSE) * random.uniform(0.5, 1.0)  # noqa: S311
        self._next_attempt, self._next_unasked = self._now() + min(pause, _LONGEST_PAUSE), self._now() + pause
        self._say(SourceState.FAILED, error.message)

    async def _watch(self) -> None:
        """Closes the connection when nobody uses it, and mends it while somebody does."""
        pause = _FIRST_PAUSE
        while True:
            connection = self._connection
            left = self._used + self._bounds.idle - self._now()
            if left <= 0 and not self._calls and (self._listing is None or self._listing.done()):
                await connection.closed()
                if self._connection is connection:
                    self._say(SourceState.IDLE if self.tools is not None else SourceState.PENDING)
                    return
            elif connection.alive:
                pause = _FIRST_PAUSE
                await _within(max(left, _FIRST_PAUSE), connection.over.wait())
                if not connection.alive:
                    self._say(SourceState.FAILED, "the connection was lost")
            else:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
                pause = min(pause * 2, _BACKGROUND_PAUSE)
                await asyncio.wait({self._connected()})

    def _list(self) -> asyncio.Task[None]:
        if self._listing is None or self._listing.done():
            self._listing = self._start(self._ask_for_tools())
            self._listing.add_done_callback(_retrieved)
        return self._listing

    async def _ask_for_tools(self) -> None:
        connection = await self._connected()
        self._changed_since = False
        await self._take_tools(connection)
        if self._changed_since:
            asyncio.get_running_loop().call_later(_NEXT_LISTING, self._list_again)

    def _list_again(self) -> None:
        if not self._gone and self._connection.alive:
            self._list()

    async def _take_tools(self, connection: Any) -> None:
        module = _connection_module()
        try:
            async with asyncio.timeout(self._bounds.patience):
                found, ttl = await connection.tools()
        except (module.Lost, module.MCPError, ToolError, TimeoutError) as error:
            why = "does not list its tools" if isinstance(error, TimeoutError) else module.why(error)
            self._say(SourceState.FAILED, why)
            raise unavailable(self.target.source_id, why) from None
        tools, said = import_module(f"{__package__}.translation").to_tools(self.target, found)
        self._fresh_until = self._now() + (ttl or self._bounds.ttl)
        self.tools = tools
        self._say(SourceState.READY, said)

    def _changed(self) -> None:
        """The tools may not be what they were."""
        self._fresh_until, self._changed_since = 0.0, True
        if not self._gone:
            self._list()

    def _say(self, state: SourceState, message: str = "") -> None:
        version = self._connection.protocol_version if self._connection is not None else ""
        self.status = SourceStatus(self.target.source_id, state, message, len(self.tools or ()), version)
        self._told()

    def _use(self) -> None:
        self._used = self._now()

    def _start(self, work: Any) -> asyncio.Task[Any]:
        """In the context of the start: not in the trace, nor the deadline, of whoever was first."""
        return asyncio.create_task(work, context=self._context.copy())

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _connection_module() -> Any:
    """Imported late: an Execution without MCP servers does not pay for it."""
    return import_module(f"{__package__}.connection")


def _retrieved(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()


async def _within(seconds: float, awaitable: Awaitable[Any]) -> None:
    try:
        async with asyncio.timeout(seconds):
            await awaitable
    except TimeoutError:
        pass
