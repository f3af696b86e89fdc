from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import grpc
import jwt
import pytest
from dynamicagents.execution.v1 import execution_service_pb2, session_pb2
from dynamicagents.router.v1 import chat_pb2
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from libs import errors, pagination
from tests import harness
from tests.rpc.conftest import CANCELLED, COMPLETED, FAILED, ExecutionBench, kinds, rest, text_of
from tests.scripted_router import call, calls, last, text

Bench = Callable[..., Any]
SECRET = "s" * 32
ROLES = {"user": chat_pb2.ROLE_USER, "assistant": chat_pb2.ROLE_ASSISTANT, "tool": chat_pb2.ROLE_TOOL}


def bearer(tenant: str) -> tuple[tuple[str, str], ...]:
    claims = {"sub": "ann", "exp": time.time() + 60, "scope": "*", "tenant": tenant}
    return (("authorization", f"Bearer {jwt.encode(claims, SECRET, 'HS256')}"),)


def struct(**values: Any) -> Struct:
    made = Struct()
    made.update(values)
    return made


def turn(role: str, content: str = "", *tool_calls: str, answers: str = "") -> chat_pb2.ChatMessage:
    asked = [chat_pb2.ToolCall(call_id=one, name="f", arguments="{}") for one in tool_calls]
    return chat_pb2.ChatMessage(role=ROLES[role], content=content, tool_calls=asked, tool_call_id=answers)


async def get(at: ExecutionBench, session_id: str = "talk", **more: Any) -> Any:
    request = execution_service_pb2.GetSessionRequest(session_id=session_id, **more)
    return await at.executions.GetSession(request, metadata=at.metadata)


async def listed(at: ExecutionBench, **query: Any) -> Any:
    request = execution_service_pb2.ListSessionsRequest(**query)
    return await at.executions.ListSessions(request, metadata=at.metadata)


async def executions(at: ExecutionBench, **query: Any) -> Any:
    request = execution_service_pb2.ListExecutionsRequest(**query)
    return await at.executions.ListExecutions(request, metadata=at.metadata)


async def update(at: ExecutionBench, *paths: str, session_id: str = "talk", **values: Any) -> session_pb2.Session:
    session = session_pb2.Session(session_id=session_id, **values)
    request = execution_service_pb2.UpdateSessionRequest(session=session, update_mask=FieldMask(paths=paths))
    return (await at.executions.UpdateSession(request, metadata=at.metadata)).session


async def delete(at: ExecutionBench, session_id: str = "talk") -> int:
    request = execution_service_pb2.DeleteSessionRequest(session_id=session_id)
    return (await at.executions.DeleteSession(request, timeout=20, metadata=at.metadata)).deleted_executions


def shown(at: ExecutionBench, request: int) -> list[str]:
    """What the model was told beside its instructions."""
    messages = at.router.requests[request].messages
    return [message.content for message in messages if message.role != chat_pb2.ROLE_SYSTEM]


def instructions(at: ExecutionBench, request: int) -> str:
    first = at.router.requests[request].messages[0]
    return first.content if first.role == chat_pb2.ROLE_SYSTEM else ""


def state_of(session: session_pb2.Session) -> dict[str, Any]:
    return MessageToDict(session.state)


# A session's life


