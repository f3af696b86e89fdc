"""The suite's own model as an upstream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from services.router.gateways import offline
from services.router.model import (
    ChatCall,
    Chunk,
    EmbedCall,
    Embedded,
    Facts,
    Ranked,
    RerankCall,
    Reranked,
    TokenCount,
    ToolCallDelta,
    Usage,
)

FACTS: Final = Facts(capabilities=frozenset({"tools", "parallel_tools", "json_schema"}))


async def chat(call: ChatCall, delay: float) -> AsyncGenerator[Chunk, None]:
    answer = offline.answer(call.messages, call.tools, call.tool_choice or "auto", call.response_format)
    asked, said = offline.count(call.messages), answer.length()
    end = Chunk(
        tool_calls=answer.calls,
        finish_reason=answer.finish_reason,
        usage=Usage(asked, said, asked + said),
    )
    if not call.stream:
        await asyncio.sleep(delay * len(answer.words()))
        yield Chunk(answer.text) + end
        return
    for word in answer.words():
        await asyncio.sleep(delay)
        yield Chunk(word)
    if answer.calls:
        yield Chunk(
            tool_call_deltas=tuple(ToolCallDelta(n, c.call_id, c.name, c.arguments) for n, c in enumerate(answer.calls))
        )
    yield end


def embed(call: EmbedCall) -> Embedded:
    words = sum(len(text.split()) for text in call.inputs)
    return Embedded([offline.vector(text, call.dimensions) for text in call.inputs], Usage(words, 0, words))


def rerank(call: RerankCall) -> Reranked:
    scores = [offline.likeness(call.query, document) for document in call.documents]
    order = sorted(range(len(scores)), key=lambda n: (-scores[n], n))
    return Reranked([Ranked(n, scores[n]) for n in order[: call.top_n or None]])


def count_tokens(call: ChatCall) -> TokenCount:
    return TokenCount(offline.count(call.messages))
