"""What tools there are, and what becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Protocol, TypeVar

import orjson

from libs import pagination
from libs.identity import Caller
from services.execution.model.targets import Agent
from services.execution.model.tools import SourceStatus, Tool
from services.execution.service.leases import Drain
from services.execution.service.tools import Tools

T = TypeVar("T", Tool, SourceStatus)


class CurrentAgents(Protocol):
    async def get(self, agent_id: str, revision: int) -> Agent: ...


@dataclass(frozen=True, slots=True)
class Query:
    source: str = ""
    agent_id: str = ""
    words: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    tools: Sequence[Tool]
    next_token: str
    sources: Sequence[SourceStatus]


@dataclass(frozen=True, slots=True)
class ToolRemoved:
    tool_id: str


@dataclass(frozen=True, slots=True)
class SourceRemoved:
    source_id: str


class SnapshotComplete: ...


class Quiet: ...


Item = Tool | ToolRemoved | SourceStatus | SourceRemoved | SnapshotComplete | Quiet
Known = tuple[Mapping[str, Tool], Mapping[str, SourceStatus]]


class Catalogue:
    def __init__(self, tools: Tools, agents: CurrentAgents, drain: Drain, *, heartbeat: float) -> None:
        self._tools, self._agents, self._drain, self._heartbeat = tools, agents, drain, heartbeat

    async def list(self, caller: Caller, query: Query, page_size: int, page_token: str) -> Page:
        asked = asdict(query)
        after = pagination.from_token(page_token, asked)
        found = await (self._of_agent(caller, query.agent_id) if query.agent_id else self._all(caller, query.source))
        matching = [tool for tool in found if tool.tool_id > after and _matches(tool, query)]
        matching.sort(key=lambda tool: tool.tool_id)
        page = pagination.fitting(matching[: pagination.page_size(page_size)], _size)
        token = pagination.to_token(page[-1].tool_id, asked) if len(page) < len(matching) else ""
        return Page(page, token, [] if query.agent_id else await self._statuses(caller, query.source))

    async def _of_agent(self, caller: Caller, agent_id: str) -> Sequence[Tool]:
        agent = await self._tools.with_live(caller, await self._agents.get(agent_id, 0))
        return [bound.tool for bound in self._tools.bind(agent.spec, agent.functions)]

    async def _all(self, caller: Caller, source: str) -> Sequence[Tool]:
        found = list(self._tools.fixed)
        for name, live in self._tools.live.items():
            if _within(name, source) or _within(source, name):
                found += await live.find(caller, f"{source}*" if source.startswith(f"{name}/") else f"{name}/*")
        return found

    async def _statuses(self, caller: Caller, source: str) -> Sequence[SourceStatus]:
        _, statuses = await self._known(caller, source)
        return sorted(statuses.values(), key=lambda status: status.source_id)

    async def _known(self, caller: Caller, source: str) -> Known:
        tools = {tool.tool_id: tool for tool in self._tools.fixed}
        statuses: dict[str, SourceStatus] = {}
        for name, live in self._tools.live.items():
            if _within(name, source) or _within(source, name):
                known, parts = await live.known(caller)
                tools |= {tool.tool_id: tool for tool in known}
                statuses |= {status.source_id: status for status in parts}
        return (
            {tool_id: tool for tool_id, tool in tools.items() if _within(tool_id, source)},
            {source_id: status for source_id, status in statuses.items() if _within(source_id, source)},
        )

    async def watch(self, caller: Caller, source: str) -> AsyncGenerator[Item, None]:
        """All that is known, then what changes."""
        changed = asyncio.Event()
        with ExitStack() as stack:
            for live in self._tools.live.values():
                stack.enter_context(live.changes.heard_by(changed))
            known: Known = ({}, {})
            first = True
            while True:
                changed.clear()
                before, known = known, await self._known(caller, source)
                for item in _changes(before, known):
                    yield item
                if first:
                    yield SnapshotComplete()
                    first = False
                if await self._drain.wait_for(changed.wait(), self._heartbeat) is None:
                    yield Quiet()


def _changes(before: Known, now: Known) -> Sequence[Item]:
    (tools, sources), (old_tools, old_sources) = now, before
    return [
        *_different(sources, old_sources),
        *_different(tools, old_tools),
        *map(ToolRemoved, _gone(tools, old_tools)),
        *map(SourceRemoved, _gone(sources, old_sources)),
    ]


def _different(now: Mapping[str, T], before: Mapping[str, T]) -> Sequence[T]:
    return [value for key, value in sorted(now.items()) if before.get(key) != value]


def _gone(now: Collection[str], before: Collection[str]) -> Sequence[str]:
    return sorted(key for key in before if key not in now)


def _within(part: str, whole: str) -> bool:
    return not whole or part == whole or part.startswith(f"{whole}/")


def _matches(tool: Tool, query: Query) -> bool:
    text = f"{tool.tool_id} {tool.title} {tool.description}".lower()
    return _within(tool.tool_id, query.source) and all(word in text for word in query.words.lower().split())


def _size(tool: Tool) -> int:
    return 2 * len(orjson.dumps(asdict(replace(tool, examples=tuple(tool.examples)))))
