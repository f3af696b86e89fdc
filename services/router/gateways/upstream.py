"""The way to the providers, through LiteLLM, whose import takes seconds and holds nothing up."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final, Self

from services.router.gateways import offline_lane
from services.router.model import (
    ChatCall,
    Chunk,
    Credentials,
    Deployment,
    EmbedCall,
    Embedded,
    Facts,
    RerankCall,
    Reranked,
    TokenCount,
)

_ENVIRONMENT: Final = {
    "DEFAULT_MAX_RETRIES": "0",  # its embeddings take a 0 of the caller for none said
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    "REPEATED_STREAMING_CHUNK_LIMIT": "1000000000",  # 100 equal chunks are no fault: a table's rule is made of them
}


class LiteLLMUpstream:
    def __init__(self, *, offline_delay: float) -> None:
        self._offline_delay = offline_delay

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._lanes: asyncio.Future[Any] = loop.create_future()
        threading.Thread(target=self._load, args=(loop,), name="litellm", daemon=True).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._lanes.done() and not self._lanes.exception():
            await self._lanes.result().close()
        self._lanes.cancel()

    async def ready(self) -> None:
        """Returns when a call has nothing more to wait for."""
        await (await self._loaded()).warm_up()

    async def chat(
        self, deployment: Deployment, credentials: Credentials, call: ChatCall
    ) -> AsyncGenerator[Chunk, None]:
        answering = (
            offline_lane.chat(call, self._offline_delay)
            if deployment.is_offline
            else (await self._loaded()).chat(deployment, credentials, call)
        )
        async with aclosing(answering) as chunks:
            async for chunk in chunks:
                yield chunk

    async def embed(self, deployment: Deployment, credentials: Credentials, call: EmbedCall) -> Embedded:
        if deployment.is_offline:
            return offline_lane.embed(call)
        embedded: Embedded = await (await self._loaded()).embed(deployment, credentials, call)
        return embedded

    async def rerank(self, deployment: Deployment, credentials: Credentials, call: RerankCall) -> Reranked:
        if deployment.is_offline:
            return offline_lane.rerank(call)
        reranked: Reranked = await (await self._loaded()).rerank(deployment, credentials, call)
        return reranked

    async def count_tokens(self, deployment: Deployment, call: ChatCall) -> TokenCount:
        if deployment.is_offline:
            return offline_lane.count_tokens(call)
        counted: TokenCount = await (await self._loaded()).count_tokens(deployment, call)
        return counted

    async def facts(self, deployment: Deployment) -> Facts:
        if deployment.is_offline:
            return offline_lane.FACTS
        known: Facts = (await self._loaded()).facts(deployment)
        return known

    async def problem(self, deployment: Deployment) -> str:
        return "" if deployment.is_offline else str((await self._loaded()).problem(deployment))

    async def _loaded(self) -> Any:
        return self._lanes.result() if self._lanes.done() else await asyncio.shield(self._lanes)

    def _load(self, loop: asyncio.AbstractEventLoop) -> None:
        os.environ.update(_ENVIRONMENT)  # read during the import
        try:
            outcome: Any = importlib.import_module("services.router.gateways.lanes").Lanes()
        except Exception as error:
            outcome = error
        with contextlib.suppress(RuntimeError):  # the loop ended meanwhile
            loop.call_soon_threadsafe(self._settle, outcome)

    def _settle(self, outcome: Any) -> None:
        if self._lanes.done():
            return
        if isinstance(outcome, Exception):
            self._lanes.set_exception(outcome)
        else:
            outcome.open()
            self._lanes.set_result(outcome)
