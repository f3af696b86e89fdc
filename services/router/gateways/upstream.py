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

from services.router.model import ChatCall, Chunk, Deployment

_ENVIRONMENT: Final = {
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
        self._library: asyncio.Future[Any] = loop.create_future()
        threading.Thread(target=self._load, args=(loop,), name="litellm", daemon=True).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._library.done() and not self._library.exception():
            await self._library.result().close()
        self._library.cancel()

    async def ready(self) -> None:
        """Returns when a call has nothing more to wait for."""
        library = await asyncio.shield(self._library)
        await library.warm_up()

    async def chat(self, deployment: Deployment, key: str | None, call: ChatCall) -> AsyncGenerator[Chunk, None]:
        library = await asyncio.shield(self._library)
        async with aclosing(library.chat(deployment, key, call, offline_delay=self._offline_delay)) as chunks:
            async for chunk in chunks:
                yield chunk

    def _load(self, loop: asyncio.AbstractEventLoop) -> None:
        os.environ.update(_ENVIRONMENT)  # read during the import
        try:
            outcome: Any = importlib.import_module("services.router.gateways.library")
        except Exception as error:
            outcome = error
        with contextlib.suppress(RuntimeError):  # the loop ended meanwhile
            loop.call_soon_threadsafe(self._loaded, outcome)

    def _loaded(self, outcome: Any) -> None:
        if self._library.done():
            return
        if isinstance(outcome, Exception):
            self._library.set_exception(outcome)
        else:
            self._library.set_result(outcome)
