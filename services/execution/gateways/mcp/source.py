"""The source `mcp`: the tools of all MCP servers that Registry has of a tenant."""

from __future__ import annotations

import contextvars
from collections.abc import Callable

from dynamicagents.registry.v1 import snapshot_pb2, watch_service_pb2_grpc

from libs.identity import Caller
from services.execution.gateways.following import Kind
from services.execution.gateways.mcp.server import Secrets, Server
from services.execution.gateways.mcp.targets import Bounds, Target, target
from services.execution.gateways.parts import Parts


class McpTools(Parts[Target, Server]):
    def __init__(
        self, registry: watch_service_pb2_grpc.WatchServiceAsyncStub, secrets: Secrets, bounds: Bounds
    ) -> None:
        context = contextvars.copy_context()

        def make(caller: Caller, target: Target, told: Callable[[], None]) -> Server:
            return Server(caller, target, bounds, secrets, context, told)

        kind = Kind(snapshot_pb2.RESOURCE_KIND_MCP_SERVER, lambda change: target(change.mcp_server))
        super().__init__("mcp", registry, kind, make)
