"""A provider with Anthropic's API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests import provider_server
from tests.provider_server import Event, ProviderServer, Reply, faults_of, pieces_of, words_of

ERRORS = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}


class AnthropicServer(ProviderServer):
    def routes(self) -> dict[str, Any]:
        return {"/v1/messages": self.answer}

    def base(self, root: str) -> str:
        return root

    def key(self, request: web.Request) -> str | None:
        return request.headers.get("x-api-key")

    def streams(self, request: web.Request, body: dict[str, Any]) -> bool:
        return bool(body.get("stream"))

    def refusal(self, reply: Reply, message: str) -> dict[str, Any]:
        return {"type": "error", "error": {"type": ERRORS.get(reply.status, "api_error"), "message": message}}

    def whole(self, body: dict[str, Any], reply: Reply) -> dict[str, Any]:
        content: list[dict[str, Any]] = []
        if reply.reasoning:
            content.append({"type": "thinking", "thinking": reply.reasoning, "signature": "s"})
        if reply.words:
            text: dict[str, Any] = {"type": "text", "text": "".join(reply.words)}
            content.append(text | ({"citations": _citations(reply)} if reply.citations else {}))
        content += [{"type": "tool_use", "id": i, "name": n, "input": json.loads(a)} for i, n, a in reply.tool_calls]
        return {**_head(body), "content": content, "stop_reason": _stop_reason(reply), "usage": _usage(reply)}

    def events(self, body: dict[str, Any], reply: Reply) -> Iterator[Event]:
        usage = _usage(reply) | {"output_tokens": 1 if reply.usage else 0}
        yield _event("message_start", message={**_head(body), "content": [], "usage": usage})
        yield _event("ping")
        index = 0
        if reply.reasoning:
            thinking = [{"type": "thinking_delta", "thinking": reply.reasoning}]
            yield from _block(index, {"type": "thinking", "thinking": ""}, thinking)
            index += 1
        if reply.words:
            yield _event("content_block_start", index=index, content_block={"type": "text", "text": ""})
            for word in words_of(reply):
                delta = {"type": "text_delta", "text": word}
                yield Event(
                    _event("content_block_delta", index=index, delta=delta).data, "content_block_delta", word=True
                )
            faults = list(faults_of(reply, {"type": "error", "error": {"type": reply.broken, "message": reply.error}}))
            if faults:
                yield from faults
                return
            for citation in _citations(reply):
                yield _event(
                    "content_block_delta", index=index, delta={"type": "citations_delta", "citation": citation}
                )
            yield _event("content_block_stop", index=index)
            index += 1
        for call_id, name, arguments in reply.tool_calls:
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in pieces_of(arguments)]
            yield from _block(index, {"type": "tool_use", "id": call_id, "name": name, "input": {}}, deltas)
            index += 1
        stop = {"stop_reason": _stop_reason(reply), "stop_sequence": None}
        yield _event("message_delta", delta=stop, usage={"output_tokens": _usage(reply)["output_tokens"]})
        yield _event("message_stop")


@asynccontextmanager
async def serving() -> AsyncIterator[AnthropicServer]:
    async with provider_server.serving(AnthropicServer()) as server:
        yield server


def _event(name: str, **fields: Any) -> Event:
    return Event({"type": name, **fields}, name)


def _delta(index: int, kind: str, **fields: Any) -> Event:
    return _event("content_block_delta", index=index, delta={"type": kind, **fields})


def _block(index: int, start: dict[str, Any], deltas: list[dict[str, Any]]) -> Iterator[Event]:
    yield _event("content_block_start", index=index, content_block=start)
    for delta in deltas:
        yield _event("content_block_delta", index=index, delta=delta)
    yield _event("content_block_stop", index=index)


def _head(body: dict[str, Any]) -> dict[str, Any]:
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "stop_sequence": None}


def _stop_reason(reply: Reply) -> str:
    if reply.truncated:
        return "max_tokens"
    return "tool_use" if reply.tool_calls else "end_turn"


def _usage(reply: Reply) -> dict[str, Any]:
    if not reply.usage:
        return {"input_tokens": 0, "output_tokens": 0}
    cached = reply.usage["prompt_tokens_details"]["cached_tokens"]
    return {
        "input_tokens": reply.usage["prompt_tokens"] - cached,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": reply.usage["completion_tokens"],
    }


def _citations(reply: Reply) -> list[dict[str, Any]]:
    return [
        {
            "type": "web_search_result_location",
            "url": url,
            "title": title,
            "cited_text": "Hello",
            "encrypted_index": "x",
        }
        for url, title in reply.citations
    ]
