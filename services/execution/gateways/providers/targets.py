"""Where a tool provider is, and what an operator allows."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from dynamicagents.registry.v1 import tool_provider_pb2

from libs import errors

PRIVATE: Final = "private"
_PROTOCOLS: Final = {
    tool_provider_pb2.TOOL_PROTOCOL_MCP: "mcp",
    tool_provider_pb2.TOOL_PROTOCOL_REFLECTION: "reflection",
}


@dataclass(frozen=True, slots=True)
class Bounds:
    addresses: Sequence[str] = (PRIVATE,)
    """Patterns of host:port; "private" stands for loopback and the private ranges."""
    patience: float = 10.0
    idle: float = 300.0
    ttl: float = 300.0
    max_message_bytes: int = 8 * 1024 * 1024
    ca_file: Path | None = None
    """Whose certificates are trusted besides none other; None: the usual authorities."""


@dataclass(frozen=True, slots=True)
class Target:
    provider_id: str
    address: str
    protocol: str
    """provider, mcp or reflection."""
    tls: bool
    token_reference: str
    methods: Sequence[str]
    timeout: float | None

    @property
    def source_id(self) -> str:
        return f"grpc/{self.provider_id}"

    def offers(self, name: str) -> bool:
        """Whether a method, as package.Service/Method, is among those that are offered; other tools always are."""
        return not self.methods or any(
            name.startswith(one[:-1]) if one.endswith("*") else name == one for one in self.methods
        )


def target(provider: tool_provider_pb2.ToolProvider) -> Target:
    spec = provider.spec
    timeout = spec.timeout.ToTimedelta().total_seconds() if spec.HasField("timeout") else None
    return Target(
        provider.tool_provider_id,
        spec.address,
        _PROTOCOLS.get(spec.protocol, "provider"),
        spec.tls,
        spec.token_reference,
        tuple(spec.methods),
        timeout,
    )


async def check(address: str, bounds: Bounds) -> None:
    """Refuses what no operator allows: whoever may write to Registry must not thereby reach what they like."""
    if any(fnmatchcase(address.lower(), pattern.lower()) for pattern in bounds.addresses if pattern != PRIVATE):
        return
    if PRIVATE not in bounds.addresses or not await _is_private(address):
        raise errors.FailedPrecondition("the address is none of those that the setting grpc_provider_addresses allows")


async def _is_private(address: str) -> bool:
    """Whether the host is, or all that its name stands for are, on this machine or in a private network."""
    host, _, port = address.rpartition(":")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise errors.Unavailable("the host is not known") from None
    return all(_is_inside(str(entry[4][0])) for entry in found)


def _is_inside(host: str) -> bool:
    ip = ipaddress.ip_address(host.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return ip.is_loopback or any(ip in network for network in _NETWORKS if network.version == ip.version)


# Not is_private, which has link-local addresses too: there clouds keep the credentials of their machines.
_NETWORKS: Final = tuple(
    ipaddress.ip_network(one) for one in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
