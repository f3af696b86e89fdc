"""What is asked of a model, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from libs import errors
from services.router.model.routing import Deployment


class MidStreamFailure(StrEnum):
    FAIL = "fail"
    RESTART = "restart"
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True)
class CallOptions:
    tags: tuple[str, ...] = ()
    timeout: float | None = None
    first_token_timeout: float | None = None
    idle_timeout: float | None = None
    num_retries: int | None = None
    disable_fallbacks: bool = False
    mid_stream_failure: MidStreamFailure = MidStreamFailure.FAIL
    no_cache: bool = False
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A conversation to go on with. Messages, tools, choice and format have the shape of OpenAI's API."""

    model: str
    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: str | Mapping[str, Any] = ""
    response_format: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    stream: bool = False
    options: CallOptions = CallOptions()
    needs: frozenset[str] = frozenset()
    """Capabilities that the conversation needs: "vision", "audio", "tools", "json_schema", "reasoning"."""


@dataclass(frozen=True, slots=True)
class EmbedCall:
    model: str
    inputs: Sequence[str]
    dimensions: int = 0
    options: CallOptions = CallOptions()


@dataclass(frozen=True, slots=True)
class RerankCall:
    model: str
    query: str
    documents: Sequence[str]
    top_n: int = 0
    options: CallOptions = CallOptions()


Call = ChatCall | EmbedCall | RerankCall


class FinishReason(StrEnum):
    UNKNOWN = "unknown"
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"

    @classmethod
    def _missing_(cls, value: object) -> FinishReason:
        return cls.UNKNOWN


@dataclass(frozen=True, slots=True)
class ToolCall:
    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    index: int
    call_id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Citation:
    url: str = ""
    title: str = ""
    quote: str = ""
    start_index: int = 0
    end_index: int = 0


@dataclass(frozen=True, slots=True)
class TopLogprob:
    token: str
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    token: str
    logprob: float
    top: tuple[TopLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class TokenCount:
    tokens: int
    estimated: bool = False
    context_window: int | None = None
    """Of the group, where known."""


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    deployment_id: str
    reason: str
    seconds: float
    model_group: str = ""


@dataclass(frozen=True, slots=True)
class AnsweredBy:
    deployment: Deployment
    failed_attempts: tuple[FailedAttempt, ...] = ()
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer; the last one, and only that, has a finish_reason."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    cost: float | None = None
    answered_by: AnsweredBy | None = None
    tool_call_deltas: tuple[ToolCallDelta, ...] = ()
    citations: tuple[Citation, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    restarted: FailedAttempt | None = None
    """Everything before this piece is void."""
    cost_estimated: bool = False

    def __add__(self, later: Chunk) -> Chunk:
        if later.restarted:
            return replace(later, restarted=None)
        return Chunk(
            self.text + later.text,
            self.reasoning + later.reasoning,
            self.tool_calls + later.tool_calls,
            later.finish_reason or self.finish_reason,
            later.usage or self.usage,
            self.cost if later.cost is None else later.cost,
            later.answered_by or self.answered_by,
            self.tool_call_deltas + later.tool_call_deltas,
            self.citations + later.citations,
            self.logprobs + later.logprobs,
            self.restarted,
            later.cost_estimated or self.cost_estimated,
        )


@dataclass(frozen=True, slots=True)
class Embedded:
    vectors: Sequence[Sequence[float]]
    usage: Usage | None = None
    cost: float | None = None
    answered_by: AnsweredBy | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    index: int
    score: float


@dataclass(frozen=True, slots=True)
class Reranked:
    results: Sequence[Ranked]
    cost: float | None = None
    answered_by: AnsweredBy | None = None


class Failure(Exception):
    """An attempt that did not answer; `may_pass` when another might. `status` is the provider's, where it gave one."""

    def __init__(self, error: errors.Error, *, may_pass: bool, status: int | None = None) -> None:
        super().__init__(error.message)
        self.error, self.may_pass, self.status = error, may_pass, status


class ToolCalls:
    """Whole tool calls out of the pieces in which providers send them."""

    def __init__(self) -> None:
        self._calls: list[_Open] = []
        self._at: dict[int, int] = {}

    def add(self, index: int, call_id: str, name: str, arguments: str) -> ToolCallDelta:
        """Returns the piece as it belongs to the calls so far."""
        at = self._at.get(index)
        # Some providers number every call 0 and tell them apart by id alone.
        if at is None or (call_id and self._calls[at].given_id not in ("", call_id)):
            at = self._at[index] = len(self._calls)
            self._calls.append(_Open(call_id or f"call_{at}", call_id, name, [arguments]))
            return ToolCallDelta(at, call_id or f"call_{at}", name, arguments)
        call = self._calls[at]
        call.given_id = call.given_id or call_id
        call.arguments.append(arguments)
        if name and not call.name:
            call.name = name
            return ToolCallDelta(at, "", name, arguments)
        return ToolCallDelta(at, arguments=arguments)

    def whole(self) -> tuple[ToolCall, ...]:
        return tuple(ToolCall(call.call_id, call.name, "".join(call.arguments)) for call in self._calls)


@dataclass(slots=True)
class _Open:
    call_id: str
    given_id: str
    name: str
    arguments: list[str]
