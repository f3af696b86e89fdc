"""Runs the steps of a workflow. It may begin anew at any time: what its place knows is done is not done again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from libs import deadline, errors
from services.execution.model.events import StepCompleted, StepStarted
from services.execution.model.workflows import Approval, Member, OnError, Outcome, Pause, Plan, WorkflowStep
from services.execution.service.workflows.deeds import Deeds
from services.execution.service.workflows.engine import Absent, Place
from services.execution.service.workflows.expressions import View, evaluate
from services.execution.service.workflows.failures import (
    Undo,
    is_failure,
    late,
    may_be_tried_again,
    not_undone,
    of_step,
)
from services.execution.service.workflows.values import fitting


@dataclass(frozen=True, slots=True)
class Done:
    """A step that is done and can be undone: where, and what it gave."""

    step: WorkflowStep
    frame: Frame
    place: Place
    output: Any
    iteration: int


@dataclass(slots=True)
class Frame:
    """A list of steps under way."""

    place: Place
    view: View
    done: list[Done] = field(default_factory=list)
    suffix: str = ""
    """Tells the rounds of a loop apart."""
    before: Mapping[str, Any] = field(default_factory=dict)
    """What had been there when steps beside others began."""

    def within(self, place: Place, suffix: str = "") -> Frame:
        """For steps that are seen as if they stood in this list."""
        return Frame(place, self.view, self.done, suffix)

    def beside(self, place: Place, given: Any) -> Frame:
        """For steps that run beside others."""
        view = self.view.apart()
        view.last = given
        return Frame(place, view, before=dict(view.steps))

    def changes(self) -> dict[str, Any]:
        return {
            name: output
            for name, output in self.view.steps.items()
            if name not in self.before or self.before[name] is not output
        }


class Interpreter:
    def __init__(self, limit: int) -> None:
        """Outputs have `limit` bytes at most."""
        self._limit = limit
        self._deeds = Deeds(self)

    async def run(self, plan: Plan, view: View, place: Place, schema: Mapping[str, Any] | None = None) -> Any:
        """The workflow's output, as the schema wants it; raises what it failed with."""
        frame = Frame(place, view)
        try:
            await self.steps(plan.steps, frame)
        except Undo as undo:
            if left := await self._undone(frame):
                raise not_undone(undo.error, left) from None
            raise undo.error from None
        return fitting(evaluate(plan.output, view) if plan.output else view.last, schema, self._limit)

    async def steps(self, steps: Sequence[WorkflowStep], frame: Frame) -> None:
        for step in steps:
            await self.step(step, frame)

    async def step(self, step: WorkflowStep, frame: Frame) -> bool:
        """Whether it has given an output; raises what it failed with where that matters."""
        place, ended = await self._tried(step, frame)
        if ended.outcome == Outcome.COMPLETED:
            self._settle(step, frame, ended.output)
            if step.compensation is not None:
                frame.done.append(Done(step, frame, place, ended.output, frame.view.iteration))
            return True
        assert ended.error is not None
        error = errors.from_dict(ended.error)
        match step.on_error:
            case OnError.FALLBACK if step.fallback is not None:
                if settled := await self.step(step.fallback, frame):
                    self._settle(step, frame, frame.view.last)
                return settled
            case OnError.COMPENSATE:
                raise Undo(error)
            case OnError.SKIP:
                return False
        raise error

    def _settle(self, step: WorkflowStep, frame: Frame, output: Any) -> None:
        frame.view.steps[step.step_id] = frame.view.last = output

    async def _tried(self, step: WorkflowStep, frame: Frame) -> tuple[Place, StepCompleted]:
        for attempt in count(1):
            name = f"{step.step_id}{frame.suffix}" + (f"~{attempt}" if attempt > 1 else "")
            place = frame.place.at(name, step.step_id)
            ended = await self._attempt(step, frame, place, attempt)
            if ended.outcome != Outcome.FAILED or not self._goes_on(step, ended.error, attempt):
                return place, ended
            await place.pause(step.retry.delay(attempt))
        raise AssertionError

    def _goes_on(self, step: WorkflowStep, error: dict[str, Any] | None, attempt: int) -> bool:
        return attempt < step.retry.attempts and error is not None and may_be_tried_again(error)

    async def _attempt(self, step: WorkflowStep, frame: Frame, place: Place, attempt: int) -> StepCompleted:
        iteration = frame.view.iteration
        known = await place.step(StepStarted(step.step_id, step.deed.kind, attempt, iteration))
        if known is not None:
            await self._looked_through(step, frame, place, known)
            return known
        undo = None
        try:
            output = await self._in_time(step, frame, place)
            ended = StepCompleted(step.step_id, Outcome.COMPLETED, output, None, attempt, iteration)
        except Undo as inner:
            undo = inner
            error = of_step(inner.error, step.step_id)
            ended = StepCompleted(step.step_id, Outcome.FAILED, None, error, attempt, iteration)
        except errors.Error as failure:
            if not is_failure(failure):
                raise
            ended = self._failed(step, of_step(failure, step.step_id), attempt, iteration)
        await place.ended(ended)
        if undo is not None:
            raise undo
        return ended

    def _failed(self, step: WorkflowStep, error: dict[str, Any], attempt: int, iteration: int) -> StepCompleted:
        skipped = step.on_error is OnError.SKIP and not self._goes_on(step, error, attempt)
        outcome = Outcome.SKIPPED if skipped else Outcome.FAILED
        return StepCompleted(step.step_id, outcome, None, error, attempt, iteration)

    async def _looked_through(self, step: WorkflowStep, frame: Frame, place: Place, known: StepCompleted) -> None:
        """What is within a step that has ended is gone through once more, for what it has taken and for what it leaves
        to later steps.
        """
        if isinstance(step.deed, Pause | Approval) and not place.retells:
            return
        try:
            await self._deeds.do(step, frame, place.recall())
        except Absent:
            pass
        except Undo:
            await place.ended(known)
            raise
        except errors.Error as error:
            if not place.retells and (known.error is None or not is_failure(error)):
                raise
        await place.ended(known)

    async def _in_time(self, step: WorkflowStep, frame: Frame, place: Place) -> Any:
        """Those that wait, or run a member, mind the time themselves."""
        if step.timeout is None or isinstance(step.deed, Pause | Approval | Member):
            output = await self._deeds.do(step, frame, place)
            return fitting(output, step.output_schema, self._limit)
        try:
            with deadline.within(step.timeout):
                async with asyncio.timeout(step.timeout) as bound:
                    output = await self._deeds.do(step, frame, place)
        except TimeoutError:
            if not bound.expired():
                raise
            raise late(step.timeout) from None
        return fitting(output, step.output_schema, self._limit)

    async def _undone(self, frame: Frame) -> list[str]:
        """Undoes what is done, the last first; gives the steps that could not be."""
        left = []
        for done in reversed(frame.done):
            if not await self._undo(done, frame.view):
                left.append(done.step.step_id)
        return left

    async def _undo(self, done: Done, view: View) -> bool:
        step, within = done.step, done.frame
        assert step.compensation is not None
        seen = View(view.input, view.state, {**view.steps, step.step_id: done.output}, done.output, done.iteration)
        try:
            await self.step(step.compensation, Frame(within.place.live(), seen, suffix=within.suffix))
        except Undo:
            return False
        except errors.Error as error:
            if not is_failure(error):
                raise
            return False
        await done.place.said(StepCompleted(step.step_id, Outcome.COMPENSATED, None, None, 1, done.iteration))
        return True
