"""Steps side by side."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from libs import errors
from services.execution.model.inputs import InputNeeded
from services.execution.model.workflows import Parallel, Steps
from services.execution.service.workflows.engine import Absent, Fork, Place
from services.execution.service.workflows.failures import Undo, is_failure

if TYPE_CHECKING:
    from services.execution.service.workflows.interpreter import Frame, Interpreter


async def run(interpreter: Interpreter, deed: Parallel, given: Any, frame: Frame, place: Place) -> Any:
    together = _Together(interpreter, deed, [frame.beside(place, given) for _ in deed.branches])
    try:
        await (together.recalled() if place.recalling else together.run(place))
    finally:
        for inner in together.frames:
            frame.view.steps |= inner.changes()
            frame.done += inner.done
    return together.output()


class _Together:
    def __init__(self, interpreter: Interpreter, deed: Parallel, frames: list[Frame]) -> None:
        self.frames = frames
        self._interpreter, self._deed = interpreter, deed
        self._next = deque(enumerate(deed.branches))
        self._failed: dict[int, errors.Error] = {}
        self._needed: list[InputNeeded] = []

    async def recalled(self) -> None:
        """One after the other: nothing is done any more."""
        ended: list[BaseException] = []
        for number, steps in self._next:
            try:
                await self._branch(number, steps)
            except (Absent, Undo, errors.Error) as end:
                ended.append(end)
        if ended:
            raise min(ended, key=_weight)

    async def run(self, place: Place) -> None:
        fork = place.fork(min(self._deed.at_once, len(self._deed.branches)))
        with fork.joined():
            workers = [asyncio.create_task(self._work(fork)) for _ in range(min(self._deed.at_once, len(self.frames)))]
            try:
                await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
            finally:
                for worker in workers:
                    worker.cancel()
                ended = await asyncio.gather(*workers, return_exceptions=True)
        if failed := [end for end in ended if end is not None and not isinstance(end, asyncio.CancelledError)]:
            raise min(failed, key=_weight)
        if self._needed:
            raise InputNeeded.together(self._needed)

    async def _work(self, fork: Fork) -> None:
        with fork.branch():
            while self._next:
                try:
                    await self._branch(*self._next.popleft())
                except InputNeeded as needed:
                    self._needed.append(needed)  # the others go on

    async def _branch(self, number: int, steps: Steps) -> None:
        try:
            await self._interpreter.steps(steps, self.frames[number])
        except errors.Error as error:
            if not self._deed.collect or not is_failure(error):
                raise
            self._failed[number] = error

    def output(self) -> Any:
        """The output of each branch's last step; where failures are collected, with them."""
        outputs = [None if number in self._failed else inner.view.last for number, inner in enumerate(self.frames)]
        if not self._deed.collect:
            return outputs
        failures = [_told(number, error) for number, error in sorted(self._failed.items())]
        return {"outputs": outputs, "failures": failures}


def _told(branch: int, error: errors.Error) -> dict[str, Any]:
    step_id = error.metadata.get("step_id", "")
    return {"branch": branch, "step_id": step_id, "reason": error.reason_code, "message": error.message}


def _weight(end: BaseException) -> int:
    """What ends the run comes before what asks for undoing, and that before a step's failure."""
    if isinstance(end, errors.Error) and is_failure(end):
        return 2
    return 1 if isinstance(end, Undo) else 3 if isinstance(end, Absent) else 0
