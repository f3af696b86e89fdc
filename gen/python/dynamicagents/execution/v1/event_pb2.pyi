import datetime

from dynamicagents.execution.v1 import execution_pb2 as _execution_pb2
from dynamicagents.tools.v1 import tool_pb2 as _tool_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StepOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STEP_OUTCOME_UNSPECIFIED: _ClassVar[StepOutcome]
    STEP_OUTCOME_COMPLETED: _ClassVar[StepOutcome]
    STEP_OUTCOME_FAILED: _ClassVar[StepOutcome]
    STEP_OUTCOME_SKIPPED: _ClassVar[StepOutcome]
    STEP_OUTCOME_COMPENSATED: _ClassVar[StepOutcome]
STEP_OUTCOME_UNSPECIFIED: StepOutcome
STEP_OUTCOME_COMPLETED: StepOutcome
STEP_OUTCOME_FAILED: StepOutcome
STEP_OUTCOME_SKIPPED: StepOutcome
STEP_OUTCOME_COMPENSATED: StepOutcome

class ExecuteEvent(_message.Message):
    __slots__ = ("execution_id", "sequence", "time", "source", "execution_started", "content_delta", "reasoning_delta", "tool_call_started", "tool_call_progress", "tool_call_completed", "member_started", "member_completed", "step_started", "step_completed", "input_required", "content_restarted", "state_changed", "usage_reported", "heartbeat", "citations_reported", "input_received", "tool_source_changed", "handed_off", "wait_started", "signal_received", "execution_completed", "execution_failed", "execution_cancelled")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_STARTED_FIELD_NUMBER: _ClassVar[int]
    CONTENT_DELTA_FIELD_NUMBER: _ClassVar[int]
    REASONING_DELTA_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALL_STARTED_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALL_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALL_COMPLETED_FIELD_NUMBER: _ClassVar[int]
    MEMBER_STARTED_FIELD_NUMBER: _ClassVar[int]
    MEMBER_COMPLETED_FIELD_NUMBER: _ClassVar[int]
    STEP_STARTED_FIELD_NUMBER: _ClassVar[int]
    STEP_COMPLETED_FIELD_NUMBER: _ClassVar[int]
    INPUT_REQUIRED_FIELD_NUMBER: _ClassVar[int]
    CONTENT_RESTARTED_FIELD_NUMBER: _ClassVar[int]
    STATE_CHANGED_FIELD_NUMBER: _ClassVar[int]
    USAGE_REPORTED_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    CITATIONS_REPORTED_FIELD_NUMBER: _ClassVar[int]
    INPUT_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    TOOL_SOURCE_CHANGED_FIELD_NUMBER: _ClassVar[int]
    HANDED_OFF_FIELD_NUMBER: _ClassVar[int]
    WAIT_STARTED_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_COMPLETED_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_FAILED_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_CANCELLED_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    sequence: int
    time: _timestamp_pb2.Timestamp
    source: Source
    execution_started: ExecutionStarted
    content_delta: ContentDelta
    reasoning_delta: ReasoningDelta
    tool_call_started: ToolCallStarted
    tool_call_progress: ToolCallProgress
    tool_call_completed: ToolCallCompleted
    member_started: MemberStarted
    member_completed: MemberCompleted
    step_started: StepStarted
    step_completed: StepCompleted
    input_required: _execution_pb2.InputRequired
    content_restarted: ContentRestarted
    state_changed: StateChanged
    usage_reported: UsageReported
    heartbeat: Heartbeat
    citations_reported: CitationsReported
    input_received: InputReceived
    tool_source_changed: ToolSourceChanged
    handed_off: HandedOff
    wait_started: WaitStarted
    signal_received: SignalReceived
    execution_completed: ExecutionCompleted
    execution_failed: ExecutionFailed
    execution_cancelled: ExecutionCancelled
    def __init__(self, execution_id: _Optional[str] = ..., sequence: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., source: _Optional[_Union[Source, _Mapping]] = ..., execution_started: _Optional[_Union[ExecutionStarted, _Mapping]] = ..., content_delta: _Optional[_Union[ContentDelta, _Mapping]] = ..., reasoning_delta: _Optional[_Union[ReasoningDelta, _Mapping]] = ..., tool_call_started: _Optional[_Union[ToolCallStarted, _Mapping]] = ..., tool_call_progress: _Optional[_Union[ToolCallProgress, _Mapping]] = ..., tool_call_completed: _Optional[_Union[ToolCallCompleted, _Mapping]] = ..., member_started: _Optional[_Union[MemberStarted, _Mapping]] = ..., member_completed: _Optional[_Union[MemberCompleted, _Mapping]] = ..., step_started: _Optional[_Union[StepStarted, _Mapping]] = ..., step_completed: _Optional[_Union[StepCompleted, _Mapping]] = ..., input_required: _Optional[_Union[_execution_pb2.InputRequired, _Mapping]] = ..., content_restarted: _Optional[_Union[ContentRestarted, _Mapping]] = ..., state_changed: _Optional[_Union[StateChanged, _Mapping]] = ..., usage_reported: _Optional[_Union[UsageReported, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., citations_reported: _Optional[_Union[CitationsReported, _Mapping]] = ..., input_received: _Optional[_Union[InputReceived, _Mapping]] = ..., tool_source_changed: _Optional[_Union[ToolSourceChanged, _Mapping]] = ..., handed_off: _Optional[_Union[HandedOff, _Mapping]] = ..., wait_started: _Optional[_Union[WaitStarted, _Mapping]] = ..., signal_received: _Optional[_Union[SignalReceived, _Mapping]] = ..., execution_completed: _Optional[_Union[ExecutionCompleted, _Mapping]] = ..., execution_failed: _Optional[_Union[ExecutionFailed, _Mapping]] = ..., execution_cancelled: _Optional[_Union[ExecutionCancelled, _Mapping]] = ...) -> None: ...

class Source(_message.Message):
    __slots__ = ("path", "depth", "scope")
    PATH_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    path: _containers.RepeatedScalarFieldContainer[str]
    depth: int
    scope: str
    def __init__(self, path: _Optional[_Iterable[str]] = ..., depth: _Optional[int] = ..., scope: _Optional[str] = ...) -> None: ...

class ExecutionStarted(_message.Message):
    __slots__ = ("agent_id", "revision", "session_id", "team_id", "workflow_id")
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TEAM_ID_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_ID_FIELD_NUMBER: _ClassVar[int]
    agent_id: str
    revision: int
    session_id: str
    team_id: str
    workflow_id: str
    def __init__(self, agent_id: _Optional[str] = ..., revision: _Optional[int] = ..., session_id: _Optional[str] = ..., team_id: _Optional[str] = ..., workflow_id: _Optional[str] = ...) -> None: ...

class ContentDelta(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class ReasoningDelta(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class ToolCallStarted(_message.Message):
    __slots__ = ("call_id", "tool_id", "arguments")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    TOOL_ID_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    tool_id: str
    arguments: _struct_pb2.Struct
    def __init__(self, call_id: _Optional[str] = ..., tool_id: _Optional[str] = ..., arguments: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class ToolCallCompleted(_message.Message):
    __slots__ = ("call_id", "tool_id", "output", "is_error", "duration", "cached")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    TOOL_ID_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    IS_ERROR_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    tool_id: str
    output: str
    is_error: bool
    duration: _duration_pb2.Duration
    cached: bool
    def __init__(self, call_id: _Optional[str] = ..., tool_id: _Optional[str] = ..., output: _Optional[str] = ..., is_error: _Optional[bool] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., cached: _Optional[bool] = ...) -> None: ...

class ToolSourceChanged(_message.Message):
    __slots__ = ("source_id", "state", "message")
    SOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    source_id: str
    state: _tool_pb2.ToolSourceState
    message: str
    def __init__(self, source_id: _Optional[str] = ..., state: _Optional[_Union[_tool_pb2.ToolSourceState, str]] = ..., message: _Optional[str] = ...) -> None: ...

class UsageReported(_message.Message):
    __slots__ = ("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens", "cost_usd", "deployment_id", "model", "offline")
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REASONING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OFFLINE_FIELD_NUMBER: _ClassVar[int]
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    reasoning_tokens: int
    cost_usd: float
    deployment_id: str
    model: str
    offline: bool
    def __init__(self, input_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., cached_input_tokens: _Optional[int] = ..., reasoning_tokens: _Optional[int] = ..., cost_usd: _Optional[float] = ..., deployment_id: _Optional[str] = ..., model: _Optional[str] = ..., offline: _Optional[bool] = ...) -> None: ...

class MemberStarted(_message.Message):
    __slots__ = ("agent_id", "team_id", "workflow_id", "revision", "input")
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    TEAM_ID_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    agent_id: str
    team_id: str
    workflow_id: str
    revision: int
    input: str
    def __init__(self, agent_id: _Optional[str] = ..., team_id: _Optional[str] = ..., workflow_id: _Optional[str] = ..., revision: _Optional[int] = ..., input: _Optional[str] = ...) -> None: ...

class MemberCompleted(_message.Message):
    __slots__ = ("output", "structured_output", "error", "usage", "duration")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    STRUCTURED_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    output: str
    structured_output: _struct_pb2.Struct
    error: _status_pb2.Status
    usage: _execution_pb2.ExecutionUsage
    duration: _duration_pb2.Duration
    def __init__(self, output: _Optional[str] = ..., structured_output: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., usage: _Optional[_Union[_execution_pb2.ExecutionUsage, _Mapping]] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class HandedOff(_message.Message):
    __slots__ = ("from_id", "to_id", "reason")
    FROM_ID_FIELD_NUMBER: _ClassVar[int]
    TO_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    from_id: str
    to_id: str
    reason: str
    def __init__(self, from_id: _Optional[str] = ..., to_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class StepStarted(_message.Message):
    __slots__ = ("step_id", "step_kind", "attempt", "iteration")
    STEP_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_KIND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ITERATION_FIELD_NUMBER: _ClassVar[int]
    step_id: str
    step_kind: str
    attempt: int
    iteration: int
    def __init__(self, step_id: _Optional[str] = ..., step_kind: _Optional[str] = ..., attempt: _Optional[int] = ..., iteration: _Optional[int] = ...) -> None: ...

class StepCompleted(_message.Message):
    __slots__ = ("step_id", "outcome", "output", "error", "attempt", "iteration")
    STEP_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ITERATION_FIELD_NUMBER: _ClassVar[int]
    step_id: str
    outcome: StepOutcome
    output: _struct_pb2.Value
    error: _status_pb2.Status
    attempt: int
    iteration: int
    def __init__(self, step_id: _Optional[str] = ..., outcome: _Optional[_Union[StepOutcome, str]] = ..., output: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., attempt: _Optional[int] = ..., iteration: _Optional[int] = ...) -> None: ...

class WaitStarted(_message.Message):
    __slots__ = ("wake_time", "signal")
    WAKE_TIME_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    wake_time: _timestamp_pb2.Timestamp
    signal: str
    def __init__(self, wake_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., signal: _Optional[str] = ...) -> None: ...

class SignalReceived(_message.Message):
    __slots__ = ("name", "signal_id", "payload", "subject")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_ID_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    name: str
    signal_id: str
    payload: _struct_pb2.Value
    subject: str
    def __init__(self, name: _Optional[str] = ..., signal_id: _Optional[str] = ..., payload: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., subject: _Optional[str] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("queue_position",)
    QUEUE_POSITION_FIELD_NUMBER: _ClassVar[int]
    queue_position: int
    def __init__(self, queue_position: _Optional[int] = ...) -> None: ...

class ToolCallProgress(_message.Message):
    __slots__ = ("call_id", "tool_id", "progress", "total", "message")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    TOOL_ID_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    tool_id: str
    progress: float
    total: float
    message: str
    def __init__(self, call_id: _Optional[str] = ..., tool_id: _Optional[str] = ..., progress: _Optional[float] = ..., total: _Optional[float] = ..., message: _Optional[str] = ...) -> None: ...

class ContentRestarted(_message.Message):
    __slots__ = ("from_sequence",)
    FROM_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    from_sequence: int
    def __init__(self, from_sequence: _Optional[int] = ...) -> None: ...

class StateChanged(_message.Message):
    __slots__ = ("state", "version")
    STATE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    state: _struct_pb2.Struct
    version: int
    def __init__(self, state: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., version: _Optional[int] = ...) -> None: ...

class CitationsReported(_message.Message):
    __slots__ = ("citations",)
    CITATIONS_FIELD_NUMBER: _ClassVar[int]
    citations: _containers.RepeatedCompositeFieldContainer[Citation]
    def __init__(self, citations: _Optional[_Iterable[_Union[Citation, _Mapping]]] = ...) -> None: ...

class Citation(_message.Message):
    __slots__ = ("url", "title", "quote")
    URL_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    QUOTE_FIELD_NUMBER: _ClassVar[int]
    url: str
    title: str
    quote: str
    def __init__(self, url: _Optional[str] = ..., title: _Optional[str] = ..., quote: _Optional[str] = ...) -> None: ...

class InputReceived(_message.Message):
    __slots__ = ("input_id", "approved", "subject", "expired")
    INPUT_ID_FIELD_NUMBER: _ClassVar[int]
    APPROVED_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_FIELD_NUMBER: _ClassVar[int]
    input_id: str
    approved: bool
    subject: str
    expired: bool
    def __init__(self, input_id: _Optional[str] = ..., approved: _Optional[bool] = ..., subject: _Optional[str] = ..., expired: _Optional[bool] = ...) -> None: ...

class ExecutionCompleted(_message.Message):
    __slots__ = ("output", "structured_output", "usage", "followups")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    STRUCTURED_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    FOLLOWUPS_FIELD_NUMBER: _ClassVar[int]
    output: str
    structured_output: _struct_pb2.Struct
    usage: _execution_pb2.ExecutionUsage
    followups: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, output: _Optional[str] = ..., structured_output: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., usage: _Optional[_Union[_execution_pb2.ExecutionUsage, _Mapping]] = ..., followups: _Optional[_Iterable[str]] = ...) -> None: ...

class ExecutionFailed(_message.Message):
    __slots__ = ("error", "usage", "raw_output")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    RAW_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    error: _status_pb2.Status
    usage: _execution_pb2.ExecutionUsage
    raw_output: str
    def __init__(self, error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., usage: _Optional[_Union[_execution_pb2.ExecutionUsage, _Mapping]] = ..., raw_output: _Optional[str] = ...) -> None: ...

class ExecutionCancelled(_message.Message):
    __slots__ = ("reason", "usage")
    REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    usage: _execution_pb2.ExecutionUsage
    def __init__(self, reason: _Optional[str] = ..., usage: _Optional[_Union[_execution_pb2.ExecutionUsage, _Mapping]] = ...) -> None: ...
