"""Events of a run, from the run to the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from bench.gate.counting import Work
from libs import database
from services.execution.app import MIGRATIONS
from services.execution.config import ExecutionSettings
from services.execution.model.events import ContentDelta, Source
from services.execution.model.executions import ExecuteRequest, Execution, Status, Usage
from services.execution.model.targets import Agent, Pinned
from services.execution.model.turns import Assignment
from services.execution.service.log import EventLog, first
from services.execution.store import SqlExecutionStore

_EVENTS: Final = 20
_SOURCES: Final = (Source(("helper", "one")), Source(("helper", "two")))
"""Taking turns: what comes from one is put together."""


@asynccontextmanager
async def works(folder: Path, name: str, **settings: str) -> AsyncIterator[list[Work]]:
    loaded = ExecutionSettings.load(data_dir=folder / "events", **settings)
    await database.migrate(loaded, MIGRATIONS)
    async with database.opened(loaded, MIGRATIONS) as opened:
        store = SqlExecutionStore(opened)
        execution = Execution(
            tenant="default",
            execution_id="run",
            target_id="helper",
            revision=1,
            status=Status.RUNNING,
            input="hi",
            create_time=datetime.now(UTC),
            owner="gate",
            request_digest="",
            last_sequence=1,
        )
        until = datetime.now(UTC) + timedelta(hours=1)
        assignment = Assignment(ExecuteRequest("helper", "hi"), Pinned.alone(Agent("helper", 1, "", {})), "gate", until)
        await store.accept(execution, first(execution), assignment, lease=3600)
        async with EventLog(store, window=0, patience=10) as log:
            record = log.open(execution, Usage(), first(execution))

            async def one_by_one() -> None:
                for _ in range(_EVENTS):
                    record.append(ContentDelta(" token"))
                    await record.stored()

            async def together(count: int = 2 * _EVENTS) -> None:
                for number in range(count):
                    record.append(ContentDelta(" token"), _SOURCES[number % 2])
                await record.stored()

            yield [
                Work(f"event appended, {name}", one_by_one, _EVENTS),
                Work(f"event more in a commit, {name}", together, _EVENTS, lambda: together(_EVENTS)),
            ]
