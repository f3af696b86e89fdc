"""What would not fit into a message."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from dynamicagents.execution.v1 import execution_service_pb2
from dynamicagents.router.v1 import chat_pb2
from dynamicagents.tools.v1 import tool_service_pb2
from google.protobuf.struct_pb2 import Struct
from google.rpc import code_pb2

from services.execution.model.tools import Tool
from tests import harness
from tests.rpc.conftest import COMPLETED, FAILED, kinds, sequences, text_of
from tests.scripted_router import call, calls, text

Bench = Callable[..., Any]
LIMIT = 65536


class Large:
    def tools(self) -> Sequence[Tool]:
        return [Tool("test/large", "large", "Large", "As long as asked.", {"type": "object"}, "1")]

    async def call(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
        return "z" * int(arguments["size"])


async def test_answer_that_fits_into_no_message_ends_the_run(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(max_message_bytes=LIMIT, **database_settings)
    at.router.turns = [text(*["\N{GRINNING FACE}" * 4000] * 5), text("short")]
    await at.create(history={"num_runs": 5})
    events = await at.run(session_id="talk")
    assert text_of(events) == "\N{GRINNING FACE}" * 20_000
    assert sequences(events) == list(range(1, len(events) + 1))
    assert events[-1].execution_failed.error.code == code_pb2.RESOURCE_EXHAUSTED
    info = harness.detail_of_event(events[-1])
    assert (info.reason, dict(info.metadata)) == ("MESSAGE_TOO_LARGE", {"limit_bytes": str(LIMIT)})
    assert events[-1].execution_failed.usage.model_calls == 1
    found = await at.get(events[0].execution_id)
    assert (found.status, found.output) == (FAILED, "")
    assert found.error == events[-1].execution_failed.error
    assert await at.watch(found.execution_id) == events
    assert (await at.execute(session_id="talk")).output == "short"
    assert [message.content for message in at.router.requests[1].messages] == ["hi"]


async def test_answer_that_just_fits_can_be_read(bench: Bench) -> None:
    at = await bench(max_message_bytes=LIMIT)
    at.router.turns = [text("x" * (LIMIT - 3000))]
    await at.create()
    done = await at.execute(input="y" * 1000)
    assert (done.status, len(done.output)) == (COMPLETED, LIMIT - 3000)
    assert (await at.get(done.execution_id)).output == done.output
    assert (await at.execute(input="y" * 4000)).status == FAILED


async def test_text_in_one_piece_is_sent_in_several(bench: Bench) -> None:
    at = await bench(max_message_bytes=LIMIT)
    reasoning = "why " * 12_000
    at.router.turns = [[chat_pb2.ChatChunk(reasoning=reasoning), *text("a" * 20_000)]]
    await at.create()
    events = await at.run()
    assert text_of(events) == events[-1].execution_completed.output == "a" * 20_000
    assert "".join(event.reasoning_delta.text for event in events) == reasoning
    assert await at.watch(events[0].execution_id) == events
    asked = execution_service_pb2.ReplayExecutionRequest(execution_id=events[0].execution_id)
    again = [answer.event async for answer in at.executions.ReplayExecution(asked, timeout=20)]
    assert text_of(again) == text_of(events)


async def test_answer_that_is_no_data_is_shown_as_far_as_it_fits(bench: Bench) -> None:
    at = await bench(max_message_bytes=LIMIT)
    at.router.turns = [text("x" * (LIMIT // 2))]
    schema = Struct()
    schema.update({"type": "object"})
    await at.create()
    failed = (await at.run(output_schema=schema))[-1]
    assert harness.detail_of_event(failed).reason == "OUTPUT_INVALID"
    assert failed.execution_failed.raw_output.startswith("x" * (LIMIT // 4) + "\n[cut off")


@pytest.mark.parametrize("size", [200, 200_000])
async def test_result_of_a_tool_fits_into_a_message(bench: Bench, size: int) -> None:
    at = await bench(max_message_bytes=LIMIT, tool_sources=("tests.rpc.test_execution_sizes:Large",))
    at.router.turns = [calls(call("large", f'{{"size": {size}}}')), text("done")]
    await at.create(tools=[{"tool_id": "test/large"}])
    events = await at.run()
    assert kinds(events)[-1] == "execution_completed"
    (told,) = [event.tool_call_completed.output for event in events if event.HasField("tool_call_completed")]
    asked = tool_service_pb2.CallToolRequest(tool_id="test/large")
    asked.arguments.update({"size": size})
    direct = (await at.tools.CallTool(asked)).output
    assert told == direct
    assert direct.startswith("z" * min(size, LIMIT // 4))
    assert ("[cut off" in direct) == (size > LIMIT // 4)
