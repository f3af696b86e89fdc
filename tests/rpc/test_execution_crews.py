"""What teams promise where Agno's own do not, and what ends them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from dynamicagents.execution.v1 import execution_service_pb2
from dynamicagents.registry.v1 import agent_service_pb2, team_pb2, team_service_pb2, team_service_pb2_grpc
from dynamicagents.tools.v1 import tool_service_pb2

from tests import harness
from tests.rpc.conftest import ExecutionBench, rest, sequences
from tests.rpc.test_execution_teams import crew, delegate, of, replayed, told, within
from tests.scripted_router import call, calls, text

Bench = Callable[..., Any]
ROUTE = team_pb2.TEAM_MODE_ROUTE
ASKS = {"tools": [{"tool_id": "builtin/calculator", "requires_confirmation": True}]}
SUM = calls(call("calculator", '{"expression": "6 * 7"}', "sum"))


async def answer_all(at: ExecutionBench, waiting: Any) -> list[Any]:
    answers = [{"input_id": one.input_id, "approval": {"approved": True}} for one in waiting.input_required.requests]
    asked = execution_service_pb2.ContinueExecutionRequest(execution_id=waiting.execution_id, answers=answers)
    await at.executions.ContinueExecution(asked, timeout=20, metadata=at.metadata)
    return [one for one in await at.watch(waiting.execution_id) if not one.HasField("heartbeat")]


async def test_what_was_refused_stays_refused_when_the_chosen_member_waits(
    bench: Bench, database_settings: dict[str, Any]
) -> None:
    at = await bench(**database_settings)
    await crew(at, "asks", **ASKS)
    await crew(at, "other")
    at.router.scripts["asks"] = [SUM, text("42")]
    await at.create_team("front", "asks", "other", mode=ROUTE)
    at.router.scripts["front"] = [calls(delegate("asks", "x"), delegate("other", "y", "d2"))]
    waiting = await at.execute(team_id="front")
    events = await answer_all(at, waiting)
    assert events[-1].execution_completed.output == "42"
    assert [one.agent_id for one in of(events, "member_started")] == ["asks"]
    assert "other" not in [one.model for one in at.router.requests]


async def test_task_that_had_to_wait_is_not_done_when_the_run_is_taken_up(bench: Bench) -> None:
    at = await bench()
    await crew(at, "a", "b")
    await crew(at, "asks", **ASKS)
    at.router.scripts["asks"] = [SUM, text("42")]
    await at.create_team("plan", "a", "b", "asks", mode=team_pb2.TEAM_MODE_TASKS)

    def create(call_id: str, *after: str) -> Any:
        return call("create_task", json.dumps({"title": "t", "description": "d", "after": after}), call_id)

    def run(task_id: str, member_id: str, call_id: str) -> Any:
        return call("run_task", json.dumps({"task_id": task_id, "member_id": member_id}), call_id)

    at.router.scripts["plan"] = [
        calls(create("c1"), create("c2")),
        calls(create("c3", "task-2")),
        calls(run("task-2", "a", "c4"), run("task-5", "b", "c5"), run("task-3", "asks", "c6")),
        text("done"),
    ]
    waiting = await at.execute(team_id="plan")
    events = await answer_all(at, waiting)
    assert events[-1].execution_completed.output == "done"
    assert sorted(one.agent_id for one in of(events, "member_started")) == ["a", "asks"]
    assert told(await replayed(at, waiting.execution_id)) == told(
        [one for one in events if one.WhichOneof("event") not in ("input_required", "input_received")]
    )


async def test_routed_answer_is_the_members_to_the_last_letter(bench: Bench) -> None:
    at = await bench()
    await crew(at, "long")
    whole = "0123456789" * 40_000
    at.router.scripts["long"] = [text(whole)]
    await at.create_team("front", "long", mode=ROUTE)
    at.router.scripts["front"] = [calls(delegate("long", "x"))]
    events = await at.run(team_id="front")
    assert events[-1].execution_completed.output == whole
    assert len(of(events, "tool_call_completed")[0].output) < len(whole)


async def test_routed_answer_fits_the_teams_schema(bench: Bench) -> None:
    at = await bench()
    await crew(at, "one")
    at.router.scripts["one"] = [text('{"score": 7}')]
    schema = {"type": "object", "required": ["score"], "properties": {"score": {"type": "integer"}}}
    await at.create_team("front", "one", mode=ROUTE, output_schema=schema)
    at.router.scripts["front"] = [calls(delegate("one", "x"))]
    events = await at.run(team_id="front")
    assert events[-1].execution_completed.structured_output["score"] == 7
    assert "score" in str(at.router.requests[-1])


async def test_members_that_answer_directly(bench: Bench) -> None:
    at = await bench()
    await crew(at, "one", "two")
    await at.create_team("desk", "one", "two", respond_directly=True)
    at.router.scripts["desk"] = [calls(delegate("two", "x"), delegate("one", "y", "d2")), text("never")]
    events = await at.run(team_id="desk")
    assert events[-1].execution_completed.output == "two says\n\none says"
    assert told(await replayed(at, events[0].execution_id)) == told(events)


@pytest.mark.parametrize("shares", [True, False])
async def test_members_know_of_each_other_if_they_may(bench: Bench, shares: bool) -> None:
    at = await bench()
    await crew(at, "one", "two")
    await at.create_team("desk", "one", "two", share_member_interactions=shares)
    at.router.scripts["desk"] = [calls(delegate("one", "x")), calls(delegate("two", "y", "d2")), text("done")]
    await at.run(team_id="desk")
    assert ("one says" in str(next(one for one in at.router.requests if one.model == "two"))) is shares


async def test_team_in_a_session(bench: Bench) -> None:
    at = await bench()
    await crew(at, "one")
    await at.create_team("desk", "one", add_team_history_to_members=True, history={"num_runs": 3})
    at.router.scripts["desk"] = [
        *(calls(delegate("one", "x")), text("first answer")),
        *(calls(delegate("one", "y", "d2")), text("second answer")),
    ]
    await at.run(team_id="desk", input="first question", session_id="talk")
    events = await at.run(team_id="desk", input="second question", session_id="talk")
    assert events[-1].execution_completed.output == "second answer"
    first, second = [str(one) for one in at.router.requests if one.model == "one"]
    assert "first answer" not in first
    assert "first question" in second
    assert "first answer" in second
    session = await at.executions.GetSession(execution_service_pb2.GetSessionRequest(session_id="talk"))
    assert "first question" in str(session.messages[0])
    assert "second answer" in str(session.messages[-1])
    assert told(await replayed(at, events[0].execution_id)) == told(events)


async def test_two_tasks_for_one_member_in_one_turn(bench: Bench) -> None:
    """Agno's members keep the state of a run; ours are made for each task."""
    at = await bench()
    await crew(at, "one")
    await at.create_team("desk", "one")
    at.router.scripts["desk"] = [calls(delegate("one", "x"), delegate("one", "x", "d2")), text("done")]
    events = await at.run(team_id="desk")
    assert within(events, "one.2") == within(events, "one.3")
    assert len(within(events, "one.2")) == 4
    alone = await at.run(agent_id="one", input="alone", session_id="own")
    assert alone[-1].HasField("execution_completed")
    session = await at.executions.GetSession(execution_service_pb2.GetSessionRequest(session_id="own"))
    assert len(session.messages) == 2


