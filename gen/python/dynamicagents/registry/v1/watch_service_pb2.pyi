from buf.validate import validate_pb2 as _validate_pb2
from dynamicagents.registry.v1 import agent_pb2 as _agent_pb2
from dynamicagents.registry.v1 import router_config_pb2 as _router_config_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ResourceKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESOURCE_KIND_UNSPECIFIED: _ClassVar[ResourceKind]
    RESOURCE_KIND_AGENT: _ClassVar[ResourceKind]
    RESOURCE_KIND_ROUTER_CONFIG: _ClassVar[ResourceKind]
RESOURCE_KIND_UNSPECIFIED: ResourceKind
RESOURCE_KIND_AGENT: ResourceKind
RESOURCE_KIND_ROUTER_CONFIG: ResourceKind

class WatchRequest(_message.Message):
    __slots__ = ("kinds", "resume_token", "snapshot")
    KINDS_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    kinds: _containers.RepeatedScalarFieldContainer[ResourceKind]
    resume_token: str
    snapshot: bool
    def __init__(self, kinds: _Optional[_Iterable[_Union[ResourceKind, str]]] = ..., resume_token: _Optional[str] = ..., snapshot: _Optional[bool] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("resume_token", "change", "snapshot_complete", "heartbeat")
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_COMPLETE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    resume_token: str
    change: ResourceChange
    snapshot_complete: SnapshotComplete
    heartbeat: WatchHeartbeat
    def __init__(self, resume_token: _Optional[str] = ..., change: _Optional[_Union[ResourceChange, _Mapping]] = ..., snapshot_complete: _Optional[_Union[SnapshotComplete, _Mapping]] = ..., heartbeat: _Optional[_Union[WatchHeartbeat, _Mapping]] = ...) -> None: ...

class ResourceChange(_message.Message):
    __slots__ = ("kind", "resource_id", "revision", "deleted", "agent", "router_config")
    KIND_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    ROUTER_CONFIG_FIELD_NUMBER: _ClassVar[int]
    kind: ResourceKind
    resource_id: str
    revision: int
    deleted: bool
    agent: _agent_pb2.Agent
    router_config: _router_config_pb2.RouterConfig
    def __init__(self, kind: _Optional[_Union[ResourceKind, str]] = ..., resource_id: _Optional[str] = ..., revision: _Optional[int] = ..., deleted: _Optional[bool] = ..., agent: _Optional[_Union[_agent_pb2.Agent, _Mapping]] = ..., router_config: _Optional[_Union[_router_config_pb2.RouterConfig, _Mapping]] = ...) -> None: ...

class SnapshotComplete(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchHeartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
