import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ToolCallOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOOL_CALL_OUTCOME_UNSPECIFIED: _ClassVar[ToolCallOutcome]
    TOOL_CALL_OUTCOME_COMPLETED: _ClassVar[ToolCallOutcome]
    TOOL_CALL_OUTCOME_FAILED: _ClassVar[ToolCallOutcome]
    TOOL_CALL_OUTCOME_REFUSED: _ClassVar[ToolCallOutcome]
TOOL_CALL_OUTCOME_UNSPECIFIED: ToolCallOutcome
TOOL_CALL_OUTCOME_COMPLETED: ToolCallOutcome
TOOL_CALL_OUTCOME_FAILED: ToolCallOutcome
TOOL_CALL_OUTCOME_REFUSED: ToolCallOutcome

class ToolCallRecord(_message.Message):
    __slots__ = ("record_id", "execution_id", "step", "call_id", "subject", "tool_id", "tool_version", "arguments_digest", "outcome", "cached", "duration", "time", "decision")
    RECORD_ID_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    TOOL_ID_FIELD_NUMBER: _ClassVar[int]
    TOOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    record_id: str
    execution_id: str
    step: int
    call_id: str
    subject: str
    tool_id: str
    tool_version: str
    arguments_digest: str
    outcome: ToolCallOutcome
    cached: bool
    duration: _duration_pb2.Duration
    time: _timestamp_pb2.Timestamp
    decision: ToolCallDecision
    def __init__(self, record_id: _Optional[str] = ..., execution_id: _Optional[str] = ..., step: _Optional[int] = ..., call_id: _Optional[str] = ..., subject: _Optional[str] = ..., tool_id: _Optional[str] = ..., tool_version: _Optional[str] = ..., arguments_digest: _Optional[str] = ..., outcome: _Optional[_Union[ToolCallOutcome, str]] = ..., cached: _Optional[bool] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., decision: _Optional[_Union[ToolCallDecision, _Mapping]] = ...) -> None: ...

class ToolCallDecision(_message.Message):
    __slots__ = ("approved", "subject", "time")
    APPROVED_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    approved: bool
    subject: str
    time: _timestamp_pb2.Timestamp
    def __init__(self, approved: _Optional[bool] = ..., subject: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
