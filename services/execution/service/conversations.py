"""Runs of agents, as parts of conversations: what a run begins with, and the tools that it has of itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from libs import identity
from services.execution.model.events import StateChanged
from services.execution.model.sessions import Talk
from services.execution.model.targets import Agent
from services.execution.model.turns import Answer, Job, Work
from services.execution.service.journal import Journal
from services.execution.service.own_tools import OwnTools, own_tools
from services.execution.service.sessions import Sessions
from services.execution.service.targets import Members
from services.execution.service.tools import Tools


class TalkRunner(Protocol):
    async def run(self, job: Job, journal: Journal, own: OwnTools | None = None) -> Answer: ...


class Conversations:
    """A TargetRunner of agents that gives another runner all that went before."""

    def __init__(self, runner: TalkRunner, sessions: Sessions, tools: Tools) -> None:
        self._runner, self._sessions, self._tools = runner, sessions, tools

    async def run(self, work: Work, journal: Journal, members: Members) -> Answer:
        return await self.answer(self.job(work), journal)

    def job(self, work: Work) -> Job:
        agent = work.pinned.whole
        assert isinstance(agent, Agent)
        tools = self._tools.bind(agent.spec, agent.functions)
        return Job(work.execution_id, agent, work.request, tools, work.usage, work.time, above=work.above)

    async def answer(self, job: Job, journal: Journal) -> Answer:
        talk = _talk(job)
        background = await self._sessions.background(talk, job, read_only=journal.retells)
        pin = background.pin
        if pin.state_set:
            changed = StateChanged(dict(pin.state), pin.state_version)
            # The first event of all is execution_started; an earlier attempt has said this one, if any has.
            (journal.emit if journal.mark() == _AFTER_START else journal.again)(changed)
        keeps = talk.session_id and not journal.retells
        own = OwnTools(pin, self._sessions.state_of(talk) if keeps else None)
        bound = own_tools(job.agent.spec, talk.user_id)
        return await self._runner.run(replace(job, background=background, tools=(*job.tools, *bound)), journal, own)


_AFTER_START = 2


def _talk(job: Job) -> Talk:
    request = job.request
    return Talk(identity.current().tenant, job.execution_id, job.agent.agent_id, request.session_id, request.user_id)