async def test_member_that_never_ends_is_told_to_the_leader(bench: Bench) -> None:
    at = await bench()
    await crew(at, "endless")
    at.router.scripts["endless"] = [[600.0]]
    await at.create_team("desk", "endless")
    at.router.scripts["desk"] = [calls(delegate("endless", "x")), text("without it")]
    events = await at.run(team_id="desk", timeout={"seconds": 12}, deadline=40)
    (failed,) = of(events, "member_completed")
    assert failed.error.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    assert "has not answered within" in of(events, "tool_call_completed")[0].output
    assert events[-1].execution_completed.output == "without it"


async def test_limits_of_a_team_within_a_team(bench: Bench) -> None:
    at = await bench()
    await crew(at, "one")
    await at.create_team("inner", "one", limits={"max_model_calls": 2})
    await at.create_team("slow", "one", limits={"timeout": {"seconds": 1}})
    await at.create_team("outer", "team/inner", "team/slow")
    at.router.scripts |= {
        "inner": [calls(delegate("one", "x")), text("never")],
        "slow": [[600.0]],
        "outer": [calls(delegate("inner", "x"), delegate("slow", "y", "d2")), text("done")],
    }
    events = await at.run(team_id="outer", deadline=40)
    assert events[-1].execution_completed.output == "done"
    ended = {event.source.path[-1]: event.member_completed for event in events if event.HasField("member_completed")}
    assert not ended["one"].HasField("error")
    assert ended["inner"].error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert ended["slow"].error.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    assert [list(event.source.path) for event in events if event.HasField("member_started")].count(
        ["outer", "inner", "one"]
    )
    assert events[-1].execution_completed.usage.model_calls == 5


