import datetime

from buf.validate import validate_pb2 as _validate_pb2
from dynamicagents.tools.v1 import host_pb2 as _host_pb2
from dynamicagents.tools.v1 import tool_pb2 as _tool_pb2
from dynamicagents.tools.v1 import tool_call_pb2 as _tool_call_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ToolChange(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOOL_CHANGE_UNSPECIFIED: _ClassVar[ToolChange]
    TOOL_CHANGE_UNCHANGED: _ClassVar[ToolChange]
    TOOL_CHANGE_ADDED: _ClassVar[ToolChange]
    TOOL_CHANGE_COMPATIBLE: _ClassVar[ToolChange]
    TOOL_CHANGE_BREAKING: _ClassVar[ToolChange]
    TOOL_CHANGE_REMOVED: _ClassVar[ToolChange]
TOOL_CHANGE_UNSPECIFIED: ToolChange
TOOL_CHANGE_UNCHANGED: ToolChange
TOOL_CHANGE_ADDED: ToolChange
TOOL_CHANGE_COMPATIBLE: ToolChange
TOOL_CHANGE_BREAKING: ToolChange
TOOL_CHANGE_REMOVED: ToolChange

class HostToolsRequest(_message.Message):
    __slots__ = ("register", "progress", "result", "drain", "heartbeat")
    REGISTER_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    register: _host_pb2.HostRegistration
    progress: _host_pb2.HostCallProgress
    result: _host_pb2.HostCallResult
    drain: _host_pb2.HostDrain
    heartbeat: _host_pb2.HostHeartbeat
    def __init__(self, register: _Optional[_Union[_host_pb2.HostRegistration, _Mapping]] = ..., progress: _Optional[_Union[_host_pb2.HostCallProgress, _Mapping]] = ..., result: _Optional[_Union[_host_pb2.HostCallResult, _Mapping]] = ..., drain: _Optional[_Union[_host_pb2.HostDrain, _Mapping]] = ..., heartbeat: _Optional[_Union[_host_pb2.HostHeartbeat, _Mapping]] = ...) -> None: ...

class HostToolsResponse(_message.Message):
    __slots__ = ("registered", "call", "cancel", "heartbeat", "draining")
    REGISTERED_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    registered: _host_pb2.HostRegistered
    call: _host_pb2.HostCall
    cancel: _host_pb2.HostCancel
    heartbeat: _host_pb2.HostHeartbeat
    draining: _host_pb2.HostServerDraining
    def __init__(self, registered: _Optional[_Union[_host_pb2.HostRegistered, _Mapping]] = ..., call: _Optional[_Union[_host_pb2.HostCall, _Mapping]] = ..., cancel: _Optional[_Union[_host_pb2.HostCancel, _Mapping]] = ..., heartbeat: _Optional[_Union[_host_pb2.HostHeartbeat, _Mapping]] = ..., draining: _Optional[_Union[_host_pb2.HostServerDraining, _Mapping]] = ...) -> None: ...

class ListToolsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "source", "agent_id", "query")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    source: str
    agent_id: str
    query: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., source: _Optional[str] = ..., agent_id: _Optional[str] = ..., query: _Optional[str] = ...) -> None: ...

