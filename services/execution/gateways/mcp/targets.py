"""Where an MCP server is, and what an operator allows."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from dynamicagents.registry.v1 import mcp_server_pb2

from libs import errors


@dataclass(frozen=True, slots=True)
class Bounds:
    commands: Sequence[str] = ()
    """Beginnings of command lines that may be run."""
    variables: Sequence[str] = ()
    """Patterns of the environment variables that a process may be given."""
    patience: float = 10.0
    idle: float = 300.0
    ttl: float = 300.0
    open_files: int = 1024
    niceness: int = 5


@dataclass(frozen=True, slots=True)
class Target:
    server_id: str
    transport: str
    """stdio, http or sse."""
    address: Sequence[str]
    """The command with its arguments, or the URL."""
    values: Mapping[str, str] = field(repr=False)
    """The environment, or the headers; some are references."""
    timeout: float | None
    include: Sequence[str]
    exclude: Sequence[str]

    @property
    def source_id(self) -> str:
        return f"mcp/{self.server_id}"

    def offers(self, name: str) -> bool:
        return (not self.include or _named(name, self.include)) and not _named(name, self.exclude)


def target(server: mcp_server_pb2.McpServer) -> Target:
    spec, transport = server.spec, server.spec.WhichOneof("transport") or "http"
    if transport == "stdio":
        address, values = [spec.stdio.command, *spec.stdio.arguments], dict(spec.stdio.environment)
    else:
        http = spec.sse if transport == "sse" else spec.http
        address, values = [http.url], dict(http.headers)
    timeout = spec.timeout.ToTimedelta().total_seconds() if spec.HasField("timeout") else None
    return Target(
        server.mcp_server_id,
        transport,
        tuple(address),
        values,
        timeout,
        tuple(spec.include_tools),
        tuple(spec.exclude_tools),
    )


def check(target: Target, bounds: Bounds) -> None:
    """Refuses a process that no operator allows: whoever may write to Registry must not thereby run what they like."""
    if target.transport != "stdio":
        return
    if not any(list(target.address[: len(begin)]) == begin for begin in map(shlex.split, bounds.commands) if begin):
        raise errors.FailedPrecondition("the command is none of those that the setting mcp_commands allows")
    for name in target.values:
        if not any(fnmatchcase(name, pattern) for pattern in bounds.variables):
            raise errors.FailedPrecondition(f"{name} is no variable that the setting mcp_variables allows")


def _named(name: str, patterns: Sequence[str]) -> bool:
    return any(name.startswith(one[:-1]) if one.endswith("*") else name == one for one in patterns)
