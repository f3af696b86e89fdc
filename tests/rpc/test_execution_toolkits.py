"""Toolkits of Agno by an operator's word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from dynamicagents.tools.v1 import tool_service_pb2

from libs.config import StartError
from tests.rpc.test_execution_tools import call as call_tool
from tests.scripted_router import call, calls, text

Bench = Callable[..., Any]
ADD = "builtin/agno.calculator.add"


async def test_functions_of_a_toolkit(bench: Bench) -> None:
    at = await bench(agno_toolkits=("calculator", "reasoning"))
    listed = await at.tools.ListTools(tool_service_pb2.ListToolsRequest(page_size=1000))
    found = {tool.tool_id: tool for tool in listed.tools}
    assert found[ADD].input_schema["required"] == ["a", "b"]
    assert (found[ADD].function_name, found[ADD].description) == ("add", "Add two numbers and return the result.")
    thinking = found["builtin/agno.reasoning.think"]
    assert thinking.unusable
    assert "needs" in thinking.warning
    answer = await call_tool(at, ADD, a=17, b=4)
    assert orjson.loads(answer.output)["result"] == 21
    at.router.turns = [calls(call("add", '{"a": 1, "b": 2}')), text("done")]
    await at.create(tools=[{"tool_id": "builtin/agno.calculator.*"}])
    events = await at.run()
    (answered,) = [event.tool_call_completed for event in events if event.HasField("tool_call_completed")]
    assert orjson.loads(answered.output)["result"] == 3


@pytest.mark.parametrize(
    "named",
    [
        "shell",
        "python",
        "file",
        "coding",
        "local_file_system",
        "nothing",
        "os.path",
        "../shell",
        "_local_file_utils",
        "x:Nobody",
    ],
)
async def test_toolkits_that_nobody_has(bench: Bench, named: str) -> None:
    with pytest.raises(StartError, match="agno_toolkits"):
        await bench(agno_toolkits=(named,))
