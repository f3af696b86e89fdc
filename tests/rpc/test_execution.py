from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.rpc.conftest import kinds
from tests.scripted_router import call, calls, text


async def test_events_of_a_run_with_a_tool(bench: Callable[..., Any]) -> None:
    at = await bench()
    at.router.turns = [calls(call("calculator", '{"expression": "17 * 23"}')), text("It is", " 391.")]
    await at.create(tools=[{"tool_id": "builtin/calculator"}])
    events = await at.run()
    print(events)
    assert kinds(events) == [
        "execution_started",
        "usage_reported",
        "tool_call_started",
        "tool_call_completed",
        "content_delta",
        "usage_reported",
        "execution_completed",
    ]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
