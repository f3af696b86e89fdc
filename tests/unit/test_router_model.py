from __future__ import annotations

from services.router.model import ToolCall, ToolCalls


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
