"""Which hosts and addresses a tool may reach on behalf of a model."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from services.execution.service.sources import ToolError

_PORTS: Final = {"http": 80, "https": 443}
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_METADATA: Final = ("100.100.100.200", "192.0.0.192", "fd00:ec2::254")
"""Of clouds, where they are no link-local ones."""
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Hosts:
    """Those that an operator allows: `host`, `host:port`, `*.domain` or `*`; without a port, 80 and 443."""

    public: Sequence[str] = ()
    private: Sequence[str] = ()
    """May be at private addresses. Named one by one."""

    def checked(self, url: str) -> tuple[SplitResult, bool]:
        """The parts of a URL that may be fetched, and whether its host may be at a private address."""
        parts, host, port = _parts(url)
        for hosts, private in ((self.private, True), (self.public, False)):
            if any(_fits(one, host, port, parts.scheme) for one in hosts):
                return parts, private
        raise ToolError(f"the host {host[:100]!r} (port {port}) is none of those that may be reached")


def _parts(url: str) -> tuple[SplitResult, str, int]:
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        raise ToolError("that is no URL") from None
    if parts.scheme not in _PORTS or not host:
        raise ToolError("the URL must begin with http:// or https:// and name a host")
    if "@" in parts.netloc:
        raise ToolError("the URL has credentials")
    return parts, host.lower(), port


def _fits(pattern: str, host: str, port: int, scheme: str) -> bool:
    name, colon, wanted = pattern.lower().rpartition(":")
    if not colon or not wanted.isdigit():
        name, wanted = pattern.lower(), str(_PORTS[scheme])
    name = name.strip("[]")
    if str(port) != wanted:
        return False
    return name in ("*", host) or (name.startswith("*.") and host.endswith(name[1:]))


def is_allowed(address: str, *, private: bool) -> bool:
    """Of an address to which a connection is about to be made."""
    try:
        found = _innermost(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return False
    if found.is_link_local or found.is_multicast or found.is_unspecified or str(found) in _METADATA:
        return False
    if private:
        return True
    site_local = isinstance(found, ipaddress.IPv6Address) and found.is_site_local
    return found.is_global and not found.is_reserved and not site_local


def _innermost(address: _Address) -> _Address:
    """IPv4 addresses hide in several kinds of IPv6 ones."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
    return inner or address