async def test_session_keeps_what_was_said(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    at.router.turns = [calls(call("calculator", '{"expression": "1+1"}')), text("It is 2."), text("Bye.")]
    await at.create(tools=[{"tool_id": "builtin/calculator"}])
    await at.run(session_id="talk", user_id="ann", input="1+1?")
    first = await get(at)
    session = first.session
    assert (session.session_id, session.user_id, list(session.agent_ids)) == ("talk", "ann", ["helper"])
    assert (session.message_count, session.state_version, state_of(session)) == (4, 0, {})
    asked, called, answered, said = [kept.message for kept in first.messages]
    assert (asked.role, asked.content) == (chat_pb2.ROLE_USER, "1+1?")
    assert [one.arguments for one in called.tool_calls] == ['{"expression": "1+1"}']
    assert (answered.content, answered.tool_call_id, answered.name) == ("2", called.tool_calls[0].call_id, "calculator")
    assert (said.role, said.content) == (chat_pb2.ROLE_ASSISTANT, "It is 2.")
    await at.run(session_id="talk", user_id="bob", input="thanks")
    second = await get(at, max_messages=2)
    assert [kept.message.content for kept in second.messages] == ["thanks", "Bye."]
    assert (second.session.message_count, second.session.user_id) == (6, "ann")
    assert second.session.create_time == session.create_time
    assert second.session.update_time.ToNanoseconds() > session.update_time.ToNanoseconds()


async def test_runs_that_have_no_answer_leave_no_messages(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [[errors.FailedPrecondition("no", reason="CONTENT_POLICY")], [30.0], text("Hello")]
    await at.create(history={"num_runs": 9})
    await at.run(session_id="talk", input="one")
    stream, execution_id = await at.begin(session_id="talk", input="two")
    assert (await at.cancel(execution_id)).status == CANCELLED
    stream.cancel()
    await at.run(session_id="talk", input="three")
    assert shown(at, 2) == ["three"]
    assert [kept.message.content for kept in (await get(at)).messages] == ["three", "Hello"]
    runs = (await executions(at, session_id="talk")).executions
    assert [run.status for run in runs] == [COMPLETED, CANCELLED, FAILED]


async def test_history_is_shown_as_the_agent_wants_it(bench: Bench) -> None:
    at = await bench()
    await at.create()
    await at.create("short", history={"num_runs": 1})
    await at.create("long", history={"num_messages": 100})
    for number in range(3):
        at.router.turns = [text(f"answer {number}")]
        await at.run(session_id="talk", input=f"question {number}")
    await at.run(session_id="talk", input="now")
    assert shown(at, -1) == ["now"]
    await at.run(agent_id="short", session_id="talk", input="and now")
    assert shown(at, -1) == ["now", "answer 2", "and now"]
    await at.run(agent_id="long", session_id="talk", input="all")
    assert shown(at, -1)[:3] == ["question 0", "answer 0", "question 1"]
    assert len(shown(at, -1)) == 11
    await at.run(agent_id="long", session_id="other", input="new")
    assert shown(at, -1) == ["new"]


async def test_sessions_are_listed_page_by_page(bench: Bench) -> None:
    at = await bench()
    await at.create()
    await at.create("other")
    for number in range(5):
        await at.run(session_id=f"s{number}", user_id=("ann", "bob")[number % 2])
    await at.run(session_id="s1", agent_id="other")
    first = await listed(at, page_size=2)
    assert [session.session_id for session in first.sessions] == ["s1", "s4"]
    second = await listed(at, page_size=4, page_token=first.next_page_token)
    assert [session.session_id for session in second.sessions] == ["s3", "s2", "s0"]
    assert not second.next_page_token
    assert [s.session_id for s in (await listed(at, user_id="bob")).sessions] == ["s1", "s3"]
    assert [s.session_id for s in (await listed(at, agent_id="other")).sessions] == ["s1"]
    forged = [pagination.to_token(last, {"user_id": "", "agent_id": ""}) for last in ("yesterday s1", "9999")]
    tokens = [{"page_token": token} for token in ("junk", first.next_page_token[:-4], *forged)]
    for query in ({"user_id": "bob", "page_token": first.next_page_token}, *tokens):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await listed(at, **query)
        assert (caught.value.code(), harness.fields_of(caught.value)) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            ["page_token"],
        )


async def test_executions_are_listed_page_by_page(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    await at.create()
    made = [(await at.run(session_id=f"s{number % 2}"))[0].execution_id for number in range(5)]
    at.router.turns = [[errors.FailedPrecondition("no", reason="CONTENT_POLICY")]]
    made.append((await at.run(user_id="bob"))[0].execution_id)
    made.reverse()
    first = await executions(at, page_size=4)
    assert [run.execution_id for run in first.executions] == made[:4]
    second = await executions(at, page_token=first.next_page_token)
    assert [run.execution_id for run in second.executions] == made[4:]
    assert not second.next_page_token
    assert all(not run.steps for run in first.executions)
    failed = await executions(at, statuses=[FAILED, CANCELLED])
    assert [run.execution_id for run in failed.executions] == made[:1]
    assert len((await executions(at, session_id="s0")).executions) == 3
    assert len((await executions(at, user_id="bob", agent_id="helper")).executions) == 1
    middle = second.executions[0].create_time
    assert [r.execution_id for r in (await executions(at, created_before=middle)).executions] == made[5:]
    assert [r.execution_id for r in (await executions(at, created_from=middle)).executions] == made[:5]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await executions(at, page_token=first.next_page_token, statuses=[FAILED])
    assert harness.fields_of(caught.value) == ["page_token"]


async def test_large_things_come_in_messages_of_bearable_size(bench: Bench) -> None:
    at = await bench()
    await at.create()
    large = "x" * 900_000
    made = [(await at.run(session_id="talk", input=f"{number} {large}"))[0].execution_id for number in range(5)]
    await update(at, "state", "summary", state=struct(large=large), summary="s" * 100_000)
    kept = await get(at, max_messages=1000)
    contents = [one.message.content[:2] for one in kept.messages if one.message.role == chat_pb2.ROLE_USER]
    assert contents == ["3 ", "4 "]
    found, token = [], ""
    while True:
        page = await executions(at, page_token=token)
        found += [run.execution_id for run in page.executions]
        if not (token := page.next_page_token):
            break
    assert found == made[::-1]


async def test_foreign_sessions_do_not_exist(bench: Bench) -> None:
    at = await bench(registry={"jwt_secret": SECRET}, jwt_secret=SECRET)
    at.metadata = bearer("acme")
    await at.create()
    await at.run(session_id="talk", session_state=struct(a=1))
    at.metadata = bearer("globex")
    await at.create(history={"num_runs": 9})
    for attempt in (get(at), update(at, "summary", summary="x"), delete(at)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await attempt
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert harness.reason_of(caught.value) == "RESOURCE_NOT_FOUND"
    assert not (await listed(at)).sessions
    assert not (await executions(at)).executions
    await at.run(session_id="talk", input="mine")
    assert shown(at, -1) == ["mine"]
    assert (await get(at)).session.message_count == 2
    at.metadata = bearer("acme")
    assert [kept.message.content for kept in (await get(at)).messages] == ["hi", "Hello there"]


async def test_deleted_session_leaves_nothing(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    await at.create(history={"num_runs": 9})
    ended = (await at.run(session_id="talk", input="before"))[0].execution_id
    other = (await at.run(session_id="other"))[0].execution_id
    at.router.turns = [[30.0]]
    stream, running = await at.begin(session_id="talk")
    assert await delete(at) == 2
    stream.cancel()
    for execution_id in (ended, running):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await at.get(execution_id)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await delete(at)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert (await at.get(other)).status == COMPLETED
    at.router.turns = [text("Hello again")]
    await at.run(session_id="talk", input="after")
    assert shown(at, -1) == ["after"]


async def test_deletion_ends_runs_that_wait_too(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [[30.0]]
    await at.create()
    first, _ = await at.begin(session_id="talk")
    second, waiting = await at.begin(session_id="talk")
    assert await delete(at) == 2
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await at.get(waiting)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    first.cancel()
    second.cancel()


async def test_deletion_is_told_to_who_watches_elsewhere(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [[30.0]]
    await at.create()
    stream, execution_id = await at.begin(session_id="talk")
    async with at.beside(watch_poll=1.0, heartbeat=0.1) as beside:
        watching = beside.watching(execution_id)
        assert (await watching.read()).event.HasField("execution_started")
        await delete(at)
        (ending,) = await asyncio.gather(rest(watching), return_exceptions=True)
        if isinstance(ending, grpc.aio.AioRpcError):
            assert ending.code() is grpc.StatusCode.NOT_FOUND
        else:  # it looked between the end of the run and its deletion
            assert not isinstance(ending, BaseException)
            assert kinds([answer.event for answer in ending])[-1] == "execution_cancelled"
    stream.cancel()


async def test_deletions_at_the_same_time(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    at.router.turns = [[30.0]]
    await at.create()
    stream, _ = await at.begin(session_id="talk")
    outcomes = await asyncio.gather(*(delete(at) for _ in range(4)), return_exceptions=True)
    assert outcomes.count(1) == 1
    refused = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
    assert [error.code() for error in refused] == [grpc.StatusCode.NOT_FOUND] * 3
    stream.cancel()


# Changes


async def test_update_changes_what_the_mask_names(bench: Bench) -> None:
    at = await bench()
    await at.create()
    await at.run(session_id="talk")
    made = await update(at, "state", "metadata", state=struct(a=1, b=[2]), metadata={"k": "v"}, summary="ignored")
    assert (state_of(made), made.state_version, dict(made.metadata), made.summary) == (
        {"a": 1, "b": [2]},
        1,
        {"k": "v"},
        "",
    )
    again = await update(at, "summary", summary="We met.", etag=made.etag)
    assert (again.summary, again.state_version) == ("We met.", 1)
    assert again.etag != made.etag
    cleared = await update(at, "state", "summary")
    assert (state_of(cleared), cleared.state_version, cleared.summary) == ({}, 2, "")
    assert (await get(at)).session == cleared


@pytest.mark.parametrize(
    ("paths", "values", "field"),
    [
        ((), {}, "update_mask"),
        (("message_count",), {}, "update_mask"),
        (("nothing",), {}, "update_mask"),
        (("state.a",), {}, "update_mask"),
        (("state",), {"state": struct(big="x" * 2**20)}, "session.state"),
        (("state",), {"state": struct(n=float("nan"))}, "session.state"),
        (("metadata",), {"metadata": {str(n): "" for n in range(65)}}, "session.metadata"),
        (("metadata",), {"metadata": {"k": "v" * 4097}}, "session.metadata['k']"),
        (("summary",), {"summary": "x" * 100_001}, "session.summary"),
    ],
)
async def test_update_that_is_refused(bench: Bench, paths: Any, values: Any, field: str) -> None:
    at = await bench()
    await at.create()
    await at.run(session_id="talk")
    before = (await get(at)).session
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await update(at, *paths, **values)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert harness.fields_of(caught.value) == [field]
    assert (await get(at)).session == before


async def test_update_with_an_old_etag_is_refused(bench: Bench) -> None:
    at = await bench()
    await at.create()
    await at.run(session_id="talk")
    before = (await get(at)).session
    await update(at, "summary", summary="faster", etag=before.etag)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await update(at, "summary", summary="slower", etag=before.etag)
    assert (caught.value.code(), harness.reason_of(caught.value)) == (grpc.StatusCode.ABORTED, "STALE_ETAG")
    assert (await get(at)).session.summary == "faster"


async def test_no_update_is_lost(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    await at.create()
    await at.run(session_id="talk")

    async def increment() -> bool:
        session = (await get(at, max_messages=1)).session
        try:
            await update(at, "state", state=struct(n=state_of(session).get("n", 0) + 1), etag=session.etag)
        except grpc.aio.AioRpcError as error:
            if harness.reason_of(error) != "STALE_ETAG":
                raise
            return False
        return True

    async def increment_at_last() -> None:
        while not await increment():
            pass

    await asyncio.gather(*(increment_at_last() for _ in range(12)))
    session = (await get(at)).session
    assert (state_of(session), session.state_version) == ({"n": 12}, 12)


# State


async def test_state_is_set_shown_and_changed(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    at.router.turns = [calls(call("update_session_state", '{"set": {"cups": 2}, "remove": ["x"]}')), text("ok")]
    settings = {"initial_state": struct(cups=0, x=1), "add_state_to_context": True, "agentic_state": True}
    await at.create(session=settings)
    events = await at.run(session_id="talk", session_state=struct(table=7))
    assert kinds(events) == [
        "execution_started",
        "state_changed",
        "usage_reported",
        "tool_call_started",
        "state_changed",
        "tool_call_completed",
        "content_delta",
        "usage_reported",
        "execution_completed",
    ]
    changes = [event.state_changed for event in events if event.HasField("state_changed")]
    assert [(MessageToDict(change.state), change.version) for change in changes] == [
        ({"cups": 0, "x": 1, "table": 7}, 1),
        ({"cups": 2, "table": 7}, 2),
    ]
    assert '{"cups":0,"table":7,"x":1}' in instructions(at, 0)
    before = (await get(at)).session
    assert (state_of(before), before.state_version) == ({"cups": 2, "table": 7}, 2)
    at.router.turns = [text("ok")]
    assert "state_changed" not in kinds(await at.run(session_id="talk"))
    assert '{"cups":2,"table":7}' in instructions(at, -1)
    for moment, expected in ((events[1].time, 1), (events[5].time, 2), (Timestamp(seconds=1), 0)):
        past = (await get(at, state_at=moment)).session
        assert past.state_version == expected
    assert state_of((await get(at, state_at=events[1].time)).session) == {"cups": 0, "x": 1, "table": 7}


async def test_trail_of_what_changed_states(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    await at.create(session={"agentic_state": True})
    await at.create("other", session={"agentic_state": True})
    runs = [("helper", "a"), ("other", "a"), ("helper", "b")]
    changing = [
        calls(call("update_session_state", f'{{"set": {{"n": {number}}}}}', "c")) for number, _ in enumerate(runs)
    ]
    at.router.turns = [turn for change in changing for turn in (change, text("ok"))]
    for agent, session in runs:
        await at.run(agent_id=agent, session_id=session)
    masked = {"session": {"session_id": "b", "state": struct(m=1)}, "update_mask": {"paths": ["state"]}}
    await at.executions.UpdateSession(execution_service_pb2.UpdateSessionRequest(**masked), metadata=at.metadata)

    async def trail(**conditions: Any) -> Any:
        request = execution_service_pb2.ListStateChangesRequest(**conditions)
        return await at.executions.ListStateChanges(request, metadata=at.metadata)

    found = list((await trail()).changes)
    assert [(one.session_id, one.version, one.agent_id, MessageToDict(one.set)) for one in found] == [
        ("b", 2, "", {"m": 1}),
        ("b", 1, "helper", {"n": 2}),
        ("a", 2, "other", {"n": 1}),
        ("a", 1, "helper", {"n": 0}),
    ]
    assert [list(one.removed) for one in found] == [["n"], [], [], []]
    assert (found[0].subject, found[0].execution_id, found[1].call_id) == ("local", "", "c")
    assert found[1].execution_id
    assert [one.session_id for one in (await trail(agent_id="helper")).changes] == ["b", "a"]
    assert list((await trail(session_id="a", agent_id="other")).changes) == [found[2]]
    paged, token = [], ""
    while True:
        page = await trail(page_size=3, page_token=token)
        paged += page.changes
        if not (token := page.next_page_token):
            break
    assert paged == found
    first = (await trail(page_size=1)).next_page_token
    for bad in ({"page_token": first, "session_id": "a"}, {"page_token": "x"}, {"page_size": -1}):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await trail(**bad)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await at.executions.DeleteSession(execution_service_pb2.DeleteSessionRequest(session_id="b"), metadata=at.metadata)
    assert {one.session_id for one in (await trail()).changes} == {"a"}


async def test_state_of_a_run_without_session_is_its_own(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [
        calls(call("update_session_state", '{"set": {"a": 2}}', "one")),
        calls(call("update_session_state", '{"remove": ["b"]}', "two")),
        text("ok"),
    ]
    await at.create(session={"agentic_state": True, "add_state_to_context": True})
    events = await at.run(session_state=struct(a=1, b=1))
    changes = [event.state_changed for event in events if event.HasField("state_changed")]
    assert [(MessageToDict(change.state), change.version) for change in changes] == [
        ({"a": 1, "b": 1}, 1),
        ({"a": 2, "b": 1}, 2),
        ({"a": 2}, 3),
    ]
    assert not (await listed(at)).sessions
    at.router.turns = [text("ok")]
    await at.run()
    assert "{}" in instructions(at, -1)


async def test_replay_of_a_session_says_the_same_and_changes_nothing(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [
        text("Earlier."),
        calls(call("update_session_state", '{"set": {"a": 2}}')),
        text("Later."),
        text("A summary."),
    ]
    await at.create(session={"agentic_state": True, "summaries": True}, history={"num_runs": 5})
    await at.run(session_id="talk", session_state=struct(a=0))
    events = await at.run(session_id="talk", session_state=struct(a=1))
    before = await get(at)
    request = execution_service_pb2.ReplayExecutionRequest(execution_id=events[0].execution_id)
    replayed = [answer.event async for answer in at.executions.ReplayExecution(request, metadata=at.metadata)]
    assert kinds(replayed) == kinds(events)
    assert [event.state_changed for event in replayed] == [event.state_changed for event in events]
    assert await get(at) == before


# Summaries and memories


async def test_summary_is_kept_and_shown(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [text("Enjoy."), text("Tea was offered.")]
    await at.create(session={"summaries": True, "add_summary_to_context": True})
    events = await at.run(session_id="talk", input="tea please")
    assert text_of(events) == "Enjoy."
    assert events[-1].execution_completed.usage.model_calls == 2
    assert (await get(at)).session.summary == "Tea was offered."
    await at.run(session_id="talk")
    assert "Tea was offered." in instructions(at, 2)


async def test_questions_to_go_on_with(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    at.router.turns = [text("Enjoy."), text('{"questions": ["More tea?"]}')]
    await at.create(num_followups=2)
    events = await at.run()
    assert list(events[-1].execution_completed.followups) == ["More tea?"]
    assert list((await at.get(events[0].execution_id)).followups) == ["More tea?"]
    assert list((await executions(at)).executions[0].followups) == ["More tea?"]


async def test_memories_follow_the_user_through_sessions(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    at.router.turns = [text("Enjoy."), text('{"remember": ["likes tea"], "forget": []}')]
    await at.create(memory={"update_on_run": True, "add_to_context": True})
    await at.run(session_id="one", user_id="ann", input="I like tea")
    at.router.turns = [text("ok")]
    await at.run(session_id="two", user_id="ann")
    assert "likes tea" in instructions(at, 2)
    seen = len(at.router.requests)
    await at.run(session_id="three", user_id="bob")
    assert "likes tea" not in instructions(at, seen)
    await delete(at, "one")
    seen = len(at.router.requests)
    await at.run(session_id="four", user_id="ann")
    assert "likes tea" not in instructions(at, seen)


# What a request brings along


async def test_history_of_a_caller_who_keeps_it(bench: Bench) -> None:
    at = await bench()
    await at.create()
    await at.create("short", history={"num_runs": 1})
    before = [
        turn("user", "one"),
        turn("assistant", "", "c1"),
        turn("tool", "done", answers="c1"),
        turn("assistant", "first"),
        turn("user", "two"),
        turn("assistant", "second"),
    ]
    await at.run(history=before, input="now")
    assert shown(at, 0) == ["one", "", "done", "first", "two", "second", "now"]
    assert list(at.router.requests[0].messages[:6]) == before
    await at.run(agent_id="short", history=before, input="now")
    assert shown(at, 1) == ["two", "second", "now"]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"history": [turn("user", "a")], "session_id": "talk"}, "history"),
        ({"history": [turn("assistant", "", "c"), turn("tool", "x", answers="c")]}, "history"),
        ({"history": [turn("tool", "x", answers="c"), turn("user", "a")]}, "history[0].tool_call_id"),
        ({"history": [turn("assistant", "", "c"), turn("user", "a")]}, "history[1]"),
        ({"session_state": struct(big="x" * 2**20)}, "session_state"),
        ({"session_state": struct(n=float("inf"))}, "session_state"),
        ({"media": [chat_pb2.MediaPart(data=b"x")]}, "media[0].mime_type"),
        ({"media": [chat_pb2.MediaPart(url="file:///etc/passwd")]}, "media[0].url"),
        ({"media": [chat_pb2.MediaPart(data=b"x" * 2100 * 1024, mime_type="a/b")] * 2}, "media"),
        ({"media": [chat_pb2.MediaPart(url="data:," + "x" * 2100 * 1024)] * 2}, "media"),
        ({"output_schema": struct(type="array")}, "output_schema"),
        ({"output_schema": struct(type="object", properties=1)}, "output_schema"),
        ({"output_schema": struct(**{"type": "object", "$ref": "http://127.0.0.1:9/x"})}, "output_schema"),
        ({"output_schema": struct(**{"type": "object", "$schema": "http://example.com"})}, "output_schema"),
        ({"output_schema": struct(type="object", patternProperties={"(?=a)": True})}, "output_schema"),
    ],
)
async def test_requests_that_are_refused(bench: Bench, request_: dict[str, Any], field: str) -> None:
    at = await bench(max_message_bytes=8 * 1024 * 1024)
    await at.create()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await at.execute(**request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert harness.fields_of(caught.value) == [field]
    assert not (await executions(at)).executions


async def test_media_reach_the_model_and_stay_with_the_session(bench: Bench) -> None:
    at = await bench()
    await at.create(history={"num_runs": 1})
    media = [
        chat_pb2.MediaPart(url="https://example.com/cat.png", mime_type="image/png", detail="low"),
        chat_pb2.MediaPart(data=bytes(range(256)), mime_type="application/pdf", file_name="a.pdf"),
    ]
    await at.run(session_id="talk", media=media, input="what is it?")
    assert list(at.router.requests[0].messages[-1].media) == media
    assert list((await get(at)).messages[0].message.media) == media
    await at.run(session_id="talk", input="and now?")
    assert [list(message.media) for message in at.router.requests[1].messages] == [media, [], []]


async def test_output_schema_of_a_request_and_its_repair(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [text("Forty-two."), text('{"n": 42}'), text("Forty-two."), text("Sorry.")]
    await at.create(history={"num_runs": 1})
    schema = struct(type="object", properties={"n": {"type": "integer"}}, required=["n"])
    events = await at.run(output_schema=schema, session_id="talk", input="how many?")
    assert kinds(events) == [
        "execution_started",
        "usage_reported",
        "content_delta",
        "usage_reported",
        "execution_completed",
    ]
    assert text_of(events) == events[-1].execution_completed.output == '{"n": 42}'
    assert MessageToDict(events[-1].execution_completed.structured_output) == {"n": 42.0}
    assert shown(at, 1)[-2] == "Forty-two."
    assert at.router.requests[0].response_format.json_schema.schema == schema
    assert [kept.message.content for kept in (await get(at)).messages] == ["how many?", '{"n": 42}']
    failed = (await at.run(output_schema=schema))[-1]
    assert harness.detail_of_event(failed).reason == "OUTPUT_INVALID"
    assert failed.execution_failed.raw_output == "Sorry."


async def test_input_schema_of_an_agent(bench: Bench) -> None:
    at = await bench()
    await at.create(input_schema=struct(type="object", properties={"n": {"type": "integer"}}, required=["n"]))
    assert (await at.execute(input='{"n": 1}')).status == COMPLETED
    for given, field in (("hello", "input"), ('{"n": "x"}', "input.n"), ("{}", "input")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await at.execute(input=given)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert harness.fields_of(caught.value) == [field]


async def test_citations_are_events(bench: Bench) -> None:
    at = await bench()
    source = chat_pb2.Citation(url="https://example.com", title="Example", quote="so")
    at.router.turns = [[chat_pb2.ChatChunk(text="so", citations=[source]), last()]]
    await at.create()
    events = await at.run()
    reported = next(event.citations_reported for event in events if event.HasField("citations_reported"))
    assert [(one.url, one.title, one.quote) for one in reported.citations] == [("https://example.com", "Example", "so")]


async def test_request_id_is_of_the_whole_request(bench: Bench) -> None:
    at = await bench()
    await at.create()
    first = await at.execute(request_id="r", session_state=struct(a=1))
    assert (await at.execute(request_id="r", session_state=struct(a=1))).execution_id == first.execution_id
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await at.execute(request_id="r", session_state=struct(a=2))
    assert harness.reason_of(caught.value) == "REQUEST_ID_REUSED"


# Runs that wait for input


def asking(spec: dict[str, Any]) -> dict[str, Any]:
    return {"tools": [{"tool_id": "builtin/calculator", "requires_confirmation": True}], **spec}


async def waiting(at: ExecutionBench) -> str:
    """A run of the session that waits for an approval."""
    stream, execution_id = await at.begin(session_id="talk", input="and now?", session_state=struct(a=1))
    while not (event := await stream.read()).HasField("input_required"):
        pass
    stream.cancel()
    assert event.input_required.requests[0].HasField("approval")
    return execution_id


async def test_a_run_that_waited_is_told_what_it_was_told(bench: Bench, database_settings: dict[str, Any]) -> None:
    at = await bench(**database_settings)
    asks = calls(call("calculator", '{"expression": "1+1"}'))
    at.router.turns = [text("First."), asks, text("Second.")]
    settings = {"add_state_to_context": True, "add_summary_to_context": True}
    await at.create(**asking({"history": {"num_runs": 3}, "session": settings}))
    await at.run(session_id="talk", input="hello")
    execution_id = await waiting(at)
    await update(at, "state", "summary", state=struct(b=2), summary="Later.")
    answer = execution_service_pb2.InputAnswer(
        input_id=(await at.get(execution_id)).input_required.requests[0].input_id,
        approval=execution_service_pb2.ToolDecision(approved=True),
    )
    request = execution_service_pb2.ContinueExecutionRequest(execution_id=execution_id, answers=[answer])
    await at.executions.ContinueExecution(request, metadata=at.metadata)
    events = await at.watch(execution_id)
    assert events[-1].execution_completed.output == "Second."
    assert shown(at, 2)[:3] == ["hello", "First.", "and now?"]
    assert instructions(at, 2) == instructions(at, 1)
    assert kinds(events).count("state_changed") == 1
    session = (await get(at)).session
    assert (state_of(session), session.summary, session.message_count) == ({"b": 2}, "Later.", 6)


async def test_deletion_ends_a_run_that_waits_for_input(bench: Bench) -> None:
    at = await bench()
    at.router.turns = [calls(call("calculator", '{"expression": "1+1"}'))]
    await at.create(**asking({}))
    execution_id = await waiting(at)
    assert await delete(at) == 1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await at.get(execution_id)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
