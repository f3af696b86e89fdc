"""What is asked of a tool provider, whatever it speaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from google.protobuf.duration_pb2 import Duration

from services.execution.model.tools import Tool

Metadata = Sequence[tuple[str, str]]


class Senseless(Exception):
    """The server does not list its tools, or they make no sense."""


@dataclass(frozen=True, slots=True)
class Listing:
    tools: Mapping[str, Tool]
    ttl: float | None = None
    """Seconds for which the server says that they may be believed."""
    said: str = ""
    """What is to be said of those that are left out."""


class Dialect(Protocol):
    version: str
    """The gRPC service that tells of the tools; empty before they were listed."""

    async def tools(self, channel: grpc.aio.Channel, metadata: Metadata) -> Listing:
        """Raises Senseless, and AioRpcError."""

    async def call(
        self,
        channel: grpc.aio.Channel,
        name: str,
        arguments: Mapping[str, Any],
        metadata: Metadata,
        timeout: float | None,
    ) -> str:
        """What the tool says; raises ToolError where it fails, and AioRpcError."""


def seconds(duration: Duration) -> float | None:
    """None for what is no time to come: a stranger's Duration may be anything."""
    value = float(duration.seconds) + duration.nanos / 1e9
    return value if value > 0 else None
