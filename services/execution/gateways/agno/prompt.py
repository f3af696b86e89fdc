"""What a model is told beside what Agno tells it, and what was said in the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.execution.model.sessions import Message
from services.execution.model.turns import Job


def told(messages: Sequence[dict[str, Any]], job: Job) -> list[dict[str, Any]]:
    """The messages of a run, with the conversation before it, and the media of its input."""
    rules, (asked, *rest) = _parted(messages)
    if job.request.media:
        asked = {**asked, "media": list(job.request.media)}
    return [*rules, *map(dict, job.background.history), asked, *rest]


def said(messages: Sequence[dict[str, Any]], job: Job, answer: str, reasoning: str) -> tuple[Message, ...]:
    """The turns of a run, from its input to its answer."""
    _, own = _parted(messages)
    asked: dict[str, Any] = {"role": "user", "content": job.request.input}
    if job.request.media:
        asked["media"] = list(job.request.media)
    last = {"role": "assistant", "content": answer, **({"reasoning": reasoning} if reasoning else {})}
    return tuple({**_EMPTY, **_without_none(message)} for message in (asked, *own[1:], last))


_EMPTY: dict[str, Any] = {"content": "", "tool_calls": [], "tool_call_id": "", "name": ""}


def _without_none(message: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if value is not None}


def _parted(messages: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    start = next(index for index, message in enumerate(messages) if message["role"] == "user")
    return list(messages[:start]), list(messages[start:])
