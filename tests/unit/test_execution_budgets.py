from __future__ import annotations

from typing import Any

import pytest

from libs import errors
from services.execution.model.budgets import Budget
from services.execution.model.executions import Usage
from services.execution.service.budgets import require_model_call, require_tool_call

USED = Usage(input_tokens=70, output_tokens=30, cost_usd=0.25, model_calls=4, tool_calls=9)


@pytest.mark.parametrize(
    ("limits", "step", "metadata"),
    [
        ({"max_cost_usd": 0.25}, require_model_call, ("max_cost_usd", "0.25", "0.25")),
        ({"max_cost_usd": 0.1}, require_tool_call, ("max_cost_usd", "0.1", "0.25")),
        ({"max_total_tokens": 99}, require_model_call, ("max_total_tokens", "99", "100")),
        ({"max_total_tokens": 100}, require_tool_call, ("max_total_tokens", "100", "100")),
        ({"max_model_calls": 4}, require_model_call, ("max_model_calls", "4", "4")),
        ({"max_tool_calls": 9}, require_tool_call, ("max_tool_calls", "9", "9")),
    ],
)
def test_step_that_the_budget_has_nothing_left_for(limits: dict[str, Any], step: Any, metadata: Any) -> None:
    with pytest.raises(errors.ResourceExhausted) as caught:
        step(Budget(**limits), USED)
    assert caught.value.reason_code == "BUDGET_EXCEEDED"
    assert tuple(caught.value.metadata[key] for key in ("budget", "limit", "used")) == metadata


@pytest.mark.parametrize(
    "limits",
    [{}, {"max_cost_usd": 0.26}, {"max_total_tokens": 101}, {"max_model_calls": 5}, {"max_tool_calls": 10}],
)
def test_step_that_the_budget_allows(limits: dict[str, Any]) -> None:
    require_model_call(Budget(**limits), USED)
    require_tool_call(Budget(**limits), USED)


def test_each_kind_of_step_has_its_own_count() -> None:
    require_model_call(Budget(max_tool_calls=1), USED)
    require_tool_call(Budget(max_model_calls=1), USED)
