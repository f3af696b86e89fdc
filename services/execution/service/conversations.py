"""Runs of agents, as parts of conversations: what a run begins with, and the tools that it has of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from libs import identity
from services.execution.model.events import StateChanged
from services.execution.model.sessions import Message, Talk
from services.execution.model.targets import Agent, Part
from services.execution.model.tools import BoundTool
from services.execution.model.turns import Answer, Job, Work
from services.execution.service.agent_tools import AgentTools
from services.execution.service.asking import Asking
from services.execution.service.handoffs import Handoffs
from services.execution.service.inner import InnerTools
from services.execution.service.journal import Journal
from services.execution.service.names import named
from services.execution.service.own_tools import OwnTools, own_tools
from services.execution.service.sessions import Sessions
from services.execution.service.targets import Members
from services.execution.service.tools import Tools


class TalkRunner(Protocol):
    async def run(
        self, job: Job, journal: Journal, own: OwnTools | None = None, inner: Sequence[InnerTools] = ()
    ) -> Answer: ...


class Conversations:
    """A TargetRunner of agents that gives another runner all that went before."""

    def __init__(self, runner: TalkRunner, sessions: Sessions, tools: Tools) -> None:
        self._runner, self._sessions, self._tools = runner, sessions, tools

    async def run(self, work: Work, journal: Journal, members: Members) -> Answer:
        agent = work.pinned.whole
        assert isinstance(agent, Agent)
        asking = Asking(work, journal, members)
        inner = (AgentTools(asking, agent.spec), Handoffs(asking, agent.spec))
        job = Job(work.execution_id, agent, work.request, self.bind(agent), work.usage, work.time, above=work.above)
        return await self.answer(job, journal, inner)

    def bind(self, part: Part) -> tuple[BoundTool, ...]:
        return self._tools.bind(part.spec, part.functions)

    async def history(self, job: Job, runs: int) -> Sequence[Message]:
        """What was said in the last runs of the session, without the calls of tools."""
        told = {"history": {"num_runs": runs, "max_tool_calls": 0}}
        background = await self._sessions.background(_talk(job), replace(job, agent=replace(job.agent, spec=told)))
        return [message for message in background.history if message["content"]]

    async def answer(self, job: Job, journal: Journal, inner: Sequence[InnerTools] = ()) -> Answer:
        talk = _talk(job)
        background = await self._sessions.background(talk, job, read_only=journal.retells)
        pin = background.pin
        if pin.state_set:
            changed = StateChanged(dict(pin.state), pin.state_version)
            # The first event of all is execution_started; an earlier attempt has said this one, if any has.
            (journal.emit if journal.mark() == _AFTER_START else journal.again)(changed)
        keeps = talk.session_id and not journal.retells
        own_bound = own_tools(job.agent.spec, talk.user_id)
        own = OwnTools(pin, self._sessions.state_of(talk) if keeps else None)
        bound = [*own_bound, *(one for each in inner for one in each.bound)]
        tools = (*named(job.tools, besides=bound), *bound)
        return await self._runner.run(replace(job, background=background, tools=tools), journal, own, inner)


_AFTER_START = 2


def _talk(job: Job) -> Talk:
    request = job.request
    return Talk(identity.current().tenant, job.execution_id, job.agent.agent_id, request.session_id, request.user_id)
