"""`builtin/web_search`: through a SearXNG of the operator's, or Brave Search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

import aiohttp
import orjson

from services.execution.service.builtin.offers import Offer, declared, record
from services.execution.service.sources import ToolError

_MOST: Final = 20
_DEFAULT: Final = 5
_MOST_BYTES: Final = 4 * 1024 * 1024
_BRAVE: Final = "https://api.search.brave.com/res/v1/web/search"
_TEXT: Final = {"type": "string"}
_TOOL: Final = declared(
    "web_search",
    "Web search",
    "Searches the web; gives titles, addresses and a few words of each result.",
    {
        "query": {"type": "string", "minLength": 1, "maxLength": 400},
        "max_results": {"type": "integer", "minimum": 1, "maximum": _MOST, "description": f"Default {_DEFAULT}."},
    },
    ["query"],
    output=record({"results": {"type": "array", "items": record({"title": _TEXT, "url": _TEXT, "snippet": _TEXT})}}),
    examples=[{"query": "grpc deadline propagation", "max_results": 3}],
    open_world=True,
)


class References(Protocol):
    async def resolved(self, values: Mapping[str, str], *, refresh: bool = False) -> dict[str, str]:
        """The same with the value in place of each reference."""


@dataclass(frozen=True, slots=True)
class Provider:
    name: str = "searxng"
    url: str = ""
    key: str = ""
    """A reference."""

    @property
    def problem(self) -> str:
        if self.name == "brave":
            return "" if self.key else "the setting web_search_key names no key"
        return "" if self.url else "the setting web_search_url names no server"


class WebSearch:
    def __init__(self, provider: Provider, references: References, *, seconds: float) -> None:
        self._provider, self._references, self._seconds = provider, references, seconds
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._seconds))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    @property
    def offer(self) -> Offer:
        offer = Offer(_TOOL, self.search)
        return offer.off(self._provider.problem) if self._provider.problem else offer

    async def search(self, query: str, max_results: int = _DEFAULT) -> str:
        brave = self._provider.name == "brave"
        found = await (self._brave(query, max_results) if brave else self._searxng(query))
        snippet = "description" if brave else "content"
        results = [
            {"title": str(one.get("title", "")), "url": str(one.get("url", "")), "snippet": str(one.get(snippet) or "")}
            for one in found[:max_results]
            if isinstance(one, dict)
        ]
        return orjson.dumps({"results": results}).decode()

    async def _searxng(self, query: str) -> list[Any]:
        headers = {"Authorization": f"Bearer {await self._key()}"} if self._provider.key else {}
        answer = await self._get(self._provider.url, {"q": query, "format": "json"}, headers)
        return _list(answer.get("results"))

    async def _brave(self, query: str, count: int) -> list[Any]:
        headers = {"X-Subscription-Token": await self._key(), "Accept": "application/json"}
        answer = await self._get(self._provider.url or _BRAVE, {"q": query, "count": str(count)}, headers)
        web = answer.get("web")
        return _list(web.get("results")) if isinstance(web, dict) else []

    async def _key(self) -> str:
        return (await self._references.resolved({"key": self._provider.key}))["key"]

    async def _get(self, url: str, params: Mapping[str, str], headers: Mapping[str, str]) -> dict[str, Any]:
        assert self._session is not None
        try:
            async with self._session.get(url, params=params, headers=headers, allow_redirects=False) as response:
                if response.status != 200:
                    passing = response.status == 429 or response.status >= 500
                    raise ToolError(f"the search engine answered {response.status}", passing=passing)
                body = await response.content.read(_MOST_BYTES)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ToolError(f"the search engine was not reached: {type(error).__name__}", passing=True) from None
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise ToolError("the search engine gave no JSON object")
        return answer


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