async def test_member_that_was_deleted_still_runs_where_it_was_pinned(
    bench: Bench, database_settings: dict[str, Any]
) -> None:
    at = await bench(**database_settings)
    await crew(at, "asks", **ASKS)
    await crew(at, "later")
    at.router.scripts["asks"] = [SUM, text("42")]
    await at.create_team("desk", "asks", "later")
    at.router.scripts["desk"] = [calls(delegate("asks", "x")), calls(delegate("later", "y", "d2")), text("done")]
    waiting = await at.execute(team_id="desk")
    for member in ("asks", "later"):
        refused = agent_service_pb2.DeleteAgentRequest(agent_id=member)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await at.agents.DeleteAgent(refused)
        assert harness.reason_of(caught.value) == "RESOURCE_REFERENCED"
    teams: Any = team_service_pb2_grpc.TeamServiceStub(at.registry)
    await teams.DeleteTeam(team_service_pb2.DeleteTeamRequest(team_id="desk"))
    for member in ("asks", "later"):
        await at.agents.DeleteAgent(agent_service_pb2.DeleteAgentRequest(agent_id=member))
    events = await answer_all(at, waiting)
    assert events[-1].execution_completed.output == "done"
    assert sequences(events) == list(range(1, len(events) + 1))


async def test_team_without_members_is_refused(bench: Bench) -> None:
    """It can become none either: a member that is in a team is not deleted."""
    at = await bench()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await at.create_team("nobody")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert harness.fields_of(caught.value) == ["team.spec.members"]


async def test_agent_and_team_of_one_id_are_told_apart(bench: Bench) -> None:
    at = await bench()
    await crew(at, "both")
    await at.create_team("both", "both")
    at.router.scripts["both"] = [text("said")]
    tools = [{"tool_id": "agent/both"}, {"tool_id": "team/both"}]
    await at.create(
        "helper", model={"model": "helper"}, tools=tools, handoffs=[{"agent_id": "both"}, {"team_id": "both"}]
    )
    at.router.scripts["helper"] = [calls(call("transfer_to_team_both", "{}"))]
    events = await at.run()
    names = [tool.name for tool in at.router.requests[0].tools]
    assert sorted(names) == ["ask_agent_both", "ask_team_both", "transfer_to_agent_both", "transfer_to_team_both"]
    assert of(events, "member_started")[0].team_id == "both"
    assert events[-1].execution_completed.output == "said"


