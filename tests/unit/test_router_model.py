from __future__ import annotations

from collections import Counter

from services.router.model import Deployment, ToolCall, ToolCalls, choose


def group(**weights: float) -> list[Deployment]:
    return [Deployment(name, "g", "openai/x", weight=weight) for name, weight in weights.items()]


def test_choice_follows_the_weights() -> None:
    chosen = Counter(choose(group(a=1, b=3), (), n / 100).deployment_id for n in range(100))
    assert chosen == {"a": 25, "b": 75}


def test_choice_leaves_out_what_was_tried() -> None:
    assert choose(group(a=1, b=1), {"a"}, 0.0).deployment_id == "b"


def test_choice_takes_one_again_when_all_were_tried() -> None:
    assert choose(group(a=1, b=1), {"a", "b"}, 0.9).deployment_id == "b"


def test_weight_zero_is_the_last_resort() -> None:
    assert {choose(group(a=0, b=1), (), n / 10).deployment_id for n in range(10)} == {"b"}
    assert choose(group(a=0, b=1), {"b"}, 0.5).deployment_id == "a"
    assert {choose(group(a=0, b=0), (), n / 10).deployment_id for n in range(10)} == {"a", "b"}


def test_choice_at_the_edge_of_the_draw() -> None:
    assert choose(group(a=0.1, b=0.2), (), 0.9999999999999999).deployment_id == "b"


def test_tool_calls_are_merged_by_index() -> None:
    calls = ToolCalls()
    calls.add(0, "x", "add", "")
    calls.add(1, "y", "sub", '{"a"')
    calls.add(0, "", "", '{"a":')
    calls.add(0, "", "", "1}")
    calls.add(1, "", "", ":2}")
    assert calls.whole() == (ToolCall("x", "add", '{"a":1}'), ToolCall("y", "sub", '{"a":2}'))


def test_tool_calls_of_a_provider_that_numbers_all_of_them_zero() -> None:
    calls = ToolCalls()
    calls.add(0, "x", "add", "{}")
    calls.add(0, "y", "add", '{"a":')
    calls.add(0, "y", "", "1}")
    assert calls.whole() == (ToolCall("x", "add", "{}"), ToolCall("y", "add", '{"a":1}'))


def test_tool_call_without_an_id_gets_one() -> None:
    calls = ToolCalls()
    calls.add(0, "", "add", "{}")
    assert calls.whole() == (ToolCall("call_0", "add", "{}"),)
