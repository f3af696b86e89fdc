"""The places where things happen: the model's turns and the tools' calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final, Protocol

from agno.exceptions import ModelProviderError

from libs import errors, ids
from services.execution.gateways.agno import prompt
from services.execution.model.events import (
    CitationsReported,
    ContentDelta,
    ContentRestarted,
    Event,
    ReasoningDelta,
    Source,
    ToolCallCompleted,
    ToolCallProgress,
    ToolCallStarted,
    UsageReported,
)
from services.execution.model.inputs import InputAnswer, InputNeeded, Kind, Question
from services.execution.model.journal import Step, StepKind
from services.execution.model.sessions import Message
from services.execution.model.targets import DEFAULT_MODEL_CALLS, Agent
from services.execution.model.tool_calls import CallMade
from services.execution.model.tools import BoundTool, Progress, ToolResult
from services.execution.model.turns import Job, ModelCall, ModelPiece, ToolCall
from services.execution.service import elicitation
from services.execution.service.approvals import asking, facts
from services.execution.service.continuation import Permission, outcome, question, unaskable
from services.execution.service.elicitation import Asked, SourceAsks, enter_answered
from services.execution.service.inner import InnerCall, InnerTools
from services.execution.service.journal import Journal
from services.execution.service.outputs import Unfit, parsed
from services.execution.service.record import storable
from services.execution.service.sources import Emit, enter_key, progress_told
from services.execution.service.tool_calls import record
from services.execution.service.tools import digest, parse_object

_ATTEMPTS: Final = 3
"""Times that a turn is asked for whose answer breaks off with Router."""
_LONGEST_WORD: Final = 1000
_NOT_RETRIED: Final = 400
"""Agno neither retries nor falls back on this status: both are Router's affair."""


class Models(Protocol):
    def stream(self, call: ModelCall) -> AsyncGenerator[ModelPiece, None]: ...


class ToolCaller(Protocol):
    async def call(self, bound: BoundTool, arguments: Mapping[str, Any]) -> ToolResult: ...

    def followed(self, tools: Sequence[BoundTool], emit: Emit) -> AbstractAsyncContextManager[None]: ...


def model_of(agent: Agent) -> str:
    return str(agent.spec.get("model", {}).get("model", ""))


