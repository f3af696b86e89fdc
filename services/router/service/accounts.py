"""How attempts end is counted: in the state of the deployment, in budgets, and for the other replicas."""

from __future__ import annotations

from typing import Final

from services.router.model import Chunk, Embedded, Failure, Reranked
from services.router.service import budgets, cooldowns, estimates
from services.router.service.budgets import Ledger
from services.router.service.course import Course
from services.router.service.ports import Shared
from services.router.service.state import DeploymentStates, Seat

Piece = Chunk | Embedded | Reranked
_NOBODYS_FAULT: Final = frozenset({"SECRET_UNRESOLVED", "SERVICE_UNAVAILABLE"})
_CHARACTERS: Final = 4


class Accounts:
    def __init__(self, states: DeploymentStates, ledger: Ledger, shared: Shared | None) -> None:
        self._states, self._ledger, self._shared = states, ledger, shared

    def answered(self, course: Course, seat: Seat, piece: Piece | None) -> None:
        """Counts an answered call, once."""
        if not seat.taken:
            return
        usage = None if piece is None or isinstance(piece, Reranked) else piece.usage
        seat.succeeded(usage.output_tokens if usage else 0, stream=course.stream)
        self._charge(course, seat, usage.total_tokens if usage else 0, (piece.cost if piece else None) or 0.0)

    def failed(self, course: Course, seat: Seat, failure: Failure) -> None:
        """Counts the failure, and cools the deployment down where that is due."""
        reason = failure.error.reason_code
        if reason in _NOBODYS_FAULT or (course.left == 0 and reason == "DEADLINE_EXCEEDED"):
            seat.leave()
            return
        state, table = seat.state, course.table
        seat.failed(cooldowns.error_class(failure), reason)
        alone = len(table.groups.get(state.deployment.model_group, ())) <= 1
        seconds = cooldowns.cooldown(table, state, failure, alone=alone, trial=seat.trial)
        if seconds > 0:
            self._states.cool(state, seconds)
            if self._shared and table.share_state:
                self._shared.cooled(state.tenant, state.deployment.deployment_id, seconds)

    def left(self, course: Course, seat: Seat, *, begun: bool, heard: int) -> None:
        """Ends what is not ended yet, and counts what an answer that broke off has cost. `heard` is the number of texts
        that others had said before."""
        seat.leave()
        if begun and not seat.settled:
            said = sum(map(len, course.said[heard:])) // _CHARACTERS
            asked = course.wish.tokens or estimates.tokens(course.call)
            self._charge(course, seat, asked + said, estimates.cost(seat.state, asked, said))

    def _charge(self, course: Course, seat: Seat, tokens: int, cost: float) -> None:
        state, table = seat.state, course.table
        shared = self._shared if table.share_state else None
        if tokens:
            state.tokens.add(tokens, state.clock())
            if shared and state.deployment.tpm is not None:
                shared.used(state.tenant, state.deployment.deployment_id, tokens)
        if cost and table.budgets:
            spent = [*course.budgets, *budgets.of_deployment(table, state.deployment)]
            for name, budget in {budgets.name_of(b): b for b in spent}.items():
                self._ledger.charge(state.tenant, budget, cost)
                if shared:
                    shared.spent(state.tenant, name, cost, budget.period)
