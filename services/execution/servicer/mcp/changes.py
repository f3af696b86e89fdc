"""Tells clients that the list of tools is not what it was."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ToolsListChanged
from mcp_types import SubscriptionsListenRequestParams, SubscriptionsListenResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from libs import errors
from libs.identity import Caller
from services.execution.service.offers import Offers

log = structlog.get_logger()

Context = ServerRequestContext[Any, Any]
_PAUSE: Final = 0.2
"""Seconds in which changes are told of once."""


class ListChanges:
    """Follows what a tenant is offered as long as somebody of the tenant listens."""

    def __init__(self, offers: Offers) -> None:
        self._offers = offers
        self._tenants: dict[str, _Tenant] = {}
        self._context = contextvars.copy_context()

    async def listen(
        self, caller: Caller, context: Context, params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """A stream of a client that keeps no session."""
        async with self._followed(caller) as tenant:
            return await tenant.streams(context, params)

    async def hear(self, caller: Caller, context: Context) -> None:
        """Has the session of a client told, if it keeps one, until it ends."""
        connection = context.session._connection
        if context.protocol_version in MODERN_PROTOCOL_VERSIONS or connection.session_id is None:
            return
        tenant = self._tenants.get(caller.tenant)
        if tenant is None or connection.session_id not in tenant.sessions:
            await connection.exit_stack.enter_async_context(self._session(caller, connection.session_id, context))

    @asynccontextmanager
    async def _session(self, caller: Caller, session_id: str, context: Context) -> AsyncIterator[None]:
        async with self._followed(caller) as tenant:
            tenant.sessions[session_id] = context.session
            try:
                yield
            finally:
                del tenant.sessions[session_id]

    @asynccontextmanager
    async def _followed(self, caller: Caller) -> AsyncIterator[_Tenant]:
        tenant = self._tenants.get(caller.tenant)
        if tenant is None:
            tenant = self._tenants[caller.tenant] = _Tenant()
            tenant.watch = asyncio.create_task(self._follow(caller, tenant), context=self._context.copy())
        tenant.listeners += 1
        try:
            yield tenant
        finally:
            tenant.listeners -= 1
            if not tenant.listeners:
                del self._tenants[caller.tenant]
                assert tenant.watch
                tenant.watch.cancel()

    async def _follow(self, caller: Caller, tenant: _Tenant) -> None:
        changed = asyncio.Event()
        watching = asyncio.create_task(self._watch(caller, changed))
        try:
            while True:
                await changed.wait()
                await asyncio.sleep(_PAUSE)
                changed.clear()
                await tenant.tell()
        finally:
            watching.cancel()

    async def _watch(self, caller: Caller, changed: asyncio.Event) -> None:
        while True:
            try:
                await self._offers.changed(caller, changed.set)
            except* errors.Error as group:
                log.debug("watch of offers lost", tenant=caller.tenant, reason=str(group.exceptions[0]))
            await asyncio.sleep(1)
            changed.set()

    def close(self) -> None:
        """Ends all streams."""
        for tenant in self._tenants.values():
            tenant.streams.close()


class _Tenant:
    def __init__(self) -> None:
        self._bus = InMemorySubscriptionBus()
        self.streams = ListenHandler(self._bus)
        self.sessions: dict[str, Any] = {}
        self.listeners = 0
        self.watch: asyncio.Task[None] | None = None

    async def tell(self) -> None:
        await self._bus.publish(ToolsListChanged())
        for session in list(self.sessions.values()):
            with contextlib.suppress(Exception):  # one that ends meanwhile
                await session.send_tool_list_changed()
