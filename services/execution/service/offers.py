"""What the suite offers to the agents of others: its tools, and its agents as tools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import orjson

from libs import errors, ids, pagination
from libs.identity import Caller
from services.execution.model.events import (
    Event,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    InputRequired,
    LoggedEvent,
    ToolCallCompleted,
    ToolCallStarted,
)
from services.execution.model.executions import ExecuteRequest, OnDisconnect
from services.execution.model.tools import ASK_USER, AgentCard, Progress, Tool
from services.execution.service.catalogue import Catalogue, Quiet, SnapshotComplete
from services.execution.service.names import told_apart
from services.execution.service.sources import DEPTH, OnProgress, enter_depth, progress_told
from services.execution.service.tools import Tools, parse_object, violations

_AGENT: Final = "agent/"
_NAME: Final = "agent_"
_PAGE: Final = 100
_MOST: Final = 5000
"""Offers that go together where there are no pages."""
_AGENTS: Final = "agents:"
"""What a cursor begins with that goes on with a page of Registry's."""
_LONGEST_SESSION: Final = 128
_NO_RUN: Final = ExecutionFailed(errors.to_dict(errors.Unavailable("the run was lost")), {})


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool under the name by which others call it. That of an agent has the id `agent/<agent_id>`."""

    name: str
    tool: Tool


@dataclass(frozen=True, slots=True)
class Said:
    """What came of a call."""

    text: str
    data: dict[str, Any] | None = None
    """The same, where the tool says what shape it has."""
    is_error: bool = False
    reason: str = ""
    execution_id: str = ""


class AgentCards(Protocol):
    async def page(self, page_size: int, page_token: str) -> tuple[Sequence[AgentCard], str]:
        """Agents of the current caller, and the token of the next page."""

    async def changed(self, caller: Caller, told: Callable[[], None]) -> None:
        """Tells of each change of an agent, until it is cancelled."""


class Runs(Protocol):
    async def start(self, caller: Caller, request: ExecuteRequest) -> str: ...

    def watch(self, caller: Caller, execution_id: str, after: int) -> AsyncGenerator[LoggedEvent, None]: ...


class Offers:
    def __init__(
        self, catalogue: Catalogue, tools: Tools, agents: AgentCards, runs: Runs, *, offered: Sequence[str], depth: int
    ) -> None:
        self._catalogue, self._tools, self._agents, self._runs = catalogue, tools, agents, runs
        self._offered, self._depth = tuple(offered), depth

    async def list(self, caller: Caller, cursor: str) -> tuple[Sequence[Offer], str]:
        """A page of what the operator offers, tools first, and the cursor of the next one."""
        after = pagination.from_token(cursor, {})
        if after.startswith(_AGENTS):
            return await self._agents_after(after.removeprefix(_AGENTS))
        left = [offer for offer in (await self._of_tools(caller)).values() if offer.tool.tool_id > after]
        page = pagination.fitting(left[:_PAGE], _size)
        if len(page) < len(left):
            return page, pagination.to_token(page[-1].tool.tool_id, {})
        if not self._is_offered(f"{_AGENT}*"):
            return page, ""
        if page:
            return page, pagination.to_token(_AGENTS, {})
        return await self._agents_after("")

    async def whole(self, caller: Caller) -> Sequence[Offer]:
        """All of them that go into one message."""
        page, cursor = await self.list(caller, "")
        found = [*page]
        while cursor and len(found) < _MOST:
            page, cursor = await self.list(caller, cursor)
            found += page
        return pagination.fitting(found, _size)

    async def _of_tools(self, caller: Caller) -> Mapping[str, Offer]:
        """Tools by their names. Those that another suite's server offers are not offered again: it may be this one."""
        known = list(self._tools.fixed)
        for name, live in self._tools.live.items():
            if self._is_offered(f"{name}/*"):
                known += await live.find(caller, f"{name}/*")
        found = {
            tool.tool_id: tool
            for tool in known
            if not tool.unusable and not tool.relayed and tool.tool_id != ASK_USER and self._is_offered(tool.tool_id)
        }
        names = told_apart(sorted(found))
        return {name: Offer(name, _shaped(found[tool_id])) for tool_id, name in names.items()}

    async def _agents_after(self, page_token: str) -> tuple[Sequence[Offer], str]:
        cards, token = await self._agents.page(_PAGE, page_token)
        offers = [_offer(card) for card in cards if self._is_offered(f"{_AGENT}{card.agent_id}")]
        return offers, pagination.to_token(f"{_AGENTS}{token}", {}) if token else ""

    def _is_offered(self, tool_id: str) -> bool:
        """Whether the operator offers the tool, or any of those that a pattern means."""
        return any(_overlap(pattern, tool_id) for pattern in self._offered)

    async def call(
        self, caller: Caller, name: str, arguments: Mapping[str, Any], depth: int, told: OnProgress | None
    ) -> Said:
        """Calls a tool, or runs an agent. What a model can do something about is said; the rest is raised."""
        if depth >= self._depth:
            raise errors.ResourceExhausted(
                f"{depth} runs and calls wait for this one already: does an agent call itself?",
                reason="NESTED_TOO_DEEP",
                metadata={"limit": str(self._depth)},
            )
        try:
            agent_id = name.removeprefix(_NAME)
            if agent_id != name and ids.is_id(agent_id) and self._is_offered(f"{_AGENT}{agent_id}"):
                return await self._run(caller, agent_id, arguments, depth + 1, told)
            if (offer := (await self._of_tools(caller)).get(name)) is None:
                raise errors.NotFound("tool", name)
            return await self._call(offer.tool, arguments, depth + 1, told)
        except errors.InvalidArgument as error:
            return Said(error.message, is_error=True, reason=error.reason_code)
        except errors.Unavailable as error:
            if error.reason_code != "TOOL_SOURCE_UNAVAILABLE":
                raise
            return Said(error.message, is_error=True, reason=error.reason_code)

    async def _call(self, tool: Tool, arguments: Mapping[str, Any], depth: int, told: OnProgress | None) -> Said:
        enter_depth(depth)
        with progress_told(told or _unheard):
            result = await self._tools.call_directly(tool.tool_id, arguments)
        if result.is_error or tool.output_schema is None:
            return Said(result.output, is_error=result.is_error)
        data = parse_object(result.output)
        if data is None:  # it was cut off
            return Said(result.output, is_error=True)
        return Said(result.output, data)

    async def _run(
        self, caller: Caller, agent_id: str, arguments: Mapping[str, Any], depth: int, told: OnProgress | None
    ) -> Said:
        if problems := violations(_CALL, arguments):
            raise errors.InvalidArgument(problems)
        asked = arguments["input"]
        request = ExecuteRequest(
            target_id=agent_id,
            input=asked if isinstance(asked, str) else orjson.dumps(asked).decode(),
            session_id=arguments.get("session_id", ""),
            metadata={DEPTH: str(depth)},
            on_disconnect=OnDisconnect.CANCEL,
        )
        try:
            execution_id = await self._runs.start(caller, request)
        except errors.NotFound as error:
            raise errors.NotFound("tool", f"{_NAME}{agent_id}") from error
        return _ended(await self._followed(caller, execution_id, told or _unheard), execution_id)

    async def _followed(self, caller: Caller, execution_id: str, told: OnProgress) -> Event:
        """How the run ends, or what it asks. Whoever stops to listen has it cancelled."""
        steps, last = 0, ""
        async with aclosing(self._runs.watch(caller, execution_id, 0)) as events:
            async for logged in events:
                event = logged.event
                if event.terminal or event.pauses:
                    return event
                if isinstance(event, ToolCallStarted | ToolCallCompleted):
                    steps, last = steps + 1, event.tool_id
                    told(Progress(steps, 0.0, f"{'calls' if isinstance(event, ToolCallStarted) else 'called'} {last}"))
        return _NO_RUN

    async def changed(self, caller: Caller, told: Callable[[], None]) -> None:
        """Tells of each change in what the caller is offered, until it is cancelled."""
        async with asyncio.TaskGroup() as watches:
            watches.create_task(self._tools_changed(caller, told))
            watches.create_task(self._agents.changed(caller, told))

    async def _tools_changed(self, caller: Caller, told: Callable[[], None]) -> None:
        known = False
        async with aclosing(self._catalogue.watch(caller, "")) as items:
            async for item in items:
                if known and not isinstance(item, Quiet):
                    told()
                known = known or isinstance(item, SnapshotComplete)


