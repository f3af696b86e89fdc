"""Runs that are taken up: they are told what they were told before, and change nothing twice."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from libs import database, identity
from services.execution.app import MIGRATIONS
from services.execution.config import ExecutionSettings
from services.execution.gateways.agno.runner import AgnoRunner
from services.execution.model.events import Event, StateChanged, UsageReported
from services.execution.model.executions import ExecuteRequest, Execution, Status, Usage
from services.execution.model.sessions import Author, Kept
from services.execution.model.targets import Agent
from services.execution.model.turns import Answer, Job, ModelCall, ModelPiece, ToolCall
from services.execution.service.conversations import Conversations
from services.execution.service.sessions import Sessions
from services.execution.service.tools import Tools
from services.execution.store import SqlSessionStore, accepting, rows, sessions
from tests.memory_journal import MemoryJournal

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SPEC: dict[str, Any] = {
    "model": {"model": "group"},
    "history": {"num_messages": 10},
    "session": {
        "initial_state": {"n": 0},
        "add_state_to_context": True,
        "add_summary_to_context": True,
        "agentic_state": True,
    },
    "memory": {"add_to_context": True, "agentic": True},
}
Turn = list[ModelPiece] | type[BaseException]


@dataclass
class Models:
    turns: list[Turn]
    calls: list[ModelCall] = field(default_factory=list)

    async def stream(self, call: ModelCall) -> AsyncGenerator[ModelPiece, None]:
        self.calls.append(copy.deepcopy(call))
        turn = self.turns[len(self.calls) - 1]
        if isinstance(turn, type):
            raise turn
        for piece in turn:
            yield piece


def says(text: str) -> Turn:
    return [ModelPiece(text=text, usage=UsageReported())]


def asks(name: str, arguments: str) -> Turn:
    return [ModelPiece(tool_calls=[ToolCall("call-1", name, arguments)], usage=UsageReported())]


@pytest.fixture
async def db(database_settings: dict[str, Any]) -> AsyncIterator[database.Database]:
    settings = ExecutionSettings.load(**database_settings)
    await database.migrate(settings, MIGRATIONS)
    async with database.opened(settings, MIGRATIONS) as opened:
        yield opened


@dataclass
class Rig:
    db: database.Database
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.journal.emit = self.events.append
        self.journal.mark = lambda: 2 + len(self.events)  # type: ignore[method-assign]
        self.store = SqlSessionStore(self.db)

    async def accept(self, execution_id: str, status: Status = Status.QUEUED) -> Execution:
        made = Execution("acme", execution_id, "helper", 1, status, "hi", NOW, "me", "talk", "ann", last_sequence=1)
        given = {"executions": rows.columns(made), **sessions.begun(made)}
        await accepting.insert(self.db, given, timedelta(0))
        return made

    async def keep(self, execution_id: str, *texts: str, **more: Any) -> None:
        messages = tuple(
            {"role": "user", "content": text, "tool_calls": [], "tool_call_id": "", "name": ""} for text in texts
        )
        async with self.db.write() as connection:
            await sessions.keep(connection, "acme", execution_id, Kept("talk", "ann", messages, **more))

    async def attempt(self, models: Models, *, session_id: str = "talk", **request: Any) -> Answer:
        asked = ExecuteRequest("helper", "hi", session_id=session_id, user_id="ann", **request)
        job = Job("run", Agent("helper", 1, "", SPEC), asked, (), Usage(), NOW)
        identity.enter(identity.Caller("acme", "ann", frozenset()))
        talks = Conversations(AgnoRunner(models, Tools([])), Sessions(self.store), Tools([]))
        return await talks.answer(job, self.journal)


async def test_a_run_that_is_taken_up_is_told_what_it_was_told(db: database.Database) -> None:
    at = Rig(db)
    await at.accept("earlier")
    await at.keep("earlier", "before", summary="We met.", learnt=("likes tea",))
    await at.accept("run")
    broken = Models([asks("update_session_state", '{"set": {"n": 1}}'), asyncio.CancelledError])
    with pytest.raises(asyncio.CancelledError):
        await at.attempt(broken, session_state={"table": 7})
    await at.keep("earlier", "in between", summary="Other things.", learnt=("likes coffee",))
    await at.store.change("acme", "talk", Author("bob"), lambda one: replace(one, state={**one.state, "late": True}))
    said = list(at.events)
    again = Models([says("done")])
    answer = await at.attempt(again, session_state={"table": 7})
    assert again.calls == broken.calls[1:]
    told = " ".join(str(message["content"]) for message in again.calls[0].messages)
    assert "before" in told
    assert "We met." in told
    assert "likes tea" in told
    assert '{"n":0,"table":7}' in told
    for later in ("in between", "Other things.", "likes coffee", "late"):
        assert later not in told
    assert [event for event in at.events[: len(said)] if isinstance(event, StateChanged)] == [
        StateChanged({"n": 0, "table": 7}, 1),
        StateChanged({"n": 1, "table": 7}, 2),
    ]
    assert not [event for event in at.events[len(said) :] if isinstance(event, StateChanged)]
    session = await at.store.get("acme", "talk")
    assert session is not None
    assert (session.state, session.state_version) == ({"n": 1, "table": 7, "late": True}, 3)
    assert [message["role"] for message in answer.kept.messages] == ["user", "assistant", "tool", "assistant"]


async def test_a_state_that_was_changed_but_not_said_is_changed_once(db: database.Database) -> None:
    """The process dies between the two commits."""
    at = Rig(db)
    await at.accept("run")
    turn = asks("update_session_state", '{"set": {"n": 5}}')
    await at.attempt(Models([turn, says("done")]))
    tool = next(number for number, step in at.journal.steps.items() if step.call_id)
    at.journal.steps = {
        number: replace(step, end_time=None, result=None) if number == tool else step
        for number, step in at.journal.steps.items()
        if number <= tool
    }
    said = len(at.events)
    await at.attempt(Models([says("done")]))
    assert [event for event in at.events[said:] if isinstance(event, StateChanged)] == [StateChanged({"n": 5}, 2)]
    session = await at.store.get("acme", "talk")
    assert session is not None
    assert (session.state, session.state_version) == ({"n": 5}, 2)


async def test_what_own_tools_did_without_a_session_is_taken_in_again(db: database.Database) -> None:
    at = Rig(db)
    broken = Models(
        [
            asks("update_session_state", '{"set": {"n": 1}}'),
            asks("update_user_memory", '{"remember": ["likes tea"]}'),
            asyncio.CancelledError,
        ]
    )
    with pytest.raises(asyncio.CancelledError):
        await at.attempt(broken, session_id="")
    again = Models([asks("update_session_state", '{"set": {"m": 2}}'), says("done")])
    answer = await at.attempt(again, session_id="")
    assert answer.kept.learnt == ("likes tea",)
    assert [event for event in at.events if isinstance(event, StateChanged)] == [
        StateChanged({"n": 0}, 1),
        StateChanged({"n": 1}, 2),
        StateChanged({"n": 1, "m": 2}, 3),
    ]
