"""Tools that are a part of the run itself, seen by its observers."""

from __future__ import annotations

from collections.abc import Sequence

from libs import errors
from services.execution.model.acts import ToolUse
from services.execution.model.events import Event
from services.execution.model.sessions import Message
from services.execution.model.tools import ToolResult
from services.execution.model.turns import Answer
from services.execution.service.inner import InnerCall, InnerTools
from services.execution.service.observing import VETOED, Observer


class ObservedInner:
    def __init__(self, inner: InnerTools, observer: Observer) -> None:
        self._inner, self._observer = inner, observer
        self.bound = inner.bound

    async def call(self, call: InnerCall) -> tuple[ToolResult, Sequence[Event]]:
        use = ToolUse(call.bound.tool, call.arguments)
        try:
            async with self._observer.seen(use):
                result, changes = await self._inner.call(call)
                use.result = result
        except errors.FailedPrecondition as refused:
            if refused.reason_code != VETOED:
                raise
            return ToolResult(refused.message, is_error=True), ()
        return result, changes

    async def recall(self, call: InnerCall, result: ToolResult) -> Sequence[Event]:
        return await self._inner.recall(call, result)

    @property
    def ends(self) -> bool:
        return self._inner.ends

    async def answer(self, messages: Sequence[Message]) -> Answer:
        return await self._inner.answer(messages)
