"""The conversation so far, as much of it as an agent wants to see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from libs.errors import Violation
from services.execution.model.sessions import Background, Message
from services.execution.model.targets import Spec

LONGEST: Final = 2_000_000
"""Bytes of history in one prompt, media in base64 included: Router takes no more than 4 MiB."""
_CHARACTERS_PER_TOKEN: Final = 4
_TOKENS_OF_A_TURN: Final = 4
_TOKENS_OF_MEDIA: Final = 1000

Unit = list[Message]
"""Messages that belong together: a tool call and its results, or one other message."""


def problems(messages: Sequence[Message]) -> list[Violation]:
    """What is wrong with a conversation that a caller brings along."""
    found: list[Violation] = []
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            call_id = message["tool_call_id"]
            if call_id not in open_calls:
                found.append(Violation(f"history[{index}].tool_call_id", "answers no call of the turn before it"))
            open_calls.discard(call_id)
        elif open_calls:
            found.append(Violation(f"history[{index}]", f"comes before the results of {sorted(open_calls)}"))
            open_calls = set()
        if message["role"] == "assistant":
            open_calls = {call["id"] for call in message["tool_calls"]}
    if messages and messages[-1]["role"] == "tool":
        found.append(Violation("history", "ends with a tool result, to which the model has said nothing"))
    elif open_calls:
        found.append(Violation("history", f"ends before the results of {sorted(open_calls)}"))
    return found


def window(messages: Sequence[Message], settings: Mapping[str, Any]) -> tuple[Message, ...]:
    """The newest part of a conversation within an agent's limits; a tool call is never without its results."""
    if (most := settings.get("max_tool_calls")) is not None:
        messages = list(_few_calls(messages, most))
    units = list(_units(messages))
    if runs := settings.get("num_runs"):
        units = _last_turns(units, runs)
    if count := settings.get("num_messages"):
        units = _fitting(units, count, len)
    if tokens := settings.get("max_tokens"):
        units = _fitting(units, tokens, _tokens)
    return tuple(message for unit in _fitting(units, LONGEST, _bytes) for message in unit)


def _units(messages: Sequence[Message]) -> Iterator[Unit]:
    unit: Unit = []
    for message in messages:
        if message["role"] != "tool" and unit:
            yield unit
            unit = []
        unit.append(message)
    if unit:
        yield unit


def _last_turns(units: list[Unit], turns: int) -> list[Unit]:
    starts = [index for index, unit in enumerate(units) if unit[0]["role"] == "user"]
    return units[starts[-turns] :] if len(starts) > turns else units


def _fitting(units: list[Unit], most: int, measure: Any) -> list[Unit]:
    left = most
    for index in range(len(units) - 1, -1, -1):
        left -= measure(units[index])
        if left < 0:
            return units[index + 1 :]
    return units


def _few_calls(messages: Sequence[Message], most: int) -> Iterator[Message]:
    """Without the oldest tool calls; what the model said beside them stays."""
    too_many = sum(len(message.get("tool_calls") or ()) for message in messages) - most
    dropping = False
    for message in messages:
        if message["role"] != "tool":
            calls = message.get("tool_calls") or ()
            dropping = bool(calls) and too_many > 0
            too_many -= len(calls)
        if not dropping:
            yield message
        elif message["role"] != "tool" and message["content"]:
            yield {**message, "tool_calls": []}


def _tokens(unit: Unit) -> int:
    """An estimate: four characters a token."""
    media = sum(len(message.get("media") or ()) for message in unit)
    characters = sum(len(text) for message in unit for text in _texts(message))
    return characters // _CHARACTERS_PER_TOKEN + _TOKENS_OF_A_TURN * len(unit) + _TOKENS_OF_MEDIA * media


def _bytes(unit: Unit) -> int:
    texts = sum(len(text.encode()) for message in unit for text in _texts(message))
    media = [part for message in unit for part in message.get("media") or ()]
    return texts + sum(len(part.get("data", "")) + len(part.get("url", "")) for part in media)


def _texts(message: Message) -> Iterator[str]:
    yield message["content"]
    for call in message.get("tool_calls") or ():
        yield call["function"]["arguments"]


def briefing(spec: Spec, background: Background) -> str:
    """What is added to the instructions: memories, summary and state, as far as the agent wants to see them."""
    session, memory, pin = spec.get("session", {}), spec.get("memory", {}), background.pin
    parts = []
    if pin.memories and (memory.get("add_to_context") or memory.get("agentic")):
        lines = "\n".join(f"- {kept.memory_id}: {kept.text}" for kept in pin.memories)
        parts.append(f"What is known of the user from earlier conversations:\n<memories>\n{lines}\n</memories>")
    if pin.summary and session.get("add_summary_to_context"):
        parts.append(f"What went before in this conversation, in short:\n<summary>\n{pin.summary}\n</summary>")
    if session.get("add_state_to_context"):
        state = orjson.dumps(pin.state, option=orjson.OPT_SORT_KEYS).decode()
        parts.append(f"The state of this conversation:\n<session_state>\n{state}\n</session_state>")
    return "\n\n".join(parts)
