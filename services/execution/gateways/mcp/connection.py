"""A connection to an MCP server. One task owns it: what is entered in one task must not be left in another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

import anyio
import httpx2
import structlog
from mcp import Client, MCPError
from mcp.client.subscriptions import SubscriptionLost
from mcp_types import (
    CONNECTION_CLOSED,
    HEADER_MISMATCH,
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    ElicitResult,
    Implementation,
    InputRequiredResult,
    PaginatedRequestParams,
    Tool,
    ToolListChangedNotification,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import TypeAdapter, ValidationError

from libs import errors
from services.execution.gateways.described import MOST_TOOLS
from services.execution.gateways.mcp import transports
from services.execution.gateways.mcp.targets import Bounds, Target
from services.execution.gateways.mcp.translation import to_asked, to_output, to_responses
from services.execution.model.tools import Progress
from services.execution.service.elicitation import Answered, SourceAsks, current_answered
from services.execution.service.sources import DEPTH, OnProgress, ToolError, depth

log = structlog.get_logger()
T = TypeVar("T")

_MOST_PAGES: Final = 100
_MOST_ROUNDS: Final = 5
"""Times that a server may ask for a call once more without a question."""
_RELISTEN: Final = 1.0
_LAST_WORDS: Final = 8.0
"""Seconds for the end of a connection: a process gets two to end of itself, and two more."""
_KEY: Final = "dynamicagents.dev/idempotency-key"
_ANSWER: Final[TypeAdapter[CallToolResult | InputRequiredResult]] = TypeAdapter(CallToolResult | InputRequiredResult)
_TERMINATED: Final = "Session terminated"
_STATUS: Final = "Server returned an error response"
"""What the transport makes of a status that says no more."""


class Lost(Exception):
    """The connection ended; `unsent` says that the server has not begun what it was asked."""

    def __init__(self, why: str, *, unsent: bool = False) -> None:
        super().__init__(why)
        self.unsent = unsent


class Connection:
    def __init__(self, target: Target, bounds: Bounds, *, legacy: bool, changed: Callable[[], None]) -> None:
        self._target, self._bounds, self._legacy, self._changed = target, bounds, legacy, changed
        self._client: Client | None = None
        self._end = asyncio.Event()
        self._why = ""
        self.rejected = False
        """The server does not take the credentials."""
        self.over = asyncio.Event()
        self.protocol_version = ""
        self._owner: asyncio.Task[None] | None = None
        # The cancellation of a task would leave processes behind.
        self._scope = anyio.CancelScope()

    @property
    def alive(self) -> bool:
        return self._client is not None and not self._end.is_set()

    @property
    def legacy(self) -> bool:
        return self.protocol_version not in MODERN_PROTOCOL_VERSIONS

    async def open(self, values: Mapping[str, str]) -> None:
        """Raises Lost where there is no server that speaks the protocol."""
        ready = asyncio.Event()
        self._owner = asyncio.create_task(self._own(values, ready))
        try:
            async with asyncio.timeout(self._bounds.patience):
                await _first_of(ready, self.over)
        except TimeoutError:
            self._why = f"did not answer within {self._bounds.patience:g} s"
        finally:
            if not ready.is_set():
                self._scope.cancel()
                await asyncio.wait({self._owner})
        if not ready.is_set():
            reason = "refused the credentials" if self.rejected else self._why
            raise Lost(reason or "does not answer", unsent=True)

    def close(self) -> None:
        self._end.set()

    async def closed(self) -> None:
        self.close()
        if self._owner is not None:
            await asyncio.wait({self._owner})

    async def _own(self, values: Mapping[str, str], ready: asyncio.Event) -> None:
        try:
            with self._scope:
                await self._live(values, ready)
        except Exception as error:
            self._why = self._why or why(error)
        finally:
            self._end.set()
            self.over.set()

    async def _live(self, values: Mapping[str, str], ready: asyncio.Event) -> None:
        async with Client(
            transports.opened(self._target, values, self._bounds, self._end.set, self._refused),
            mode="legacy" if self._legacy or self._target.transport == "sse" else "auto",
            message_handler=self._heard,
            client_info=Implementation(name="dynamic-agents", version="1"),
            cache=None,
            elicitation_callback=_never_mind,
        ) as client:
            self._client, self.protocol_version = client, client.protocol_version
            ready.set()
            listening = asyncio.create_task(self._listen(client))
            try:
                await self._end.wait()
            finally:
                self._scope.deadline = anyio.current_time() + _LAST_WORDS
                listening.cancel()
                await asyncio.wait({listening})

    def _refused(self) -> None:
        self.rejected = True

    async def _heard(self, message: Any) -> None:
        if isinstance(message, ToolListChangedNotification):
            self._changed()

    async def _listen(self, client: Client) -> None:
        """Hears of changes from a server that keeps no session; others say so of themselves."""
        tools = client.server_capabilities.tools
        if self.legacy or tools is None or not tools.list_changed:
            return
        while not self._end.is_set():
            with contextlib.suppress(MCPError, SubscriptionLost, TimeoutError):
                async with client.listen(tools_list_changed=True) as events:
                    async for _ in events:
                        self._changed()
            await asyncio.sleep(_RELISTEN)
            self._changed()

    async def tools(self) -> tuple[Sequence[Tool], float | None]:
        """All tools of the server, and for how many seconds they may be believed, if it says so."""
        assert self._client is not None
        found: list[Tool] = []
        cursor, ttl = None, None
        for _ in range(_MOST_PAGES):
            params = PaginatedRequestParams(cursor=cursor)
            page = await self._until_over(self._client.session.list_tools(params=params))
            found += page.tools
            ttl = page.ttl_ms / 1000 if page.ttl_ms else ttl
            if page.next_cursor is None or len(found) >= MOST_TOOLS:
                break
            cursor = page.next_cursor
        return found[:MOST_TOOLS], ttl

    async def call(self, name: str, arguments: Mapping[str, Any], key: str, told: OnProgress | None) -> str:
        """What the tool says; raises ToolError where it fails, SourceAsks where it wants to know something first, and
        Lost where the server is gone.
        """
        answered = current_answered()
        try:
            answer = await self._call(name, arguments, key, told, answered)
        except MCPError as error:
            if error.error.code != HEADER_MISMATCH:
                raise ToolError(f"the MCP server refused the call: {error.error.message[:500]}") from None
            await self.tools()
            answer = await self._call(name, arguments, key, told, answered)
        for _ in range(_MOST_ROUNDS):
            if not isinstance(answer, InputRequiredResult):
                return to_output(answer)
            if answer.input_requests:
                raise SourceAsks(to_asked(answer))
            answer = await self._call(name, arguments, key, told, Answered(answer.request_state))
        raise ToolError("the tool asks to be called again and again")

    async def _call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        key: str,
        told: OnProgress | None,
        answered: Answered | None,
    ) -> CallToolResult | InputRequiredResult:
        assert self._client is not None

        async def progress(done: float, total: float | None, message: str | None) -> None:
            if told:
                told(Progress(done, total or 0.0, message or ""))

        listener: Any = progress if told else None
        meta: Any = {**({_KEY: key} if key else {}), **({DEPTH: depth()} if depth() else {})} or None
        params = CallToolRequestParams(name=name, arguments=dict(arguments), _meta=meta)
        if answered is not None:
            params.request_state, params.input_responses = answered.state, to_responses(answered) or None
        request = CallToolRequest(params=params)
        return await self._until_over(self._client.session.send_request(request, _ANSWER, progress_callback=listener))

    async def _until_over(self, answer: Coroutine[Any, Any, T]) -> T:
        """The answer, unless the connection ends before it."""
        asking = asyncio.ensure_future(answer)
        try:
            await _first_of(asking, self.over)
            if not asking.done() or asking.cancelled():
                raise Lost(self._why or "was lost")
            return asking.result()
        except MCPError as error:
            raise self._meant(error) from None
        except ValidationError:
            raise ToolError("the MCP server's answer is not what the protocol says") from None
        finally:
            asking.cancel()

    def _meant(self, error: MCPError) -> Exception:
        if error.error.code == CONNECTION_CLOSED:
            if self._target.transport != "http":
                self.close()
            return Lost("was lost before it answered")
        if error.error.message == _TERMINATED:
            self.close()
            return Lost("has forgotten the session", unsent=True)
        if error.error.message != _STATUS:
            return error
        self.close()
        return Lost("refused the credentials" if self.rejected else "answered with an error", unsent=self.rejected)


async def _never_mind(context: Any, params: Any) -> ElicitResult:
    """A server with a handshake asks while it answers, and what waits so long must not hang on one connection."""
    return ElicitResult(action="cancel")


async def _first_of(*awaited: asyncio.Event | asyncio.Future[Any]) -> None:
    tasks = [asyncio.ensure_future(one.wait()) if isinstance(one, asyncio.Event) else one for one in awaited]
    made = [task for task, one in zip(tasks, awaited, strict=True) if isinstance(one, asyncio.Event)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in made:
            task.cancel()


def why(error: BaseException) -> str:
    """In few words, of the innermost cause: groups say nothing."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case MCPError():
            return f"refused: {error.error.message[:300]}"
        case httpx2.HTTPStatusError():
            return f"answered with status {error.response.status_code}"
        case httpx2.ConnectError() | ConnectionError():
            return "cannot be reached"
        case httpx2.HTTPError():
            return f"cannot be asked: {type(error).__name__}"
        case errors.Error() | Lost() | ToolError():
            return str(error)
        case OSError():
            return f"cannot be started: {error.strerror}"
    log.warning("MCP connection failed", error=type(error).__name__)
    return f"failed: {type(error).__name__}"
