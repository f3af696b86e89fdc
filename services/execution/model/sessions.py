"""Sessions: conversations over several runs, their state, and what is remembered of a user."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

Message = Mapping[str, Any]
"""A turn in the shape of OpenAI's chat API, with `media` and `reasoning` beside."""
State = Mapping[str, Any]

SNAPSHOT_EVERY: Final = 100
MOST_MEMORIES: Final = 100
"""Memories kept of one user; the oldest make room."""
LONGEST_MEMORY: Final = 1000
_WHOLE: Final = 2.0**53


@dataclass(frozen=True, slots=True)
class Session:
    tenant: str
    session_id: str
    create_time: datetime
    update_time: datetime
    user_id: str = ""
    agent_ids: tuple[str, ...] = ()
    summary: str = ""
    state: State = field(default_factory=dict)
    state_version: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
    message_count: int = 0
    revision: int = 0
    """+1 with each change of state, summary or metadata."""

    @property
    def etag(self) -> str:
        made = f"{self.create_time.isoformat()} {self.revision}"
        return hashlib.sha256(made.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class SessionMessage:
    message: Message
    execution_id: str
    create_time: datetime
    position: int
    """From 1, +1 with each message of the session."""


@dataclass(frozen=True, slots=True)
class Author:
    """Who changes a state: a caller, or a tool call of a run, which does so once however often it is repeated."""

    subject: str = ""
    execution_id: str = ""
    agent_id: str = ""
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Talk:
    """A run's place in the conversations of its tenant."""

    tenant: str
    execution_id: str
    agent_id: str
    session_id: str = ""
    user_id: str = ""


@dataclass(frozen=True, slots=True)
class StateChange:
    """What a change did to the state; every SNAPSHOT_EVERY changes also the whole."""

    version: int
    set: State
    removed: Sequence[str]
    snapshot: State | None = None


@dataclass(frozen=True, slots=True)
class MadeChange:
    """A change of a session's state, as it is kept."""

    session_id: str
    change: StateChange
    by: Author
    time: datetime


def change_of(before: State, after: State, version: int) -> StateChange:
    changed = {key: value for key, value in after.items() if key not in before or before[key] != value}
    removed = [key for key in before if key not in after]
    return StateChange(version, changed, removed, dict(after) if version % SNAPSHOT_EVERY == 0 else None)


def replayed(changes: Sequence[StateChange]) -> State:
    """The state after changes that begin with a snapshot or with the first of all."""
    state: dict[str, Any] = {}
    for change in changes:
        if change.snapshot is not None:
            state = dict(change.snapshot)
            continue
        state.update(change.set)
        for key in change.removed:
            state.pop(key, None)
    return state


@dataclass(frozen=True, slots=True)
class Memory:
    memory_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Pin:
    """What a run began with, the same however often it is taken up: messages up to a position, the rest as it was."""

    message_count: int = 0
    summary: str = ""
    state: State = field(default_factory=dict)
    state_version: int = 0
    state_set: bool = False
    """The run's own request, or its agent's initial state, made the state what it is."""
    memories: tuple[Memory, ...] = ()


@dataclass(frozen=True, slots=True)
class Background:
    """What a run is told beside its input."""

    history: tuple[Message, ...] = ()
    pin: Pin = field(default_factory=Pin)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a completed run leaves to its session and to its user."""

    session_id: str = ""
    user_id: str = ""
    messages: tuple[Message, ...] = ()
    summary: str | None = None
    learnt: tuple[str, ...] = ()
    forgotten: tuple[str, ...] = ()
    """Ids of memories."""

    def __bool__(self) -> bool:
        return bool(self.session_id or self.learnt or self.forgotten)


def whole(value: Any) -> Any:
    """With whole numbers as such: a Struct knows only doubles."""
    match value:
        case float() if value.is_integer() and abs(value) < _WHOLE:
            return int(value)
        case dict():
            return {key: whole(inner) for key, inner in value.items()}
        case list():
            return [whole(inner) for inner in value]
    return value
