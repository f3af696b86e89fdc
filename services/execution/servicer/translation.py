"""Proto <-> model of executions and their events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from dynamicagents.execution.v1 import event_pb2, execution_pb2, execution_service_pb2
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct, Value

from libs import chat, errors, status
from services.execution.model.events import (
    ContentDelta,
    ExecutionCompleted,
    InputRequired,
    LoggedEvent,
    SignalReceived,
    StepCompleted,
)
from services.execution.model.executions import ExecuteRequest, Execution, OnDisconnect, SessionPolicy, Status
from services.execution.model.journal import Step, StepKind
from services.execution.model.sessions import whole
from services.execution.model.targets import TargetKind
from services.execution.model.workflows import Outcome

_VALUES: Final = {"payload", "output"}
_STEP_BYTES: Final = 512
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_ON_DISCONNECT: Final = {
    execution_service_pb2.ON_DISCONNECT_UNSPECIFIED: OnDisconnect.GRACE,
    execution_service_pb2.ON_DISCONNECT_CANCEL: OnDisconnect.CANCEL,
    execution_service_pb2.ON_DISCONNECT_CONTINUE: OnDisconnect.CONTINUE,
}
_STATUS: Final = {
    Status.RUNNING: execution_pb2.EXECUTION_STATUS_RUNNING,
    Status.COMPLETED: execution_pb2.EXECUTION_STATUS_COMPLETED,
    Status.FAILED: execution_pb2.EXECUTION_STATUS_FAILED,
    Status.CANCELLED: execution_pb2.EXECUTION_STATUS_CANCELLED,
    Status.QUEUED: execution_pb2.EXECUTION_STATUS_QUEUED,
    Status.INPUT_REQUIRED: execution_pb2.EXECUTION_STATUS_INPUT_REQUIRED,
    Status.WAITING: execution_pb2.EXECUTION_STATUS_WAITING,
}
_KIND: Final[Mapping[str | None, TargetKind]] = {f"{kind.value}_id": kind for kind in TargetKind}
_SESSION_POLICY: Final = {
    execution_service_pb2.SESSION_POLICY_UNSPECIFIED: SessionPolicy.QUEUE,
    execution_service_pb2.SESSION_POLICY_QUEUE: SessionPolicy.QUEUE,
    execution_service_pb2.SESSION_POLICY_REJECT: SessionPolicy.REJECT,
    execution_service_pb2.SESSION_POLICY_INTERRUPT: SessionPolicy.INTERRUPT,
}


def to_request(request: execution_service_pb2.ExecuteRequest) -> ExecuteRequest:
    return ExecuteRequest(
        target_id=getattr(request, request.WhichOneof("target") or "agent_id"),
        target_kind=_KIND[request.WhichOneof("target")],
        input=request.input,
        revision=request.revision,
        session_id=request.session_id,
        user_id=request.user_id,
        metadata=dict(request.metadata),
        request_id=request.request_id,
        timeout=request.timeout.ToTimedelta().total_seconds() if request.HasField("timeout") else None,
        on_disconnect=_ON_DISCONNECT[request.on_disconnect],
        budget={field.name: value for field, value in request.budget.ListFields()},
        priority=request.priority,
        session_policy=_SESSION_POLICY[request.session_policy],
        media=tuple(map(chat.media_to_dict, request.media)),
        output_schema=to_data(request.output_schema, "output_schema") if request.HasField("output_schema") else None,
        session_state=to_data(request.session_state, "session_state"),
        history=tuple(map(chat.to_dict, request.history)),
    )


def to_data(struct: Struct, field: str) -> dict[str, Any]:
    try:
        return dict(whole(MessageToDict(struct)))
    except ValueError:
        raise errors.invalid(field, "has a number that is not finite") from None


def to_value(value: Value, field: str) -> Any:
    """None where it is unset."""
    if value.WhichOneof("kind") is None:
        return None
    try:
        return whole(MessageToDict(value))
    except ValueError:
        raise errors.invalid(field, "has a number that is not finite") from None


def to_event(execution_id: str, logged: LoggedEvent) -> event_pb2.ExecuteEvent:
    message = event_pb2.ExecuteEvent(execution_id=execution_id, sequence=logged.sequence)
    seconds, micros = divmod((logged.time - _EPOCH) // _MICROSECOND, 1_000_000)  # FromDatetime takes ten times as long
    message.time.seconds, message.time.nanos = seconds, 1000 * micros
    message.source.path.extend(logged.path)
    message.source.depth, message.source.scope = max(0, len(logged.path) - 1), logged.scope
    if isinstance(logged.event, ContentDelta):
        message.content_delta.SetInParent()
        message.content_delta.text = logged.event.text
        return message
    if isinstance(logged.event, InputRequired):
        message.input_required.CopyFrom(to_input_required(logged.event.to_dict()))
        return message
    fields = logged.event.to_dict()
    if "usage" in fields:
        fields["usage"] = to_usage(fields["usage"])
    if fields.get("error"):
        fields["error"] = status.to_status(errors.from_dict(fields["error"]))
    if isinstance(logged.event, StepCompleted | SignalReceived):
        fields |= {name: ParseDict(fields[name], Value()) for name in _VALUES & fields.keys()}
    if fields.get("wake_time"):
        fields["wake_time"] = datetime.fromisoformat(fields["wake_time"])
    if fields.get("outcome") and fields["outcome"] != Outcome.COMPLETED:
        del fields["output"]
    if "duration" in fields:
        fields["duration"] = timedelta(seconds=fields["duration"])
    part = getattr(message, logged.event.kind)
    part.SetInParent()
    part.MergeFrom(type(part)(**fields))
    return message


def weight(execution: Execution, completed: ExecutionCompleted) -> int:
    """Bytes of the larger one of what tells of a run's answer: what GetExecution gives, with its steps."""
    event = to_event(execution.execution_id, LoggedEvent(1, execution.create_time, (execution.target_id,), completed))
    steps: int = completed.usage["model_calls"] + completed.usage["tool_calls"]
    return int(event.ByteSize() + to_execution(execution).ByteSize()) + steps * _STEP_BYTES