class ListToolsResponse(_message.Message):
    __slots__ = ("tools", "next_page_token", "sources")
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    tools: _containers.RepeatedCompositeFieldContainer[_tool_pb2.Tool]
    next_page_token: str
    sources: _containers.RepeatedCompositeFieldContainer[_tool_pb2.ToolSourceStatus]
    def __init__(self, tools: _Optional[_Iterable[_Union[_tool_pb2.Tool, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., sources: _Optional[_Iterable[_Union[_tool_pb2.ToolSourceStatus, _Mapping]]] = ...) -> None: ...

class WatchToolsRequest(_message.Message):
    __slots__ = ("source",)
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    source: str
    def __init__(self, source: _Optional[str] = ...) -> None: ...

class WatchToolsResponse(_message.Message):
    __slots__ = ("tool_upserted", "tool_removed", "source_changed", "source_removed", "snapshot_complete", "heartbeat")
    TOOL_UPSERTED_FIELD_NUMBER: _ClassVar[int]
    TOOL_REMOVED_FIELD_NUMBER: _ClassVar[int]
    SOURCE_CHANGED_FIELD_NUMBER: _ClassVar[int]
    SOURCE_REMOVED_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_COMPLETE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    tool_upserted: _tool_pb2.Tool
    tool_removed: ToolRemoved
    source_changed: _tool_pb2.ToolSourceStatus
    source_removed: ToolSourceRemoved
    snapshot_complete: ToolSnapshotComplete
    heartbeat: ToolHeartbeat
    def __init__(self, tool_upserted: _Optional[_Union[_tool_pb2.Tool, _Mapping]] = ..., tool_removed: _Optional[_Union[ToolRemoved, _Mapping]] = ..., source_changed: _Optional[_Union[_tool_pb2.ToolSourceStatus, _Mapping]] = ..., source_removed: _Optional[_Union[ToolSourceRemoved, _Mapping]] = ..., snapshot_complete: _Optional[_Union[ToolSnapshotComplete, _Mapping]] = ..., heartbeat: _Optional[_Union[ToolHeartbeat, _Mapping]] = ...) -> None: ...

class ToolRemoved(_message.Message):
    __slots__ = ("tool_id",)
    TOOL_ID_FIELD_NUMBER: _ClassVar[int]
    tool_id: str
    def __init__(self, tool_id: _Optional[str] = ...) -> None: ...

class ToolSourceRemoved(_message.Message):
    __slots__ = ("source_id",)
    SOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    source_id: str
    def __init__(self, source_id: _Optional[str] = ...) -> None: ...

class ToolSnapshotComplete(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ToolHeartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CallToolRequest(_message.Message):
    __slots__ = ("tool_id", "arguments")
    TOOL_ID_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    tool_id: str
    arguments: _struct_pb2.Struct
    def __init__(self, tool_id: _Optional[str] = ..., arguments: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class CallToolResponse(_message.Message):
    __slots__ = ("output", "is_error", "duration", "cached")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    IS_ERROR_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    output: str
    is_error: bool
    duration: _duration_pb2.Duration
    cached: bool
    def __init__(self, output: _Optional[str] = ..., is_error: _Optional[bool] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., cached: _Optional[bool] = ...) -> None: ...

class ListToolCallsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "execution_id", "tool_id", "subject", "from_time", "before_time")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    TOOL_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    FROM_TIME_FIELD_NUMBER: _ClassVar[int]
    BEFORE_TIME_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    execution_id: str
    tool_id: str
    subject: str
    from_time: _timestamp_pb2.Timestamp
    before_time: _timestamp_pb2.Timestamp
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., execution_id: _Optional[str] = ..., tool_id: _Optional[str] = ..., subject: _Optional[str] = ..., from_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., before_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListToolCallsResponse(_message.Message):
    __slots__ = ("tool_calls", "next_page_token")
    TOOL_CALLS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tool_calls: _containers.RepeatedCompositeFieldContainer[_tool_call_pb2.ToolCallRecord]
    next_page_token: str
    def __init__(self, tool_calls: _Optional[_Iterable[_Union[_tool_call_pb2.ToolCallRecord, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CheckToolProviderRequest(_message.Message):
    __slots__ = ("tool_provider_id", "candidate_address", "candidate_tool_provider_id")
    TOOL_PROVIDER_ID_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_TOOL_PROVIDER_ID_FIELD_NUMBER: _ClassVar[int]
    tool_provider_id: str
    candidate_address: str
    candidate_tool_provider_id: str
    def __init__(self, tool_provider_id: _Optional[str] = ..., candidate_address: _Optional[str] = ..., candidate_tool_provider_id: _Optional[str] = ...) -> None: ...

class CheckToolProviderResponse(_message.Message):
    __slots__ = ("tools",)
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    tools: _containers.RepeatedCompositeFieldContainer[ToolCheck]
    def __init__(self, tools: _Optional[_Iterable[_Union[ToolCheck, _Mapping]]] = ...) -> None: ...

class ToolCheck(_message.Message):
    __slots__ = ("tool_id", "change", "differences", "agent_ids")
    TOOL_ID_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    AGENT_IDS_FIELD_NUMBER: _ClassVar[int]
    tool_id: str
    change: ToolChange
    differences: _containers.RepeatedCompositeFieldContainer[ToolDifference]
    agent_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, tool_id: _Optional[str] = ..., change: _Optional[_Union[ToolChange, str]] = ..., differences: _Optional[_Iterable[_Union[ToolDifference, _Mapping]]] = ..., agent_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ToolDifference(_message.Message):
    __slots__ = ("path", "description", "breaking")
    PATH_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    BREAKING_FIELD_NUMBER: _ClassVar[int]
    path: str
    description: str
    breaking: bool
    def __init__(self, path: _Optional[str] = ..., description: _Optional[str] = ..., breaking: _Optional[bool] = ...) -> None: ...
