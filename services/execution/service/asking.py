"""Asking the members of a run, for its model."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from libs import deadline, errors
from services.execution.model.events import Event, Source
from services.execution.model.inputs import InputNeeded, Question
from services.execution.model.targets import Target, TargetKind
from services.execution.model.tools import ToolResult
from services.execution.model.turns import Answer, Part, Work
from services.execution.service.journal import Journal
from services.execution.service.targets import Members, is_of_the_run
from services.execution.service.tools import RESULT_LIMIT, clipped

T = TypeVar("T")
_SHARE: Final = 0.9
"""Of the time that is left, what a member may take: whoever asked it must still be able to say that it failed."""


def place(target: Target, number: int) -> str:
    """The name of a member's place in the journal of whoever asks it in the step of that number."""
    kind = "" if target.kind is TargetKind.AGENT else f"~{target.kind}"
    return f"{target.target_id}{kind}.{number}"


@dataclass(frozen=True, slots=True)
class Asking:
    work: Work
    journal: Journal
    members: Members

    async def run(self, name: str, part: Part) -> Answer:
        return await self.members.member(self.work, self.journal, name, part)

    async def ask(
        self,
        key: str,
        text: str,
        number: int,
        *,
        output_schema: Mapping[str, Any] | None = None,
        history: Sequence[Mapping[str, Any]] = (),
        media: Sequence[Mapping[str, str]] = (),
    ) -> ToolResult:
        """A member's whole answer, or why it has none, for the model that asked."""
        target = Target.of(key)
        left = deadline.remaining()
        seconds = None if left is None else left * _SHARE
        part = Part(key, text, seconds, output_schema=output_schema, history=tuple(history), media=tuple(media))
        try:
            answer = await self.run(place(target, number), part)
        except InputNeeded:
            raise
        except errors.Error as error:
            if is_of_the_run(error):
                raise
            return ToolResult(f"{target.target_id} failed: {error.message}", is_error=True)
        return ToolResult(answer.output)


def brief(result: ToolResult) -> ToolResult:
    """Of a length that a model can be told."""
    return replace(result, output=clipped(result.output, RESULT_LIMIT))


async def side_by_side(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Does all of it; what needs input waits until the rest is done, and then asks as one."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.wait(tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # nobody works on after the run has ended
    questions: list[Question] = []
    announced: list[tuple[Source, Event]] = []
    for failure in (task.exception() for task in tasks):
        if isinstance(failure, InputNeeded):
            questions += failure.questions
            announced += failure.announced
        elif failure is not None:
            raise failure
    if questions:
        raise InputNeeded(questions, announced)
    return [task.result() for task in tasks]