def to_input_required(waiting: Mapping[str, Any]) -> execution_pb2.InputRequired:
    return ParseDict(dict(waiting), execution_pb2.InputRequired(), ignore_unknown_fields=True)


def to_usage(usage: Mapping[str, Any]) -> execution_pb2.ExecutionUsage:
    total = usage.get("input_tokens", 0) + usage.get("output_tokens", 0)
    return execution_pb2.ExecutionUsage(total_tokens=total, **usage)


def to_execution(execution: Execution, steps: Sequence[Step] = ()) -> execution_pb2.Execution:
    message = execution_pb2.Execution(
        execution_id=execution.execution_id,
        agent_id=_named(execution, TargetKind.AGENT),
        team_id=_named(execution, TargetKind.TEAM),
        workflow_id=_named(execution, TargetKind.WORKFLOW),
        revision=execution.revision,
        status=_STATUS[execution.status],
        input=execution.input,
        output=execution.output,
        structured_output=execution.structured_output,
        followups=execution.followups,
        usage=to_usage(execution.usage),
        session_id=execution.session_id,
        user_id=execution.user_id,
        metadata=execution.metadata,
        last_sequence=execution.last_sequence,
        create_time=execution.create_time,
        end_time=execution.end_time,
        queue_position=execution.queue_position,
        attempts=execution.attempts,
        steps=map(_step, steps),
        priority=execution.priority,
        budget=execution_pb2.Budget(**execution.budget) if execution.budget else None,
    )
    if execution.status is Status.INPUT_REQUIRED and execution.input_required:
        message.input_required.CopyFrom(to_input_required(execution.input_required))
    if execution.error:
        message.error.CopyFrom(status.to_status(errors.from_dict(execution.error)))
    return message


def _named(execution: Execution, kind: TargetKind) -> str | None:
    return execution.target_id if execution.target_kind is kind else None


def _step(step: Step) -> execution_pb2.Step:
    return execution_pb2.Step(
        step=step.number,
        model=step.name if step.kind is StepKind.MODEL else None,
        tool_id=step.name if step.kind is StepKind.TOOL else None,
        member=step.name if step.kind is StepKind.MEMBER else None,
        workflow_step=step.name if step.kind is StepKind.STEP else None,
        wait=step.name if step.kind is StepKind.WAIT else None,
        signal=step.name if step.kind is StepKind.SIGNAL else None,
        scope=step.scope,
        call_id=step.call_id,
        request_digest=step.digest,
        completed=step.end_time is not None,
        is_error=step.is_error,
        start_time=step.start_time,
        end_time=step.end_time,
    )
