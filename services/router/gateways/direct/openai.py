"""OpenAI's JSON, read without LiteLLM's objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litellm.litellm_core_utils.prompt_templates.common_utils import parse_content_for_reasoning

from services.router.gateways.answers import Answer, annotated, weighed
from services.router.model import Usage


def read_whole(answer: Answer, body: Mapping[str, Any]) -> None:
    choice = body["choices"][0]
    message = choice["message"]
    content, reasoning = _text(message.get("content")), _reasoning(message)
    if not reasoning and content.startswith("<"):
        found, rest = parse_content_for_reasoning(content)
        reasoning, content = found or "", rest or ""
    answer.say(content, reasoning)
    _read_choice(answer, choice, message)
    _read_rest(answer, body)


def read_piece(answer: Answer, event: Mapping[str, Any]) -> None:
    if choices := event.get("choices"):
        choice = choices[0]
        if delta := choice.get("delta"):
            answer.say(_text(delta.get("content")), _reasoning(delta))
            _read_choice(answer, choice, delta)
        elif reason := choice.get("finish_reason"):
            answer.finish(reason)
    _read_rest(answer, event)


def _read_choice(answer: Answer, choice: Mapping[str, Any], message: Mapping[str, Any]) -> None:
    if calls := message.get("tool_calls"):
        for at, call in enumerate(calls):
            function = call.get("function") or {}
            index = call.get("index")
            name, arguments = function.get("name") or "", function.get("arguments") or ""
            answer.ask(at if index is None else index, call.get("id") or "", name, arguments)
    if annotations := message.get("annotations"):
        answer.cite(annotated(annotations))
    if logprobs := choice.get("logprobs"):
        answer.weigh(weighed(logprobs))
    if reason := choice.get("finish_reason"):
        answer.finish(reason)


def _read_rest(answer: Answer, event: Mapping[str, Any]) -> None:
    if given := event.get("usage"):
        answer.count(usage(given))


def usage(given: Mapping[str, Any]) -> Usage:
    sent, said = given.get("prompt_tokens") or 0, given.get("completion_tokens") or 0
    of_sent, of_said = given.get("prompt_tokens_details") or {}, given.get("completion_tokens_details") or {}
    cached = of_sent.get("cached_tokens") or given.get("prompt_cache_hit_tokens") or 0
    total = given.get("total_tokens") or sent + said
    return Usage(sent, said, total, cached, of_said.get("reasoning_tokens") or 0)


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.get("text") or "" for part in content if isinstance(part, dict))


def _reasoning(message: Mapping[str, Any]) -> str:
    found = message.get("reasoning_content") or message.get("reasoning")
    return found if isinstance(found, str) else ""
