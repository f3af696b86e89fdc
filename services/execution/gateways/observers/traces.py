"""Spans of runs: one for the agent, one for each model turn and tool call; none for what is said in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from libs import identity, semantics, telemetry
from services.execution.gateways.observers.reasons import WAITS, reason_of
from services.execution.model.acts import Act, ModelTurn, TargetRun, ToolUse
from services.execution.model.events import Event
from services.execution.model.executions import Execution
from services.execution.model.targets import TargetKind

_OPERATIONS: Final = {
    TargetKind.AGENT: "invoke_agent",
    TargetKind.TEAM: "invoke_team",
    TargetKind.WORKFLOW: "invoke_workflow",
}


class Traces:
    def __init__(self, provider: TracerProvider, *, payloads: bool) -> None:
        self._tracer, self._payloads = provider.get_tracer(__name__), payloads

    def origin(self) -> str:
        return telemetry.traceparent()

    @asynccontextmanager
    async def seen(self, act: Act) -> AsyncIterator[None]:
        name, kind = _name(act)
        # How it went is said below, without the texts of what went wrong.
        with self._tracer.start_as_current_span(
            name,
            context=_parent(act),
            kind=kind,
            attributes=_attributes(act),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                _failed(span, error)
                raise
            finally:
                if span.is_recording():
                    span.set_attributes(_outcome(act))
                    if self._payloads:
                        span.set_attributes(_payload(act))
            if isinstance(act, ToolUse) and act.result and act.result.is_error:
                span.set_status(Status(StatusCode.ERROR, "the tool says so"))

    def ended(self, execution: Execution, outcome: Event) -> None:
        """The span of the agent says it."""


def _parent(act: Act) -> Context | None:
    """A run that is taken up goes on with the trace of the call that it came with; None is the current span."""
    if isinstance(act, TargetRun) and act.work.origin and not trace.get_current_span().get_span_context().is_valid:
        return telemetry.context_of(act.work.origin)
    return None


def _name(act: Act) -> tuple[str, SpanKind]:
    match act:
        case TargetRun(work):
            return f"{_OPERATIONS[work.request.target.kind]} {work.request.target.target_id}", SpanKind.INTERNAL
        case ModelTurn(call):
            return f"chat {call.model}", SpanKind.CLIENT
        case ToolUse(tool):
            return f"execute_tool {tool.function_name}", SpanKind.INTERNAL


def _attributes(act: Act) -> semantics.Attributes:
    match act:
        case TargetRun(work):
            asked = work.request
            return semantics.agent(
                _OPERATIONS[asked.target.kind],
                asked.target.target_id,
                work.pinned.whole.revision,
                work.execution_id,
                session_id=asked.session_id,
                user_id=asked.user_id,
                tenant=identity.current().tenant,
            )
        case ModelTurn(call):
            said = semantics.chat(call.model, settings=call.settings, tools=len(call.tools))
            return said | {semantics.EXECUTION: call.execution_id}
        case ToolUse(tool):
            return semantics.tool(tool.tool_id, tool.function_name, tool.description)


def _outcome(act: Act) -> semantics.Attributes:
    match act:
        case TargetRun(work):
            return {f"dynamic_agents.usage.{name}": value for name, value in work.usage.to_dict().items()}
        case ModelTurn(said=said, first_piece=first):
            begun = semantics.first_piece(first) if first is not None else {}
            if said.usage is None:
                return begun
            usage = asdict(said.usage)
            del usage["offline"]
            return begun | semantics.answered(usage.pop("model"), **usage)
        case ToolUse():
            return {}


def _payload(act: Act) -> semantics.Attributes:
    match act:
        case TargetRun(work, answer):
            return semantics.text("input", work.request.input) | (
                semantics.text("output", answer.output) if answer else {}
            )
        case ModelTurn(call):
            answer_: dict[str, Any] = {"role": "assistant", "content": act.text, "tool_calls": _calls(act)}
            return (
                semantics.messages("input", call.messages)
                | semantics.messages("output", [answer_])
                | semantics.text("input", str(call.messages[-1].get("content") or ""))
                | semantics.text("output", act.text)
            )
        case ToolUse(_, arguments, result):
            return semantics.data("input", dict(arguments)) | (
                semantics.text("output", result.output) if result else {}
            )


def _calls(turn: ModelTurn) -> list[dict[str, Any]]:
    return [
        {"id": call.call_id, "function": {"name": call.name, "arguments": call.arguments}}
        for call in turn.said.tool_calls
    ]


def _failed(span: Span, error: BaseException) -> None:
    reason = reason_of(error)
    span.set_attribute(semantics.REASON, reason)
    if reason != WAITS:
        span.set_status(Status(StatusCode.ERROR, reason))
