import datetime

from buf.validate import validate_pb2 as _validate_pb2
from dynamicagents.registry.v1 import agent_pb2 as _agent_pb2
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

class TeamMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TEAM_MODE_UNSPECIFIED: _ClassVar[TeamMode]
    TEAM_MODE_COORDINATE: _ClassVar[TeamMode]
    TEAM_MODE_ROUTE: _ClassVar[TeamMode]
    TEAM_MODE_BROADCAST: _ClassVar[TeamMode]
    TEAM_MODE_TASKS: _ClassVar[TeamMode]
TEAM_MODE_UNSPECIFIED: TeamMode
TEAM_MODE_COORDINATE: TeamMode
TEAM_MODE_ROUTE: TeamMode
TEAM_MODE_BROADCAST: TeamMode
TEAM_MODE_TASKS: TeamMode

class Team(_message.Message):
    __slots__ = ("team_id", "display_name", "description", "spec", "labels", "revision", "etag", "create_time", "update_time")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TEAM_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    team_id: str
    display_name: str
    description: str
    spec: TeamSpec
    labels: _containers.ScalarMap[str, str]
    revision: int
    etag: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    def __init__(self, team_id: _Optional[str] = ..., display_name: _Optional[str] = ..., description: _Optional[str] = ..., spec: _Optional[_Union[TeamSpec, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., revision: _Optional[int] = ..., etag: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class TeamSpec(_message.Message):
    __slots__ = ("model", "members", "mode", "instructions", "expected_output", "respond_directly", "share_member_interactions", "add_team_history_to_members", "num_team_history_runs", "max_iterations", "tools", "output_schema", "history", "limits", "markdown")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTIONS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    RESPOND_DIRECTLY_FIELD_NUMBER: _ClassVar[int]
    SHARE_MEMBER_INTERACTIONS_FIELD_NUMBER: _ClassVar[int]
    ADD_TEAM_HISTORY_TO_MEMBERS_FIELD_NUMBER: _ClassVar[int]
    NUM_TEAM_HISTORY_RUNS_FIELD_NUMBER: _ClassVar[int]
    MAX_ITERATIONS_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    MARKDOWN_FIELD_NUMBER: _ClassVar[int]
    model: _agent_pb2.ModelSettings
    members: _containers.RepeatedCompositeFieldContainer[TeamMember]
    mode: TeamMode
    instructions: _containers.RepeatedScalarFieldContainer[str]
    expected_output: str
    respond_directly: bool
    share_member_interactions: bool
    add_team_history_to_members: bool
    num_team_history_runs: int
    max_iterations: int
    tools: _containers.RepeatedCompositeFieldContainer[_agent_pb2.ToolReference]
    output_schema: _struct_pb2.Struct
    history: _agent_pb2.HistorySettings
    limits: RunLimits
    markdown: bool
    def __init__(self, model: _Optional[_Union[_agent_pb2.ModelSettings, _Mapping]] = ..., members: _Optional[_Iterable[_Union[TeamMember, _Mapping]]] = ..., mode: _Optional[_Union[TeamMode, str]] = ..., instructions: _Optional[_Iterable[str]] = ..., expected_output: _Optional[str] = ..., respond_directly: _Optional[bool] = ..., share_member_interactions: _Optional[bool] = ..., add_team_history_to_members: _Optional[bool] = ..., num_team_history_runs: _Optional[int] = ..., max_iterations: _Optional[int] = ..., tools: _Optional[_Iterable[_Union[_agent_pb2.ToolReference, _Mapping]]] = ..., output_schema: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., history: _Optional[_Union[_agent_pb2.HistorySettings, _Mapping]] = ..., limits: _Optional[_Union[RunLimits, _Mapping]] = ..., markdown: _Optional[bool] = ...) -> None: ...

class TeamMember(_message.Message):
    __slots__ = ("agent_id", "team_id", "role")
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    TEAM_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    agent_id: str
    team_id: str
    role: str
    def __init__(self, agent_id: _Optional[str] = ..., team_id: _Optional[str] = ..., role: _Optional[str] = ...) -> None: ...

class RunLimits(_message.Message):
    __slots__ = ("max_model_calls", "max_tool_calls", "timeout")
    MAX_MODEL_CALLS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOOL_CALLS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    max_model_calls: int
    max_tool_calls: int
    timeout: _duration_pb2.Duration
    def __init__(self, max_model_calls: _Optional[int] = ..., max_tool_calls: _Optional[int] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
