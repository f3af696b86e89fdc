"""`builtin/http_fetch`: pages of hosts that the operator allows.

An address is looked at when it is connected to: neither a name that changes its address nor a redirect leads inside.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import urljoin

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver

from services.execution.service.builtin.addresses import Hosts, is_allowed
from services.execution.service.builtin.offers import Offer, declared, record
from services.execution.service.sources import ToolError

_MOST_REDIRECTS: Final = 5
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_PASSING: Final = (408, 425, 429, 500, 502, 503, 504)
_TEXTS: Final = ("application/json", "application/xml", "application/xhtml+xml", "application/x-ndjson")
_AGENT: Final = "dynamic-agents"
_CHUNK: Final = 16 * 1024

_TOOL: Final = declared(
    "http_fetch",
    "Fetch a page",
    "Reads a text or JSON document from the web, by GET or HEAD. Only from hosts that are allowed.",
    {
        "url": {"type": "string", "minLength": 1, "maxLength": 4096, "description": "http:// or https://"},
        "method": {"enum": ["GET", "HEAD"], "description": "Default GET."},
    },
    ["url"],
    output=record(
        {
            "url": {"type": "string"},
            "status": {"type": "integer"},
            "content_type": {"type": "string"},
            "body": {"type": "string"},
            "truncated": {"type": "boolean"},
        }
    ),
    examples=[{"url": "https://example.com/"}],
    open_world=True,
)


@dataclass(frozen=True, slots=True)
class Limits:
    seconds: float
    most_bytes: int


class HttpFetch:
    def __init__(self, hosts: Hosts, limits: Limits, resolver: AbstractResolver | None = None) -> None:
        self._hosts, self._limits, self._resolver = hosts, limits, resolver
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        """By whether private addresses are allowed: they share no connections."""

    async def __aenter__(self) -> Self:
        self._sessions = {private: self._session(private) for private in (True, False)}
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in self._sessions.values():
            await session.close()

    def _session(self, private: bool) -> aiohttp.ClientSession:
        def guarded(address: Any) -> socket.socket:
            family, kind, protocol, _, where = address
            if not is_allowed(where[0], private=private):
                raise OSError(f"the address {where[0]} may not be reached")
            return socket.socket(family, kind, protocol)

        connector = aiohttp.TCPConnector(socket_factory=guarded, resolver=self._resolver, limit=100)
        timeout = aiohttp.ClientTimeout(total=self._limits.seconds)
        return aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": _AGENT},
            max_line_size=16 * 1024,
        )

    @property
    def offer(self) -> Offer:
        offer = Offer(_TOOL, self.fetch)
        if self._hosts.public or self._hosts.private:
            return offer
        return offer.off("the setting http_fetch_hosts names no host")

    async def fetch(self, url: str, method: str = "GET") -> str:
        for _ in range(_MOST_REDIRECTS + 1):
            parts, private = self._hosts.checked(url)
            try:
                async with self._sessions[private].request(method, url, allow_redirects=False) as response:
                    if response.status not in _REDIRECTS or "Location" not in response.headers:
                        return await self._told(response)
                    target = urljoin(url, response.headers["Location"])
            except aiohttp.ClientConnectorError as error:
                raise ToolError(f"no connection: {error.os_error}"[:300]) from None
            except TimeoutError:
                raise ToolError(f"no answer within {self._limits.seconds:.3g} s", passing=True) from None
            except (aiohttp.ClientError, ValueError) as error:
                raise ToolError(f"{type(error).__name__}: {error}"[:300]) from None
            if parts.scheme == "https" and not target.startswith("https:"):
                raise ToolError("a redirect leads from https to http")
            url = target
        raise ToolError(f"there are more than {_MOST_REDIRECTS} redirects")

    async def _told(self, response: aiohttp.ClientResponse) -> str:
        kind = response.content_type
        if response.status >= 400:
            raise ToolError(f"the server answered {response.status}", passing=response.status in _PASSING)
        text, cut = "", False
        if response.method != "HEAD":
            if not (kind.startswith("text/") or kind in _TEXTS or kind.endswith(("+json", "+xml"))):
                raise ToolError(f"the document is {kind[:100]}, which is neither text nor JSON")
            text, cut = await self._text(response)
        said = {"url": str(response.url), "status": response.status, "content_type": kind}
        return orjson.dumps({**said, "body": text, "truncated": cut}).decode()

    async def _text(self, response: aiohttp.ClientResponse) -> tuple[str, bool]:
        """As much as there may be, unpacked: what is small on the wire may be large."""
        read, most = bytearray(), self._limits.most_bytes
        async for chunk in response.content.iter_chunked(_CHUNK):
            read += chunk
            if len(read) > most:
                break
        try:
            return read[:most].decode(response.charset or "utf-8", errors="replace"), len(read) > most
        except LookupError:
            return read[:most].decode(errors="replace"), len(read) > most
