"""The source `mcp`: the tools of all MCP servers that Registry has of a tenant."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

from dynamicagents.registry.v1 import watch_service_pb2_grpc

from libs import identity
from libs.identity import Caller
from services.execution.gateways.mcp.registry import McpServers, Targets
from services.execution.gateways.mcp.server import Secrets, Server
from services.execution.gateways.mcp.targets import Bounds
from services.execution.model.tools import SourceStatus, Tool
from services.execution.service.sources import Changes, unavailable

_MOST_TENANTS: Final = 1024


class McpTools:
    name: Final = "mcp"

    def __init__(
        self, registry: watch_service_pb2_grpc.WatchServiceAsyncStub, secrets: Secrets, bounds: Bounds
    ) -> None:
        self._registry = McpServers(registry, limit=_MOST_TENANTS, told=self._heard)
        self._secrets, self._bounds = secrets, bounds
        self._servers: dict[str, dict[str, Server]] = {}
        self._context = contextvars.copy_context()
        self._closing: set[asyncio.Task[None]] = set()
        self.changes = Changes()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._registry.close()
        for tenant in list(self._servers):
            self._heard(tenant, {})
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def find(self, caller: Caller, pattern: str) -> Sequence[Tool]:
        _, _, rest = pattern.partition("/")
        wanted, is_whole, _ = rest.partition("/")
        servers = await self._of(caller)
        if is_whole:
            found = [servers[wanted]] if wanted in servers else []
        else:
            found = [server for server_id, server in servers.items() if server_id.startswith(wanted.rstrip("*"))]
        listed = await asyncio.gather(*(server.listed() if is_whole else server.offered() for server in found))
        return [tool for tools in listed for tool in tools.values() if _matches(tool.tool_id, pattern)]

    async def known(self, caller: Caller) -> tuple[Sequence[Tool], Sequence[SourceStatus]]:
        servers = (await self._of(caller)).values()
        for server in servers:
            server.ask()
        return [tool for server in servers for tool in (server.tools or {}).values()], [one.status for one in servers]

    async def call(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
        caller = identity.current()
        server_id = tool.tool_id.split("/")[1]
        server = (await self._of(caller)).get(server_id)
        if server is None:
            raise unavailable(f"mcp/{server_id}", "is not there any more")
        return await server.call(tool, arguments)

    async def _of(self, caller: Caller) -> Mapping[str, Server]:
        self._made(caller, await self._registry.get(caller))
        return self._servers[caller.tenant]

    def _made(self, caller: Caller, targets: Targets) -> None:
        """A server for each target; who connects next does it as the caller."""
        servers = self._servers.setdefault(caller.tenant, {})
        for server_id, target in targets.items():
            if server_id in servers:
                servers[server_id].caller = caller
            else:
                servers[server_id] = Server(
                    caller, target, self._bounds, self._secrets, self._context, self.changes.tell
                )

    def _heard(self, tenant: str, targets: Targets) -> None:
        """Ends what is no more, or not what it was."""
        servers = self._servers.get(tenant, {})
        for server_id, server in list(servers.items()):
            if targets.get(server_id) != server.target:
                del servers[server_id]
                closing = asyncio.create_task(server.close())
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)
        self.changes.tell()


def _matches(tool_id: str, pattern: str) -> bool:
    return tool_id.startswith(pattern[:-1]) if pattern.endswith("*") else tool_id == pattern
