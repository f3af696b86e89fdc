"""A provider with Gemini's API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests import provider_server
from tests.provider_server import Event, ProviderServer, Reply, faults_of, words_of

ERRORS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 429: "RESOURCE_EXHAUSTED"}


class GeminiServer(ProviderServer):
    def routes(self) -> dict[str, Any]:
        return {"/v1beta/models/{call}": self.answer}

    def base(self, root: str) -> str:
        return f"{root}/v1beta"

    def key(self, request: web.Request) -> str | None:
        return request.headers.get("x-goog-api-key")

    def streams(self, request: web.Request, body: dict[str, Any]) -> bool:
        return request.match_info["call"].endswith(":streamGenerateContent")

    def refusal(self, reply: Reply, message: str) -> dict[str, Any]:
        error = {"code": reply.status, "message": message, "status": ERRORS.get(reply.status, "INTERNAL")}
        return {"error": error}

    def whole(self, body: dict[str, Any], reply: Reply) -> dict[str, Any]:
        text = [{"text": "".join(reply.words)}] if reply.words else []
        ended = {"finishReason": _finish_reason(reply), **_grounded(reply)}
        return {**_piece([*_thoughts(reply), *text, *_calls(reply)], **ended), **_usage(reply)}

    def events(self, body: dict[str, Any], reply: Reply) -> Iterator[Event]:
        if reply.reasoning:
            yield Event(_piece(_thoughts(reply)))
        for word in words_of(reply):
            yield Event(_piece([{"text": word}]), word=True)
        error = {"error": {"code": 503, "message": reply.error, "status": reply.broken}}
        faults = list(faults_of(reply, error))
        if faults:
            yield from faults
            return
        for call in _calls(reply):
            yield Event(_piece([call]))
        ended = {"finishReason": _finish_reason(reply), **_grounded(reply)}
        yield Event({**_piece([{"text": ""}], **ended), **_usage(reply)})


@asynccontextmanager
async def serving() -> AsyncIterator[GeminiServer]:
    async with provider_server.serving(GeminiServer()) as server:
        yield server


def _piece(parts: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "candidates": [{"content": {"parts": parts, "role": "model"}, "index": 0, **more}],
        "modelVersion": "gemini",
    }


def _thoughts(reply: Reply) -> list[dict[str, Any]]:
    return [{"text": reply.reasoning, "thought": True}] if reply.reasoning else []


def _calls(reply: Reply) -> list[dict[str, Any]]:
    return [{"functionCall": {"name": name, "args": json.loads(given)}} for _, name, given in reply.tool_calls]


def _finish_reason(reply: Reply) -> str:
    return "MAX_TOKENS" if reply.truncated else "STOP"


def _grounded(reply: Reply) -> dict[str, Any]:
    if not reply.citations:
        return {}
    chunks = [{"web": {"uri": url, "title": title}} for url, title in reply.citations]
    supports = [
        {"segment": {"startIndex": 1, "endIndex": 4}, "groundingChunkIndices": [n]} for n, _ in enumerate(chunks)
    ]
    return {"groundingMetadata": {"groundingChunks": chunks, "groundingSupports": supports}}


def _usage(reply: Reply) -> dict[str, Any]:
    if not reply.usage:
        return {}
    thought = reply.usage["completion_tokens_details"]["reasoning_tokens"]
    told = {
        "promptTokenCount": reply.usage["prompt_tokens"],
        "candidatesTokenCount": reply.usage["completion_tokens"] - thought,
        "thoughtsTokenCount": thought,
        "cachedContentTokenCount": reply.usage["prompt_tokens_details"]["cached_tokens"],
        "totalTokenCount": reply.usage["total_tokens"],
    }
    return {"usageMetadata": told}
