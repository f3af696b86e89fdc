"""What the steps of each kind do."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from libs import errors
from services.execution.model.workflows import (
    Approval,
    Condition,
    Function,
    Loop,
    Member,
    Parallel,
    Pause,
    Router,
    Steps,
    WorkflowStep,
)
from services.execution.service.workflows import branches
from services.execution.service.workflows.engine import Place
from services.execution.service.workflows.expressions import View, evaluate, moment, truth, words
from services.execution.service.workflows.failures import late
from services.execution.service.workflows.values import as_text

if TYPE_CHECKING:
    from services.execution.service.workflows.interpreter import Frame, Interpreter


class Deeds:
    def __init__(self, interpreter: Interpreter) -> None:
        self._interpreter = interpreter

    async def do(self, step: WorkflowStep, frame: Frame, place: Place) -> Any:
        """What the step gives."""
        view = frame.view
        given = evaluate(step.input, view) if step.input else view.last
        match step.deed:
            case Member() as deed:
                return await self._member(deed, step, given, place)
            case Function() as deed:
                return await self._call(deed, step, given, view, place)
            case Parallel() as deed:
                return await branches.run(self._interpreter, deed, given, frame, place)
            case Condition() as deed:
                chosen = deed.then if truth(deed.condition, view) else deed.otherwise
                return await self._nested(chosen, given, frame, place)
            case Router() as deed:
                return await self._nested(_choice(deed, words(deed.selector, view)), given, frame, place)
            case Loop() as deed:
                return await self._loop(deed, given, frame, place)
            case Approval() as deed:
                return await self._approval(deed, step, view, place)
            case Pause() as deed:
                return await self._pause(deed, step, given, view, place)

    async def _member(self, deed: Member, step: WorkflowStep, given: Any, place: Place) -> Any:
        schema = step.output_schema
        asked = schema if schema is not None and schema.get("type") == "object" and deed.kind != "workflow" else None
        answer = await place.member(deed.key, as_text(given), step.timeout, asked)
        return answer.output if answer.structured_output is None else answer.structured_output

    async def _call(self, deed: Function, step: WorkflowStep, given: Any, view: View, place: Place) -> Any:
        arguments = {name: evaluate(text, view) for name, text in deed.arguments.items()}
        if not deed.arguments and step.input and isinstance(given, dict):
            arguments = given
        return await place.call(deed.tool_id, arguments)

    async def _nested(self, steps: Steps, given: Any, frame: Frame, place: Place) -> Any:
        """Steps of the same list, as it were: what they give is seen after them. No steps hand on what they got."""
        before, frame.view.last = frame.view.last, given
        inner = frame.within(place)
        try:
            await self._interpreter.steps(steps, inner)
            return frame.view.last
        finally:
            frame.view.last = before

    async def _loop(self, deed: Loop, given: Any, frame: Frame, place: Place) -> Any:
        view, outer = frame.view, (frame.view.last, frame.view.iteration)
        view.last = given
        try:
            for view.iteration in range(1, deed.max_iterations + 1):
                await self._interpreter.steps(deed.body, frame.within(place, f"[{view.iteration}]"))
                if deed.until and truth(deed.until, view):
                    break
            return view.last
        finally:
            view.last, view.iteration = outer

    async def _approval(self, deed: Approval, step: WorkflowStep, view: View, place: Place) -> Any:
        until = await place.after(deed.expires_after) if deed.expires_after else None
        bound = await place.after(step.timeout) if step.timeout else None
        decided = await place.approval(step.step_id, words(deed.question, view), _first(until, bound))
        if decided is not None:
            return {**decided, "expired": False}
        if until is None or (bound is not None and bound < until):
            raise late(step.timeout or 0.0)
        return {"approved": False, "note": "", "expired": True}

    async def _pause(self, deed: Pause, step: WorkflowStep, given: Any, view: View, place: Place) -> Any:
        bound = await place.after(step.timeout) if step.timeout else None
        if deed.signal:
            signal = await place.signal(deed.signal, bound)
            if signal is None:
                raise late(step.timeout or 0.0)
            return signal.payload
        until = moment(deed.time, view) if deed.time else await place.after(deed.delay or 0.0)
        if bound is not None and bound < until:
            await place.timer(bound)
            raise late(step.timeout or 0.0)
        await place.timer(until)
        return given


def _choice(router: Router, name: str) -> Steps:
    for chosen in (name, router.default):
        if chosen in router.choices:
            return router.choices[chosen]
    raise errors.FailedPrecondition(
        f"there is no choice {name[:200]!r}", reason="CHOICE_UNKNOWN", metadata={"choice": name[:200]}
    )


def _first(*times: datetime | None) -> datetime | None:
    return min((time for time in times if time is not None), default=None)
