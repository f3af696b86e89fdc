"""What goes through several members: media, questions, hand-offs, and runs that are taken up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from dynamicagents.execution.v1 import execution_service_pb2
from dynamicagents.registry.v1 import team_pb2
from dynamicagents.router.v1 import chat_pb2

from tests.rpc.conftest import ExecutionBench, sequences
from tests.rpc.test_execution_crews import ASKS, ROUTE, SUM, answer_all
from tests.rpc.test_execution_teams import crew, delegate, of, replayed, told
from tests.rpc.test_execution_workflows import run_of, step, workflow
from tests.scripted_router import call, calls, text

Bench = Callable[..., Any]
BROADCAST = team_pb2.TEAM_MODE_BROADCAST

MEDIA = [chat_pb2.MediaPart(url="https://example.com/cat.png", mime_type="image/png")]


def seen_by(at: ExecutionBench, model: str) -> Any:
    return next(list(one.messages[-1].media) for one in at.router.requests if one.model == model)


@pytest.mark.parametrize(
    ("mode", "reaches"),
    [(team_pb2.TEAM_MODE_COORDINATE, []), (ROUTE, MEDIA), (BROADCAST, MEDIA)],
)
async def test_media_go_to_members_that_get_the_request_itself(bench: Bench, mode: Any, reaches: Any) -> None:
    at = await bench()
    await crew(at, "one")
    await at.create_team("inner", "one", mode=mode)
    await at.create_team("outer", "team/inner", mode=ROUTE)
    scripts = {"outer": [calls(delegate("inner", "x"))], "inner": [calls(delegate("one", "x")), text("done")]}
    at.router.scripts |= scripts | ({"inner": [text("done")]} if mode == BROADCAST else {})
    events = await at.run(team_id="outer", media=MEDIA)
    assert events[-1].HasField("execution_completed")
    assert seen_by(at, "outer") == seen_by(at, "inner") == MEDIA
    assert seen_by(at, "one") == reaches
    assert told(await replayed(at, events[0].execution_id)) == told(events)


async def test_media_move_with_the_conversation(bench: Bench) -> None:
    at = await bench()
    await crew(at, "last")
    await at.create("second", model={"model": "second"}, handoffs=[{"agent_id": "last"}])
    await at.create("first", model={"model": "first"}, handoffs=[{"agent_id": "second"}])
    at.router.scripts["first"] = [calls(call("transfer_to_second", "{}"))]
    at.router.scripts["second"] = [calls(call("transfer_to_last", "{}", "t2"))]
    events = await at.run(agent_id="first", media=MEDIA)
    assert events[-1].execution_completed.output == "last says"
    assert seen_by(at, "second") == seen_by(at, "last") == MEDIA


async def test_routed_answer_is_kept_in_the_session(bench: Bench) -> None:
    at = await bench()
    await crew(at, "one")
    await at.create_team("front", "one", mode=ROUTE, history={"num_runs": 3})
    at.router.scripts["front"] = [calls(delegate("one", "x")), calls(delegate("one", "y", "d2"))]
    await at.run(team_id="front", input="first", session_id="talk")
    events = await at.run(team_id="front", input="second", session_id="talk")
    assert events[-1].execution_completed.output == "one says"
    session = await at.executions.GetSession(execution_service_pb2.GetSessionRequest(session_id="talk"))
    assert "one says" in str(session.messages[-1])
    last = [one for one in at.router.requests if one.model == "front"][-1]
    assert "one says" in str(last)


async def test_approval_after_handoff(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    await crew(at, "asks", **ASKS)
    at.router.scripts["asks"] = [SUM, text("42")]
    await at.create("helper", model={"model": "helper"}, handoffs=[{"agent_id": "asks"}])
    at.router.scripts["helper"] = [calls(call("transfer_to_asks", "{}"))]
    waiting = await at.execute(session_id="talk")
    events = await answer_all(at, waiting)
    assert events[-1].execution_completed.output == "42"
    assert len(of(events, "handed_off")) == 1
    assert [one.model for one in at.router.requests] == ["helper", "asks", "asks"]


async def test_pause_two_teams_deep(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    await crew(at, "asks", **ASKS)
    at.router.scripts["asks"] = [SUM, text("42")]
    await at.create_team("inner", "asks", mode=BROADCAST)
    await at.create_team("outer", "team/inner", mode=ROUTE)
    at.router.scripts |= {"inner": [text("sum is 42")], "outer": [calls(delegate("inner", "x"))]}
    waiting = await at.execute(team_id="outer")
    events = await answer_all(at, waiting)
    assert events[-1].execution_completed.output == "sum is 42"
    assert sequences(events) == list(range(1, len(events) + 1))
    assert max(one.source.depth for one in events) == 2


async def test_takeover_in_a_broadcast(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings, lease=0.5)
    await crew(at, "one", "two")
    gate = asyncio.Event()
    at.router.scripts["two"] = [[text("half ")[0], gate.set, 30.0], text("whole")]
    await at.create_team("all", "one", "two", mode=BROADCAST)
    at.router.scripts["all"] = [text("done")]
    async with at.beside() as other:
        stream, execution_id = await other.begin(team_id="all")
        while not (await stream.read()).HasField("member_completed"):
            pass  # what has not been kept may be asked again
        await asyncio.wait_for(gate.wait(), 20)
        stream.cancel()
    events = [one for one in await at.watch(execution_id) if not one.HasField("heartbeat")]
    assert events[-1].execution_completed.output == "done"
    assert sequences(events) == list(range(1, len(events) + 1))
    assert [one.model for one in at.router.requests].count("one") == 1
    assert len(of(events, "member_started")) == 2


async def test_handoff_in_a_workflow_step(bench: Bench) -> None:
    at = await bench()
    await crew(at, "expert")
    await at.create("first", model={"model": "first"}, handoffs=[{"agent_id": "expert"}])
    at.router.scripts["first"] = [calls(call("transfer_to_expert", "{}"))]
    await workflow(at, step("s", agent={"agent_id": "first"}))
    events = await at.run(**run_of())
    assert events[-1].execution_completed.output == "expert says"
    assert len(of(events, "handed_off")) == 1
