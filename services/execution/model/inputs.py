"""What a run asks of people and callers, and what they answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from libs import errors
from services.execution.model.events import Event, Source
from services.execution.model.workflows import Wait

Question = Mapping[str, Any]
"""An InputRequest in its JSON form, with proto field names."""


class Kind(StrEnum):
    """Of questions; the names are those of InputRequest's oneof."""

    APPROVAL = "approval"
    USER_INPUT = "user_input"
    EXTERNAL_TOOL = "external_tool"
    STEP_APPROVAL = "step_approval"


@dataclass(frozen=True, slots=True)
class InputAnswer:
    input_id: str
    kind: Kind
    value: Mapping[str, Any] = field(default_factory=dict)
    """ToolDecision, UserInputAnswer or ExternalToolResult in its JSON form."""
    subject: str = ""
    """Who gave it, once it is taken."""
    time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Answering:
    """Answers of one caller, given at once."""

    answers: Sequence[InputAnswer]
    subject: str
    request_id: str = ""


def due(waiting: Mapping[str, Any], answered: Collection[str] = ()) -> datetime:
    """When something becomes of the wait by itself: it ends, or a question that is open is answered with a no."""
    open_ones = [one for one in waiting["requests"] if one["input_id"] not in answered]
    times = [waiting["expire_time"], *(one["expire_time"] for one in open_ones if "expire_time" in one)]
    woken = [waiting["until"]] if waiting.get("until") else []
    return min(map(datetime.fromisoformat, [*times, *woken]))


class InputNeeded(errors.FailedPrecondition):
    """A run can only go on with answers. No caller is told of it as an error."""

    def __init__(
        self,
        questions: Sequence[Question],
        announced: Sequence[tuple[Source, Event]],
        waits: Sequence[Wait] = (),
    ) -> None:
        """`announced` is said together with the questions. With `waits` it goes on without answers as well."""
        super().__init__("the run waits for input")
        self.questions, self.announced, self.waits = questions, announced, waits

    @classmethod
    def together(cls, needed: Sequence[InputNeeded]) -> InputNeeded:
        """All that parts of a run need which run side by side."""
        return cls(
            [question for one in needed for question in one.questions],
            [said for one in needed for said in one.announced],
            [wait for one in needed for wait in one.waits],
        )
