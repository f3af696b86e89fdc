"""What is asked of a model, who may answer, and what comes back."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from libs import errors

OFFLINE_GROUP: Final = "offline"
OFFLINE_PROVIDER: Final = "offline"


@dataclass(frozen=True, slots=True)
class Deployment:
    deployment_id: str
    model_group: str
    model: str
    """LiteLLM's name, provider first."""
    api_base: str = ""
    key_reference: str = ""
    weight: float = 1.0

    @property
    def provider(self) -> str:
        return self.model.partition("/")[0]

    @property
    def is_offline(self) -> bool:
        return self.provider == OFFLINE_PROVIDER


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """A router configuration, never changed: a new one takes its place."""

    groups: Mapping[str, tuple[Deployment, ...]] = field(default_factory=dict)
    num_retries: int = 2
    timeout: float = 120.0
    """Longest silence of a provider, in seconds."""


OFFLINE: Final = RoutingTable({OFFLINE_GROUP: (Deployment("offline", OFFLINE_GROUP, "offline/demo"),)})


@dataclass(frozen=True, slots=True)
class ModelGroup:
    name: str
    models: tuple[str, ...]
    offline: bool


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
class Usage:
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    deployment_id: str
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class AnsweredBy:
    deployment: Deployment
    failed_attempts: tuple[FailedAttempt, ...] = ()


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

    def __add__(self, later: Chunk) -> Chunk:
        return Chunk(
            self.text + later.text,
            self.reasoning + later.reasoning,
            self.tool_calls + later.tool_calls,
            later.finish_reason or self.finish_reason,
            later.usage or self.usage,
            self.cost if later.cost is None else later.cost,
            later.answered_by or self.answered_by,
        )


class Failure(Exception):
    """An attempt that did not answer; `may_pass` when another one might."""

    def __init__(self, error: errors.Error, *, may_pass: bool) -> None:
        super().__init__(error.message)
        self.error, self.may_pass = error, may_pass


class ToolCalls:
    """Whole tool calls out of the pieces in which providers send them."""

    def __init__(self) -> None:
        self._calls: list[ToolCall] = []
        self._open: dict[int, int] = {}

    def add(self, index: int, call_id: str, name: str, arguments: str) -> None:
        at = self._open.get(index)
        # Some providers number every call 0 and tell them apart by id alone.
        if at is None or (call_id and self._calls[at].call_id not in ("", call_id)):
            self._open[index] = len(self._calls)
            self._calls.append(ToolCall(call_id, name, arguments))
            return
        call = self._calls[at]
        self._calls[at] = ToolCall(call.call_id or call_id, call.name or name, call.arguments + arguments)

    def whole(self) -> tuple[ToolCall, ...]:
        return tuple(replace(call, call_id=call.call_id or f"call_{n}") for n, call in enumerate(self._calls))


def routing_table(deployments: Iterable[Deployment], *, num_retries: int, timeout: float) -> RoutingTable:
    groups: dict[str, list[Deployment]] = {}
    for deployment in deployments:
        groups.setdefault(deployment.model_group, []).append(deployment)
    return RoutingTable({name: tuple(group) for name, group in groups.items()}, num_retries, timeout)


def choose(group: Sequence[Deployment], tried: Collection[str], draw: float) -> Deployment:
    """Picks by weight with `draw` from [0, 1): one not tried where there is one, one of weight 0 as a last resort."""
    candidates = [d for d in group if d.deployment_id not in tried] or group
    weighted = [d for d in candidates if d.weight > 0]
    if not weighted:
        return candidates[int(draw * len(candidates))]
    sums = list(itertools.accumulate(d.weight for d in weighted))
    return weighted[min(bisect_right(sums, draw * sums[-1]), len(weighted) - 1)]
