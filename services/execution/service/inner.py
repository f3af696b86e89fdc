"""Tools that are a part of the run itself: they change its state, or run others within it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from services.execution.model.events import Event
from services.execution.model.sessions import Message
from services.execution.model.tools import BoundTool, ToolResult
from services.execution.model.turns import Answer
from services.execution.service.tools import violations


@dataclass(frozen=True, slots=True)
class InnerCall:
    bound: BoundTool
    call_id: str
    arguments: Mapping[str, Any]
    number: int
    """Of the call's step: the same however often the run is taken up."""
    turn: int
    """Of the model's turns, the one that asks; calls of one turn are made side by side."""


class InnerTools(Protocol):
    """What they do is kept by the run's own journal, or can be done again without harm."""

    bound: tuple[BoundTool, ...]

    async def call(self, call: InnerCall) -> tuple[ToolResult, Sequence[Event]]:
        """What the tool says, and what the call has changed."""

    async def recall(self, call: InnerCall, result: ToolResult) -> Sequence[Event]:
        """Takes in a call that an earlier attempt at the run has made, and what it was told."""

    @property
    def ends(self) -> bool:
        """The model is not asked any more: the answer is `answer`'s."""

    async def answer(self, messages: Sequence[Message]) -> Answer:
        """The run's answer, after what was said so far."""


def refused(why: str) -> ToolResult:
    return ToolResult(why, is_error=True, refused=True)


class Inner:
    """Tools after which the model goes on, until a subclass says otherwise; a call is taken in by making it again."""

    bound: tuple[BoundTool, ...] = ()

    async def call(self, call: InnerCall) -> tuple[ToolResult, Sequence[Event]]:
        if problems := violations(call.bound.tool, call.arguments):
            return ToolResult("; ".join(f"{v.field}: {v.description}" for v in problems), is_error=True), ()
        return await self.do(call)

    async def do(self, call: InnerCall) -> tuple[ToolResult, Sequence[Event]]:
        """With arguments that fit."""
        raise NotImplementedError

    async def recall(self, call: InnerCall, result: ToolResult) -> Sequence[Event]:
        """Calls of one turn may come in another order than they did: what was refused then is not made now."""
        return () if result.refused else (await self.call(call))[1]

    @property
    def ends(self) -> bool:
        return False

    async def answer(self, messages: Sequence[Message]) -> Answer:
        raise NotImplementedError
