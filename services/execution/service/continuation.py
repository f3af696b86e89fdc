"""Runs that ask: the questions, and what becomes of the answers."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import jsonschema
import orjson
import referencing.exceptions

from libs import errors
from libs.errors import Violation
from libs.identity import Caller
from services.execution.model.events import (
    Event,
    ExecutionCancelled,
    ExecutionFailed,
    InputRequired,
    Source,
    ToolCallStarted,
)
from services.execution.model.executions import Execution, Status
from services.execution.model.inputs import Answering, InputAnswer, Kind, Question
from services.execution.model.tools import BoundTool, ToolResult
from services.execution.service.journal import Past, input_id
from services.execution.service.schemas import validator
from services.execution.service.tools import violations

APPROVE: Final = "executions.approve"


class InputStore(Protocol):
    async def answers(self, tenant: str, execution_id: str) -> Mapping[str, InputAnswer]: ...

    async def answer(self, tenant: str, execution_id: str, given: Answering) -> bool:
        """Takes the answers, all or none; True once no question is open and the run is queued to go on."""

    async def end(self, tenant: str, execution_id: str, event: Event) -> bool:
        """Ends a run that holds no process; False if it does, or has ended."""

    async def due(self) -> Sequence[Execution]:
        """Runs whose wait is over: for the time, a signal that has just come, or because they are to be cancelled."""

    async def wake(self, tenant: str, execution_id: str) -> bool:
        """Lets a run go on whose time has come, or for which there is a signal; False if it waited for nothing but an
        answer.
        """


class Continuation:
    def __init__(self, store: InputStore) -> None:
        self._store = store

    async def answer(
        self, caller: Caller, execution: Execution, answers: Sequence[InputAnswer], request_id: str
    ) -> bool:
        """Whether the run goes on now."""
        if any(one.kind is Kind.APPROVAL for one in answers):
            caller.require(APPROVE)
        known = await self._store.answers(caller.tenant, execution.execution_id)
        _check(execution, answers, known)
        given = Answering(answers, caller.subject, request_id)
        return await self._store.answer(caller.tenant, execution.execution_id, given)

    async def look(self) -> None:
        """Lets runs go on whose time has come; ends those that nobody has answered, or that somebody wanted cancelled
        as they began to wait. Approvals that are waited for less long are refused instead.
        """
        now = datetime.now(UTC)
        for execution in await self._store.due():
            usage = dict(execution.usage)
            if execution.cancel_reason is not None:
                await self.end(execution, ExecutionCancelled(execution.cancel_reason, usage))
                continue
            if overdue := await self._overdue(execution, now):
                await self._refuse(execution, overdue)
                continue
            with contextlib.suppress(errors.NotFound):  # deleted meanwhile
                if await self._store.wake(execution.tenant, execution.execution_id):
                    continue
            if not _is_over(execution.input_required or {}, now):
                continue  # by the clock of the database
            error = errors.DeadlineExceeded("nobody has answered in time", reason="INPUT_EXPIRED")
            await self.end(execution, ExecutionFailed(errors.to_dict(error), usage))

    async def _overdue(self, execution: Execution, now: datetime) -> Sequence[str]:
        """Open questions that are answered with a no."""
        asked = (execution.input_required or {}).get("requests", ())
        if not (over := [one["input_id"] for one in asked if _is_over(one, now)]):
            return []
        known = await self._store.answers(execution.tenant, execution.execution_id)
        return [input_id for input_id in over if input_id not in known]

    async def _refuse(self, execution: Execution, overdue: Sequence[str]) -> None:
        no = {"approved": False, "note": "nobody allowed it in time", "expired": True}
        answers = [InputAnswer(input_id, Kind.APPROVAL, no) for input_id in overdue]
        with contextlib.suppress(errors.FailedPrecondition):  # somebody answered at the last moment
            await self._store.answer(execution.tenant, execution.execution_id, Answering(answers, ""))

    async def end(self, execution: Execution, event: Event) -> bool:
        return await self._store.end(execution.tenant, execution.execution_id, event)


def required(questions: Sequence[Question], seconds: float) -> InputRequired:
    """The event with which a run begins to wait, for so long at most, or for longer where a question itself says so."""
    said = [question.get(Kind.STEP_APPROVAL.value, {}).get("expire_time") for question in questions]
    own = [datetime.fromisoformat(time) for time in said if time]
    until = max([datetime.now(UTC) + timedelta(seconds=seconds), *own])
    return InputRequired([dict(question) for question in questions], until.isoformat())


def after_wait(found: Past, waited: Mapping[str, Any] | None) -> Past:
    """With what the row of a run that has waited says of it."""
    if waited is None:
        return found
    woken = datetime.fromisoformat(waited["woken"]) if waited.get("woken") else found.woken
    return replace(found, asked=frozenset(waited.get("asked", ())), woken=woken)


def was_announced(source: Source, event: Event, found: Past) -> bool:
    """The run had asked this before, and was woken before anybody answered."""
    call_id = event.call_id if isinstance(event, ToolCallStarted) else ""
    return bool(found.asked & {call_id, input_id(source, call_id)})


def _is_over(asked: Mapping[str, Any], now: datetime) -> bool:
    return "expire_time" in asked and datetime.fromisoformat(asked["expire_time"]) <= now


def question(bound: BoundTool, call_id: str, arguments: Mapping[str, Any]) -> Question:
    """What a call of the tool asks before it is made."""
    assert bound.asks is not None
    if bound.asks is Kind.USER_INPUT:
        return {"input_id": call_id, Kind.USER_INPUT.value: dict(arguments)}
    call = {"call_id": call_id, "tool_id": bound.tool.tool_id, "arguments": dict(arguments)}
    asked = {"input_id": call_id, bound.asks.value: call}
    return (
        {**asked, "expire_time": (datetime.now(UTC) + timedelta(seconds=bound.expires_after)).isoformat()}
        if bound.expires_after
        else asked
    )


def unaskable(bound: BoundTool, arguments: Mapping[str, Any]) -> ToolResult | None:
    """What the model is told in place of a question that cannot be put to anybody."""
    if bound.asks is None:
        return None
    if problems := violations(bound.tool, arguments):
        return ToolResult("; ".join(f"{one.field}: {one.description}" for one in problems), is_error=True)
    if bound.asks is Kind.USER_INPUT and "schema" in arguments:
        try:
            jsonschema.Draft202012Validator.check_schema(arguments["schema"])
        except jsonschema.SchemaError as error:
            return ToolResult(f"arguments.schema: {error.message[:300]}", is_error=True)
    return None


@dataclass(frozen=True, slots=True)
class Permission:
    """To make a call, with these arguments if they are not those of the model."""

    arguments: Mapping[str, Any] | None = None
    note: str = ""

    def noted(self, result: ToolResult) -> ToolResult:
        if not self.note:
            return result
        return ToolResult(f"{result.output}\n\n{self.note}", result.is_error, result.duration)


def outcome(answer: InputAnswer) -> ToolResult | Permission:
    """What an answer makes of the call that asked."""
    value = answer.value
    match answer.kind:
        case Kind.APPROVAL if value.get("approved"):
            return Permission(value.get("arguments"), value.get("note", ""))
        case Kind.APPROVAL:
            note = value.get("note", "")
            return ToolResult(f"the call was refused: {note}" if note else "the call was refused", is_error=True)
        case Kind.USER_INPUT if value.get("declined"):
            return ToolResult("the user will not answer", is_error=True)
        case Kind.USER_INPUT if "values" in value:
            return ToolResult(orjson.dumps(value["values"]).decode())
        case Kind.USER_INPUT:
            return ToolResult(value.get("text", ""))
        case _:
            return ToolResult(value.get("output", ""), bool(value.get("is_error")))


def _check(execution: Execution, answers: Sequence[InputAnswer], known: Mapping[str, InputAnswer]) -> None:
    """Bad answers are the caller's errors; whether they are still waited for, is the store's affair."""
    found: list[Violation] = []
    asked = {one["input_id"]: one for one in (execution.input_required or {}).get("requests", ())}
    seen: set[str] = set()
    for index, one in enumerate(answers):
        field = f"answers[{index}]"
        if one.input_id in seen:
            found.append(Violation(f"{field}.input_id", "is answered twice"))
        elif one.input_id in asked:
            if _is_over(asked[one.input_id], datetime.now(UTC)):
                raise errors.FailedPrecondition("nobody has answered in time", reason="INPUT_EXPIRED")
            found += _violations(asked[one.input_id], one, field)
        elif execution.status is Status.INPUT_REQUIRED and one.input_id not in known:
            found.append(Violation(f"{field}.input_id", "is none of the questions"))
        seen.add(one.input_id)
    if found:
        raise errors.InvalidArgument(found)


def _violations(asked: Question, answer: InputAnswer, field: str) -> list[Violation]:
    if answer.kind is Kind.APPROVAL and Kind.STEP_APPROVAL.value in asked:
        unfit = "arguments" in answer.value
        return [Violation(f"{field}.approval.arguments", "are only for the approval of a tool")] if unfit else []
    if answer.kind.value not in asked:
        kind = next(kind for kind in Kind if kind.value in asked)
        return [Violation(f"{field}.answer", f"does not fit the question, which is {kind.value}")]
    if answer.kind is not Kind.USER_INPUT or answer.value.get("declined"):
        return []
    schema = asked[Kind.USER_INPUT.value].get("schema")
    if schema is None:
        unfit = "values" in answer.value
        return [Violation(f"{field}.user_input.values", "were not asked for, but a text")] if unfit else []
    try:
        validator(schema).validate(answer.value.get("values", {}))
    except jsonschema.ValidationError as error:
        return [Violation(f"{field}.user_input.values", error.message[:300])]
    except (referencing.exceptions.Unresolvable, RecursionError):
        return [Violation(f"{field}.user_input.values", "cannot be checked: the schema is not sound")]
    return []
