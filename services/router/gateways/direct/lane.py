"""The direct lane: LiteLLM translates, one HTTP session of ours carries."""

from __future__ import annotations

import asyncio
import urllib.request
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import aiohttp
import structlog
from litellm.llms.custom_httpx.http_handler import get_ssl_configuration
from yarl import URL

from services.router.gateways import failures
from services.router.gateways.answers import Answer
from services.router.gateways.direct import embeddings, providers
from services.router.gateways.direct.events import Events, TooLong
from services.router.gateways.direct.provider import NotDirect, Provider
from services.router.gateways.direct.readers import Body, Reader, Refused
from services.router.model import ChatCall, Chunk, Credentials, Deployment, EmbedCall, Embedded, Failure

log = structlog.get_logger()

_CONNECT: Final = 10.0
_LONGEST_REFUSAL: Final = 2**16
_LONGEST_ANSWER: Final = 64 * 2**20
_FAREWELL: Final = 0.05
"""Seconds that a provider has to end a stream after its last word, for the connection to be used again."""
_REMEMBERED: Final = 2000
_KINDS: Final = ("openai/gpt-4o", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash")
_NO_STREAM: Final = ("json", "html")

Response = aiohttp.ClientResponse


class DirectLane:
    def __init__(self) -> None:
        self._providers: OrderedDict[tuple[Any, ...], Provider | None] = OrderedDict()

        self._tls = get_ssl_configuration()
        self._proxies = urllib.request.getproxies()

    def open(self) -> None:
        """Within the loop that it serves."""
        connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, ssl=self._tls)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT),
            headers={"User-Agent": "dynamic-agents"},
        )

    async def close(self) -> None:
        await self._session.close()

    async def warm_up(self) -> None:
        """Requests that are not sent."""
        call = ChatCall("", [{"role": "user", "content": "hello"}], stream=True)
        for model in _KINDS:
            if found := providers.provider(Deployment("warm-up", "", model)):
                await found.request(Credentials(), call)

    def provider(self, deployment: Deployment) -> Provider | None:
        """How the deployment is called here; None where it cannot be."""
        asked = (
            deployment.model,
            deployment.api_base,
            tuple(sorted(deployment.provider_parameters.items())),
            tuple(sorted(deployment.credential_references)),
        )
        if asked in self._providers:
            self._providers.move_to_end(asked)
            return self._providers[asked]
        found = self._providers[asked] = providers.provider(deployment)
        if len(self._providers) > _REMEMBERED:
            self._providers.popitem(last=False)
        return found

    async def chat(
        self, deployment: Deployment, provider: Provider, credentials: Credentials, call: ChatCall
    ) -> AsyncGenerator[Chunk, None]:
        """Raises NotDirect before anything is sent where LiteLLM must make this call."""
        try:
            request = await provider.request(credentials, call)
        except NotDirect:
            raise
        except Exception as error:
            raise failures.failure(deployment, failures.mapped(deployment, provider.name, error)) from None
        answer = Answer(deployment, call)
        async with self._asked(deployment, provider, request.url, request.headers, request.body) as response:
            if call.stream:
                async with aclosing(_pieces(deployment, request.reader, response, answer)) as pieces:
                    async for piece in pieces:
                        yield piece
                await _farewell(response)
            else:
                yield await _whole(request.reader, response, answer)

    async def embed(
        self, deployment: Deployment, provider: Provider, credentials: Credentials, call: EmbedCall
    ) -> Embedded:
        """For providers that have OpenAI's endpoint."""
        url, headers, body = embeddings.request(provider, credentials, call)
        async with self._asked(deployment, provider, url, headers, body) as response:
            return embeddings.read(deployment, call, await _read(response, _LONGEST_ANSWER))

    @asynccontextmanager
    async def _asked(
        self, deployment: Deployment, provider: Provider, url: URL, headers: Mapping[str, str], body: bytes
    ) -> AsyncIterator[Response]:
        try:
            response = await self._session.post(
                url, data=body, headers=headers, allow_redirects=False, proxy=self._proxy(url)
            )
            try:
                await _check(deployment, provider, response)
                yield response
            finally:
                response.close()  # one that was read to its end has gone back to the others already
        except Refused as refused:
            raise _refused(deployment, provider, refused.status, refused.text, {}) from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise failures.failure(deployment, error) from None
        except Failure:
            raise
        except Exception as error:
            raise _misread(deployment, error) from None

    def _proxy(self, url: URL) -> str | None:
        if not self._proxies or urllib.request.proxy_bypass(url.host or ""):
            return None
        return self._proxies.get(url.scheme)


async def _check(deployment: Deployment, provider: Provider, response: Response) -> None:
    if response.status != 200:
        text = (await _read(response, _LONGEST_REFUSAL, cut=True)).decode(errors="replace")
        raise _refused(deployment, provider, response.status, text, response.headers)


async def _read(response: Response, limit: int, *, cut: bool = False) -> bytes:
    parts, length = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        length += len(part)
        if length > limit:
            if not cut:
                raise TooLong
            break
    return b"".join(parts)[:limit]


def _refused(deployment: Deployment, provider: Provider, status: int, text: str, headers: Any) -> Failure:
    if status < 400:
        return failures.unavailable(deployment, f"answered with status {status}", status=status)
    original = provider.config.get_error_class(error_message=text, status_code=status, headers=dict(headers))
    return failures.failure(deployment, failures.mapped(deployment, provider.name, original), headers)


def _misread(deployment: Deployment, error: Exception) -> Failure:
    log.warning("answer misread", deployment_id=deployment.deployment_id, kind=type(error).__name__)
    return failures.unavailable(deployment, "sent what cannot be read")


async def _whole(reader: Reader, response: Response, answer: Answer) -> Chunk:
    content = await _read(response, _LONGEST_ANSWER)
    reader.whole(answer, Body(response.status, response.headers, content))
    return await answer.last()


async def _pieces(
    deployment: Deployment, reader: Reader, response: Response, answer: Answer
) -> AsyncGenerator[Chunk, None]:
    kind = response.headers.get("Content-Type", "")
    if any(name in kind for name in _NO_STREAM):
        reader.piece(answer, await _read(response, _LONGEST_REFUSAL, cut=True))
        raise failures.unavailable(deployment, "sent no stream")
    events, ended = Events(), False
    try:
        async for data in response.content.iter_any():
            if ended := _feed(reader, answer, events.feed(data)):
                break
            if chunk := answer.take():
                yield chunk
        else:
            ended = _feed(reader, answer, events.end())
    except Exception as error:
        if not (answer.finished and isinstance(error, aiohttp.ClientError)):
            if chunk := answer.take():
                yield chunk
            raise
    if not (ended or answer.finished):
        raise failures.unavailable(deployment, "broke off its answer")
    yield await answer.last()


def _feed(reader: Reader, answer: Answer, events: list[bytes]) -> bool:
    return any(reader.piece(answer, event) for event in events)


async def _farewell(response: Response) -> None:
    """Reads the end of the body, without which the connection cannot be used again."""
    try:
        async with asyncio.timeout(_FAREWELL):
            async for _ in response.content.iter_any():
                pass
    except (TimeoutError, aiohttp.ClientError):
        response.close()
