from buf.validate import validate_pb2 as _validate_pb2
from dynamicagents.tools.v1 import host_pb2 as _host_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RelayCallRequest(_message.Message):
    __slots__ = ("stream_id", "tool", "arguments", "idempotency_key", "execution_id", "user_id")
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    TOOL_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    stream_id: str
    tool: str
    arguments: _struct_pb2.Struct
    idempotency_key: str
    execution_id: str
    user_id: str
    def __init__(self, stream_id: _Optional[str] = ..., tool: _Optional[str] = ..., arguments: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., execution_id: _Optional[str] = ..., user_id: _Optional[str] = ...) -> None: ...

class RelayCallResponse(_message.Message):
    __slots__ = ("progress", "result")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    progress: _host_pb2.HostCallProgress
    result: _host_pb2.HostCallResult
    def __init__(self, progress: _Optional[_Union[_host_pb2.HostCallProgress, _Mapping]] = ..., result: _Optional[_Union[_host_pb2.HostCallResult, _Mapping]] = ...) -> None: ...
