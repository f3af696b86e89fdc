"""The example teams, on the offline model of a running suite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from dynamicagents.execution.v1 import event_pb2, execution_service_pb2, execution_service_pb2_grpc

from tests.suite_process import Suite

EXAMPLES = Path(__file__).parents[2] / "examples" / "teams"
EDITS = "the coordinator-writer writes, then the coordinator-editor shortens: the sea"
REFLECTS = "a poem, for the reflection-critic, then the reflection-critic again"


@pytest.fixture(scope="module")
def applied(suite: Suite) -> Suite:
    done = suite.run("apply", "-f", str(EXAMPLES))
    assert done.returncode == 0, done.stderr
    return suite


async def run(suite: Suite, **request: Any) -> list[event_pb2.ExecuteEvent]:
    async with grpc.aio.insecure_channel(suite.address("execution")) as channel:
        stub: Any = execution_service_pb2_grpc.ExecutionServiceStub(channel)
        asked = execution_service_pb2.ExecuteRequest(**request)
        return [event async for event in stub.ExecuteStream(asked, timeout=60)]


@pytest.mark.parametrize(
    ("target", "text", "members"),
    [
        ({"team_id": "coordinator"}, EDITS, ["coordinator-writer", "coordinator-editor"]),
        ({"agent_id": "handoff-reception"}, "to handoff-billing, please: my invoice", ["handoff-billing"]),
        (
            {"team_id": "hierarchy"},
            "hierarchy-research asks the hierarchy-reader about the sea",
            ["hierarchy-research", "hierarchy-reader"],
        ),
        ({"agent_id": "tool-helper"}, "ask the tool-expert: 17 * 23", ["tool-expert"]),
        (
            {"team_id": "broadcast"},
            "Should we go to the sea?",
            ["broadcast-optimist", "broadcast-pessimist", "broadcast-realist"],
        ),
        ({"agent_id": "reflection-writer"}, REFLECTS, ["reflection-critic"] * 2),
    ],
)
async def test_examples(applied: Suite, target: dict[str, str], text: str, members: list[str]) -> None:
    events = await run(applied, **target, input=text)
    assert events[-1].HasField("execution_completed"), events[-1]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.source.path[-1] for event in events if event.HasField("member_started")] == members
    assert sum(event.HasField("member_completed") for event in events) == len(members)
    if members == ["tool-expert"]:
        assert "391" in events[-1].execution_completed.output


async def test_reflection_ends_after_three_rounds(applied: Suite) -> None:
    again = ", then the reflection-critic" * 5
    events = await run(applied, agent_id="reflection-writer", input=f"a poem, for the reflection-critic{again}")
    assert events[-1].HasField("execution_completed")
    assert sum(event.HasField("member_started") for event in events) == 3
    refused = [event.tool_call_completed for event in events if event.tool_call_completed.is_error]
    assert len(refused) == 3
    assert "limit of 3" in refused[0].output
