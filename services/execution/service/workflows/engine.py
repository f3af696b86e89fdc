"""What runs workflows. Nothing outside of an engine knows which one it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from services.execution.model.events import Event, ExecutionCancelled, StepCompleted, StepStarted
from services.execution.model.executions import Execution
from services.execution.model.turns import Answer, Work
from services.execution.model.workflows import Signal
from services.execution.service.journal import Journal
from services.execution.service.targets import Members
from services.execution.service.workflows.toolbox import Toolbox


class Absent(Exception):
    """What has ended is looked at once more, and this part of it was never done."""


class Place(Protocol):
    """Where a step runs: whatever is asked of it is done once, however often the workflow is run from its start."""

    @property
    def recalling(self) -> bool:
        """What is within has ended: what is not known of it was never done (Absent)."""

    @property
    def retells(self) -> bool:
        """All is told once more, from what is kept alone."""

    def at(self, name: str, step_id: str) -> Place:
        """A place within; `name` is that of no other one."""

    def recall(self) -> Place:
        """The same, recalling."""

    def live(self) -> Place:
        """The same, no longer recalling."""

    def fork(self, count: int) -> Fork:
        """For so many branches side by side."""

    async def step(self, started: StepStarted) -> StepCompleted | None:
        """Begins a step; gives its end where it has ended before."""

    async def ended(self, completed: StepCompleted) -> None:
        """Ends it."""

    async def said(self, event: Event) -> None:
        """Says something of a step that has ended."""

    async def member(self, key: str, text: str, seconds: float | None, schema: Mapping[str, Any] | None) -> Answer:
        """Runs an agent, a team or another workflow."""

    async def call(self, tool_id: str, arguments: Mapping[str, Any]) -> Any:
        """Calls a tool; raises TOOL_FAILED with what it says."""

    async def after(self, seconds: float) -> datetime:
        """The time so long after the place was first come to."""

    async def pause(self, seconds: float) -> None:
        """Waits before another try."""

    async def timer(self, until: datetime) -> None:
        """Waits; long waits hold no process."""

    async def signal(self, name: str, until: datetime | None) -> Signal | None:
        """Waits for a signal; None where none has come in time."""

    async def approval(self, step_id: str, question: str, until: datetime | None) -> Mapping[str, Any] | None:
        """Waits for somebody's decision; None where nobody has decided in time."""


class Fork(Protocol):
    """Branches side by side. Only when all wait does the workflow leave its process."""

    def joined(self) -> AbstractContextManager[None]:
        """While they run."""

    def branch(self) -> AbstractContextManager[None]:
        """While one of those that run at once does."""


Interpreted = Callable[[Place], Awaitable[Any]]


class Engine(Protocol):
    """Starts workflows, tells them signals and ends them."""

    async def start(
        self, work: Work, journal: Journal, members: Members, toolbox: Toolbox, interpreted: Interpreted
    ) -> Any:
        """Runs a workflow to its end, or goes on with it; raises InputNeeded where it leaves its process to wait."""

    async def signal(self, execution: Execution, signal: Signal) -> bool:
        """Takes a signal, once by its id; True where a workflow that held no process goes on now."""

    async def cancel(self, execution: Execution, event: ExecutionCancelled) -> bool:
        """Ends a workflow that holds no process; False where it does, or has ended."""


class SignalStore(Protocol):
    async def signals(self, tenant: str, execution_id: str, after: int) -> Sequence[Signal]: ...

    async def signal(self, tenant: str, execution_id: str, signal: Signal) -> bool: ...

    async def end(self, tenant: str, execution_id: str, event: Event) -> bool: ...
