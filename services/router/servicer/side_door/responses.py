"""Answers and errors -> OpenAI's JSON."""

from __future__ import annotations

import base64
import time
import uuid
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from libs import errors
from services.router.model import (
    Chunk,
    Embedded,
    FinishReason,
    ModelGroup,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    TopLogprob,
    Usage,
)

_STATUSES: Final[dict[type[errors.Error], tuple[int, str]]] = {
    errors.InvalidArgument: (400, "invalid_request_error"),
    errors.FailedPrecondition: (400, "invalid_request_error"),
    errors.OutOfRange: (400, "invalid_request_error"),
    errors.Unauthenticated: (401, "authentication_error"),
    errors.PermissionDenied: (403, "permission_error"),
    errors.NotFound: (404, "invalid_request_error"),
    errors.AlreadyExists: (409, "invalid_request_error"),
    errors.Aborted: (409, "invalid_request_error"),
    errors.ResourceExhausted: (429, "rate_limit_error"),
    errors.Cancelled: (499, "api_error"),
    errors.Internal: (500, "api_error"),
    errors.Unavailable: (503, "api_error"),
    errors.DeadlineExceeded: (504, "api_error"),
}
_CODES: Final = {
    "BUDGET_EXCEEDED": "insufficient_quota",
    "CONTENT_POLICY": "content_policy_violation",
    "CONTEXT_WINDOW_EXCEEDED": "context_length_exceeded",
    "CREDENTIAL_INVALID": "invalid_api_key",
    "MODEL_GROUP_UNKNOWN": "model_not_found",
    "UPSTREAM_RATE_LIMITED": "rate_limit_exceeded",
}
_FINISH_REASONS: Final = {FinishReason.UNKNOWN: "stop"}


def status_of(error: errors.Error) -> int:
    return _STATUSES[type(error)][0]


def error_body(error: errors.Error) -> dict[str, Any]:
    field = error.violations[0].field if isinstance(error, errors.InvalidArgument) and error.violations else None
    return failure(
        error.message,
        _STATUSES[type(error)][1],
        _CODES.get(error.reason_code, error.reason_code.lower()),
        "model" if error.reason_code == "MODEL_GROUP_UNKNOWN" else field,
    )


def failure(message: str, kind: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class Completion:
    """One answer, whole or in pieces."""

    def __init__(self, model: str) -> None:
        self._model, self._id, self._created = model, f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
        self._begun = self._called = False

    def whole(self, chunk: Chunk) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": chunk.text or None, "refusal": None}
        if chunk.reasoning:
            message["reasoning_content"] = chunk.reasoning
        if chunk.tool_calls:
            message["tool_calls"] = [_tool_call(call) for call in chunk.tool_calls]
        if chunk.citations:
            message["annotations"] = _annotations(chunk)
        choice = {"index": 0, "message": message, "finish_reason": _reason(chunk), "logprobs": _logprobs(chunk)}
        return {**self._head("chat.completion"), "choices": [choice], "usage": _usage(chunk.usage or Usage())}

    def piece(self, chunk: Chunk) -> dict[str, Any]:
        delta: dict[str, Any] = {} if self._begun else {"role": "assistant", "content": ""}
        self._begun = True
        if chunk.text:
            delta["content"] = chunk.text
        if chunk.reasoning:
            delta["reasoning_content"] = chunk.reasoning
        if calls := list(self._calls(chunk)):
            delta["tool_calls"] = calls
        if chunk.citations:
            delta["annotations"] = _annotations(chunk)
        choice = {"index": 0, "delta": delta, "finish_reason": _reason(chunk), "logprobs": _logprobs(chunk)}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def usage(self, usage: Usage) -> dict[str, Any]:
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": _usage(usage)}

    def _calls(self, chunk: Chunk) -> Iterator[dict[str, Any]]:
        """The pieces, one of each call; or whole calls, where there were none."""
        if chunk.tool_call_deltas:
            self._called = True
            yield from _merged(chunk.tool_call_deltas)
        elif not self._called:
            for index, call in enumerate(chunk.tool_calls):
                yield {"index": index, **_tool_call(call)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}


def embeddings(model: str, embedded: Embedded, *, as_base64: bool) -> dict[str, Any]:
    usage = embedded.usage or Usage()
    return {
        "object": "list",
        "model": model,
        "data": [
            {"object": "embedding", "index": n, "embedding": _base64(vector) if as_base64 else list(vector)}
            for n, vector in enumerate(embedded.vectors)
        ],
        "usage": {"prompt_tokens": usage.input_tokens, "total_tokens": usage.total_tokens},
    }


def models(groups: Sequence[ModelGroup]) -> dict[str, Any]:
    return {"object": "list", "data": [model(group) for group in groups]}


def model(group: ModelGroup) -> dict[str, Any]:
    return {"id": group.name, "object": "model", "created": 0, "owned_by": "dynamic-agents"}


def _tool_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _merged(deltas: Sequence[ToolCallDelta]) -> Iterable[dict[str, Any]]:
    """OpenAI's clients expect one piece of each call at most."""
    merged: dict[int, dict[str, Any]] = {}
    for delta in deltas:
        made = merged.setdefault(delta.index, {"index": delta.index, "function": {"arguments": ""}})
        made["function"]["arguments"] += delta.arguments
        if delta.name:
            made["function"]["name"] = delta.name
        if delta.call_id:
            made |= {"id": delta.call_id, "type": "function"}
    return merged.values()


def _annotations(chunk: Chunk) -> list[dict[str, Any]]:
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "url": one.url,
                "title": one.title,
                "start_index": one.start_index,
                "end_index": one.end_index,
            },
        }
        for one in chunk.citations
    ]


def _reason(chunk: Chunk) -> str | None:
    return _FINISH_REASONS.get(chunk.finish_reason, chunk.finish_reason.value) if chunk.finish_reason else None


def _logprobs(chunk: Chunk) -> dict[str, Any] | None:
    if not chunk.logprobs:
        return None
    return {"content": [_logprob(one) | {"top_logprobs": [_logprob(t) for t in one.top]} for one in chunk.logprobs]}


def _logprob(one: TokenLogprob | TopLogprob) -> dict[str, Any]:
    return {"token": one.token, "logprob": one.logprob, "bytes": list(one.token.encode())}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _base64(vector: Sequence[float]) -> str:
    """Little-endian 32-bit floats, as OpenAI's clients expect them."""
    return base64.b64encode(array("f", vector).tobytes()).decode()
