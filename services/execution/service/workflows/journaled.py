"""The engine of the suite's own: the journal of the run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from libs import errors, identity
from services.execution.model.events import (
    Event,
    ExecutionCancelled,
    SignalReceived,
    StepCompleted,
    StepStarted,
    WaitStarted,
)
from services.execution.model.executions import Execution
from services.execution.model.inputs import InputNeeded, Kind
from services.execution.model.journal import Step, StepKind
from services.execution.model.targets import Target
from services.execution.model.turns import Answer, Part, Work
from services.execution.model.workflows import Signal, Wait
from services.execution.service.journal import Journal
from services.execution.service.targets import Members
from services.execution.service.workflows.engine import Absent, Interpreted, SignalStore
from services.execution.service.workflows.lobby import Branches, Lobby
from services.execution.service.workflows.toolbox import Toolbox

_END, _DEED, _WAIT, _RETRY, _SAID = 1, 2, 3, 4, 5
"""Numbers of what is kept of a step, in its scope."""


@dataclass
class _Mail:
    """The signals of a run, as far as they are known here, and those that were taken."""

    store: SignalStore
    execution: tuple[str, str]
    taken: set[int]
    known: list[Signal] = field(default_factory=list)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def seen(self) -> int:
        return self.known[-1].number if self.known else 0

    async def take(self, name: str) -> Signal | None:
        """The oldest one of that name which nobody has taken. A database that does not answer has none for now."""
        async with self._reading:
            with contextlib.suppress(errors.Unavailable):
                self.known.extend(await self.store.signals(*self.execution, self.seen))
        for signal in self.known:
            if signal.name == name and signal.number not in self.taken:
                self.taken.add(signal.number)
                return signal
        return None


@dataclass(frozen=True)
class _Shared:
    """What all workflows of one execution share, those within each other too."""

    lobby: Lobby
    mail: _Mail


_shared: ContextVar[_Shared] = ContextVar("shared by the workflows of an execution")


class JournalEngine:
    def __init__(self, signals: SignalStore, *, held: float) -> None:
        """Waits of at most `held` seconds hold their process."""
        self._signals, self._held = signals, held

    async def start(
        self, work: Work, journal: Journal, members: Members, toolbox: Toolbox, interpreted: Interpreted
    ) -> Any:
        shared = _shared.get(None)
        if shared is None or shared.mail.execution[1] != work.execution_id:
            taken = {step.result["number"] for step in journal.made(StepKind.SIGNAL) if step.result}
            mail = _Mail(self._signals, (identity.current().tenant, work.execution_id), taken)
            _shared.set(shared := _Shared(Lobby(journal.now), mail))
        return await interpreted(JournalPlace(journal, work, members, toolbox, shared, self._held))

    async def signal(self, execution: Execution, signal: Signal) -> bool:
        return await self._signals.signal(execution.tenant, execution.execution_id, signal)

    async def cancel(self, execution: Execution, event: ExecutionCancelled) -> bool:
        return await self._signals.end(execution.tenant, execution.execution_id, event)


@dataclass
class JournalPlace:
    journal: Journal
    work: Work
    members: Members
    toolbox: Toolbox
    shared: _Shared
    held: float
    recalling: bool = False
    _begun: Step | None = None
    _has_ended: bool = False

    @property
    def retells(self) -> bool:
        return self.journal.retells

    def at(self, name: str, step_id: str) -> JournalPlace:
        return replace(self, journal=self.journal.part(name, step_id), _begun=None, _has_ended=False)

    def recall(self) -> JournalPlace:
        return self if self.retells else replace(self, recalling=True)

    def live(self) -> JournalPlace:
        return replace(self, recalling=False)

    def fork(self, count: int) -> Branches:
        return self.shared.lobby.fork(count)

    def _require(self, known: Step | None) -> None:
        if known is None or known.end_time is None:
            raise Absent

    async def step(self, started: StepStarted) -> StepCompleted | None:
        self._begun = Step(_END, StepKind.STEP, started.step_id, "", datetime.now(UTC))
        if self.recalling:
            self._require(self.journal.known(_END))
        known = await self.journal.begin(self._begun, started)
        if known is None:
            return None
        assert known.result is not None
        self._has_ended = True
        self.journal.again(started)
        return StepCompleted(**known.result)

    async def ended(self, completed: StepCompleted) -> None:
        if self._has_ended:
            self.journal.again(completed)
            return
        assert self._begun is not None
        is_error = completed.error is not None
        await self.journal.complete(self._begun, completed.to_dict(), completed, is_error=is_error)
        await self.journal.room()

    async def said(self, event: Event) -> None:
        step = Step(_SAID, StepKind.STEP, event.kind, "", datetime.now(UTC))
        if await self.journal.begin(step) is None:
            await self.journal.complete(step, {}, event)
        else:
            self.journal.again(event)

    async def member(self, key: str, text: str, seconds: float | None, schema: Mapping[str, Any] | None) -> Answer:
        if self.recalling:
            self._require(self.journal.part("member", Target.of(key).target_id).known(0))
        part = Part(key, text, seconds=seconds, output_schema=schema)
        return await self.members.member(self.work, self.journal, "member", part)

    async def call(self, tool_id: str, arguments: Mapping[str, Any]) -> Any:
        if self.recalling:
            self._require(self.journal.known(_DEED))
        return await self.toolbox.call(self.work, self.journal, _DEED, tool_id, arguments)

    async def after(self, seconds: float) -> datetime:
        begun = self.journal.known(_END) or self._begun
        assert begun is not None
        return begun.start_time + timedelta(seconds=seconds)

    async def pause(self, seconds: float) -> None:
        if self.recalling:
            self._require(self.journal.known(_RETRY))
            return
        step = Step(_RETRY, StepKind.WAIT, "retry", "", self.journal.now())
        begun = self.journal.known(_RETRY) or step
        if await self.journal.begin(step) is None:
            await self._until(begun.start_time + timedelta(seconds=seconds))
            await self.journal.complete(step, {})

    async def timer(self, until: datetime) -> None:
        step = Step(_WAIT, StepKind.WAIT, "timer", "", self.journal.now())
        started = WaitStarted(until.isoformat(), "")
        if await self.journal.begin(step, started) is not None:
            self.journal.again(started)
            return
        await self._until(until)
        await self.journal.complete(step, {})

    async def _until(self, until: datetime) -> None:
        left = (until - self.journal.now()).total_seconds()
        if left <= 0:
            return
        if left <= self.held:
            await asyncio.sleep(left)
        elif not await self.shared.lobby.wait(until):
            raise InputNeeded([], [], [Wait(until)])

    async def signal(self, name: str, until: datetime | None) -> Signal | None:
        step = Step(_WAIT, StepKind.SIGNAL, name, "", self.journal.now())
        started = WaitStarted(until.isoformat() if until else None, name)
        if (known := await self.journal.begin(step, started)) is not None:
            self.journal.again(started)
            kept = known.result or {}
            signal = Signal(**kept) if kept else None
            if signal is not None:
                self.journal.again(_received(signal))
            return signal
        signal = await self._come(name, until)
        if signal is None:
            await self.journal.complete(step, {})
        else:
            await self.journal.complete(step, asdict(signal), _received(signal))
        return signal

    async def _come(self, name: str, until: datetime | None) -> Signal | None:
        mail = self.shared.mail
        if (signal := await mail.take(name)) is not None:
            return signal

        async def came() -> bool:
            nonlocal signal
            signal = await mail.take(name)
            return signal is not None

        if until is not None and until <= self.journal.now():
            return None
        if not await self.shared.lobby.wait(until, came):
            raise InputNeeded([], [], [Wait(until, name, mail.seen)])
        return signal

    async def approval(self, step_id: str, question: str, until: datetime | None) -> Mapping[str, Any] | None:
        step = Step(_WAIT, StepKind.WAIT, "approval", "", self.journal.now())
        if (known := await self.journal.begin(step)) is not None:
            return known.result or None
        answer = self.journal.answer(step_id)
        if answer is not None:
            value = {"approved": bool(answer.value.get("approved")), "note": answer.value.get("note", "")}
        elif until is not None and until <= self.journal.now():
            value = {}
        else:
            asked = {"step_id": step_id, "question": question, **({"expire_time": _json(until)} if until else {})}
            question_id = self.journal.input_id(step_id)
            waits = [Wait(until)] if until else []
            raise InputNeeded([{"input_id": question_id, Kind.STEP_APPROVAL.value: asked}], [], waits)
        await self.journal.complete(step, value)
        return value or None


def _json(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def _received(signal: Signal) -> SignalReceived:
    return SignalReceived(signal.name, signal.signal_id, signal.payload, signal.subject)
