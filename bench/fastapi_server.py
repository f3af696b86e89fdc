"""An agent by hand: FastAPI, OpenAI's client, server-sent events, nothing kept. Runs in an environment of its own.

`python -m bench.fastapi_server PORT WORKERS`, with the base URL of a provider in BENCH_UPSTREAM.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

import uvicorn
from fastapi import FastAPI, Form
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI

from bench.streams import calculator

_PARAMETERS: Final = {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]}
_TOOL: Final = {"name": "calculator", "description": calculator.__doc__, "parameters": _PARAMETERS}


def app() -> FastAPI:
    client = AsyncOpenAI(base_url=os.environ["BENCH_UPSTREAM"], api_key="sk-bench", max_retries=0)

    async def health() -> dict[str, str]:
        return {}

    async def runs(message: str = Form()) -> StreamingResponse:
        return StreamingResponse(_events(client, message), media_type="text/event-stream")

    made = FastAPI()
    made.add_api_route("/health", health)
    made.add_api_route("/runs", runs, methods=["POST"])
    return made


async def _events(client: Any, message: str) -> AsyncIterator[str]:
    yield _event("RunStarted", "")
    messages: list[dict[str, Any]] = [{"role": "user", "content": message}]
    while True:
        calls: dict[int, dict[str, Any]] = {}
        chunks = await client.chat.completions.create(
            model="gpt-4o", messages=messages, tools=[{"type": "function", "function": _TOOL}], stream=True
        )
        async for chunk in chunks:
            for choice in chunk.choices:
                if choice.delta.content:
                    yield _event("RunContent", choice.delta.content)
                for call in choice.delta.tool_calls or ():
                    kept = calls.setdefault(call.index, {"id": call.id, "name": call.function.name, "arguments": ""})
                    kept["arguments"] += call.function.arguments or ""
        if not calls:
            break
        functions = [
            {"id": one["id"], "type": "function", "function": {"name": one["name"], "arguments": one["arguments"]}}
            for one in calls.values()
        ]
        messages.append({"role": "assistant", "content": None, "tool_calls": functions})
        for one in calls.values():
            answer = calculator(**json.loads(one["arguments"]))
            messages.append({"role": "tool", "tool_call_id": one["id"], "content": answer})
    yield _event("RunCompleted", "")


def _event(kind: str, content: str) -> str:
    return f"data: {json.dumps({'event': kind, 'content': content})}\n\n"


if __name__ == "__main__":
    port, workers = map(int, sys.argv[1:3])
    target = "bench.fastapi_server:app"
    uvicorn.run(target, factory=True, port=port, workers=workers, loop="uvloop", log_level="error", access_log=False)
