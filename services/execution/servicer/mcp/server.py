"""MCP as its own SDK serves it, in both eras: stateless (2026-07-28) and with a handshake."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import structlog
from mcp import MCPError
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import NotificationOptions
from mcp.server.lowlevel import Server as McpServer
from mcp.server.models import InitializationOptions
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)

from libs import deadline, errors, identity
from libs.identity import Caller
from services.execution.model.tools import Progress
from services.execution.service.offers import Offer, Offers
from services.execution.service.sources import TOOL_ID, OnProgress, depth_of
from services.execution.servicer.mcp import words
from services.execution.servicer.mcp.changes import ListChanges

log = structlog.get_logger()

CALLER: Final = "dynamic-agents.caller"
"""Where the listener leaves the caller in the scope of a request."""
Context = ServerRequestContext[Any, Any]


class OfferServer(McpServer[Any]):
    def __init__(self, offers: Offers, changes: ListChanges, *, timeout: float) -> None:
        super().__init__(
            "dynamic-agents",
            version="1",
            title="Dynamic Agents",
            on_list_tools=self._list,
            on_call_tool=self._call,
            on_subscriptions_listen=self._listen,
            cache_hints={"tools/list": CacheHint(ttl_ms=words.TTL, scope="private")},
            # The SDK would list all tools before each call, to look for arguments that are to come as headers too.
            get_tool_input_schema=lambda _: None,
        )
        self._offers, self._changes, self._timeout = offers, changes, timeout

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        options = notification_options or NotificationOptions(tools_changed=True)
        return super().create_initialization_options(options, experimental_capabilities, extensions)

    async def _list(self, context: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        with self._called(context) as caller:
            await self._changes.hear(caller, context)
            page, cursor = await self._offers.list(caller, (params and params.cursor) or "")
        return ListToolsResult(tools=list(map(_tool, page)), next_cursor=cursor or None)

    async def _call(self, context: Context, params: CallToolRequestParams) -> CallToolResult:
        meta: Mapping[str, Any] = context.meta or {}
        with self._called(context) as caller:
            async with _progress(context) as told:
                said = await self._offers.call(caller, params.name, params.arguments or {}, depth_of(meta), told)
        return CallToolResult(
            content=[TextContent(text=said.text)],
            structured_content=said.data,
            is_error=said.is_error,
            _meta=words.meta(said) or None,
        )

    async def _listen(self, context: Context, params: Any) -> Any:
        with self._called(context, timed=False) as caller:
            return await self._changes.listen(caller, context, params)

    @contextmanager
    def _called(self, context: Context, *, timed: bool = True) -> Iterator[Caller]:
        """Who calls, and until when; what goes wrong within is said in JSON-RPC's words."""
        assert context.request is not None
        caller: Caller = context.request.scope[CALLER]
        identity.enter(caller)
        deadline.enter(self._timeout if timed else None)
        try:
            yield caller
        except errors.Error as error:
            data = {"reason": error.reason_code, "metadata": error.metadata}
            raise MCPError(words.code_of(error), error.message, data) from None
        except MCPError:
            raise
        except Exception:
            log.exception("unexpected error", method=context.method)
            raise MCPError(words.code_of(errors.Internal("")), "internal error") from None


@asynccontextmanager
async def _progress(context: Context) -> AsyncIterator[OnProgress | None]:
    """Tells who asked for it how far the call within is: of more than can be sent the newest."""
    if "progress_token" not in (context.meta or {}):
        yield None
        return
    newest: asyncio.Queue[Progress] = asyncio.Queue(1)

    def told(progress: Progress) -> None:
        if newest.full():
            newest.get_nowait()
        newest.put_nowait(progress)

    async def tell() -> None:
        while True:
            one = await newest.get()
            await context.session.report_progress(one.progress, one.total or None, one.message or None)

    telling = asyncio.create_task(tell())
    try:
        yield told
    finally:
        telling.cancel()
        await asyncio.wait({telling})


def _tool(offer: Offer) -> Tool:
    tool = offer.tool
    return Tool(
        name=offer.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.input_schema,
        output_schema=tool.output_schema,
        annotations=ToolAnnotations(
            title=tool.title,
            read_only_hint=tool.read_only,
            destructive_hint=tool.destructive,
            idempotent_hint=tool.idempotent,
            open_world_hint=tool.open_world,
        ),
        _meta={TOOL_ID: tool.tool_id},
    )
