from __future__ import annotations

from typing import Any

import pytest

from libs import errors
from services.execution.model.budgets import DEEPEST, Budget, Meter
from services.execution.model.executions import Usage


def meter(above: Meter | None = None, **limits: Any) -> Meter:
    used = Usage(input_tokens=70, output_tokens=30, cost_usd=0.25, model_calls=4, tool_calls=9)
    return Meter(used, Budget(**limits), above)


@pytest.mark.parametrize(
    ("limits", "step", "metadata"),
    [
        ({"max_cost_usd": 0.25}, Meter.model_call, ("max_cost_usd", "0.25", "0.25")),
        ({"max_cost_usd": 0.1}, Meter.tool_call, ("max_cost_usd", "0.1", "0.25")),
        ({"max_total_tokens": 99}, Meter.model_call, ("max_total_tokens", "99", "100")),
        ({"max_total_tokens": 100}, Meter.tool_call, ("max_total_tokens", "100", "100")),
        ({"max_model_calls": 4}, Meter.model_call, ("max_model_calls", "4", "4")),
        ({"max_tool_calls": 9}, Meter.tool_call, ("max_tool_calls", "9", "9")),
    ],
)
def test_step_that_the_budget_has_nothing_left_for(limits: dict[str, Any], step: Any, metadata: Any) -> None:
    above = meter()
    for one in (meter(**limits), Meter(Usage(), Budget(), meter(**limits))):
        with pytest.raises(errors.ResourceExhausted) as caught:
            step(Meter(one.usage, one.budget, one.above or above))
        assert caught.value.reason_code == "BUDGET_EXCEEDED"
        assert tuple(caught.value.metadata[key] for key in ("budget", "limit", "used")) == metadata
    assert above.usage == meter().usage


@pytest.mark.parametrize(
    "limits",
    [{}, {"max_cost_usd": 0.26}, {"max_total_tokens": 101}, {"max_model_calls": 5}, {"max_tool_calls": 10}],
)
def test_step_that_the_budget_allows(limits: dict[str, Any]) -> None:
    meter(**limits).model_call()
    meter(**limits).tool_call()


def test_each_kind_of_step_has_its_own_count() -> None:
    meter(max_tool_calls=1).model_call()
    meter(max_model_calls=1).tool_call()


def test_what_a_member_takes_counts_for_the_whole() -> None:
    whole = Meter(Usage(), Budget())
    member = whole.part(Budget(max_model_calls=1))
    member.model_call()
    member.tool_call()
    member.count({"input_tokens": 3, "cost_usd": 0.5})
    assert member.usage == whole.usage == Usage(input_tokens=3, cost_usd=0.5, model_calls=1, tool_calls=1)
    with pytest.raises(errors.ResourceExhausted):
        member.model_call()
    whole.model_call()
    assert (member.usage.model_calls, whole.usage.model_calls) == (1, 2)


def test_depth_is_bounded_by_each_budget_from_where_it_stands() -> None:
    whole = Meter(Usage(), Budget(max_depth=2))
    second = whole.part(Budget()).part(Budget(max_depth=1))
    with pytest.raises(errors.ResourceExhausted) as caught:
        second.part(Budget())
    assert caught.value.metadata["budget"] == "max_depth"


def test_members_are_not_nested_for_ever() -> None:
    deep = Meter(Usage(), Budget())
    for _ in range(DEEPEST):
        deep = deep.part(Budget())
    with pytest.raises(errors.ResourceExhausted) as caught:
        deep.part(Budget())
    assert caught.value.reason_code == "NESTED_TOO_DEEP"