@dataclass
class Turns:
    """The model turns and tool calls of one run: counts them, limits them, keeps them, and says what happens."""

    job: Job
    journal: Journal
    models: Models
    tools: ToolCaller
    inner: Sequence[InnerTools] = ()
    failure: errors.Error | None = None
    text: str = ""
    finished: bool = False

    def __post_init__(self) -> None:
        self._step = self._turns = 0
        self._inner = {bound.tool.tool_id: one for one in self.inner for bound in one.bound}
        self._asked: dict[str, ToolCall] = {}
        self._steps: dict[str, int] = {}
        self._offered = {bound.tool.function_name: bound for bound in self.job.tools}
        self._meter = self.job.meter
        self._questions: list[Question] = []
        self._announced: list[tuple[Source, Event]] = []
        self._messages: list[dict[str, Any]] = []
        self._last = ModelPiece()
        history = self.job.background.history
        self._taken = {call["id"] for message in history for call in message["tool_calls"]}
        schema = self.job.request.output_schema or self.job.agent.spec.get("output_schema")
        self.schema: dict[str, Any] | None = dict(schema) if schema is not None else None

    async def turn(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> ModelPiece:
        """One turn; its text and usage are reported as they come. A failure is kept, for Agno keeps only its text."""
        try:
            if self.failure:
                raise self.failure
            if self._questions:
                raise InputNeeded(self._questions, self._announced)
            self._messages = list(map(self._as_written, messages))
            if self.ending is not None:
                self.finished = True
                return ModelPiece()
            self._turns += 1
            turn = await self._turn(self._call(prompt.told(self._messages, self.job), tools))
        except errors.Error as error:
            self.failure = error
            raise ModelProviderError(error.reason_code, status_code=_NOT_RETRIED) from None
        self.text, self.finished = turn.text, not turn.tool_calls
        self._asked |= {call.call_id: call for call in turn.tool_calls}
        self._steps |= {call.call_id: self._next_step() for call in turn.tool_calls if call.name in self._offered}
        return turn

    @property
    def ending(self) -> InnerTools | None:
        """What has the answer in place of the model."""
        return next((one for one in self.inner if one.ends), None)

    async def repair(self, request: str) -> str:
        """Asks for the answer once more, and says why."""
        refused = [{"role": "assistant", "content": self.text}, {"role": "user", "content": request}]
        return (await self._turn(self._call(prompt.told([*self._messages, *refused], self.job), []))).text

    def so_far(self) -> tuple[Message, ...]:
        """What was said before the answer, from the input on, with the conversation before it."""
        return (*self.job.background.history, *self.conversation("")[:-1])

    def conversation(self, answer: str) -> tuple[Message, ...]:
        """What was said from the input to the answer."""
        return prompt.said(self._messages, self.job, answer, self._last.reasoning)

    async def aside(self, messages: list[dict[str, Any]], schema: dict[str, Any] | None, seconds: float) -> str:
        """A turn beside the conversation, of which nothing is said but what it took."""
        call = replace(self._call(messages, []), output_schema=schema)
        step = Step(self._next_step(), StepKind.MODEL, call.model, digest(call), datetime.now(UTC))
        if (kept := await self.journal.begin(step)) is not None:
            return self._recalled(kept, aloud=False).text
        try:
            turn = await self._ask_quietly(call, seconds)
        except errors.Error as error:
            await self.journal.complete(step, {"error": errors.to_dict(error)}, is_error=True)
            raise
        if turn.usage:
            self._count(turn.usage)
        await self.journal.complete(step, _kept(turn), *self._closing(turn))
        return turn.text

    async def _ask_quietly(self, call: ModelCall, seconds: float) -> ModelPiece:
        turn = ModelPiece()
        try:
            async with asyncio.timeout(seconds), aclosing(self.models.stream(call)) as pieces:
                async for piece in pieces:
                    turn.text = "" if piece.restarted else turn.text
                    turn.text += storable(piece.text)
                    turn.usage = piece.usage or turn.usage
        except TimeoutError:
            raise errors.DeadlineExceeded(f"no answer within {seconds:.1f} s") from None
        return turn

    def _next_step(self) -> int:
        self._step += 1
        return self._step

    async def _turn(self, call: ModelCall) -> ModelPiece:
        step = Step(self._next_step(), StepKind.MODEL, call.model, digest(call), datetime.now(UTC))
        self.text, self.finished = "", False
        if (kept := await self.journal.begin(step)) is not None:
            return self._recalled(kept)
        try:
            turn = await self._ask(call)
        except errors.Error as error:
            await self.journal.complete(step, {"error": errors.to_dict(error)}, is_error=True)
            raise
        if turn.usage:
            self._count(turn.usage)
        whole = [ContentDelta(turn.text)] if self._whole and self._is_said(turn) else []
        await self.journal.complete(step, _kept(turn), *whole, *self._closing(turn))
        self._last = turn
        return turn

    def _is_said(self, turn: ModelPiece) -> bool:
        """An answer that must be data is none unless it is."""
        if not turn.text or self.schema is None or turn.tool_calls:
            return bool(turn.text)
        try:
            parsed(turn.text, self.schema)
        except Unfit:
            return False
        return True

    def _recalled(self, step: Step, *, aloud: bool = True) -> ModelPiece:
        assert step.result is not None
        if step.is_error:
            raise errors.from_dict(step.result["error"])
        turn = _from_kept(step.result)
        if turn.usage:
            self._count(turn.usage)
        if turn.reasoning and aloud:
            self.journal.again(ReasoningDelta(turn.reasoning))
        if aloud and self._is_said(turn):
            self.journal.again(ContentDelta(turn.text))
        for event in self._closing(turn):
            self.journal.again(event)
        if aloud:
            self._last = turn
        return turn

    async def _ask(self, call: ModelCall) -> ModelPiece:
        """Asks again where Router was lost in the middle of the answer."""
        start = self.journal.mark()
        for attempt in count(1):
            turn = ModelPiece()
            try:
                await self._read(call, turn, start)
                return turn
            except errors.Unavailable as error:
                said = turn.text or turn.reasoning
                if error.reason_code != "SERVICE_UNAVAILABLE" or not said or attempt == _ATTEMPTS:
                    raise
            self._restart(turn, start)
        raise AssertionError

    def _restart(self, turn: ModelPiece, start: int) -> None:
        if turn.reasoning or (turn.text and not self._whole):
            self.journal.emit(ContentRestarted(start))

    async def _read(self, call: ModelCall, turn: ModelPiece, start: int) -> None:
        async with aclosing(self.models.stream(call)) as pieces:
            async for piece in pieces:
                if piece.restarted:
                    self._restart(turn, start)
                    turn.text, turn.reasoning, turn.tool_calls, turn.citations = "", "", [], []
                self._add(turn, piece)
                await self.journal.room()

    def _add(self, turn: ModelPiece, piece: ModelPiece) -> None:
        if piece.reasoning:
            turn.reasoning += storable(piece.reasoning)
            self.journal.emit(ReasoningDelta(piece.reasoning))
        if piece.text:
            turn.text += storable(piece.text)
            if not self._whole:
                self.journal.emit(ContentDelta(piece.text))
        turn.tool_calls += self._named(piece.tool_calls, turn.tool_calls)
        turn.citations += [storable(citation) for citation in piece.citations]
        turn.usage = piece.usage or turn.usage

    @property
    def _whole(self) -> bool:
        """The answer is data: half of it is of no use to anybody."""
        return self.schema is not None

    def _named(self, calls: Sequence[ToolCall], before: Sequence[ToolCall]) -> list[ToolCall]:
        """The calls under ids that no other call of the run has."""
        taken = {*self._taken, *self._asked, *(call.call_id for call in before)}
        named = []
        for call in calls:
            call_id = storable(call.call_id)
            call_id = ids.new_id() if not call_id or call_id in taken else call_id
            taken.add(call_id)
            named.append(ToolCall(call_id, storable(call.name), storable(call.arguments)))
        return named

    def _closing(self, turn: ModelPiece) -> list[Event]:
        """What is said when a turn is over. A call of a tool that does not exist is reported here, for Agno answers it
        without running anything.
        """
        said: list[Event] = []
        for call in turn.tool_calls:
            if call.name not in self._offered:
                said.append(ToolCallStarted(call.call_id, call.name, parse_object(call.arguments or "{}") or {}))
                said.append(ToolCallCompleted(call.call_id, call.name, "there is no such tool", True, 0.0))
        if turn.citations:
            said.append(CitationsReported(turn.citations))
        return [*said, *([turn.usage] if turn.usage else [])]

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
        self._meter.model_call()
        return ModelCall(
            model=model_of(self.job.agent),
            messages=messages,
            tools=tools,
            tool_choice=choice if tools else "",
            output_schema=self.schema,
            settings=spec.get("model", {}),
            execution_id=self.job.execution_id,
            agent_id=self.job.agent.agent_id,
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
        self._meter.count(
            {
                "input_tokens": reported.input_tokens,
                "output_tokens": reported.output_tokens,
                "cached_input_tokens": reported.cached_input_tokens,
                "reasoning_tokens": reported.reasoning_tokens,
                "cost_usd": reported.cost_usd or 0.0,
            }
        )

    def _as_written(self, message: dict[str, Any]) -> dict[str, Any]:
        def original(call: dict[str, Any]) -> dict[str, Any]:
            asked = self._asked.get(call["id"])
            return to_agno(asked, asked.arguments) if asked else call

        return {**message, "tool_calls": list(map(original, message["tool_calls"] or ()))}

    async def call_tool(self, bound: BoundTool, call_id: str) -> str:
        """What the model is told. A failure of the run is kept for the next turn: Agno would tell the model of it."""
        try:
            return await self._call_tool(bound, self._asked[call_id])
        except errors.Error as error:
            self.failure = self.failure or error
            raise

    async def _call_tool(self, bound: BoundTool, call: ToolCall) -> str:
        tool, arguments = bound.tool, parse_object(call.arguments or "{}")
        limited, answer = self._refusal(arguments), None
        refused = limited
        if not refused:
            answer = self.journal.answer(call.call_id)
            bound = self._asking(bound, call.call_id, arguments or {}, answer)
            refused = None if answer else unaskable(bound, arguments or {})
        started = ToolCallStarted(call.call_id, tool.tool_id, arguments or {})
        if bound.asks and not refused and answer is None:
            asked = question(bound, call.call_id, arguments or {})
            return self._ask_first({**asked, "input_id": self.journal.input_id(call.call_id)}, started)
        decided = refused or (outcome(answer) if answer else Permission())
        edited = decided.arguments if isinstance(decided, Permission) else None
        used = (arguments or {}) if edited is None else edited
        step = Step(
            self._steps[call.call_id],
            StepKind.TOOL,
            tool.tool_id,
            digest(call.arguments),
            datetime.now(UTC),
            call.call_id,
            repeatable=isinstance(decided, ToolResult) or tool.repeatable,
        )
        # A call that asked has said before that it begins.
        kept = await self.journal.begin(step, *([] if answer else [started]))
        waiting = elicitation.kept(kept.result) if kept is not None else None
        if kept is not None and waiting is None:
            return await self._told_before(kept, started, bound, used)
        if waiting is not None:
            self.journal.again(started)
            given = {key: self.journal.answer(waiting.input_id(call.call_id, key)) for key in waiting.questions}
            answers = {key: one for key, one in given.items() if one is not None}
            if len(answers) < len(given):
                return self._ask_for(waiting, call.call_id)
            await self.journal.reopen(step)
            enter_answered(elicitation.answered(waiting, answers))
        else:
            enter_answered(None)
        scope = self.journal.source.scope
        key = "/".join(filter(None, [self.job.execution_id, scope, str(step.number), call.call_id]))
        enter_key(key, self.job.execution_id, self.job.request.user_id)
        try:
            result, changes = await self._decided(bound, step, used, decided)
        except InputNeeded as needed:  # of a member that the tool runs: the call goes on when there are answers
            self._questions += needed.questions
            self._announced += needed.announced
            return ""
        except SourceAsks as asks:
            await self.journal.complete(step, asks.asked.to_dict())
            return self._ask_for(asks.asked, call.call_id)
        result = replace(result, output=storable(result.output))
        self._uncount(result)
        place = {"execution_id": self.job.execution_id, "step": step.number, "call_id": call.call_id}
        denied = isinstance(decided, ToolResult) and answer is not None and answer.kind is Kind.APPROVAL
        at_limit = limited is not None and arguments is not None
        made = CallMade(tool, used, result, denied or at_limit, answer, place)
        completed = _completed(call.call_id, tool.tool_id, result)
        step = replace(step, record=record(made))
        await self.journal.complete(step, asdict(result), *changes, completed, is_error=result.is_error)
        return result.output

    def _asking(
        self, bound: BoundTool, call_id: str, arguments: Mapping[str, Any], answer: InputAnswer | None
    ) -> BoundTool:
        """What was allowed, or begun before, is not asked for again; what somebody allowed is called indeed."""
        if answer is not None:
            return replace(bound, cache_ttl=0.0)
        if not bound.approvals or self.journal.begun(call_id):
            return bound
        return asking(bound, facts(self.job.request, self.job.usage, arguments))

    def _uncount(self, result: ToolResult) -> None:
        """An answer that was there costs no call."""
        if result.cached:
            self._meter.count({"tool_calls": -1})

    def _ask_first(self, asked: Question, started: ToolCallStarted) -> str:
        """The other calls of the turn are made; then, in place of the next turn, the run waits."""
        self._questions.append(asked)
        self._announced.append((self.journal.source, started))
        return ""

    def _ask_for(self, asked: Asked, call_id: str) -> str:
        """Likewise, in the name of a tool that was called and wants to know something."""
        for input_id, one in asked.to_questions(call_id).items():
            self._questions.append({**one, "input_id": self.journal.input_id(input_id)})
        return ""

    async def _decided(
        self, bound: BoundTool, step: Step, used: Mapping[str, Any], decided: ToolResult | Permission
    ) -> tuple[ToolResult, Sequence[Event]]:
        """The result, and what the call changed."""
        if isinstance(decided, ToolResult):
            return decided, ()
        changes: Sequence[Event] = ()
        if (inner := self._inner.get(bound.tool.tool_id)) is not None:
            result, changes = await inner.call(self._inner_call(bound, step, used))
        else:
            with progress_told(lambda told: self._tell(bound, step.call_id, told)):
                result = await self.tools.call(bound, used)
        return decided.noted(result), changes

    def _tell(self, bound: BoundTool, call_id: str, told: Progress) -> None:
        message = storable(told.message)[:_LONGEST_WORD]
        self.journal.emit(ToolCallProgress(call_id, bound.tool.tool_id, told.progress, told.total, message))

    def _inner_call(self, bound: BoundTool, step: Step, arguments: Mapping[str, Any]) -> InnerCall:
        return InnerCall(bound, step.call_id, arguments, step.number, self._turns)

    async def _told_before(
        self, step: Step, started: ToolCallStarted, bound: BoundTool, used: Mapping[str, Any]
    ) -> str:
        result = ToolResult(**step.result or {})
        self.journal.again(started)
        if (inner := self._inner.get(step.name)) is not None:
            for change in await inner.recall(self._inner_call(bound, step, used), result):
                self.journal.again(change)
        self._uncount(result)
        self.journal.again(_completed(step.call_id, step.name, result))
        return result.output

    def _refusal(self, arguments: Mapping[str, Any] | None) -> ToolResult | None:
        """Counts the call, unless it cannot be made."""
        limit = self.job.agent.spec.get("tool_call_limit") or 0
        if arguments is None:
            return ToolResult("the arguments are not a JSON object", is_error=True)
        if limit and self.job.usage.tool_calls >= limit:
            return ToolResult(f"the limit of {limit} tool calls is reached", is_error=True)
        self._meter.tool_call()
        return None


def _completed(call_id: str, tool_id: str, result: ToolResult) -> ToolCallCompleted:
    return ToolCallCompleted(call_id, tool_id, result.output, result.is_error, result.duration, result.cached)


def _kept(turn: ModelPiece) -> dict[str, Any]:
    calls = [[call.call_id, call.name, call.arguments] for call in turn.tool_calls]
    usage = turn.usage.to_dict() if turn.usage else None
    kept = {"text": turn.text, "reasoning": turn.reasoning, "tool_calls": calls, "usage": usage}
    return {**kept, "citations": turn.citations} if turn.citations else kept


def _from_kept(kept: Mapping[str, Any]) -> ModelPiece:
    return ModelPiece(
        text=kept["text"],
        reasoning=kept["reasoning"],
        tool_calls=[ToolCall(*call) for call in kept["tool_calls"]],
        usage=UsageReported(**kept["usage"]) if kept["usage"] else None,
        citations=kept.get("citations", []),
    )


def to_agno(call: ToolCall, arguments: str) -> dict[str, Any]:
    return {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": arguments}}
