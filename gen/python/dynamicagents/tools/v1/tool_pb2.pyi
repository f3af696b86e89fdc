from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ToolSourceState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOOL_SOURCE_STATE_UNSPECIFIED: _ClassVar[ToolSourceState]
    TOOL_SOURCE_STATE_PENDING: _ClassVar[ToolSourceState]
    TOOL_SOURCE_STATE_READY: _ClassVar[ToolSourceState]
    TOOL_SOURCE_STATE_IDLE: _ClassVar[ToolSourceState]
    TOOL_SOURCE_STATE_FAILED: _ClassVar[ToolSourceState]
TOOL_SOURCE_STATE_UNSPECIFIED: ToolSourceState
TOOL_SOURCE_STATE_PENDING: ToolSourceState
TOOL_SOURCE_STATE_READY: ToolSourceState
TOOL_SOURCE_STATE_IDLE: ToolSourceState
TOOL_SOURCE_STATE_FAILED: ToolSourceState

class Tool(_message.Message):
    __slots__ = ("tool_id", "function_name", "title", "description", "input_schema", "output_schema", "annotations", "source", "version", "examples", "warning", "unusable")
    TOOL_ID_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    INPUT_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    WARNING_FIELD_NUMBER: _ClassVar[int]
    UNUSABLE_FIELD_NUMBER: _ClassVar[int]
    tool_id: str
    function_name: str
    title: str
    description: str
    input_schema: _struct_pb2.Struct
    output_schema: _struct_pb2.Struct
    annotations: ToolAnnotations
    source: str
    version: str
    examples: _containers.RepeatedCompositeFieldContainer[_struct_pb2.Struct]
    warning: str
    unusable: bool
    def __init__(self, tool_id: _Optional[str] = ..., function_name: _Optional[str] = ..., title: _Optional[str] = ..., description: _Optional[str] = ..., input_schema: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., output_schema: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., annotations: _Optional[_Union[ToolAnnotations, _Mapping]] = ..., source: _Optional[str] = ..., version: _Optional[str] = ..., examples: _Optional[_Iterable[_Union[_struct_pb2.Struct, _Mapping]]] = ..., warning: _Optional[str] = ..., unusable: _Optional[bool] = ...) -> None: ...

class ToolAnnotations(_message.Message):
    __slots__ = ("read_only", "idempotent", "destructive", "open_world")
    READ_ONLY_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENT_FIELD_NUMBER: _ClassVar[int]
    DESTRUCTIVE_FIELD_NUMBER: _ClassVar[int]
    OPEN_WORLD_FIELD_NUMBER: _ClassVar[int]
    read_only: bool
    idempotent: bool
    destructive: bool
    open_world: bool
    def __init__(self, read_only: _Optional[bool] = ..., idempotent: _Optional[bool] = ..., destructive: _Optional[bool] = ..., open_world: _Optional[bool] = ...) -> None: ...

class ToolSourceStatus(_message.Message):
    __slots__ = ("source_id", "state", "message", "tool_count", "protocol_version")
    SOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TOOL_COUNT_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    source_id: str
    state: ToolSourceState
    message: str
    tool_count: int
    protocol_version: str
    def __init__(self, source_id: _Optional[str] = ..., state: _Optional[_Union[ToolSourceState, str]] = ..., message: _Optional[str] = ..., tool_count: _Optional[int] = ..., protocol_version: _Optional[str] = ...) -> None: ...
