"""A place for a call: at a deployment that can take it, within what all replicas may use."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from services.router.model import RoutingTable
from services.router.service import selection, strategies
from services.router.service.budgets import Ledger
from services.router.service.course import PREFILL, Course
from services.router.service.ports import Shared, Upstream
from services.router.service.selection import Sifted
from services.router.service.state import DeploymentState, DeploymentStates, Seat

_RANKED: Final = 8
_MOST_ASKED_FOR: Final = 100


class Places:
    def __init__(self, states: DeploymentStates, ledger: Ledger, upstream: Upstream, shared: Shared | None) -> None:
        self._states, self._ledger, self._upstream, self._shared = states, ledger, upstream, shared

    async def take(self, course: Course) -> tuple[Seat, bool]:
        """A place at a deployment, and whether the answer goes on there."""
        while True:
            group = course.attempts.group
            await self.learn(course.table, self._group(course), anyway=course.may_go_on)
            sifted = self._sifted(course)
            able = [s for s in sifted.states if s.facts and PREFILL in s.facts.capabilities] if course.may_go_on else []
            if states := able or sifted.states:
                if seat := await self._admitted(course, states):
                    return seat, bool(able)
                sifted.refusals += [selection.over_limit(state) for state in states]
            course.attempts.barred(selection.none_left(group, sifted.refusals))

    def others(self, course: Course, deployment_id: str) -> bool:
        """Whether a deployment that was not tried could take the call."""
        tried = {*course.attempts.tried, deployment_id}
        return any(s.deployment.deployment_id not in tried for s in self._sifted(course).states)

    async def learn(self, table: RoutingTable, states: Sequence[DeploymentState], *, anyway: bool = False) -> None:
        """Facts of the models, where a choice or a bill needs them."""
        if anyway or table.pre_call_checks or table.budgets or table.strategy in strategies.NEEDS_FACTS:
            for state in states:
                if state.facts is None:
                    deployment = state.deployment
                    state.facts = (await self._upstream.facts(deployment)).corrected(deployment)

    async def _admitted(self, course: Course, states: Sequence[DeploymentState]) -> Seat | None:
        """None when the replicas together are at the limits of all of them."""
        first = selection.preferred(states, course.attempts.tried)
        limited = any(s.deployment.rpm is not None or s.deployment.tpm is not None for s in first)
        if self._shared and limited and course.table.share_state:
            return await self._admitted_by_all(course, self._shared, first)
        return self._states.begin(_choose(course, first))

    async def _admitted_by_all(self, course: Course, shared: Shared, states: list[DeploymentState]) -> Seat | None:
        ranked: list[DeploymentState] = []
        while states and len(ranked) < _RANKED:
            ranked.append(_choose(course, states))
            states.remove(ranked[-1])
        ranked += states[: _MOST_ASKED_FOR - _RANKED]
        seat = self._states.begin(ranked[0])
        wanted = [(s.deployment.deployment_id, s.deployment.rpm, s.deployment.tpm) for s in ranked]
        try:
            index = await shared.admit(course.caller.tenant, wanted, course.wish.tokens)
        except BaseException:
            seat.unused()
            raise
        if not index:
            return seat
        seat.unused()
        return self._states.begin(ranked[index]) if index > 0 else None

    def _group(self, course: Course) -> list[DeploymentState]:
        attempts, of, tenant = course.attempts, self._states.of, course.caller.tenant
        return [of(tenant, d) for d in course.table.groups[attempts.group] if d.order >= attempts.least_order]

    def _sifted(self, course: Course) -> Sifted:
        return selection.sift(course.table, self._group(course), course.wish, self._ledger)


def _choose(course: Course, states: Sequence[DeploymentState]) -> DeploymentState:
    return selection.choose(course.table, states, stream=course.stream, number=random.random())  # noqa: S311
