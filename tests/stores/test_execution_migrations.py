"""What was there before a migration is there after it."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa

from libs import database
from services.execution.app import MIGRATIONS
from services.execution.config import ExecutionSettings
from services.execution.model.targets import Agent, Pinned, TargetKind
from services.execution.store import SqlExecutionStore

NOW = datetime(2026, 1, 2, tzinfo=UTC)
OF = {"tenant": "acme", "execution_id": "run"}


def before(number: int, folder: Path) -> Path:
    """The migrations that there were."""
    folder.mkdir()
    for file in sorted(MIGRATIONS.glob("0*.py"))[:number]:
        shutil.copy(file, folder)
    return folder


async def test_runs_of_agents_become_runs_of_targets(database_settings: dict[str, Any], tmp_path: Path) -> None:
    settings = ExecutionSettings.load(**database_settings)
    old = before(4, tmp_path / "old")
    await database.migrate(settings, old)
    execution = {
        **OF,
        **{"agent_id": "helper", "revision": 3, "status": "running", "input": "hi", "output": "", "usage": {}},
        **{"session_id": "", "user_id": "", "metadata": {}, "request_digest": "d", "last_sequence": 1, "owner": "me"},
        **{"lease_time": NOW, "create_time": NOW},
    }
    step = {**OF, "step": 1, "kind": "model", "name": "group", "call_id": "", "digest": "d", "is_error": False}
    agent = {"agent_id": "helper", "revision": 3, "description": "", "spec": {"a": 1}, "functions": []}
    asked = {"agent_id": "helper", "input": "hi", "on_disconnect": "grace", "session_policy": "queue"}
    kept = {"request": orjson.dumps(asked).decode(), "agent": orjson.dumps(agent).decode()}
    async with database.opened(settings, old) as db, db.write() as connection:
        for table, row in (
            ("executions", execution),
            ("journal", {**step, "start_time": NOW, "end_sequence": 0}),
            ("jobs", {**OF, **kept, "subject": "ann", "deadline": NOW}),
        ):
            columns = [sa.column(name, _TYPES.get(name)) for name in row]
            await connection.execute(sa.table(table, *columns).insert().values(row))
    await database.migrate(settings, MIGRATIONS)
    async with database.opened(settings, MIGRATIONS) as db:
        store = SqlExecutionStore(db)
        found = await store.get("acme", "run")
        assert found is not None
        assert (found.target_kind, found.target_id, found.revision) == (TargetKind.AGENT, "helper", 3)
        assert [(one.scope, one.number) for one in await store.steps("acme", "run")] == [("", 1)]
        assignment = await store.assignment("acme", "run")
        assert assignment is not None
        assert assignment.pinned == Pinned.alone(Agent("helper", 3, "", {"a": 1}))
        assert (assignment.request.target.key, assignment.request.input) == ("agent/helper", "hi")


_JSON = sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql")
_TYPES: dict[str, Any] = {"usage": _JSON, "metadata": _JSON, "lease_time": sa.DateTime(timezone=True)}
_TYPES |= {name: sa.DateTime(timezone=True) for name in ("create_time", "start_time", "deadline")}