async def test_conversation_moves_with_its_earlier_turns(bench: Bench) -> None:
    at = await bench()
    await crew(at, "billing")
    await at.create("helper", model={"model": "helper"}, handoffs=[{"agent_id": "billing"}], history={"num_runs": 3})
    at.router.scripts["helper"] = [text("Hello"), calls(call("transfer_to_billing", "{}")), text("Back")]
    await at.run(input="I am Ana", session_id="talk")
    await at.run(input="My invoice", session_id="talk")
    moved = next(one for one in at.router.requests if one.model == "billing")
    assert "I am Ana" in str(moved)
    assert [str(one).count("My invoice") for one in moved.messages].count(1) == 1
    await at.run(input="Thanks", session_id="talk")
    assert "billing says" in str(at.router.requests[-1])


async def test_member_hands_over_and_its_answer_is_the_others(bench: Bench) -> None:
    at = await bench()
    await crew(at, "expert")
    await at.create("first", model={"model": "first"}, handoffs=[{"agent_id": "expert"}])
    at.router.scripts["first"] = [calls(call("transfer_to_expert", "{}"))]
    await at.create_team("desk", "first")
    at.router.scripts["desk"] = [calls(delegate("first", "x")), text("done")]
    events = await at.run(team_id="desk")
    delegated = [one for one in of(events, "tool_call_completed") if one.tool_id == "team/delegate_task_to_member"]
    assert [one.output for one in delegated] == ["expert says"]
    assert within(events, "first.2/expert.2")[0] == "member_started"
    assert told(await replayed(at, events[0].execution_id)) == told(events)


async def test_one_member_with_two_questions(bench: Bench) -> None:
    at = await bench()
    await crew(at, "asks", **ASKS)
    twice = [call("calculator", f'{{"expression": "{n} * 7"}}', f"sum{n}") for n in (6, 7)]
    at.router.scripts["asks"] = [calls(*twice), text("91")]
    await at.create_team("desk", "asks")
    at.router.scripts["desk"] = [calls(delegate("asks", "x")), text("done")]
    waiting = await at.execute(team_id="desk")
    first, second = waiting.input_required.requests
    asked = execution_service_pb2.ContinueExecutionRequest(
        execution_id=waiting.execution_id,
        answers=[
            {"input_id": first.input_id, "approval": {"approved": True}},
            {"input_id": second.input_id, "approval": {"approved": False}},
        ],
    )
    await at.executions.ContinueExecution(asked, timeout=20, metadata=at.metadata)
    events = await at.watch(waiting.execution_id)
    ended = {one.call_id: one for one in of(events, "tool_call_completed")}
    assert ended["sum6"].output == "42"
    assert ended["sum7"].output != "49"
    assert events[-1].execution_completed.output == "done"


async def test_tools_of_an_agent_that_has_agents_as_tools(bench: Bench) -> None:
    at = await bench()
    await crew(at, "expert")
    await at.create(tools=[{"tool_id": "agent/expert"}, {"tool_id": "builtin/calculator"}])
    listed = await at.tools.ListTools(tool_service_pb2.ListToolsRequest(agent_id="helper"))
    assert [tool.tool_id for tool in listed.tools] == ["builtin/calculator"]
    asked = tool_service_pb2.CallToolRequest(tool_id="agent/expert", arguments={"input": "x"})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await at.tools.CallTool(asked)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await at.agents.DeleteAgent(agent_service_pb2.DeleteAgentRequest(agent_id="expert"))
    assert harness.reason_of(caught.value) == "RESOURCE_REFERENCED"


async def test_broadcast_that_is_cancelled_leaves_nobody_at_work(bench: Bench) -> None:
    at = await bench()
    await crew(at, "one", "two")
    begun = asyncio.Semaphore(0)
    at.router.scripts |= {name: [[begun.release, 600.0]] for name in ("one", "two")}
    await at.create_team("all", "one", "two", mode=team_pb2.TEAM_MODE_BROADCAST)
    stream, execution_id = await at.begin(team_id="all")
    async with asyncio.timeout(20):
        await begun.acquire()
        await begun.acquire()
    await at.cancel(execution_id)
    events = await rest(stream)
    assert events[-1].HasField("execution_cancelled")
    assert not of(events, "member_completed")
