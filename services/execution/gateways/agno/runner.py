from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog
from agno.agent import Agent as AgnoAgent
from agno.agent._messages import aget_run_messages
from agno.agent._tools import determine_tools_for_model
from agno.models.base import Model
from agno.models.message import Message
from agno.run import RunContext
from agno.run.agent import RunOutput
from agno.session import AgentSession
from agno.tools.function import Function, FunctionCall

from libs import errors
from services.execution.gateways.agno.model import RouterModel
from services.execution.gateways.agno.turns import Models, ToolCaller, Turns, model_of
from services.execution.model.events import Event, Source, UsageReported
from services.execution.model.executions import ExecuteRequest, Usage
from services.execution.model.journal import Step, StepKind
from services.execution.model.targets import Agent
from services.execution.model.tools import BoundTool, Tool, ToolResult
from services.execution.model.turns import Answer, Job, ModelCall, ModelPiece, ToolCall
from services.execution.service.history import briefing
from services.execution.service.inner import InnerTools
from services.execution.service.journal import Journal
from services.execution.service.lessons import learn, propose
from services.execution.service.observed_inner import ObservedInner
from services.execution.service.observing import NOBODY, Observer
from services.execution.service.outputs import repaired
from services.execution.service.own_tools import OwnTools
from services.execution.service.sources import Emit

log = structlog.get_logger()

_CALL: ContextVar[Callable[[], Awaitable[str]]] = ContextVar("tool call")


class AgnoRunner:
    def __init__(self, models: Models, tools: ToolCaller, observer: Observer = NOBODY) -> None:
        self._models, self._tools, self._observer = models, tools, observer

    async def run(
        self, job: Job, journal: Journal, own: OwnTools | None = None, inner: Sequence[InnerTools] = ()
    ) -> Answer:
        own = own or OwnTools()
        turns = Turns(job, journal, self._models, self._tools, self._seen(own, *inner))
        model = RouterModel(id=model_of(job.agent), turns=turns)
        # What is told again was told of such things before.
        async with self._tools.followed(() if journal.retells else job.tools, journal.emit):
            await converse(job, model, turns)
        if turns.failure:
            raise turns.failure
        if not turns.finished:
            raise errors.Internal("internal error")
        text, data = turns.text, None
        if turns.ending is not None:
            answer = await turns.ending.answer(turns.so_far())
            text, data = answer.output, answer.structured_output
        if turns.schema is not None and data is None:
            text, data = await repaired(text, turns.schema, turns.repair)
        messages = turns.conversation(text)
        followups = await propose(job, messages, turns.aside)
        return Answer(text, data, await learn(job, own, messages, turns.aside), followups)

    def _seen(self, *inner: InnerTools) -> Sequence[InnerTools]:
        return [ObservedInner(one, self._observer) for one in inner]

    async def warm_up(self) -> None:
        """Runs an agent with a tool once, so that the first caller does not pay for Agno's late imports."""
        tool = BoundTool(_WARM_TOOL, 1.0)
        agent = Agent("warm-up", 1, "", {"model": {"model": "warm-up"}})
        request = ExecuteRequest("warm-up", "warm up")
        job = Job("warm-up", agent, request, (tool,), Usage(), datetime.now(UTC))
        await AgnoRunner(_WarmModels(), _WarmTools()).run(job, _WarmJournal())


async def converse(job: Job, model: Model, turns: Turns) -> None:
    """Agno's prompt, and its loop of turns and tool calls. Around them its `arun` has a session, events, metrics,
    retries and storage, none of which this service has a use for, and which cost more than the two together.
    """
    try:
        messages, tools = await _prompt(job, model, turns)
        await model.aresponse(messages, tools=tools)
    except Exception:
        if turns.failure is None:
            log.exception("agno failed unexpectedly", execution_id=job.execution_id)


async def _prompt(job: Job, model: Model, turns: Turns) -> tuple[list[Message], list[Any]]:
    """Without the agent, which is not kept for as long as the run lasts."""
    agent = build(job, model, turns)
    context = RunContext(job.execution_id, job.request.session_id or job.execution_id, job.request.user_id or None)
    answer, session = RunOutput(run_id=job.execution_id), AgentSession(session_id=context.session_id)
    of_run = {"run_response": answer, "run_context": context, "session": session}
    tools = determine_tools_for_model(agent, model, agent.tools, async_mode=True, **of_run)
    told = await aget_run_messages(agent, input=job.request.input, user_id=context.user_id, tools=tools, **of_run)
    return told.messages, tools


