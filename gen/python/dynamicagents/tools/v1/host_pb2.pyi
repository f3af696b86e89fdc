import datetime

from buf.validate import validate_pb2 as _validate_pb2
from dynamicagents.tools.v1 import tool_pb2 as _tool_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HostRegistration(_message.Message):
    __slots__ = ("host_id", "tools", "max_concurrency")
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    host_id: str
    tools: _containers.RepeatedCompositeFieldContainer[HostedTool]
    max_concurrency: int
    def __init__(self, host_id: _Optional[str] = ..., tools: _Optional[_Iterable[_Union[HostedTool, _Mapping]]] = ..., max_concurrency: _Optional[int] = ...) -> None: ...

class HostedTool(_message.Message):
    __slots__ = ("name", "title", "description", "input_schema", "output_schema", "annotations", "examples")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    INPUT_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    name: str
    title: str
    description: str
    input_schema: _struct_pb2.Struct
    output_schema: _struct_pb2.Struct
    annotations: _tool_pb2.ToolAnnotations
    examples: _containers.RepeatedCompositeFieldContainer[_struct_pb2.Struct]
    def __init__(self, name: _Optional[str] = ..., title: _Optional[str] = ..., description: _Optional[str] = ..., input_schema: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., output_schema: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., annotations: _Optional[_Union[_tool_pb2.ToolAnnotations, _Mapping]] = ..., examples: _Optional[_Iterable[_Union[_struct_pb2.Struct, _Mapping]]] = ...) -> None: ...

class HostCallProgress(_message.Message):
    __slots__ = ("call_id", "progress", "total", "message")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    progress: float
    total: float
    message: str
    def __init__(self, call_id: _Optional[str] = ..., progress: _Optional[float] = ..., total: _Optional[float] = ..., message: _Optional[str] = ...) -> None: ...

class HostCallResult(_message.Message):
    __slots__ = ("call_id", "output", "is_error", "structured_output")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    IS_ERROR_FIELD_NUMBER: _ClassVar[int]
    STRUCTURED_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    output: str
    is_error: bool
    structured_output: _struct_pb2.Value
    def __init__(self, call_id: _Optional[str] = ..., output: _Optional[str] = ..., is_error: _Optional[bool] = ..., structured_output: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ...) -> None: ...

class HostDrain(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HostHeartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HostRegistered(_message.Message):
    __slots__ = ("host_id", "accepted_tools", "rejected_tools", "heartbeat_interval", "max_message_bytes")
    HOST_ID_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_TOOLS_FIELD_NUMBER: _ClassVar[int]
    REJECTED_TOOLS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    host_id: str
    accepted_tools: _containers.RepeatedScalarFieldContainer[str]
    rejected_tools: _containers.RepeatedCompositeFieldContainer[RejectedTool]
    heartbeat_interval: _duration_pb2.Duration
    max_message_bytes: int
    def __init__(self, host_id: _Optional[str] = ..., accepted_tools: _Optional[_Iterable[str]] = ..., rejected_tools: _Optional[_Iterable[_Union[RejectedTool, _Mapping]]] = ..., heartbeat_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_message_bytes: _Optional[int] = ...) -> None: ...

class RejectedTool(_message.Message):
    __slots__ = ("name", "field", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    field: str
    reason: str
    def __init__(self, name: _Optional[str] = ..., field: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class HostCall(_message.Message):
    __slots__ = ("call_id", "tool", "arguments", "deadline", "timeout", "idempotency_key", "traceparent", "tracestate", "execution_id", "user_id")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    TOOL_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    TRACESTATE_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    tool: str
    arguments: _struct_pb2.Struct
    deadline: _timestamp_pb2.Timestamp
    timeout: _duration_pb2.Duration
    idempotency_key: str
    traceparent: str
    tracestate: str
    execution_id: str
    user_id: str
    def __init__(self, call_id: _Optional[str] = ..., tool: _Optional[str] = ..., arguments: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., traceparent: _Optional[str] = ..., tracestate: _Optional[str] = ..., execution_id: _Optional[str] = ..., user_id: _Optional[str] = ...) -> None: ...

class HostCancel(_message.Message):
    __slots__ = ("call_id", "reason")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    reason: str
    def __init__(self, call_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class HostServerDraining(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
