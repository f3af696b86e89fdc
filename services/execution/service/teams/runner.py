"""Runs teams."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from libs import deadline, errors
from services.execution.model.executions import Usage
from services.execution.model.sessions import Message
from services.execution.model.targets import Agent, Part, Team
from services.execution.model.tools import BoundTool
from services.execution.model.turns import Answer, Job, Work
from services.execution.service.agent_tools import AgentTools
from services.execution.service.asking import Asking, side_by_side
from services.execution.service.inner import Inner, InnerTools
from services.execution.service.journal import Journal
from services.execution.service.targets import Members
from services.execution.service.teams.crew import Crew
from services.execution.service.teams.delegation import Delegation
from services.execution.service.teams.roster import BROADCAST, ROUTE, TASKS, leader, limits_of, mode_of, roster
from services.execution.service.teams.tasks import TaskList

_HISTORY_RUNS: Final = 3


class Talks(Protocol):
    def bind(self, part: Part) -> tuple[BoundTool, ...]: ...

    async def history(self, job: Job, runs: int) -> Sequence[Message]: ...

    async def answer(self, job: Job, journal: Journal, inner: Sequence[InnerTools] = ()) -> Answer: ...


class Teams:
    def __init__(self, talks: Talks) -> None:
        self._talks = talks

    async def run(self, work: Work, journal: Journal, members: Members) -> Answer:
        team = work.pinned.whole
        assert isinstance(team, Team)
        narrowed = limits_of(team.spec, work.request.budget)
        work = replace(work, request=replace(work.request, budget=narrowed))
        seconds = _seconds(team.spec)
        try:
            with deadline.within(seconds):
                async with asyncio.timeout(seconds) as limit:
                    return await self._run(team, work, journal, members)
        except TimeoutError:
            if not limit.expired():
                raise
            raise errors.DeadlineExceeded(f"team {team.team_id} has not answered within {seconds:g} s") from None

    async def _run(self, team: Team, work: Work, journal: Journal, members: Members) -> Answer:
        mode, crew_list = mode_of(team), roster(team, work.pinned)
        if not crew_list:
            raise errors.FailedPrecondition(f"team {team.team_id} has no members", metadata={"team": team.team_id})
        asking = Asking(work, journal, members)
        direct = mode == ROUTE or bool(team.spec.get("respond_directly"))
        crew = Crew(
            asking,
            crew_list,
            shares=bool(team.spec.get("share_member_interactions")),
            history=await self._history(team, work),
            media=work.request.media if mode in (ROUTE, BROADCAST) else (),
            output_schema=(work.request.output_schema or team.spec.get("output_schema")) if direct else None,
        )
        told = await _broadcast(crew, work.request.input) if mode == BROADCAST else ""
        agent = leader(team, crew_list, told)
        inner: list[InnerTools] = [AgentTools(asking, team.spec), _tools(mode, crew, team, direct=direct)]
        return await self._talks.answer(self._job(agent, work), journal, inner)

    def _job(self, agent: Agent, work: Work) -> Job:
        """The leader's own run: a part of the team's, which counts for it as the members do."""
        request = replace(work.request, budget={})
        tools = self._talks.bind(agent)
        return Job(work.execution_id, agent, request, tools, Usage(), work.time, above=work.meter)

    async def _history(self, team: Team, work: Work) -> Sequence[Mapping[str, Any]]:
        if not team.spec.get("add_team_history_to_members"):
            return ()
        runs = team.spec.get("num_team_history_runs") or _HISTORY_RUNS
        return await self._talks.history(self._job(leader(team, (), ""), work), runs)


def _tools(mode: str, crew: Crew, team: Team, *, direct: bool) -> Inner:
    match mode:
        case str() if mode == BROADCAST:
            return Inner()
        case str() if mode == TASKS:
            return TaskList(crew, team.spec.get("max_iterations", 0))
    return Delegation(crew, direct=direct, single=mode == ROUTE)


async def _broadcast(crew: Crew, text: str) -> str:
    """What all members say to the request."""
    ids = list(crew.members)
    results = await side_by_side([crew.ask(one, text, 0, 0) for one in ids])
    lines = [
        f"{one} {'failed' if result.is_error else 'said'}: {result.output}"
        for one, result in zip(ids, results, strict=True)
    ]
    return "The members were asked, and said:\n<answers>\n" + "\n".join(lines) + "\n</answers>"


def _seconds(spec: Mapping[str, Any]) -> float | None:
    timeout = spec.get("limits", {}).get("timeout")
    return float(timeout.removesuffix("s")) if timeout else None
