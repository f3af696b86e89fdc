"""Agno runs the agent: the loop of model turns and tool calls, and the prompt. All that it would keep, retry, log or
send elsewhere is switched off, and a fresh Agent is built for each run.

Events come from the two places where things happen, the model and the tools, rather than from Agno's own events: those
report a tool only when its slowest sibling is done, end a cancelled run with a completion, and lose an error's type.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import jsonschema
import referencing.exceptions

os.environ["AGNO_TELEMETRY"] = "false"

import agno.team  # noqa: F401  Agno imports it at the first tool call, for 130 ms, on the event loop
from agno.agent import Agent as AgnoAgent
from agno.exceptions import ModelProviderError
from agno.metrics import MessageMetrics
from agno.models.base import Model
from agno.models.message import Message
from agno.models.response import ModelResponse
from agno.tools.function import Function, FunctionCall

from libs import errors, ids
from services.execution.model import (
    DEFAULT_MODEL_CALLS,
    Agent,
    Answer,
    BoundTool,
    ContentDelta,
    Emit,
    Job,
    ModelCall,
    ModelPiece,
    ReasoningDelta,
    Tool,
    ToolCall,
    ToolCallCompleted,
    ToolCallStarted,
    ToolResult,
    Usage,
    UsageReported,
)
from services.execution.service.schemas import validator
from services.execution.service.tools import parse_object

for _name in ("agno", "agno-team", "agno-workflow"):
    logging.getLogger(_name).disabled = True  # it logs what users and models write, in a format of its own

_CALL: ContextVar[str] = ContextVar("tool call id")
_NOT_RETRIED: Final = 400
"""Agno neither retries nor falls back on this status: both are Router's affair."""


class Models(Protocol):
    def stream(self, call: ModelCall) -> AsyncGenerator[ModelPiece, None]: ...


class ToolCaller(Protocol):
    async def call(self, bound: BoundTool, arguments: Mapping[str, Any]) -> ToolResult: ...


class AgnoRunner:
    def __init__(self, models: Models, tools: ToolCaller) -> None:
        self._models, self._tools = models, tools

    async def run(self, job: Job, emit: Emit) -> Answer:
        turns = Turns(job, emit, self._models, self._tools)
        agent = build(job, RouterModel(id=_model_of(job.agent), turns=turns), turns)
        async for _ in agent.arun(
            job.input,
            stream=True,
            run_id=job.execution_id,
            session_id=job.session_id or job.execution_id,
            user_id=job.user_id or None,
        ):
            pass
        if turns.failure:
            raise turns.failure
        if not turns.finished:
            raise errors.Internal("internal error")
        return Answer(turns.text, _structured(job.agent, turns.text))

    async def warm_up(self) -> None:
        """Runs an agent with a tool once, so that the first caller does not pay for Agno's late imports."""
        tool = BoundTool(_WARM_TOOL, 1.0)
        agent = Agent("warm-up", 1, "", {"model": {"model": "warm-up"}})
        job = Job("warm-up", agent, "warm up", "", "", (tool,), Usage())
        await AgnoRunner(_WarmModels(), _WarmTools()).run(job, lambda _: None)


def build(job: Job, model: Model, turns: Turns) -> AgnoAgent:
    spec = job.agent.spec
    return AgnoAgent(
        model=model,
        id=job.agent.agent_id,
        name=job.agent.agent_id,
        session_id=job.session_id or job.execution_id,
        description=job.agent.description or None,
        instructions=list(spec.get("instructions", ())) or None,
        expected_output=spec.get("expected_output"),
        additional_context=spec.get("additional_context"),
        markdown=spec.get("markdown", False),
        add_datetime_to_context=spec.get("add_datetime_to_context", False),
        timezone_identifier=spec.get("timezone"),
        datetime_format=spec.get("datetime_format"),
        add_name_to_context=spec.get("add_name_to_context", False),
        use_instruction_tags=spec.get("use_instruction_tags", False),
        tools=[_function(bound, turns) for bound in job.tools],
        # A user's "{name}" must stay what it is, not become a value of the session.
        resolve_in_context=False,
        db=None,
        retries=0,
        telemetry=False,
    )


def _function(bound: BoundTool, turns: Turns) -> Function:
    async def entrypoint(**_: Any) -> str:
        return await turns.call_tool(bound, _CALL.get())

    def note_call(fc: FunctionCall) -> None:
        _CALL.set(fc.call_id or "")

    return Function(
        name=bound.tool.function_name,
        description=bound.tool.description,
        parameters=bound.tool.input_schema,
        entrypoint=entrypoint,
        pre_hook=note_call,
        skip_entrypoint_processing=True,
    )


