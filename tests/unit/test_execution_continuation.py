from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from libs import errors
from libs.identity import Caller
from services.execution.model.events import Event, ExecutionCancelled, ExecutionFailed
from services.execution.model.executions import Execution, Status
from services.execution.model.inputs import Answering, InputAnswer, Kind
from services.execution.model.tools import BoundTool, Tool, ToolResult
from services.execution.service.builtin import Builtin
from services.execution.service.continuation import Continuation, Permission, outcome, question, unaskable

ANN = Caller("acme", "ann", frozenset({"executions.approve"}))
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
QUESTIONS = [
    {"input_id": "may", "approval": {"call_id": "may", "tool_id": "t", "arguments": {}}},
    {"input_id": "text", "user_input": {"prompt": "?"}},
    {"input_id": "data", "user_input": {"prompt": "?", "schema": SCHEMA}},
    {"input_id": "endless", "user_input": {"prompt": "?", "schema": {"$ref": "#"}}},
    {"input_id": "do", "external_tool": {"call_id": "do", "tool_id": "function/x", "arguments": {}}},
]


LONG_AGO = "2026-01-02T03:04:05+00:00"


class Store:
    def __init__(self) -> None:
        self.given: list[Answering] = []
        self.ended: list[Event] = []
        self.late: list[Execution] = []

    async def answers(self, tenant: str, execution_id: str) -> Mapping[str, InputAnswer]:
        return {"earlier": answer("earlier", Kind.APPROVAL)}

    async def answer(self, tenant: str, execution_id: str, given: Answering) -> bool:
        self.given.append(given)
        return True

    async def end(self, tenant: str, execution_id: str, event: Event) -> bool:
        self.ended.append(event)
        return True

    async def due(self) -> Sequence[Execution]:
        return self.late

    async def wake(self, tenant: str, execution_id: str) -> bool:
        return False


def execution(status: Status = Status.INPUT_REQUIRED) -> Execution:
    asked = {"requests": QUESTIONS, "expire_time": LONG_AGO} if status is Status.INPUT_REQUIRED else None
    return Execution("acme", "run", "helper", 1, status, "hi", datetime.now(UTC), "", input_required=asked)


def answer(input_id: str, kind: Kind, **value: Any) -> InputAnswer:
    return InputAnswer(input_id, kind, value)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ([answer("nobody asked", Kind.APPROVAL)], "answers[0].input_id"),
        ([answer("may", Kind.APPROVAL), answer("may", Kind.APPROVAL)], "answers[1].input_id"),
        ([answer("may", Kind.USER_INPUT, text="yes")], "answers[0].answer"),
        ([answer("do", Kind.APPROVAL, approved=True)], "answers[0].answer"),
        ([answer("text", Kind.USER_INPUT, values={"n": 1})], "answers[0].user_input.values"),
        ([answer("data", Kind.USER_INPUT, text="1")], "answers[0].user_input.values"),
        ([answer("data", Kind.USER_INPUT, values={"n": "x"})], "answers[0].user_input.values"),
        ([answer("endless", Kind.USER_INPUT, values={"n": 1})], "answers[0].user_input.values"),
    ],
)
async def test_bad_answers(given: list[InputAnswer], field: str) -> None:
    store = Store()
    with pytest.raises(errors.InvalidArgument) as caught:
        await Continuation(store).answer(ANN, execution(), given, "")
    assert [violation.field for violation in caught.value.violations] == [field]
    assert not store.given


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (answer("may", Kind.APPROVAL, approved=True), Status.INPUT_REQUIRED),
        (answer("data", Kind.USER_INPUT, values={"n": 1}), Status.INPUT_REQUIRED),
        (answer("earlier", Kind.APPROVAL), Status.INPUT_REQUIRED),
        (answer("any", Kind.APPROVAL), Status.COMPLETED),
    ],
)
async def test_what_only_the_store_can_judge(given: InputAnswer, status: Status) -> None:
    store = Store()
    assert await Continuation(store).answer(ANN, execution(status), [given], "req")
    assert store.given == [Answering([given], "ann", "req")]


async def test_wait_that_is_over_fails_the_run() -> None:
    store = Store()
    store.late = [execution(), replace(execution(), cancel_reason="enough")]
    await Continuation(store).look()
    failed, cancelled = store.ended
    assert isinstance(failed, ExecutionFailed)
    assert failed.error["reason"] == "INPUT_EXPIRED"
    assert cancelled == ExecutionCancelled("enough", {})


async def test_wait_that_is_over_by_another_clock_alone_goes_on() -> None:
    store = Store()
    late = execution()
    store.late = [replace(late, input_required={**(late.input_required or {}), "expire_time": "2126-01-02T03:04:05Z"})]
    await Continuation(store).look()
    assert store.ended == []


def test_outcomes() -> None:
    assert outcome(answer("q", Kind.APPROVAL, approved=True)) == Permission(None, "")
    edited = answer("q", Kind.APPROVAL, approved=True, arguments={"n": 1}, note="ok")
    assert outcome(edited) == Permission({"n": 1}, "ok")
    assert outcome(answer("q", Kind.APPROVAL)) == ToolResult("the call was refused", is_error=True)
    refused = outcome(answer("q", Kind.APPROVAL, note="too dear"))
    assert refused == ToolResult("the call was refused: too dear", is_error=True)
    assert outcome(answer("q", Kind.USER_INPUT, values={"n": 1.5})) == ToolResult('{"n":1.5}')
    assert outcome(answer("q", Kind.USER_INPUT, text="blue")) == ToolResult("blue")
    assert outcome(answer("q", Kind.USER_INPUT)) == ToolResult("")
    failed = outcome(answer("q", Kind.EXTERNAL_TOOL, output="no", is_error=True))
    assert failed == ToolResult("no", is_error=True)


def test_note_of_who_allowed_a_call_is_told_to_the_model() -> None:
    assert Permission(None, "").noted(ToolResult("1")) == ToolResult("1")
    assert Permission(None, "only once").noted(ToolResult("1", duration=2.0)) == ToolResult(
        "1\n\nonly once", False, 2.0
    )


def test_questions() -> None:
    tool = Tool("function/pay", "pay", "", "", {}, "1")
    call = {"call_id": "c", "tool_id": "function/pay", "arguments": {"n": 1}}
    approval, external = BoundTool(tool, 1.0, Kind.APPROVAL), BoundTool(tool, 1.0, Kind.EXTERNAL_TOOL)
    assert question(approval, "c", {"n": 1}) == {"input_id": "c", "approval": call}
    assert question(external, "c", {"n": 1}) == {"input_id": "c", "external_tool": call}
    user = BoundTool(tool, 1.0, Kind.USER_INPUT)
    assert question(user, "c", {"prompt": "?"}) == {"input_id": "c", "user_input": {"prompt": "?"}}


def test_question_that_cannot_be_asked() -> None:
    (ask_user,) = [tool for tool in Builtin().tools() if tool.tool_id == "builtin/ask_user"]
    user = BoundTool(ask_user, 1.0, Kind.USER_INPUT)
    assert unaskable(user, {"prompt": "?"}) is None
    assert unaskable(user, {"prompt": "?", "schema": SCHEMA}) is None
    for arguments in ({}, {"prompt": "?", "schema": {"type": "object", "properties": 3}}):
        assert (unaskable(user, arguments) or ToolResult("")).is_error
    assert unaskable(BoundTool(ask_user, 1.0), {}) is None
