"""Whatever can run: agents, teams and workflows, whole or as parts of each other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Protocol

from libs import deadline, errors
from services.execution.model.acts import TargetRun
from services.execution.model.events import MemberCompleted, MemberStarted
from services.execution.model.inputs import InputNeeded
from services.execution.model.journal import Step, StepKind
from services.execution.model.targets import NOT_RUN_YET, Agent, Pinned, Target, TargetKind
from services.execution.model.turns import Answer, Part, Work
from services.execution.service.journal import Journal
from services.execution.service.observing import NOBODY, Observer
from services.execution.service.outputs import Unfit
from services.execution.service.tools import digest

_OF_THE_RUN: Final = ("JOURNAL_MISMATCH", "TOOL_CALL_IN_DOUBT", "EXECUTION_LOST", "DATABASE_UNAVAILABLE")
"""Reasons of errors that are not a member's: the run as a whole cannot go on."""


def is_of_the_run(error: errors.Error) -> bool:
    """Not a member's failure, but the end of the run as a whole."""
    return error.reason_code in _OF_THE_RUN


class Members(Protocol):
    async def member(self, work: Work, journal: Journal, name: str, part: Part) -> Answer:
        """Runs a part of a run; raises what it failed with. `name` as of Journal.part."""


class TargetRunner(Protocol):
    async def run(self, work: Work, journal: Journal, members: Members) -> Answer: ...


class Targets:
    def __init__(self, runners: Mapping[TargetKind, TargetRunner], observer: Observer = NOBODY) -> None:
        self._runners, self._observer = runners, observer

    def require_runnable(self, pinned: Pinned) -> None:
        """Better no run than one that leaves out what its configuration says."""
        for part in pinned.parts.values():
            for name in NOT_RUN_YET if isinstance(part, Agent) else ():
                if name in part.spec:
                    raise errors.FailedPrecondition(
                        f"the agent has {name.replace('_', ' ')}, which this version cannot run",
                        metadata={"field": f"agent.spec.{name}"},
                    )
        if (kind := Target.of(pinned.target).kind) not in self._runners:
            raise errors.FailedPrecondition(f"this version cannot run a {kind.value}", metadata={"target": kind.value})

    async def run(self, work: Work, journal: Journal) -> Answer:
        runner = self._runners[Target.of(work.pinned.target).kind]
        if journal.retells:
            return await runner.run(work, journal, self)
        act = TargetRun(work)
        async with self._observer.seen(act):
            answer = act.answer = await runner.run(work, journal, self)
        return answer

    async def member(self, work: Work, journal: Journal, name: str, part: Part) -> Answer:
        """Start and end are journaled: they are said once, and a member that has ended is not run again."""
        inner = work.part(part)
        own = journal.part(name, Target.of(part.key).target_id)
        step = Step(0, StepKind.MEMBER, part.key, digest([part.text, part.output_schema]), datetime.now(UTC))
        began = _began(inner)
        known = await own.begin(step, began)
        if known is not None:
            own.again(began)
            if not own.retells:
                return _recalled(work, known)
        started = time.perf_counter()
        try:
            with deadline.within(part.seconds):
                answer = await self._bounded(inner, own, part)
        except InputNeeded:
            raise
        except errors.Error as error:
            if is_of_the_run(error):
                raise
            await self._end(own, step, known, _failed(inner, error, time.perf_counter() - started))
            raise
        await self._end(own, step, known, _completed(inner, answer, time.perf_counter() - started))
        return answer

    async def _bounded(self, work: Work, journal: Journal, part: Part) -> Answer:
        try:
            async with asyncio.timeout(part.seconds) as limit:
                return await self.run(work, journal)
        except Unfit as unfit:
            raise unfit.error() from None
        except TimeoutError:
            if not limit.expired():
                raise
            raise errors.DeadlineExceeded(
                f"{part.key} has not answered within {part.seconds:g} s", metadata={"member": part.key}
            ) from None

    async def _end(self, journal: Journal, step: Step, known: Step | None, said: MemberCompleted) -> None:
        if known is not None:
            journal.again(said)
        else:
            await journal.complete(step, said.to_dict(), said, is_error=said.error is not None)


def _began(work: Work) -> MemberStarted:
    whole, target = work.pinned.whole, work.request.target
    return MemberStarted(whole.revision, work.request.input, **{f"{target.kind.value}_id": target.target_id})


def _completed(work: Work, answer: Answer, seconds: float) -> MemberCompleted:
    return MemberCompleted(answer.output, answer.structured_output, work.usage.to_dict(), seconds)


def _failed(work: Work, error: errors.Error, seconds: float) -> MemberCompleted:
    return MemberCompleted("", None, work.usage.to_dict(), seconds, errors.to_dict(error))


def _recalled(work: Work, step: Step) -> Answer:
    assert step.result is not None
    said = MemberCompleted(**step.result)
    work.meter.count(said.usage)
    if said.error is not None:
        raise errors.from_dict(said.error)
    return Answer(said.output, said.structured_output)
