"""One answer costs the same, however much else is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from libs import database
from libs.config import Settings
from libs.database import Database
from services.execution import app as execution_app
from services.execution.config import ExecutionSettings
from services.execution.model.executions import Execution, Status
from services.execution.model.tool_calls import CallQuery
from services.execution.service.listing import ExecutionQuery
from services.execution.service.sessions import ChangeQuery, SessionQuery
from services.execution.store import SqlExecutionStore, SqlListing, SqlSessionStore
from services.execution.store.inputs import SqlInputStore
from services.execution.store.tool_calls import SqlCallRecords
from services.registry import app as registry_app
from services.registry.config import RegistrySettings
from services.registry.model import Kind
from services.registry.service.filters import Order
from services.registry.store import SqlResourceStore
from tests.stores.plenty import NOW, describe, keep
from tests.stores.reads import counted

FEW, MANY = 500, 5000

Ask = Callable[[Database], Awaitable[object]]


async def _opened(settings: Settings, migrations: Path) -> AsyncIterator[Database]:
    await database.migrate(settings, migrations)
    async with database.opened(settings, migrations) as db:
        yield db


@pytest.fixture
async def executions_db(database_settings: dict[str, Any]) -> AsyncIterator[Database]:
    async for db in _opened(ExecutionSettings.load(**database_settings), execution_app.MIGRATIONS):
        yield db


@pytest.fixture
async def registry_db(database_settings: dict[str, Any]) -> AsyncIterator[Database]:
    async for db in _opened(RegistrySettings.load(**database_settings), registry_app.MIGRATIONS):
        yield db


def waiting() -> Execution:
    return Execution(
        tenant="acme",
        execution_id="run-99999",
        target_id="helper",
        revision=1,
        status=Status.QUEUED,
        input="",
        create_time=NOW,
        owner="me",
        session_id="talk",
        request_digest="",
        last_sequence=0,
    )


def runs(**query: Any) -> Ask:
    return lambda db: SqlListing(db).list("acme", ExecutionQuery(**query), limit=10)


def talks(**query: Any) -> Ask:
    return lambda db: SqlSessionStore(db).list("acme", SessionQuery(**query), limit=10)


def changes(**query: Any) -> Ask:
    return lambda db: SqlSessionStore(db).changes("acme", ChangeQuery(**query), limit=10)


MIDDLE = NOW + timedelta(seconds=FEW / 2)
EXECUTION: Mapping[str, Ask] = {
    "runs": runs(),
    "runs of a target": runs(agent_id="helper"),
    "runs of a session": runs(session_id="talk"),
    "runs of a user": runs(user_id="ann"),
    "a later page of runs": runs(before="talk-00100"),
    "sessions": talks(),
    "sessions of a user": talks(user_id="ann"),
    "sessions of an agent": talks(agent_id="helper"),
    "a later page of sessions": talks(before=(MIDDLE, "talk-s-00100")),
    "changes of states": changes(),
    "changes of a session's state": changes(session_id="talk"),
    "a later page of changes": changes(before=(MIDDLE, "talk-s-00100", 100)),
    "the state as it was": lambda db: SqlSessionStore(db).state_at("acme", "talk", NOW + timedelta(days=1)),
    "others of the session": lambda db: SqlInputStore(db).unfinished("acme", "talk"),
    "the place in the queue": lambda db: SqlInputStore(db).queue_position(waiting()),
    "where the last runs of the session begin": lambda db: SqlSessionStore(db).start_of_runs("acme", "talk", 9999, 3),
    "the last event of a log": lambda db: SqlExecutionStore(db).events("acme", "talk-long", after=FEW - 1, limit=10),
    "calls of tools of a run": lambda db: SqlCallRecords(db).list("acme", CallQuery(execution_id="mine"), limit=50),
}


async def test_runs_and_sessions(executions_db: Database) -> None:
    async with counted(executions_db) as reads:
        await keep(executions_db, range(FEW))
        few = {name: await reads.of(ask(executions_db)) for name, ask in EXECUTION.items()}
        await keep(executions_db, range(FEW, MANY))
        found = {name: (few[name], await reads.of(ask(executions_db))) for name, ask in EXECUTION.items()}
    assert grown(found) == {}


REGISTRY: Mapping[str, Ask] = {
    "an agent": lambda db: SqlResourceStore(db).get("acme", Kind.AGENT, "agent-00001"),
    "agents": lambda db: page(db, ""),
    "a later page of agents": lambda db: page(db, "agent-00100"),
    "a snapshot's first part": lambda db: state(db, ("", "")),
    "a snapshot's later part": lambda db: state(db, ("agent", "agent-00100")),
    "its history": lambda db: SqlResourceStore(db).history("acme", Kind.AGENT, "agent-00001", before=0, limit=10),
    "changes": lambda db: SqlResourceStore(db).changes("acme", [Kind.AGENT], after=FEW - 10, limit=10),
}


def page(db: Database, after: str) -> Awaitable[object]:
    return SqlResourceStore(db).page("acme", Kind.AGENT, [], Order(), after=after, limit=10)


def state(db: Database, after: tuple[str, str]) -> Awaitable[object]:
    return SqlResourceStore(db).state("acme", [Kind.AGENT], position=10 * MANY, after=after, limit=10)


async def test_agents(registry_db: Database) -> None:
    """One revision each."""
    async with counted(registry_db) as reads:
        await describe(registry_db, [(number, 1) for number in range(FEW)])
        few = {name: await reads.of(ask(registry_db)) for name, ask in REGISTRY.items()}
        await describe(registry_db, [(number, 1) for number in range(FEW, MANY)])
        found = {name: (few[name], await reads.of(ask(registry_db))) for name, ask in REGISTRY.items()}
    assert grown(found) == {}


async def test_revisions(registry_db: Database) -> None:
    """Of a hundred agents and more."""
    agents = range(120)
    async with counted(registry_db) as reads:
        await describe(registry_db, [(number, revision) for revision in range(1, 11) for number in agents])
        few = {name: await reads.of(ask(registry_db)) for name, ask in REGISTRY.items()}
        await describe(registry_db, [(number, revision) for revision in range(11, 61) for number in agents])
        found = {name: (few[name], await reads.of(ask(registry_db))) for name, ask in REGISTRY.items()}
    assert grown(found) == {}


def grown(found: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Ten times as much is kept. A tree is a step deeper, and PostgreSQL reads what is short from end to end."""
    return {name: (few, many) for name, (few, many) in found.items() if many > max(1.3 * few + 30, FEW + 30)}
