from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from libs import errors
from services.execution.model.events import ExecutionCancelled, ExecutionCompleted
from services.execution.model.executions import Execution, OnDisconnect, Status, Usage
from services.execution.service.admission import Ticket
from services.execution.service.log import EventLog, first
from services.execution.service.record import Record
from services.execution.service.runs import Run


class Store:
    async def append(self, appends: Any) -> set[str]:
        return set()

    async def events(self, tenant: str, execution_id: str, *, after: int, limit: int) -> Any:
        return []


@pytest.fixture
def record() -> Record:
    now = datetime.now(UTC)
    execution = Execution("acme", "run", "helper", 1, Status.RUNNING, "hi", now, "me", last_sequence=1)
    return EventLog(Store(), window=0, patience=0).open(execution, Usage(), first(execution))


async def test_run_that_is_cancelled_before_its_first_step_still_says_so(record: Record) -> None:
    """A task that is cancelled then never enters its coroutine."""
    run = Run(record, OnDisconnect.GRACE, Ticket("acme", "run", "", 0))
    said: list[str] = []

    async def work() -> None:
        try:
            run.begin()
        except asyncio.CancelledError:
            said.append(run.cancel_reason or "")
            run.end(ExecutionCancelled(run.cancel_reason or "", {}))

    run.task = asyncio.create_task(work())
    run.cancel("early")
    await asyncio.wait([run.task])
    assert said == ["early"]


async def test_run_that_has_its_end_is_not_interrupted(record: Record) -> None:
    run = Run(record, OnDisconnect.GRACE, Ticket("acme", "run", "", 0))

    async def work() -> str:
        run.begin()
        run.end(ExecutionCompleted("done", None, {}))
        await asyncio.sleep(0.02)
        return "committed"

    run.task = asyncio.create_task(work())  # type: ignore[assignment]
    await asyncio.sleep(0.01)
    run.cancel("late")
    assert await run.task == "committed"


async def test_run_whose_log_is_broken_is_left_to_others(record: Record) -> None:
    run = Run(record, OnDisconnect.GRACE, Ticket("acme", "run", "", 0))

    async def work() -> None:
        run.begin()
        await asyncio.sleep(30)

    run.task = asyncio.create_task(work())
    await asyncio.sleep(0)
    record.broken(errors.Unavailable("gone"))
    run.cancel("later")
    with pytest.raises(asyncio.CancelledError):
        await run.task
    assert run.left_to_others
