"""Both lanes to the providers, and what LiteLLM knows. Imported by upstream.py alone, in a thread."""

from __future__ import annotations

import warnings
from collections.abc import AsyncGenerator
from contextlib import aclosing

from services.router.gateways import facts, failures, library, messages, parameters, prices
from services.router.gateways.direct import embeddings
from services.router.gateways.direct.lane import DirectLane
from services.router.gateways.direct.provider import NotDirect
from services.router.model import (
    ChatCall,
    Chunk,
    Credentials,
    Deployment,
    EmbedCall,
    Embedded,
    Facts,
    Lane,
    RerankCall,
    Reranked,
    TokenCount,
)


class Lanes:
    def __init__(self) -> None:
        self._direct = DirectLane()

    def open(self) -> None:
        self._direct.open()

    async def close(self) -> None:
        await self._direct.close()
        await library.close()

    async def warm_up(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # LiteLLM's and pydantic's, of each other
            await library.warm_up()
            await self._direct.warm_up()

    async def chat(
        self, deployment: Deployment, credentials: Credentials, call: ChatCall
    ) -> AsyncGenerator[Chunk, None]:
        self._check(deployment, credentials)
        if capability := messages.lost(call.messages, deployment.provider):
            raise failures.incapable(deployment, capability)
        if deployment.lane is not Lane.LIBRARY and (provider := self._direct.provider(deployment)):
            try:
                async with aclosing(self._direct.chat(deployment, provider, credentials, call)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                return
            except NotDirect:
                pass
        async with aclosing(library.chat(deployment, credentials, call)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def embed(self, deployment: Deployment, credentials: Credentials, call: EmbedCall) -> Embedded:
        self._check(deployment, credentials)
        provider = None if deployment.lane is Lane.LIBRARY else self._direct.provider(deployment)
        if provider and embeddings.speaks(provider):
            return await self._direct.embed(deployment, provider, credentials, call)
        return await library.embed(deployment, credentials, call)

    async def rerank(self, deployment: Deployment, credentials: Credentials, call: RerankCall) -> Reranked:
        self._check(deployment, credentials)
        return await library.rerank(deployment, credentials, call)

    async def count_tokens(self, deployment: Deployment, call: ChatCall) -> TokenCount:
        return await prices.count(deployment, call)

    def facts(self, deployment: Deployment) -> Facts:
        return facts.known(deployment.model)

    def problem(self, deployment: Deployment) -> str:
        if deployment.is_offline:
            return ""
        if deployment.lane is Lane.DIRECT and self._direct.provider(deployment) is None:
            return "cannot be called directly: its provider needs LiteLLM's library"
        return parameters.problem(deployment)

    def _check(self, deployment: Deployment, credentials: Credentials) -> None:
        if problem := self.problem(deployment) or parameters.unfit(credentials):
            raise failures.unsupported(deployment, problem)
