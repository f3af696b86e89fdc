"""Rows of the tables <-> model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import orjson

from libs.database import aware
from services.execution.model.events import (
    EVENTS,
    TERMINAL_STATUS,
    ContentDelta,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    InputRequired,
    LoggedEvent,
    ReasoningDelta,
)
from services.execution.model.executions import ExecuteRequest, Execution, OnDisconnect, SessionPolicy, Status
from services.execution.model.inputs import due
from services.execution.model.journal import Step, StepKind
from services.execution.model.targets import Agent, Part, Pinned, Target, TargetKind, Team, Workflow
from services.execution.model.turns import Assignment

_PARTS: Final = "parts"
_PARTS_OF: Final[Mapping[TargetKind, type[Part]]] = {
    TargetKind.AGENT: Agent,
    TargetKind.TEAM: Team,
    TargetKind.WORKFLOW: Workflow,
}


def progress(last: LoggedEvent) -> dict[str, Any]:
    """What the last event of a group changes in its execution's row."""
    values: dict[str, Any] = {"last_sequence": last.sequence}
    if last.event.terminal:
        values |= {"status": TERMINAL_STATUS[type(last.event)].value, "end_time": last.time}
        values |= {"session_held": None, "waiting": None}
    match last.event:
        case ExecutionCompleted(output=output, structured_output=structured, followups=followups):
            values |= {"output": output, "structured_output": structured, "followups": followups or None}
        case ExecutionFailed(error=error):
            values["error"] = error
        case ExecutionCancelled(reason=reason):
            values["cancel_reason"] = reason
        case InputRequired():
            waiting = {**last.event.to_dict(), "since": last.time.isoformat()}
            # From now on the lease is on the answers.
            values |= {
                "status": Status.INPUT_REQUIRED.value,
                "waiting": waiting,
                "owner": "",
                "lease_time": due(waiting),
            }
    return values


def event_row(tenant: str, execution_id: str, logged: LoggedEvent) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "execution_id": execution_id,
        "sequence": logged.sequence,
        "time": logged.time,
        "path": list(logged.path),
        "scope": logged.scope,
        "kind": logged.event.kind,
        "payload": logged.event.to_dict(),
    }


def to_events(row: Any) -> list[LoggedEvent]:
    """One, or those that were put together in this row, as they were."""
    path, kind = tuple(row.path), EVENTS[row.kind]
    if _PARTS not in row.payload:
        return [LoggedEvent(row.sequence, aware(row.time), path, kind(**row.payload), row.scope)]
    parts = row.payload[_PARTS]
    return [
        LoggedEvent(number, datetime.fromisoformat(time), path, kind(text=text), row.scope)  # type: ignore[call-arg]
        for number, (time, text) in enumerate(parts, row.sequence - len(parts) + 1)
    ]


def is_text(kind: str) -> bool:
    return kind in (ContentDelta.kind, ReasoningDelta.kind)


def compacted_row(group: Sequence[Any]) -> dict[str, Any]:
    """Consecutive events of text in one row, under the number of the last."""
    parts = [[one.time.isoformat(), one.event.text] for row in group for one in to_events(row)]  # type: ignore[attr-defined]
    return {**group[-1]._mapping, "payload": {_PARTS: parts}}


def columns(execution: Execution) -> dict[str, Any]:
    return {
        "tenant": execution.tenant,
        "execution_id": execution.execution_id,
        "target_kind": execution.target_kind.value,
        "target_id": execution.target_id,
        "revision": execution.revision,
        "status": execution.status.value,
        "input": execution.input,
        "output": "",
        "usage": dict(execution.usage),
        "session_id": execution.session_id,
        "user_id": execution.user_id,
        "metadata": dict(execution.metadata),
        "request_id": execution.request_id or None,
        "request_digest": execution.request_digest,
        "last_sequence": execution.last_sequence,
        "owner": execution.owner,
        "create_time": execution.create_time,
        "priority": execution.priority,
        "budget": dict(execution.budget) or None,
        "attempts": execution.attempts,
        "session_held": execution.session_id or None if execution.status is Status.RUNNING else None,
    }


def to_execution(row: Any) -> Execution:
    columns = row._mapping
    return Execution(
        tenant=row.tenant,
        execution_id=row.execution_id,
        target_id=row.target_id,
        target_kind=TargetKind(row.target_kind),
        revision=row.revision,
        status=Status(row.status),
        input=row.input,
        create_time=aware(row.create_time),
        owner=row.owner,
        session_id=row.session_id,
        user_id=row.user_id,
        metadata=columns["metadata"],
        request_id=row.request_id or "",
        request_digest=row.request_digest,
        output=row.output,
        structured_output=row.structured_output,
        followups=tuple(row.followups or ()),
        error=row.error,
        usage=row.usage,
        last_sequence=row.last_sequence,
        end_time=aware(row.end_time) if row.end_time else None,
        cancel_reason=row.cancel_reason,
        watch_time=aware(row.watch_time) if row.watch_time else None,
        attempts=row.attempts,
        deaths=row.deaths,
        oldest_sequence=row.oldest_sequence,
        priority=row.priority,
        budget=row.budget or {},
        input_required=row.waiting,
    )


def step_row(tenant: str, execution_id: str, step: Step) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "execution_id": execution_id,
        "scope": step.scope,
        "step": step.number,
        "kind": step.kind.value,
        "name": step.name,
        "call_id": step.call_id,
        "digest": step.digest,
        "result": step.result,
        "is_error": step.is_error,
        "start_time": step.start_time,
        "end_time": step.end_time,
        "end_sequence": step.end_sequence,
    }


def to_step(row: Any) -> Step:
    return Step(
        number=row.step,
        kind=StepKind(row.kind),
        name=row.name,
        digest=row.digest,
        start_time=aware(row.start_time),
        call_id=row.call_id,
        result=row.result,
        is_error=row.is_error,
        end_time=aware(row.end_time) if row.end_time else None,
        end_sequence=row.end_sequence,
        scope=row.scope,
    )


def job_row(tenant: str, execution_id: str, assignment: Assignment) -> dict[str, Any]:
    """As text: JSONB would write some numbers in another way, and the run must find what it began with."""
    pinned = assignment.pinned
    return {
        "tenant": tenant,
        "execution_id": execution_id,
        "request": orjson.dumps(assignment.request).decode(),
        "pinned": orjson.dumps({"target": pinned.target, "parts": pinned.parts, "origin": assignment.origin}).decode(),
        "subject": assignment.subject,
        "deadline": assignment.deadline,
    }


def to_assignment(row: Any) -> Assignment:
    request = _loaded(row.request)
    request["on_disconnect"] = OnDisconnect(request["on_disconnect"])
    request["session_policy"] = SessionPolicy(request["session_policy"])
    request["target_kind"] = TargetKind(request["target_kind"])
    kept = orjson.loads(row.pinned)
    pinned = Pinned(kept["target"], {key: _part(key, part) for key, part in kept["parts"].items()})
    asked, origin = ExecuteRequest(**request), kept.get("origin", "")
    return Assignment(asked, pinned, row.subject, aware(row.deadline), origin)


def _part(key: str, kept: dict[str, Any]) -> Part:
    made: type[Part] = _PARTS_OF[Target.of(key).kind]
    return made(**{**kept, "functions": tuple(kept["functions"])})


def _loaded(text: str) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in orjson.loads(text).items()}