def _model_of(agent: Agent) -> str:
    return str(agent.spec.get("model", {}).get("model", ""))


@dataclass
class Turns:
    """The model turns and tool calls of one run: counts them, limits them, and says what happens."""

    job: Job
    emit: Emit
    models: Models
    tools: ToolCaller
    failure: errors.Error | None = None
    text: str = ""
    finished: bool = False

    def __post_init__(self) -> None:
        self._asked: dict[str, ToolCall] = {}
        self._offered = {bound.tool.function_name: bound for bound in self.job.tools}

    async def stream(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]
    ) -> AsyncGenerator[ModelPiece, None]:
        """One turn; its text and usage are reported as they come. A failure is kept, for Agno keeps only its text."""
        whole = "output_schema" in self.job.agent.spec
        try:
            call = self._call(list(map(self._as_written, messages)), tools)
            self.text, self.finished, asked = "", False, False
            async with aclosing(self.models.stream(call)) as pieces:
                async for piece in pieces:
                    if piece.reasoning:
                        self.emit(ReasoningDelta(piece.reasoning))
                    if piece.text:
                        self.text += piece.text
                        if not whole:
                            self.emit(ContentDelta(piece.text))
                    asked = asked or bool(piece.tool_calls)
                    piece.tool_calls = list(map(self._note, piece.tool_calls))
                    if piece.usage:
                        self._count(piece.usage)
                    yield piece
            if whole and self.text:
                self.emit(ContentDelta(self.text))
            self.finished = not asked
        except errors.Error as error:
            self.failure = error
            raise ModelProviderError(error.reason_code, status_code=_NOT_RETRIED) from None

    def _call(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> ModelCall:
        spec, usage = self.job.agent.spec, self.job.usage
        limit = spec.get("max_model_calls") or DEFAULT_MODEL_CALLS
        if usage.model_calls >= limit:
            raise errors.ResourceExhausted(
                f"the run has made {limit} model calls, as many as its agent allows",
                reason="MODEL_CALL_LIMIT",
                metadata={"limit": str(limit)},
            )
        choice = self._tool_choice(spec.get("tool_choice", ""), first=usage.model_calls == 0)
        usage.model_calls += 1
        return ModelCall(
            model=_model_of(self.job.agent),
            messages=messages,
            tools=tools,
            tool_choice=choice if tools else "",
            output_schema=spec.get("output_schema"),
            settings=spec.get("model", {}),
            execution_id=self.job.execution_id,
        )

    def _tool_choice(self, choice: str, *, first: bool) -> str:
        """A forced call is forced once: forced on every turn, it would never let the model answer."""
        if choice in ("", "auto", "none"):
            return choice
        if not first:
            return "auto"
        names = {bound.tool.tool_id: bound.tool.function_name for bound in self.job.tools}
        return names.get(choice, choice)

    def _count(self, reported: UsageReported) -> None:
        usage = self.job.usage
        usage.input_tokens += reported.input_tokens
        usage.output_tokens += reported.output_tokens
        usage.cached_input_tokens += reported.cached_input_tokens
        usage.reasoning_tokens += reported.reasoning_tokens
        usage.cost_usd += reported.cost_usd or 0.0
        self.emit(reported)

    def _note(self, call: ToolCall) -> ToolCall:
        """Remembers what the model wrote, under an id that no other call of the run has. A call of a tool that does not
        exist is reported here, for Agno answers it without running anything.
        """
        if not call.call_id or call.call_id in self._asked:
            call = replace(call, call_id=ids.new_id())
        self._asked[call.call_id] = call
        if call.name not in self._offered:
            self.emit(ToolCallStarted(call.call_id, call.name, parse_object(call.arguments or "{}") or {}))
            self.emit(ToolCallCompleted(call.call_id, call.name, "there is no such tool", True, 0.0))
        return call

    def _as_written(self, message: dict[str, Any]) -> dict[str, Any]:
        def original(call: dict[str, Any]) -> dict[str, Any]:
            asked = self._asked.get(call["id"])
            return _to_agno(asked, asked.arguments) if asked else call

        return {**message, "tool_calls": list(map(original, message["tool_calls"] or ()))}

    async def call_tool(self, bound: BoundTool, call_id: str) -> str:
        arguments = parse_object(self._asked[call_id].arguments or "{}")
        tool_id = bound.tool.tool_id
        self.emit(ToolCallStarted(call_id, tool_id, arguments or {}))
        limit = self.job.agent.spec.get("tool_call_limit") or 0
        if arguments is None:
            result = ToolResult("the arguments are not a JSON object", is_error=True)
        elif limit and self.job.usage.tool_calls >= limit:
            result = ToolResult(f"the limit of {limit} tool calls is reached", is_error=True)
        else:
            self.job.usage.tool_calls += 1
            result = await self.tools.call(bound, arguments)
        self.emit(ToolCallCompleted(call_id, tool_id, result.output, result.is_error, result.duration))
        return result.output


def _structured(agent: Agent, text: str) -> dict[str, Any] | None:
    schema = agent.spec.get("output_schema")
    if schema is None:
        return None
    value = parse_object(text)
    if value is None:
        raise errors.FailedPrecondition("the model's answer is not a JSON object", reason="OUTPUT_INVALID")
    try:
        validator(schema).validate(value)
    except referencing.exceptions.Unresolvable as error:
        raise errors.FailedPrecondition(
            f"the output schema refers to {error.ref!r:.200}, which it does not contain", reason="OUTPUT_INVALID"
        ) from None
    except jsonschema.ValidationError as error:
        where = ".".join(map(str, error.absolute_path)) or "the answer"
        raise errors.FailedPrecondition(
            f"the model's answer does not fit the output schema: {where}: {error.message[:200]}",
            reason="OUTPUT_INVALID",
        ) from None
    return value


@dataclass
class RouterModel(Model):  # type: ignore[misc]
    """Agno's side of Router. It never sees a provider or a key."""

    id: str = ""
    name: str = "Router"
    provider: str = "router"
    turns: Turns | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> RouterModel:
        return RouterModel(id=self.id, turns=self.turns)

    async def ainvoke_stream(
        self, messages: list[Message], assistant_message: Message, tools: Any = None, **_: Any
    ) -> AsyncIterator[ModelResponse]:
        """Text as it comes; tool calls whole and usage once, at the end, for Agno neither merges nor de-duplicates."""
        assert self.turns is not None
        calls: list[dict[str, Any]] = []
        usage = MessageMetrics()
        async with aclosing(self.turns.stream(list(map(to_dict, messages)), list(tools or ()))) as pieces:
            async for piece in pieces:
                # Agno would read Python for JSON, turn "none" into None, and log what it cannot read.
                calls += [_to_agno(call, "{}") for call in piece.tool_calls]
                if piece.usage:
                    usage = _metrics(piece.usage)
                if piece.text or piece.reasoning:
                    yield ModelResponse(content=piece.text or None, reasoning_content=piece.reasoning or None)
        yield ModelResponse(role="assistant", tool_calls=calls, response_usage=usage)

    async def ainvoke(self, messages: list[Message], assistant_message: Message, **kwargs: Any) -> ModelResponse:
        whole = ModelResponse(role="assistant", content="")
        async for part in self.ainvoke_stream(messages, assistant_message, **kwargs):
            whole.content += part.content or ""
            whole.tool_calls += part.tool_calls or []
            whole.response_usage = part.response_usage or whole.response_usage
        return whole

    def invoke(self, *args: Any, **kwargs: Any) -> ModelResponse:
        raise NotImplementedError("runs are asynchronous")

    def invoke_stream(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("runs are asynchronous")

    def _parse_provider_response(self, response: Any, **kwargs: Any) -> ModelResponse:
        raise NotImplementedError

    def _parse_provider_response_delta(self, response: Any) -> ModelResponse:
        raise NotImplementedError


def to_dict(message: Message) -> dict[str, Any]:
    return {
        "role": message.role,
        "content": message.get_content_string() if message.content is not None else "",
        "tool_calls": message.tool_calls,
        "tool_call_id": message.tool_call_id,
        "name": message.tool_name if message.role == "tool" else message.name,
    }


def _to_agno(call: ToolCall, arguments: str) -> dict[str, Any]:
    return {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _metrics(usage: UsageReported) -> MessageMetrics:
    return MessageMetrics(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        cost=usage.cost_usd,
    )


class _WarmModels:
    async def stream(self, call: ModelCall) -> AsyncGenerator[ModelPiece, None]:
        if call.messages[-1]["role"] == "tool":
            yield ModelPiece(text="warm", usage=UsageReported())
        else:
            yield ModelPiece(tool_calls=[ToolCall("warm-up", _WARM_TOOL.function_name, "{}")], usage=UsageReported())


class _WarmTools:
    async def call(self, bound: BoundTool, arguments: Mapping[str, Any]) -> ToolResult:
        return ToolResult("warm")


_WARM_TOOL: Final = Tool("builtin/warm-up", "warm_up", "", "", {"type": "object", "properties": {}}, "")
