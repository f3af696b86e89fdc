"""Operators' plugins: told of runs, able to refuse, never able to stall one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from dynamicagents.tools.v1 import tool_service_pb2
from google.protobuf.struct_pb2 import Struct

from libs.config import StartError
from services.execution.hooks import Agent, Ended, Model, Tool
from tests import harness, metrics_page
from tests.recording_hooks import Recording
from tests.rpc.conftest import kinds
from tests.scripted_router import call, calls, text

Bench = Callable[..., Any]
CALCULATOR = [{"tool_id": "builtin/calculator"}]
TURN = calls(call("calculator", '{"expression": "6*7"}'))


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The plugin, installed as pip would."""
    info = tmp_path / "site" / "recording_hooks-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: recording-hooks\nVersion: 1\n")
    points = ["recording = tests.recording_hooks:Recording", "other = tests.nowhere:Other"]
    (info / "entry_points.txt").write_text("\n".join(["[dynamic_agents.hooks]", *points, ""]))
    monkeypatch.setattr(sys, "path", [str(info.parent), *sys.path])
    Recording.told.clear()
    Recording.vetoes.clear()
    Recording.sleeps.clear()
    yield
    Recording.vetoes.clear()
    Recording.sleeps.clear()


def points() -> list[str]:
    return [point for point, *_ in Recording.told]


def told(point: str) -> list[Any]:
    return [what for name, *what in Recording.told if name == point]


async def test_a_run_is_told(bench: Bench) -> None:
    at = await bench(hooks=("recording",))
    at.router.turns = [TURN, text("It is", " 42")]
    await at.create(tools=CALCULATOR)
    events = await at.run(input="what?", user_id="ann", metadata={"channel": "web"})
    assert events[-1].execution_completed.output == "It is 42"
    turn = ["before_model", "after_model"]
    assert points() == ["before_agent", *turn, "before_tool", "after_tool", *turn, "after_agent"]
    ((agent, ended),) = told("after_agent")
    assert agent == Agent(
        "default", events[0].execution_id, "agent", "helper", 1, "", "ann", "what?", {"channel": "web"}
    )
    assert (ended.reason, ended.output, ended.input_tokens, ended.cost_usd) == ("", "It is 42", 20, 0.5)
    (first,), (second,) = told("before_model")
    assert isinstance(first, Model)
    assert len(second.messages) == len(first.messages) + 2
    assert first.tools == ["calculator"]
    assert told("after_model")[0][1].tool_calls[0]["arguments"] == '{"expression": "6*7"}'
    ((tool, done),) = told("after_tool")
    assert tool == Tool("default", events[0].execution_id, "builtin/calculator", {"expression": "6*7"})
    assert (done.output, done.is_error) == ("42", False)
    assert at.router.requests[1].messages[0].content == "what?"


async def test_a_veto_of_the_agent_fails_the_run(bench: Bench) -> None:
    at = await bench(hooks=("recording",))
    Recording.vetoes.add("before_agent")
    await at.create()
    events = await at.run()
    assert kinds(events) == ["execution_started", "execution_failed"]
    info = harness.detail_of_event(events[-1])
    assert (info.reason, info.metadata["hook"], info.metadata["point"]) == ("HOOK_VETOED", "recording", "before_agent")
    assert events[-1].execution_failed.error.message == "no before_agent"
    assert at.router.requests == []


async def test_a_veto_of_a_turn_fails_the_run(bench: Bench) -> None:
    at = await bench(hooks=("recording",))
    Recording.vetoes.add("before_model")
    await at.create()
    events = await at.run()
    assert harness.detail_of_event(events[-1]).reason == "HOOK_VETOED"
    assert told("after_agent")[0][1].reason == "HOOK_VETOED"
    assert at.router.requests == []


async def test_a_veto_of_a_tool_is_told_to_the_model(bench: Bench) -> None:
    at = await bench(hooks=("recording",))
    Recording.vetoes.add("before_tool")
    at.router.turns = [TURN, text("well")]
    await at.create(tools=CALCULATOR)
    events = await at.run()
    (done,) = [event.tool_call_completed for event in events if event.HasField("tool_call_completed")]
    assert (done.output, done.is_error) == ("no before_tool", True)
    assert events[-1].execution_completed.output == "well"
    arguments = Struct()
    arguments.update({"expression": "1"})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await at.tools.CallTool(tool_service_pb2.CallToolRequest(tool_id="builtin/calculator", arguments=arguments))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert harness.reason_of(caught.value) == "HOOK_VETOED"


async def test_a_slow_plugin_is_left_behind(bench: Bench) -> None:
    at = await bench(hooks=("recording",), hook_timeout=0.1)
    Recording.sleeps["before_model"] = 20.0
    await at.create()
    assert (await at.run())[-1].execution_completed.output == "Hello there"
    assert "after_model" in points()


async def test_a_required_plugin_that_is_slow_has_said_no(bench: Bench) -> None:
    at = await bench(hooks=("recording",), required_hooks=("recording",), hook_timeout=0.1)
    Recording.sleeps["before_model"] = 20.0
    await at.create()
    info = harness.detail_of_event((await at.run())[-1])
    assert (info.reason, info.metadata["cause"]) == ("HOOK_VETOED", "timeout")


async def test_a_cancelled_run_is_told_so(bench: Bench) -> None:
    at = await bench(hooks=("recording",))
    at.router.turns = [[60.0]]
    await at.create()
    _, execution_id = await at.begin()
    await at.cancel(execution_id)
    assert told("before_agent")
    for _ in range(500):
        if told("after_agent"):
            break
        await at.get(execution_id)
    assert isinstance(told("after_agent")[0][1], Ended)
    assert told("after_agent")[0][1].reason == "CANCELLED"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hooks": ("gone",)}, "gone is not installed; installed are: other, recording"),
        ({"hooks": ("other",)}, "other: No module named 'tests.nowhere'"),
        ({"required_hooks": ("recording",)}, "recording is not among hooks"),
    ],
)
async def test_what_cannot_be_loaded_stops_the_start(bench: Bench, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(StartError, match=said):
        await bench(**settings)


async def test_tools_of_the_run_itself_are_told_and_refused(bench: Bench) -> None:
    at = await bench(hooks=("recording",), metrics_port=0)
    turn = calls(call("update_session_state", '{"set": {"a": 1}}'))
    at.router.turns = [turn, text("done"), turn, text("well")]
    await at.create(session={"agentic_state": True})
    await at.run(session_id="s")
    ((tool, ended),) = told("after_tool")
    assert (tool.tool_id, ended.output, ended.is_error) == ("builtin/update_session_state", '{"a":1}', False)
    Recording.vetoes.add("before_tool")
    events = await at.run(session_id="s")
    (done,) = [event.tool_call_completed for event in events if event.HasField("tool_call_completed")]
    assert (done.output, done.is_error) == ("no before_tool", True)
    page = await metrics_page.read(at.server.metrics_port)
    assert page.value("tool_calls_total", source="builtin", outcome="ok") == 1
    assert page.value("tool_calls_total", source="builtin", outcome="HOOK_VETOED") == 1
    assert page.value("hook_calls_total", hook="recording", point="before_tool", outcome="veto") == 1
