"""What was spent, against what may be."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from libs import errors
from libs.identity import Caller
from services.router.model import Budget, BudgetScope, Deployment, RoutingTable
from services.router.service.state import Clock

_MOST_KEPT: Final = 100_000


@dataclass(slots=True)
class Spending:
    amount: float
    ends: float


class Ledger:
    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._spendings: dict[tuple[str, str], Spending] = {}

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter([*self._spendings])

    def spent(self, tenant: str, budget: Budget) -> float:
        found = self._spendings.get((tenant, name_of(budget)))
        return found.amount if found and self._clock() < found.ends else 0.0

    def renewed_in(self, tenant: str, budget: Budget) -> float:
        found = self._spendings.get((tenant, name_of(budget)))
        return max(0.0, found.ends - self._clock()) if found else 0.0

    def exceeded(self, tenant: str, budgets: Iterable[Budget]) -> Budget | None:
        return next((b for b in budgets if self.spent(tenant, b) >= b.max_cost), None)

    def charge(self, tenant: str, budget: Budget, amount: float) -> None:
        now, key = self._clock(), (tenant, name_of(budget))
        found = self._spendings.get(key)
        if found is None or now >= found.ends:
            if len(self._spendings) >= _MOST_KEPT:
                self._spendings = {key: s for key, s in self._spendings.items() if now < s.ends}
            found = self._spendings[key] = Spending(0.0, now + budget.period)
        found.amount += amount

    def settle(self, tenant: str, name: str, amount: float, seconds_left: float) -> None:
        """What all replicas have spent together."""
        self._spendings[tenant, name] = Spending(amount, self._clock() + seconds_left)


def of_call(table: RoutingTable, caller: Caller, tags: Sequence[str]) -> list[Budget]:
    """The budgets that a call spends whoever answers it."""
    names = {
        BudgetScope.TENANT: ("",),
        BudgetScope.SUBJECT: (caller.subject,),
        BudgetScope.TAG: tuple(tag.removeprefix("&") for tag in tags if not tag.startswith("!")),
    }
    return [budget for budget in table.budgets if budget.name in names.get(budget.scope, ())]


def of_deployment(table: RoutingTable, deployment: Deployment) -> list[Budget]:
    names = {
        BudgetScope.DEPLOYMENT: (deployment.deployment_id,),
        BudgetScope.PROVIDER: (deployment.provider,),
        BudgetScope.TAG: deployment.tags,
    }
    return [budget for budget in table.budgets if budget.name in names.get(budget.scope, ())]


def name_of(budget: Budget) -> str:
    return f"{described(budget)}:{budget.period:g}"


def described(budget: Budget) -> str:
    """As in the metadata of BUDGET_EXCEEDED."""
    return f"{budget.scope}:{budget.name}" if budget.name else str(budget.scope)


def spent_error(ledger: Ledger, tenant: str, budget: Budget) -> errors.Error:
    used = ledger.spent(tenant, budget)
    return errors.ResourceExhausted(
        f"the budget {described(budget)} of {budget.max_cost:g} USD is spent",
        reason="BUDGET_EXCEEDED",
        metadata={"budget": described(budget), "limit": f"{budget.max_cost:g}", "used": f"{used:.6g}"},
        retry_after=ledger.renewed_in(tenant, budget),
    )
