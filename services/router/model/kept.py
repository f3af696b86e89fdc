"""Pieces of answers as JSON data, for keeping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from services.router.model.calls import (
    Chunk,
    Citation,
    FinishReason,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    TopLogprob,
    Usage,
)


def chunk_to_dict(chunk: Chunk) -> dict[str, Any]:
    """Without who answered, and without what is empty."""
    kept = asdict(replace(chunk, answered_by=None, restarted=None))
    return {name: value for name, value in kept.items() if value or (value == 0 and value is not False)}


def chunk_from_dict(kept: Mapping[str, Any]) -> Chunk:
    finish_reason, usage = kept.get("finish_reason"), kept.get("usage")
    return Chunk(
        kept.get("text", ""),
        kept.get("reasoning", ""),
        tuple(ToolCall(**call) for call in kept.get("tool_calls", ())),
        FinishReason(finish_reason) if finish_reason else None,
        Usage(**usage) if usage else None,
        kept.get("cost"),
        tool_call_deltas=tuple(ToolCallDelta(**delta) for delta in kept.get("tool_call_deltas", ())),
        citations=tuple(Citation(**citation) for citation in kept.get("citations", ())),
        logprobs=tuple(_logprob(**logprob) for logprob in kept.get("logprobs", ())),
        cost_estimated=kept.get("cost_estimated", False),
    )


def _logprob(token: str, logprob: float, top: list[dict[str, Any]]) -> TokenLogprob:
    return TokenLogprob(token, logprob, tuple(TopLogprob(**alternative) for alternative in top))
