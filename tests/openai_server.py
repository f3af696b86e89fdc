"""An OpenAI-compatible provider."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests import provider_server
from tests.provider_server import Asked, Event, ProviderServer, Reply, faults_of, pieces_of, words_of

__all__ = ["Asked", "OpenAIServer", "Reply", "serving"]

LOGPROB = {"token": "Hello", "logprob": -0.5, "bytes": None, "top_logprobs": [{"token": "Hi", "logprob": -1.5}]}


class OpenAIServer(ProviderServer):
    def routes(self) -> dict[str, Any]:
        return {
            "/v1/chat/completions": self.answer,
            "/openai/deployments/{model}/chat/completions": self.answer,
            "/v1/embeddings": self.embeddings,
            "/v1/rerank": self.rerank,
        }

    def base(self, root: str) -> str:
        return f"{root}/v1"

    def key(self, request: web.Request) -> str | None:
        return request.headers.get("Authorization") or request.headers.get("api-key")

    def streams(self, request: web.Request, body: dict[str, Any]) -> bool:
        return bool(body.get("stream"))

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        reply = await self.noted(request)
        if reply.status != 200:
            return self._refuse(reply)
        body = self.asked[-1].body
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        length = body.get("dimensions") or 3
        data = [
            {"object": "embedding", "index": n, "embedding": [float(len(text)) + n / 8] * length}
            for n, text in enumerate(inputs)
        ]
        usage = {"prompt_tokens": 5, "total_tokens": 5}
        return web.json_response({"object": "list", "data": data[::-1], "model": body["model"], "usage": usage})

    async def rerank(self, request: web.Request) -> web.StreamResponse:
        reply = await self.noted(request)
        if reply.status != 200:
            return self._refuse(reply)
        documents = self.asked[-1].body["documents"]
        results = [{"index": n, "relevance_score": 1 / (1 + len(text))} for n, text in enumerate(documents)]
        return web.json_response({"id": "rerank-1", "results": results[: self.asked[-1].body.get("top_n")]})

    def refusal(self, reply: Reply, message: str) -> dict[str, Any]:
        return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": reply.error}}

    def whole(self, body: dict[str, Any], reply: Reply) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(reply.words) or None}
        if reply.reasoning:
            message["reasoning_content"] = reply.reasoning
        if reply.citations:
            message["annotations"] = _annotations(reply)
        if reply.tool_calls:
            message["tool_calls"] = [
                {"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a in reply.tool_calls
            ]
        choice = {"index": 0, "message": message, "finish_reason": _finish_reason(reply)}
        if reply.logprobs:
            choice["logprobs"] = {"content": [LOGPROB]}
        told = {"usage": reply.usage} if reply.usage else {}
        return {**_head(body, "chat.completion"), "choices": [choice], **told}

    def events(self, body: dict[str, Any], reply: Reply) -> Iterator[Event]:
        def piece(delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
            choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, **more}
            return {**_head(body, "chat.completion.chunk"), "choices": [choice]}

        yield Event(piece({"role": "assistant", "content": ""}))
        if reply.reasoning:
            yield Event(piece({"reasoning_content": reply.reasoning}))
        for word in words_of(reply):
            weight = {"logprobs": {"content": [LOGPROB]}} if reply.logprobs and word == reply.words[0] else {}
            yield Event(piece({"content": word}, **weight), word=True)
        faults = list(faults_of(reply, {"error": {"message": reply.error, "type": reply.broken}}))
        if faults:
            yield from faults
            return
        if reply.citations:
            yield Event(piece({"annotations": _annotations(reply)}))
        for index, (call_id, name, arguments) in enumerate(reply.tool_calls):
            head = {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
            yield Event(piece({"tool_calls": [head]}))
            for part in pieces_of(arguments):
                yield Event(piece({"tool_calls": [{"index": index, "function": {"arguments": part}}]}))
        yield Event(piece({}, _finish_reason(reply)))
        # Mistral's tells it without being asked.
        if reply.usage and ("stream_options" in body or body["model"].startswith("mistral")):
            yield Event({**_head(body, "chat.completion.chunk"), "choices": [], "usage": reply.usage})
        yield Event("[DONE]")


@asynccontextmanager
async def serving() -> AsyncIterator[OpenAIServer]:
    async with provider_server.serving(OpenAIServer()) as server:
        yield server


def _head(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": body["model"]}


def _finish_reason(reply: Reply) -> str:
    if reply.truncated:
        return "length"
    return "tool_calls" if reply.tool_calls else "stop"


def _annotations(reply: Reply) -> list[dict[str, Any]]:
    return [
        {"type": "url_citation", "url_citation": {"url": url, "title": title, "start_index": 1, "end_index": 4}}
        for url, title in reply.citations
    ]
