"""Teams, hand-offs and agents as tools, on a real Registry and a scripted Router."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from dynamicagents.execution.v1 import event_pb2, execution_service_pb2
from dynamicagents.registry.v1 import agent_service_pb2, team_pb2

from libs import errors
from tests import harness
from tests.rpc.conftest import COMPLETED, FAILED, ExecutionBench, kinds, rest, sequences
from tests.scripted_router import call, calls, text

Bench = Callable[..., Any]
DELEGATE = "delegate_task_to_member"


def delegate(member_id: str, task: str, call_id: str = "d1") -> Any:
    return call(DELEGATE, json.dumps({"member_id": member_id, "task": task}), call_id)


def of(events: list[event_pb2.ExecuteEvent], kind: str) -> list[Any]:
    return [getattr(event, kind) for event in events if event.HasField(kind)]


def within(events: list[event_pb2.ExecuteEvent], scope: str) -> list[str]:
    return [str(event.WhichOneof("event")) for event in events if event.source.scope == scope]


async def crew(at: ExecutionBench, *names: str, **spec: Any) -> None:
    for name in names:
        await at.create(name, model={"model": name}, **spec)
        at.router.scripts.setdefault(name, [text(f"{name} says")])


async def replayed(at: ExecutionBench, execution_id: str) -> list[event_pb2.ExecuteEvent]:
    asked = execution_service_pb2.ReplayExecutionRequest(execution_id=execution_id)
    return [answer.event async for answer in at.executions.ReplayExecution(asked, metadata=at.metadata)]


def told(events: list[event_pb2.ExecuteEvent]) -> list[tuple[str, Any]]:
    """What the events say, without their times: each scope in its order."""
    said = []
    for event in events:
        copy = event_pb2.ExecuteEvent()
        copy.CopyFrom(event)
        for name in ("time", "sequence"):
            copy.ClearField(name)
        for part in (copy.tool_call_completed, copy.member_completed):
            part.ClearField("duration")
        said.append((event.source.scope, copy.SerializeToString(deterministic=True)))
    return sorted(said, key=lambda one: one[0])


async def test_leader_delegates_and_answers(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    await crew(at, "writer", "critic")
    await at.create_team("desk", "writer", "critic", instructions=["Be brief."])
    at.router.scripts["desk"] = [
        calls(delegate("writer", "Write it."), delegate("critic", "Judge it.", "d2")),
        text("Done."),
    ]
    events = await at.run(team_id="desk", input="A poem, please")
    assert sequences(events) == list(range(1, len(events) + 1))
    assert events[0].execution_started.team_id == "desk"
    assert events[-1].execution_completed.output == "Done."
    assert within(events, "writer.2") == ["member_started", "content_delta", "usage_reported", "member_completed"]
    assert within(events, "") == [
        "execution_started",
        "usage_reported",
        *("tool_call_started", "tool_call_started"),
        *("tool_call_completed", "tool_call_completed"),
        *("content_delta", "usage_reported", "execution_completed"),
    ]
    started = next(event for event in events if event.HasField("member_started"))
    assert (list(started.source.path), started.source.depth) == (["desk", "writer"], 1)
    assert (started.member_started.agent_id, started.member_started.input) == ("writer", "Write it.")
    outputs = [one.output for one in of(events, "tool_call_completed")]
    assert sorted(outputs) == ["critic says", "writer says"]
    usage = events[-1].execution_completed.usage
    assert (usage.model_calls, usage.tool_calls, usage.input_tokens) == (4, 2, 40)
    assert {one.usage.model_calls for one in of(events, "member_completed")} == {1}
    leader = at.router.requests[0]
    assert "- writer" in str(leader.messages[0])
    assert "Be brief." in str(leader.messages[0])
    found = await at.get(events[0].execution_id)
    assert (found.team_id, found.status) == ("desk", COMPLETED)
    steps = {(step.scope, step.step) for step in found.steps}
    assert steps >= {
        ("", 1),
        ("writer.2", 0),
        ("writer.2", 1),
        ("critic.3", 0),
    }
    assert told(await replayed(at, found.execution_id)) == told(events)
    listed = execution_service_pb2.ListExecutionsRequest(team_id="desk")
    assert len((await at.executions.ListExecutions(listed, metadata=at.metadata)).executions) == 1
    none = execution_service_pb2.ListExecutionsRequest(agent_id="desk")
    assert not (await at.executions.ListExecutions(none, metadata=at.metadata)).executions


async def test_routed_request_gets_the_members_answer(bench: Bench) -> None:
    at = await bench()
    await crew(at, "sales", "support")
    await at.create_team("front", "sales", "support", mode=team_pb2.TEAM_MODE_ROUTE)
    at.router.scripts["front"] = [calls(delegate("support", "It is broken"), delegate("sales", "It is broken", "d2"))]
    events = await at.run(team_id="front")
    assert events[-1].execution_completed.output == "support says"
    assert [one.is_error for one in of(events, "tool_call_completed")].count(True) == 1
    assert len(of(events, "member_started")) == 1
    assert len([one for one in at.router.requests if one.model == "front"]) == 1


async def test_member_that_fails_is_the_leaders_affair(bench: Bench) -> None:
    at = await bench()
    await crew(at, "one", "two")
    at.router.scripts["one"] = [[errors.FailedPrecondition("no", reason="CONTENT_REFUSED")]]
    await at.create_team("front", "one", "two", mode=team_pb2.TEAM_MODE_ROUTE)
    at.router.scripts["front"] = [calls(delegate("one", "x")), calls(delegate("two", "x", "d2"))]
    events = await at.run(team_id="front")
    failed, fine = of(events, "member_completed")
    assert failed.error.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert not fine.HasField("error")
    assert of(events, "tool_call_completed")[0].is_error
    assert events[-1].execution_completed.output == "two says"


async def test_broadcast_asks_everybody(bench: Bench) -> None:
    at = await bench()
    await crew(at, "a", "b", "c")
    await at.create_team("all", "a", "b", "c", mode=team_pb2.TEAM_MODE_BROADCAST)
    at.router.scripts["all"] = [text("together")]
    events = await at.run(team_id="all", input="What do you think?")
    assert events[-1].execution_completed.output == "together"
    assert sorted(one.input for one in of(events, "member_started")) == ["What do you think?"] * 3
    asked = next(one for one in at.router.requests if one.model == "all")
    assert all(f"{name} said: {name} says" in str(asked) for name in "abc")
    assert told(await replayed(at, events[0].execution_id)) == told(events)


async def test_list_of_tasks(bench: Bench) -> None:
    at = await bench()
    await crew(at, "a", "b")
    await at.create_team("plan", "a", "b", mode=team_pb2.TEAM_MODE_TASKS, max_iterations=2)

    def create(title: str, call_id: str, *after: str) -> Any:
        return call("create_task", json.dumps({"title": title, "description": "do it", "after": after}), call_id)

    def run(task_id: str, member_id: str, call_id: str) -> Any:
        return call("run_task", json.dumps({"task_id": task_id, "member_id": member_id}), call_id)

    at.router.scripts["plan"] = [
        calls(create("first", "c1")),
        calls(create("second", "c2", "task-2")),
        calls(run("task-4", "b", "c3")),  # the first must be done before
        calls(run("task-2", "a", "c4")),
        calls(run("task-4", "b", "c5")),
        calls(run("task-9", "b", "c6"), call("list_tasks", "{}", "c7")),
        text("all done"),
    ]
    events = await at.run(team_id="plan")
    assert events[-1].execution_completed.output == "all done"
    outputs = {one.call_id: (one.output, one.is_error) for one in of(events, "tool_call_completed")}
    assert outputs["c3"] == ("task-2 must be done before", True)
    assert outputs["c5"] == ("b says", False)
    assert outputs["c6"][1]
    assert [one["status"] for one in json.loads(outputs["c7"][0])] == ["done", "done"]
    assert "first: a says" in of(events, "member_started")[1].input
    assert told(await replayed(at, events[0].execution_id)) == told(events)


async def test_conversation_is_handed_over_with_what_was_said(bench: Bench) -> None:
    at = await bench()
    await crew(at, "billing")
    await at.create("helper", model={"model": "helper"}, handoffs=[{"agent_id": "billing", "description": "Money."}])
    at.router.scripts["helper"] = [calls(call("transfer_to_billing", '{"reason": "money"}'))]
    events = await at.run(input="My invoice is wrong", session_id="talk")
    assert events[-1].execution_completed.output == "billing says"
    (handed,) = of(events, "handed_off")
    assert (handed.from_id, handed.to_id, handed.reason) == ("helper", "billing", "money")
    assert within(events, "billing.2")[0] == "member_started"
    assert "My invoice is wrong" in str(at.router.requests[-1])
    session = await at.executions.GetSession(execution_service_pb2.GetSessionRequest(session_id="talk"))
    assert "billing says" in str(session.messages[-1])
    assert told(await replayed(at, events[0].execution_id)) == told(events)


async def test_two_who_hand_over_to_each_other_for_ever(bench: Bench) -> None:
    at = await bench()
    await at.create("b", model={"model": "b"})
    await at.create("a", model={"model": "a"}, handoffs=[{"agent_id": "b"}])
    made = (await at.agents.GetAgent(agent_service_pb2.GetAgentRequest(agent_id="b"))).agent
    made.spec.handoffs.add(agent_id="a")
    masked = {"agent": made, "update_mask": {"paths": ["spec.handoffs"]}}
    await at.agents.UpdateAgent(agent_service_pb2.UpdateAgentRequest(**masked))
    at.router.scripts = {
        "a": [calls(call("transfer_to_b", "{}", f"a{n}")) for n in range(9)],
        "b": [calls(call("transfer_to_a", "{}", f"b{n}")) for n in range(9)],
    }
    events = await at.run(agent_id="a")
    info = harness.detail_of_event(events[-1])
    assert info.reason == "HANDOFF_LOOP"
    assert info.metadata["path"] == "agent/a -> agent/b -> agent/a -> agent/b -> agent/a"


async def test_agent_as_a_tool_and_one_that_asks_itself(bench: Bench) -> None:
    at = await bench()
    await crew(at, "expert")
    await at.create("helper", model={"model": "helper"}, tools=[{"tool_id": "agent/expert"}])
    at.router.scripts["helper"] = [calls(call("ask_expert", '{"input": "why?"}')), text("because")]
    events = await at.run()
    assert of(events, "tool_call_completed")[0].output == "expert says"
    assert events[-1].execution_completed.output == "because"
    made = (await at.agents.GetAgent(agent_service_pb2.GetAgentRequest(agent_id="expert"))).agent
    made.spec.tools.add(tool_id="agent/expert")
    masked = {"agent": made, "update_mask": {"paths": ["spec.tools"]}}
    await at.agents.UpdateAgent(agent_service_pb2.UpdateAgentRequest(**masked))
    at.router.scripts["expert"] = [
        *(calls(call("ask_expert", '{"input": "and?"}', f"e{n}")) for n in range(18)),
        text("x"),
    ]
    events = await at.run(agent_id="expert", deadline=60)
    deepest = max(event.source.depth for event in events)
    assert deepest == 16
    assert "nested deeper" in of(events, "tool_call_completed")[0].output
    assert events[-1].HasField("execution_completed")


async def test_member_that_asks_pauses_the_whole(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    asks = {"tools": [{"tool_id": "builtin/calculator", "requires_confirmation": True}]}
    await crew(at, "counter", "other", **asks)
    sums = calls(call("calculator", '{"expression": "6 * 7"}', "same"))
    at.router.scripts |= {"counter": [sums, text("42")], "other": [sums, text("also 42")]}
    await at.create_team("desk", "counter", "other")
    at.router.scripts["desk"] = [calls(delegate("counter", "x"), delegate("other", "y", "d2")), text("both")]
    waiting = await at.execute(team_id="desk")
    requests = waiting.input_required.requests
    assert len({one.input_id for one in requests}) == 2
    answers = [{"input_id": one.input_id, "approval": {"approved": True}} for one in requests]
    asked = execution_service_pb2.ContinueExecutionRequest(execution_id=waiting.execution_id, answers=answers)
    await at.executions.ContinueExecution(asked, timeout=20, metadata=at.metadata)
    events = [one for one in await at.watch(waiting.execution_id) if not one.HasField("heartbeat")]
    assert events[-1].execution_completed.output == "both"
    assert sequences(events) == list(range(1, len(events) + 1))
    assert sorted(one.output for one in of(events, "tool_call_completed")) == ["42", "42", "42", "also 42"]
    assert len(of(events, "member_started")) == len(of(events, "member_completed")) == 2
    assert told(await replayed(at, waiting.execution_id)) == told(
        [one for one in events if one.WhichOneof("event") not in ("input_required", "input_received")]
    )


async def test_team_that_is_taken_up_goes_on_where_it_was(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings, lease=0.5)
    await crew(at, "one", "two")
    gate = asyncio.Event()
    at.router.scripts["two"] = [[text("half ")[0], gate.set, 30.0], text("whole")]
    await at.create_team("desk", "one", "two")
    at.router.scripts["desk"] = [calls(delegate("one", "x")), calls(delegate("two", "y", "d2")), text("done")]
    async with at.beside() as other:
        stream, execution_id = await other.begin(team_id="desk")
        await asyncio.wait_for(gate.wait(), 20)
        stream.cancel()
    events = [one for one in await at.watch(execution_id) if not one.HasField("heartbeat")]
    assert events[-1].execution_completed.output == "done"
    assert sequences(events) == list(range(1, len(events) + 1))
    assert within(events, "two.4") == [
        *("member_started", "content_delta", "content_restarted", "content_delta", "usage_reported", "member_completed")
    ]
    assert within(events, "one.2") == ["member_started", "content_delta", "usage_reported", "member_completed"]
    assert [one.model for one in at.router.requests] == ["desk", "one", "desk", "two", "two", "desk"]
    assert events[-1].execution_completed.usage.model_calls == 5


@pytest.mark.parametrize(
    ("budget", "name"), [({"max_model_calls": 2}, "max_model_calls"), ({"max_total_tokens": 20}, "max_total_tokens")]
)
async def test_budget_that_runs_out_within_a_member_ends_the_team(bench: Bench, budget: Any, name: str) -> None:
    at = await bench()
    await crew(at, "one")
    at.router.scripts["one"] = [calls(call("calculator", '{"expression": "1"}')), text("x")]
    await at.create("one2", tools=[{"tool_id": "builtin/calculator"}], model={"model": "one"})
    await at.create_team("desk", "one2")
    at.router.scripts["desk"] = [calls(delegate("one2", "x")), text("done")]
    events = await at.run(team_id="desk", budget=budget)
    assert events[-1].HasField("execution_failed")
    info = harness.detail_of_event(events[-1])
    assert (info.reason, info.metadata["budget"]) == ("BUDGET_EXCEEDED", name)
    assert (await at.get(events[0].execution_id)).status == FAILED


async def test_cancelled_team_stops_its_members(bench: Bench) -> None:
    at = await bench()
    await crew(at, "slow")
    begun = asyncio.Event()
    at.router.scripts["slow"] = [[begun.set, 60.0]]
    await at.create_team("desk", "slow")
    at.router.scripts["desk"] = [calls(delegate("slow", "x"))]
    stream, execution_id = await at.begin(team_id="desk")
    await asyncio.wait_for(begun.wait(), 20)
    await at.cancel(execution_id)
    await asyncio.wait_for(at.router.cancelled.wait(), 10)
    events = await rest(stream)
    assert kinds(events)[-1] == "execution_cancelled"


async def test_unknown_member_is_told_to_the_model(bench: Bench) -> None:
    at = await bench()
    await crew(at, "one")
    await at.create_team("desk", "one")
    at.router.scripts["desk"] = [calls(delegate("nobody", "x")), text("alone")]
    events = await at.run(team_id="desk")
    (completed,) = of(events, "tool_call_completed")
    assert completed.is_error
    assert "member_id" in completed.output
    assert events[-1].execution_completed.output == "alone"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await at.run(team_id="none")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
