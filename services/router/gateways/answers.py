"""An answer as it grows, and how LiteLLM's objects become a part of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from litellm.litellm_core_utils.core_helpers import map_finish_reason

from services.router.gateways import prices
from services.router.model import (
    ChatCall,
    Chunk,
    Citation,
    Deployment,
    FinishReason,
    TokenLogprob,
    ToolCallDelta,
    ToolCalls,
    TopLogprob,
    Usage,
)

_NO_CALL: Final = frozenset({FinishReason.STOP, FinishReason.UNKNOWN})
"""What some providers say though they ask for tools."""


class Answer:
    """What has come of an answer, and what of it was not taken yet."""

    def __init__(self, deployment: Deployment, call: ChatCall) -> None:
        self._deployment, self._call = deployment, call
        self._calls = ToolCalls()
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._deltas: list[ToolCallDelta] = []
        self._citations: list[Citation] = []
        self._logprobs: list[TokenLogprob] = []
        self._written = 0
        self._usage: Usage | None = None
        self._given_usage: Any = None
        self._finish_reason = ""

    @property
    def finished(self) -> bool:
        return bool(self._finish_reason)

    def say(self, text: str, reasoning: str = "") -> None:
        if text:
            self._text.append(text)
        if reasoning:
            self._reasoning.append(reasoning)

    def ask(self, index: int, call_id: str, name: str, arguments: str) -> None:
        self._deltas.append(self._calls.add(index, call_id, name, arguments))

    def cite(self, citations: Iterable[Citation]) -> None:
        self._citations += citations

    def weigh(self, logprobs: Iterable[TokenLogprob]) -> None:
        self._logprobs += logprobs

    def finish(self, reason: str) -> None:
        self._finish_reason = reason

    def count(self, usage: Usage, given: Any = None) -> None:
        """`given` is LiteLLM's usage, which knows more than ours."""
        if usage.total_tokens:
            self._usage, self._given_usage = usage, given

    def take(self) -> Chunk | None:
        """What is new."""
        text, reasoning = "".join(self._text), "".join(self._reasoning)
        deltas, citations, logprobs = tuple(self._deltas), tuple(self._citations), tuple(self._logprobs)
        if not (text or reasoning or deltas or citations or logprobs):
            return None
        self._text, self._reasoning, self._deltas, self._citations, self._logprobs = [], [], [], [], []
        self._written += len(text.encode()) + len(reasoning.encode()) + sum(len(d.arguments) for d in deltas)
        return Chunk(text, reasoning, tool_call_deltas=deltas, citations=citations, logprobs=logprobs)

    async def last(self) -> Chunk:
        """What is new, and the end."""
        new = self.take() or Chunk()
        if not self._call.stream:
            new = replace(new, tool_call_deltas=())
        usage = self._usage or await prices.estimated(self._deployment, self._call, self._written)
        cost = prices.cost(self._deployment, usage, self._given_usage)
        calls = self._calls.whole()
        ended = Chunk(
            tool_calls=calls,
            finish_reason=_finish_reason(self._finish_reason, tools=bool(calls)),
            usage=usage,
            cost=cost,
            cost_estimated=usage.estimated and cost is not None,
        )
        return new + ended


def _finish_reason(given: str, *, tools: bool) -> FinishReason:
    reason = FinishReason(map_finish_reason(given)) if given else FinishReason.STOP
    return FinishReason.TOOL_CALLS if tools and reason in _NO_CALL else reason


def read_whole(answer: Answer, response: Any) -> None:
    choice = response.choices[0]
    _read_message(answer, choice.message)
    _read_choice(answer, choice)
    _read_usage(answer, response)


def read_piece(answer: Answer, part: Any, *, ending: bool = True) -> None:
    """Without `ending` its reason to finish is not believed."""
    if part.choices:
        choice = part.choices[0]
        _read_message(answer, choice.delta)
        _read_choice(answer, choice, ending=ending)
    _read_usage(answer, part)


def _read_message(answer: Answer, message: Any) -> None:
    answer.say(message.content or "", getattr(message, "reasoning_content", None) or "")
    for at, call in enumerate(message.tool_calls or ()):
        index = getattr(call, "index", None)
        function = call.function
        answer.ask(at if index is None else index, call.id or "", function.name or "", function.arguments or "")
    if annotations := getattr(message, "annotations", None):
        answer.cite(annotated(annotations))
    elif fields := getattr(message, "provider_specific_fields", None):
        answer.cite(_quoted(fields))


def _read_choice(answer: Answer, choice: Any, *, ending: bool = True) -> None:
    if ending and choice.finish_reason:
        answer.finish(choice.finish_reason)
    if logprobs := getattr(choice, "logprobs", None):
        given = logprobs if isinstance(logprobs, dict) else logprobs.model_dump()
        answer.weigh(weighed(given))


def _read_usage(answer: Answer, response: Any) -> None:
    if (given := getattr(response, "usage", None)) is None:
        return
    cached = getattr(given.prompt_tokens_details, "cached_tokens", None) or 0
    reasoning = getattr(given.completion_tokens_details, "reasoning_tokens", None) or 0
    sent, said = given.prompt_tokens or 0, given.completion_tokens or 0
    answer.count(Usage(sent, said, given.total_tokens or sent + said, cached, reasoning), given)


def weighed(logprobs: Mapping[str, Any]) -> Iterable[TokenLogprob]:
    for token in logprobs.get("content") or ():
        top = tuple(TopLogprob(other["token"], other["logprob"]) for other in token.get("top_logprobs") or ())
        yield TokenLogprob(token["token"], token["logprob"], top)


def annotated(annotations: Iterable[Any]) -> Iterable[Citation]:
    """OpenAI's citations."""
    for annotation in annotations:
        given = annotation if isinstance(annotation, dict) else annotation.model_dump()
        if found := given.get("url_citation"):
            start, end = found.get("start_index") or 0, found.get("end_index") or 0
            yield Citation(found.get("url") or "", found.get("title") or "", "", start, end)


def _quoted(fields: Mapping[str, Any]) -> Iterable[Citation]:
    """Anthropic's citations: one in a piece, lists of them in a whole answer."""
    given = [fields["citation"]] if fields.get("citation") else fields.get("citations") or []
    for found in given:
        for one in found if isinstance(found, list) else [found]:
            url, title = one.get("url") or "", one.get("title") or one.get("document_title") or ""
            yield Citation(url, title, one.get("cited_text") or "")
