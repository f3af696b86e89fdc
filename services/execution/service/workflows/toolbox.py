"""The tools that a workflow's steps call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from libs import errors
from services.execution.model.events import ToolCallCompleted, ToolCallProgress, ToolCallStarted
from services.execution.model.inputs import InputNeeded
from services.execution.model.journal import Step, StepKind
from services.execution.model.targets import Spec
from services.execution.model.tools import BoundTool, Progress, ToolResult
from services.execution.model.turns import Work
from services.execution.service.continuation import Permission, outcome, question, unaskable
from services.execution.service.journal import Journal
from services.execution.service.record import storable
from services.execution.service.sources import enter_key, progress_told
from services.execution.service.tools import digest
from services.execution.service.workflows.values import parsed

_LONGEST_WORD = 1000


class ToolCaller(Protocol):
    def bind(self, spec: Spec, functions: Sequence[Mapping[str, Any]] = ()) -> Sequence[BoundTool]: ...

    async def call(self, bound: BoundTool, arguments: Mapping[str, Any]) -> ToolResult: ...


class Toolbox:
    def __init__(self, caller: ToolCaller, bound: Sequence[BoundTool]) -> None:
        self._caller, self._bound = caller, {one.tool.tool_id: one for one in bound}

    async def call(self, work: Work, journal: Journal, number: int, tool_id: str, arguments: Mapping[str, Any]) -> Any:
        """What the tool says; as data where it has an output schema."""
        bound = self._bound[tool_id]
        arguments = storable(dict(arguments))
        result = await self._result(work, journal, number, bound, arguments)
        if result.is_error:
            raise errors.FailedPrecondition(
                f"the tool {tool_id} says: {result.output[:1000]}", reason="TOOL_FAILED", metadata={"tool_id": tool_id}
            )
        return result.output if bound.tool.output_schema is None else parsed(result.output)

    async def _result(
        self, work: Work, journal: Journal, number: int, bound: BoundTool, arguments: Mapping[str, Any]
    ) -> ToolResult:
        tool, call_id = bound.tool, journal.input_id("call")
        started = ToolCallStarted(call_id, tool.tool_id, dict(arguments))
        decided = self._decided(journal, bound, call_id, arguments, started)
        may_repeat = isinstance(decided, ToolResult) or tool.idempotent or tool.read_only or tool.takes_key
        asked, now = digest(arguments), datetime.now(UTC)
        step = Step(number, StepKind.TOOL, tool.tool_id, asked, now, call_id, repeatable=may_repeat)
        # A call that asked has said before that it begins.
        said = [] if bound.asks and journal.answer("call") is not None else [started]
        work.meter.tool_call()
        known = await journal.begin(step, *said)
        if known is not None:
            result = ToolResult(**known.result or {})
            journal.again(started)
            journal.again(_completed(call_id, tool.tool_id, result))
            return result
        if isinstance(decided, ToolResult):
            result = decided
        else:
            enter_key(f"{work.execution_id}/{journal.source.scope}/{number}/{call_id}")
            used = arguments if decided.arguments is None else decided.arguments
            with progress_told(lambda told: journal.emit(_progress(call_id, tool.tool_id, told))):
                result = decided.noted(await self._caller.call(bound, used))
        result = replace(result, output=storable(result.output))
        await journal.complete(
            step, asdict(result), _completed(call_id, tool.tool_id, result), is_error=result.is_error
        )
        return result

    def _decided(
        self,
        journal: Journal,
        bound: BoundTool,
        call_id: str,
        arguments: Mapping[str, Any],
        started: ToolCallStarted,
    ) -> ToolResult | Permission:
        """Whether the call may be made, or what it gives without being made."""
        if refused := unaskable(bound, arguments):
            return refused
        if bound.asks is None:
            return Permission()
        if (answer := journal.answer("call")) is None:
            raise InputNeeded([question(bound, call_id, arguments)], [(journal.source, started)])
        return outcome(answer)


def _completed(call_id: str, tool_id: str, result: ToolResult) -> ToolCallCompleted:
    return ToolCallCompleted(call_id, tool_id, result.output, result.is_error, result.duration)


def _progress(call_id: str, tool_id: str, told: Progress) -> ToolCallProgress:
    return ToolCallProgress(call_id, tool_id, told.progress, told.total, storable(told.message)[:_LONGEST_WORD])
