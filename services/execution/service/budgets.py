"""What is left of a run's budget, asked before each of its steps."""

from __future__ import annotations

from libs import errors
from services.execution.model.budgets import Budget
from services.execution.model.executions import Usage


def require_model_call(budget: Budget, usage: Usage) -> None:
    _require(budget, usage)
    _require_less("max_model_calls", usage.model_calls, budget.max_model_calls)


def require_tool_call(budget: Budget, usage: Usage) -> None:
    _require(budget, usage)
    _require_less("max_tool_calls", usage.tool_calls, budget.max_tool_calls)


def _require(budget: Budget, usage: Usage) -> None:
    _require_less("max_cost_usd", usage.cost_usd, budget.max_cost_usd)
    _require_less("max_total_tokens", usage.input_tokens + usage.output_tokens, budget.max_total_tokens)


def _require_less(name: str, used: float, limit: float) -> None:
    if limit and used >= limit:
        raise errors.ResourceExhausted(
            f"the run has used {used:.12g} of {limit:.12g}, its {name}",
            reason="BUDGET_EXCEEDED",
            metadata={"budget": name, "limit": f"{limit:.12g}", "used": f"{used:.12g}"},
        )