def build(job: Job, model: Model, turns: Turns) -> AgnoAgent:
    spec = job.agent.spec
    return AgnoAgent(
        model=model,
        id=job.agent.agent_id,
        name=job.agent.agent_id,
        description=job.agent.description or None,
        instructions=list(spec.get("instructions", ())) or None,
        expected_output=spec.get("expected_output"),
        additional_context=_context(job),
        markdown=spec.get("markdown", False),
        add_name_to_context=spec.get("add_name_to_context", False),
        use_instruction_tags=spec.get("use_instruction_tags", False),
        tools=[_function(bound, turns) for bound in job.tools],
        # A user's "{name}" must stay what it is, not become a value of the session.
        resolve_in_context=False,
    )


def _context(job: Job) -> str | None:
    """Agno would tell a run that is taken up another time than it was told at first."""
    spec = job.agent.spec
    context = "\n".join(filter(None, [spec.get("additional_context"), briefing(spec, job.background)])) or None
    if not spec.get("add_datetime_to_context"):
        return context
    now = job.time
    with suppress(ZoneInfoNotFoundError, ValueError, OSError):
        now = now.astimezone(ZoneInfo(spec.get("timezone", "UTC")))
    told = now.strftime(spec["datetime_format"]) if spec.get("datetime_format") else str(now)
    return "\n".join([*([context] if context else []), f"The current time is {told}."])


def _function(bound: BoundTool, turns: Turns) -> Function:
    def note_call(fc: FunctionCall) -> None:
        _CALL.set(partial(turns.call_tool, bound, fc.call_id or ""))

    return _OfOneRun(
        name=bound.tool.function_name,
        description=bound.tool.description,
        parameters=bound.tool.input_schema,
        entrypoint=_entrypoint,
        pre_hook=note_call,
        skip_entrypoint_processing=True,
    )


class _OfOneRun(Function):  # type: ignore[misc]
    def _per_run_copy(self) -> Function:
        """Is one already, as the agent is: copies of many tools take longer than all else at a run's start."""
        return self


async def _entrypoint(**_: Any) -> str:
    """One for all tools: into each that it has not seen Agno looks for long."""
    return await _CALL.get()()


class _WarmModels:
    async def stream(self, call: ModelCall) -> AsyncGenerator[ModelPiece, None]:
        if call.messages[-1]["role"] == "tool":
            yield ModelPiece(text="warm", usage=UsageReported())
        else:
            yield ModelPiece(tool_calls=[ToolCall("warm-up", _WARM_TOOL.function_name, "{}")], usage=UsageReported())


class _WarmJournal:
    source = Source(("warm-up",))
    retells = False

    def part(self, name: str, source_id: str) -> _WarmJournal:
        return self

    def emit(self, event: Event) -> None:
        pass

    again = emit

    def known(self, number: int) -> None:
        return None

    def made(self, kind: StepKind) -> Sequence[Step]:
        return ()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def input_id(self, call_id: str) -> str:
        return call_id

    def mark(self) -> int:
        return 1

    async def room(self) -> None:
        pass

    def answer(self, call_id: str) -> None:
        return None

    def begun(self, call_id: str) -> bool:
        return False

    async def begin(self, step: Step, *events: Event) -> Step | None:
        return None

    async def complete(self, step: Step, result: Mapping[str, Any], *events: Event, is_error: bool = False) -> None:
        pass

    async def reopen(self, step: Step) -> None:
        pass


class _WarmTools:
    async def call(self, bound: BoundTool, arguments: Mapping[str, Any]) -> ToolResult:
        return ToolResult("warm")

    @asynccontextmanager
    async def followed(self, tools: Sequence[BoundTool], emit: Emit) -> AsyncIterator[None]:
        yield


_WARM_TOOL: Final = Tool("builtin/warm-up", "warm_up", "", "", {"type": "object", "properties": {}}, "")