def _ended(event: Event, execution_id: str) -> Said:
    match event:
        case ExecutionCompleted(output=output, structured_output=data):
            return Said(output, data, execution_id=execution_id)
        case ExecutionFailed(error=error):
            return Said(error["message"], None, True, error["reason"], execution_id)
        case ExecutionCancelled(reason=reason):
            return Said(f"the run was cancelled: {reason}", None, True, "CANCELLED", execution_id)
        case InputRequired(expire_time=until):
            said = f"the run {execution_id} waits for ContinueExecution until {until}"
            return Said(said, None, True, "INPUT_REQUIRED", execution_id)
    raise AssertionError(event)


def _offer(card: AgentCard) -> Offer:
    name = f"{_NAME}{card.agent_id}"
    asked: Mapping[str, Any] = {"type": "string", "description": "What the agent is told."}
    if card.input_schema is not None and "$ref" not in orjson.dumps(card.input_schema).decode():
        asked = card.input_schema
    session = {**_SESSION, "description": "Goes on with a conversation. Left out: there is none."}
    tool = Tool(
        tool_id=f"{_AGENT}{card.agent_id}",
        function_name=name,
        title=card.title or card.agent_id,
        description=card.description or f"The agent {card.agent_id}.",
        input_schema=_of_call(asked, session),
        output_schema=dict(card.output_schema) if card.output_schema is not None else None,
        version=str(card.revision),
        destructive=True,  # as its tools may be
        open_world=True,
    )
    return Offer(name, _shaped(tool))


def _of_call(asked: Mapping[str, Any], session: Mapping[str, Any]) -> dict[str, Any]:
    properties = {"input": dict(asked), "session_id": dict(session)}
    return {"type": "object", "properties": properties, "required": ["input"], "additionalProperties": False}


_SESSION: Final = {"type": "string", "maxLength": _LONGEST_SESSION}
_CALL: Final = Tool("agent/any", "", "", "", _of_call({}, _SESSION), "")
"""What every agent must be told; what its own input_schema says, the run checks."""


def _shaped(tool: Tool) -> Tool:
    """Before 2026-07-28 only an object could be said to come of a tool."""
    if tool.output_schema is None or tool.output_schema.get("type") == "object":
        return tool
    return replace(tool, output_schema=None)


def _overlap(pattern: str, tool_id: str) -> bool:
    """Whether the pattern means the tool, or any of those that another pattern means."""
    begin, is_open = pattern.removesuffix("*"), pattern.endswith("*")
    wanted = tool_id.removesuffix("*")
    if is_open and wanted.startswith(begin):
        return True
    return begin.startswith(wanted) if tool_id.endswith("*") else pattern == tool_id


def _size(offer: Offer) -> int:
    return len(orjson.dumps([offer.tool.description, offer.tool.input_schema, offer.tool.output_schema])) + 256


def _unheard(_: Progress) -> None:
    return None
