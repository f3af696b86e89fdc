"""AgentOS whose model answers at once, to compare with. Runs in an environment of its own.

`python -m bench.agentos_server PORT WORKERS`, with a SQLite file, or none, in BENCH_DATABASE, and in BENCH_UPSTREAM the
base URL of a provider for the agents "upstream" and "tooled".
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from agno.agent import Agent
from agno.db.sqlite import AsyncSqliteDb
from agno.models.base import Model
from agno.models.openai import OpenAIChat
from agno.models.response import ModelResponse
from agno.os import AgentOS

from bench.streams import PACE, PIECES, calculator


class Stub(Model):  # type: ignore[misc]
    """The pieces that bench.provider sends, at once or paced, or, as "idle", silence."""

    async def ainvoke_stream(self, *_: Any, **__: Any) -> AsyncIterator[ModelResponse]:
        if self.id == "idle":
            await asyncio.sleep(3600)
        for piece in PIECES:
            await asyncio.sleep(PACE if self.id == "paced" else 0)
            yield ModelResponse(role="assistant", content=piece)

    def invoke(self, *_: Any, **__: Any) -> ModelResponse:
        raise NotImplementedError

    async def ainvoke(self, *_: Any, **__: Any) -> ModelResponse:
        raise NotImplementedError

    def invoke_stream(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    def _parse_provider_response(self, response: Any, **_: Any) -> ModelResponse:
        return ModelResponse()

    def _parse_provider_response_delta(self, response: Any) -> ModelResponse:
        return ModelResponse()


def app() -> Any:
    file, upstream = os.environ["BENCH_DATABASE"], os.environ["BENCH_UPSTREAM"]
    db = AsyncSqliteDb(db_file=file) if file else None
    models = {
        "helper": Stub(id="any"),
        "paced": Stub(id="paced"),
        "idle": Stub(id="idle"),
        "upstream": OpenAIChat(id="gpt-4o", base_url=upstream, api_key="sk-bench"),
        "tooled": OpenAIChat(id="gpt-4o", base_url=upstream, api_key="sk-bench"),
    }
    agents = [
        Agent(id=name, model=model, db=db, telemetry=False, tools=[calculator] if name == "tooled" else None)
        for name, model in models.items()
    ]
    return AgentOS(agents=agents, db=db, telemetry=False).get_app()


if __name__ == "__main__":
    port, workers = map(int, sys.argv[1:3])
    uvicorn.run(
        "bench.agentos_server:app",
        factory=True,
        port=port,
        workers=workers,
        loop="uvloop",
        log_level="error",
        access_log=False,
        timeout_keep_alive=3600,  # connections outlast the rounds of the others
    )
