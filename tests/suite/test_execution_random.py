"""Starting, cancelling, killing, taking away and watching at random: whatever happens, each run ends once, its events
have no gap, and no tool call has two effects.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from libs import database, errors
from libs.database import Database
from libs.identity import Caller
from libs.server import Drain
from services.execution.app import MIGRATIONS
from services.execution.config import ExecutionSettings
from services.execution.gateways.agno.runner import AgnoRunner
from services.execution.model.events import (
    ContentDelta,
    ContentRestarted,
    ExecutionCompleted,
    LoggedEvent,
    UsageReported,
)
from services.execution.model.executions import ExecuteRequest, Execution, OnDisconnect
from services.execution.model.targets import Agent, Pinned, Target, TargetKind
from services.execution.model.tools import Tool
from services.execution.model.turns import ModelCall, ModelPiece, ToolCall
from services.execution.service.admission import Admission, Bounds
from services.execution.service.continuation import Continuation
from services.execution.service.conversations import Conversations
from services.execution.service.executions import Executions
from services.execution.service.leases import Leases
from services.execution.service.log import EventLog
from services.execution.service.news import News
from services.execution.service.room import Room
from services.execution.service.runs import Limits, Runs
from services.execution.service.sessions import Sessions
from services.execution.service.targets import Targets
from services.execution.service.tools import Tools, idempotency_key
from services.execution.service.workflows.journaled import JournalEngine
from services.execution.servicer.translation import weight
from services.execution.store import SqlExecutionStore, SqlSessionStore
from services.execution.store.calls import SqlCalls
from services.execution.store.inputs import SqlInputStore
from services.execution.store.tables import executions

CALLER = Caller("acme", "crm", frozenset({"*"}))
TURNS = 2
LIMITS = Limits(
    default_timeout=60,
    resume_grace=60,
    heartbeat=60,
    lease=60,
    watch_poll=0.005,
    drain_grace=1,
    max_deaths=1000,
    input_timeout=60,
)


class Models:
    """Each turn says a few words and calls the tool twice; the last one only speaks."""

    async def stream(self, call: ModelCall) -> AsyncGenerator[ModelPiece, None]:
        turn = sum(message["role"] == "assistant" for message in call.messages)
        for word in "abc":
            await asyncio.sleep(0.003)
            yield ModelPiece(text=f"{turn}{word} ")
        asked = [ToolCall(f"call-{turn}-{n}", "count", "{}") for n in range(2)] if turn < TURNS else []
        yield ModelPiece(tool_calls=asked, usage=UsageReported(1, 1))


class Counting:
    """Knows the calls whose effect it has had."""

    def __init__(self) -> None:
        self.effects: Counter[str] = Counter()

    def tools(self) -> Sequence[Tool]:
        return [Tool("test/count", "count", "Count", "Counts.", {"type": "object"}, "1", takes_key=True)]

    async def call(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
        await asyncio.sleep(0.003)
        key = idempotency_key()
        if not self.effects[key]:
            self.effects[key] += 1
        await asyncio.sleep(0.003)
        return "counted"


class Configurations:
    async def pinned(self, target: Target, revision: int) -> Pinned:
        spec = {"model": {"model": "group"}, "tools": [{"tool_id": "test/count"}]}
        return Pinned.alone(Agent(target.target_id, 1, "", spec))


class Mortal(Database):
    """A database as one process sees it: nothing that the process does after its death gets there."""

    dead = False

    @asynccontextmanager
    async def read(self) -> Any:
        self._check()
        async with super().read() as connection:
            self._check()
            yield connection

    @asynccontextmanager
    async def write(self) -> Any:
        self._check()
        async with super().write() as connection:
            self._check()
            yield connection
            self._check()

    async def transact(self, work: Any) -> Any:
        self._check()

        def checked(cursor: Any) -> Any:
            done = work(cursor)
            self._check()
            return done

        return await super().transact(checked)

    def _check(self) -> None:
        if self.dead:
            raise errors.Unavailable("dead")


@dataclass
class Process:
    db: Mortal
    log: EventLog
    runs: Runs
    leases: Leases
    executions: Executions


@dataclass
class Watched:
    execution_id: str
    after: int
    events: list[LoggedEvent] = field(default_factory=list)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.settings = ExecutionSettings.load(data_dir=Path(self.folder.name))
        self.counting = Counting()
        self.processes: list[Process] = []
        self.started: list[str] = []
        self.watched: list[Watched] = []
        self.tasks: set[asyncio.Task[Any]] = set()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @initialize()
    def begin(self) -> None:
        self.do(database.migrate(self.settings, MIGRATIONS))
        self.processes = [self.do(self.process()) for _ in range(2)]

    async def process(self) -> Process:
        db = Mortal(database.make_engine(self.settings))
        store, inputs, admission, tools = (
            SqlExecutionStore(db),
            SqlInputStore(db),
            Admission(BOUNDS),
            Tools([self.counting]),
        )
        log, drain, continuation = EventLog(store, window=0.001, patience=0.0), Drain(), Continuation(inputs)
        news = News()
        talks = Conversations(AgnoRunner(Models(), tools), Sessions(SqlSessionStore(db)), tools)
        targets = Targets({TargetKind.AGENT: talks})
        runs = Runs(store, inputs, admission, log, targets, LIMITS, Room(2**20, weight))
        more = (Configurations(), targets, runs, tools, drain, LIMITS, news, JournalEngine(inputs, held=5))
        made = Executions(store, inputs, admission, continuation, log, *more)
        await log.__aenter__()
        return Process(db, log, runs, Leases(store, SqlCalls(db, news), runs, continuation, drain, LIMITS), made)

    async def kill(self, process: Process) -> None:
        """Without any last word."""
        process.db.dead = True
        process.runs.leave_all()
        await process.runs.ended()
        await process.log.__aexit__()
        await process.db.close()

    async def expire(self, owner: str | None = None) -> None:
        """Lets leases lapse, of one process or of all that have died."""
        alive = [one.runs.owner for one in self.processes]
        whose = executions.c.owner == owner if owner else executions.c.owner.not_in(alive)
        async with self.processes[0].db.write() as connection:
            past = datetime(2000, 1, 1, tzinfo=UTC)
            await connection.execute(executions.update().where(whose).values(lease_time=past))

    def background(self, work: Coroutine[Any, Any, Any]) -> None:
        async def start() -> None:
            task = asyncio.create_task(work)
            self.tasks.add(task)

        self.do(start())

    @rule(at=st.integers(0, 1))
    def start(self, at: int) -> None:
        request = ExecuteRequest("helper", "hi", on_disconnect=OnDisconnect.CONTINUE)
        self.started.append(self.do(self.processes[at].executions.start(CALLER, request)))

    @rule(milliseconds=st.integers(1, 30))
    def go_on(self, milliseconds: int) -> None:
        self.do(asyncio.sleep(milliseconds / 1000))

    @rule(at=st.integers(0, 1))
    def die(self, at: int) -> None:
        self.do(self.kill(self.processes[at]))
        self.processes[at] = self.do(self.process())
        self.do(self.expire())

    @rule(at=st.integers(0, 1))
    def be_slow(self, at: int) -> None:
        """A process lives, but its leases lapse, and the other one takes its runs."""
        self.do(self.expire(self.processes[at].runs.owner))
        self.do(self.processes[1 - at].leases._claim())

    @rule(at=st.integers(0, 1))
    def keep_house(self, at: int) -> None:
        self.do(self.processes[at].leases._renew())
        self.do(self.processes[at].leases._claim())

    @precondition(lambda self: self.started)
    @rule(at=st.integers(0, 1), which=st.integers(0, 100))
    def cancel(self, at: int, which: int) -> None:
        self.background(self.cancelled(self.processes[at], self.started[which % len(self.started)]))

    async def cancelled(self, process: Process, execution_id: str) -> None:
        try:
            assert (await process.executions.cancel(CALLER, execution_id, "enough")).end_time
        except errors.Unavailable:
            assert process.db.dead

    @precondition(lambda self: self.started)
    @rule(at=st.integers(0, 1), which=st.integers(0, 100), after=st.integers(0, 5))
    def watch(self, at: int, which: int, after: int) -> None:
        watched = Watched(self.started[which % len(self.started)], after)
        self.watched.append(watched)
        self.background(self.watches(self.processes[at], watched))

    async def watches(self, process: Process, watched: Watched) -> None:
        try:
            async for event in process.executions.watch(CALLER, watched.execution_id, watched.after):
                watched.events.append(event)
        except errors.Unavailable:
            assert process.db.dead
        except errors.OutOfRange:
            assert watched.after > 1

    def teardown(self) -> None:
        try:
            if self.processes:
                self.do(self.settle())
                self.do(self.check())
        finally:
            for process in self.processes:
                self.do(self.kill(process))
            self.runner.close()
            self.folder.cleanup()

    async def settle(self) -> None:
        async with asyncio.timeout(60):
            while any([(await self.found(execution_id)).end_time is None for execution_id in self.started]):
                for process in self.processes:
                    await process.leases._renew()
                    await process.leases._claim()
                await asyncio.sleep(0.01)
            await asyncio.gather(*self.tasks)

    async def found(self, execution_id: str) -> Execution:
        return await self.processes[0].executions.get(CALLER, execution_id)

    async def check(self) -> None:
        logs = {execution_id: await self.log_of(execution_id) for execution_id in self.started}
        for execution_id, log in logs.items():
            assert [event.sequence for event in log] == list(range(1, len(log) + 1))
            assert [event.event.terminal for event in log] == [False] * (len(log) - 1) + [True]
            assert (await self.found(execution_id)).last_sequence == len(log)
            if isinstance(log[-1].event, ExecutionCompleted):
                self.check_completed(execution_id, log)
        assert set(self.counting.effects.values()) <= {1}
        for watched in self.watched:
            log = logs[watched.execution_id][watched.after :]
            assert watched.events == log[: len(watched.events)]

    def check_completed(self, execution_id: str, log: Sequence[LoggedEvent]) -> None:
        kept: list[LoggedEvent] = []
        for event in log:
            if isinstance(event.event, ContentRestarted):
                start = event.event.from_sequence
                kept = [one for one in kept if one.sequence < start or not isinstance(one.event, ContentDelta)]
            kept.append(event)
        text = "".join(one.event.text for one in kept if isinstance(one.event, ContentDelta))
        assert text == "".join(f"{turn}{word} " for turn in range(TURNS + 1) for word in "abc")
        kinds = Counter(event.event.kind for event in log)
        assert (kinds["tool_call_started"], kinds["tool_call_completed"], kinds["usage_reported"]) == (4, 4, 3)
        assert sum(key.startswith(execution_id) for key in self.counting.effects) == 4

    async def log_of(self, execution_id: str) -> Sequence[LoggedEvent]:
        return await SqlExecutionStore(self.processes[0].db).events("acme", execution_id, after=0, limit=10_000)


BOUNDS = Bounds(running=100, running_per_tenant=0, queued=100, queued_per_tenant=0)
TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
