"""What is made of a conversation once it has its answer: a summary, and memories of the user."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import structlog

from libs import deadline, errors
from services.execution.model.sessions import LONGEST_MEMORY, Kept, Memory, Message
from services.execution.model.targets import Spec
from services.execution.model.turns import Job
from services.execution.service.log import storable
from services.execution.service.own_tools import OwnTools
from services.execution.service.tools import parse_object

log = structlog.get_logger()

Ask = Callable[[list[dict[str, Any]], dict[str, Any] | None, float], Awaitable[str]]
"""Asks a model with a schema for its answer, and for as many seconds."""

LONGEST_SUMMARY: Final = 4000
_LONGEST_TURN: Final = 4000
_LONGEST_TALK: Final = 100_000
_LONGEST_QUESTION: Final = 500
_MOST_LEARNT: Final = 10
_PATIENCE: Final = 30.0
_SPARE: Final = 1.0
"""Seconds of the run's time that are left for its end."""

MEMORIES: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "remember": {"type": "array", "items": {"type": "string"}},
        "forget": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["remember", "forget"],
    "additionalProperties": False,
}

_QUESTIONS: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"questions": {"type": "array", "items": {"type": "string"}}},
    "required": ["questions"],
    "additionalProperties": False,
}


def wants_summary(spec: Spec, session_id: str) -> bool:
    return bool(session_id and spec.get("session", {}).get("summaries"))


def wants_memories(spec: Spec, user_id: str) -> bool:
    return bool(user_id and spec.get("memory", {}).get("update_on_run"))


def summary_request(before: str, messages: Sequence[Message]) -> list[dict[str, Any]]:
    """What a model is asked for a summary of all that has been said."""
    rules = (
        "Summarise the conversation in at most 200 words, for an assistant who is to go on with it: what the user "
        "wants, what was found out, decided and promised. Keep names, numbers and dates. Write nothing but the summary."
    )
    earlier = f"<summary_so_far>\n{before}\n</summary_so_far>\n" if before else ""
    return _request(rules, f"{earlier}<conversation>\n{_talk(messages)}\n</conversation>")


def memories_request(known: Sequence[Memory], messages: Sequence[Message]) -> list[dict[str, Any]]:
    """What a model is asked for what is worth remembering of a user."""
    rules = (
        "From the conversation, pick what is worth knowing about the user in later conversations: lasting facts and "
        "preferences that the user has stated, one short sentence each. Do not repeat what is known already. Name by "
        'their ids the known ones that are no longer true. Answer with JSON: {"remember": [...], "forget": [...]}; '
        "both are empty where there is nothing."
    )
    lines = "\n".join(f"{memory.memory_id}: {memory.text}" for memory in known)
    return _request(rules, f"<known>\n{lines}\n</known>\n<conversation>\n{_talk(messages)}\n</conversation>")


async def propose(job: Job, messages: Sequence[Message], ask: Ask) -> tuple[str, ...]:
    """Questions that the user may want to ask next."""
    count = job.agent.spec.get("num_followups", 0)
    if not count:
        return ()
    rules = (
        f"Propose {count} short questions that the user may want to ask next, in the language of the user and from "
        'the user\'s point of view. Answer with JSON: {"questions": [...]}.'
    )
    text = await _asked(job, ask, _request(rules, f"<conversation>\n{_talk(messages)}\n</conversation>"), _QUESTIONS)
    questions = [storable(question[:_LONGEST_QUESTION]) for question in _texts(parse_object(text) or {}, "questions")]
    return tuple(questions[:count])


async def learn(job: Job, own: OwnTools, messages: tuple[Message, ...], ask: Ask) -> Kept:
    """What the run leaves. Nothing that goes wrong here makes it fail: it has its answer."""
    spec, request, pin = job.agent.spec, job.request, job.background.pin
    turns = messages if request.session_id else ()
    kept = Kept(request.session_id, request.user_id, turns, None, tuple(own.learnt), tuple(own.forgotten))
    if wants_summary(spec, request.session_id):
        text = await _asked(job, ask, summary_request(pin.summary, messages), None)
        kept = replace(kept, summary=text.strip()[:LONGEST_SUMMARY] or None)
    if wants_memories(spec, request.user_id):
        text = await _asked(job, ask, memories_request(pin.memories, messages), MEMORIES)
        learnt, forgotten = memories_of(text, pin.memories)
        kept = replace(kept, learnt=(*kept.learnt, *map(storable, learnt)), forgotten=(*kept.forgotten, *forgotten))
    return kept


async def _asked(job: Job, ask: Ask, messages: list[dict[str, Any]], schema: dict[str, Any] | None) -> str:
    seconds = min(_PATIENCE, (deadline.remaining() or _PATIENCE + _SPARE) - _SPARE)
    try:
        return await ask(messages, schema, seconds)
    except errors.Error as error:
        log.warning("nothing was learnt from a run", execution_id=job.execution_id, reason=error.reason_code)
        return ""


def memories_of(text: str, known: Sequence[Memory]) -> tuple[list[str], list[str]]:
    """What to remember and what to forget; nothing where the model did not answer as it was asked."""
    value = parse_object(text) or {}
    there, ids = {memory.text for memory in known}, {memory.memory_id for memory in known}
    learnt = [said[:LONGEST_MEMORY] for said in _texts(value, "remember") if said not in there]
    return learnt[:_MOST_LEARNT], [memory_id for memory_id in _texts(value, "forget") if memory_id in ids]


def _texts(value: Mapping[str, Any], name: str) -> list[str]:
    found = value.get(name)
    return [text.strip() for text in found if isinstance(text, str) and text.strip()] if isinstance(found, list) else []


def _request(rules: str, text: str) -> list[dict[str, Any]]:
    return [{"role": "system", "content": rules}, {"role": "user", "content": text}]


def _talk(messages: Sequence[Message]) -> str:
    turns = [f"{message['role']}: {message['content'][:_LONGEST_TURN]}" for message in messages if message["content"]]
    return "\n".join(turns)[-_LONGEST_TALK:]
