import datetime

from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HealthState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HEALTH_STATE_UNSPECIFIED: _ClassVar[HealthState]
    HEALTH_STATE_HEALTHY: _ClassVar[HealthState]
    HEALTH_STATE_DEGRADED: _ClassVar[HealthState]
    HEALTH_STATE_COOLING_DOWN: _ClassVar[HealthState]
    HEALTH_STATE_UNHEALTHY: _ClassVar[HealthState]

class CircuitState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CIRCUIT_STATE_UNSPECIFIED: _ClassVar[CircuitState]
    CIRCUIT_STATE_CLOSED: _ClassVar[CircuitState]
    CIRCUIT_STATE_OPEN: _ClassVar[CircuitState]
    CIRCUIT_STATE_HALF_OPEN: _ClassVar[CircuitState]
HEALTH_STATE_UNSPECIFIED: HealthState
HEALTH_STATE_HEALTHY: HealthState
HEALTH_STATE_DEGRADED: HealthState
HEALTH_STATE_COOLING_DOWN: HealthState
HEALTH_STATE_UNHEALTHY: HealthState
CIRCUIT_STATE_UNSPECIFIED: CircuitState
CIRCUIT_STATE_CLOSED: CircuitState
CIRCUIT_STATE_OPEN: CircuitState
CIRCUIT_STATE_HALF_OPEN: CircuitState

class HealthRequest(_message.Message):
    __slots__ = ("watch", "probe", "report")
    WATCH_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    watch: HealthWatch
    probe: HealthProbe
    report: HealthReport
    def __init__(self, watch: _Optional[_Union[HealthWatch, _Mapping]] = ..., probe: _Optional[_Union[HealthProbe, _Mapping]] = ..., report: _Optional[_Union[HealthReport, _Mapping]] = ...) -> None: ...

class HealthWatch(_message.Message):
    __slots__ = ("model_groups", "deployment_ids", "heartbeat_interval")
    MODEL_GROUPS_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_IDS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    model_groups: _containers.RepeatedScalarFieldContainer[str]
    deployment_ids: _containers.RepeatedScalarFieldContainer[str]
    heartbeat_interval: _duration_pb2.Duration
    def __init__(self, model_groups: _Optional[_Iterable[str]] = ..., deployment_ids: _Optional[_Iterable[str]] = ..., heartbeat_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class HealthProbe(_message.Message):
    __slots__ = ("deployment_ids",)
    DEPLOYMENT_IDS_FIELD_NUMBER: _ClassVar[int]
    deployment_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, deployment_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class HealthReport(_message.Message):
    __slots__ = ("deployment_id", "failed", "reason", "latency")
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    failed: bool
    reason: str
    latency: _duration_pb2.Duration
    def __init__(self, deployment_id: _Optional[str] = ..., failed: _Optional[bool] = ..., reason: _Optional[str] = ..., latency: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class HealthResponse(_message.Message):
    __slots__ = ("snapshot", "change", "heartbeat")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    snapshot: HealthSnapshot
    change: DeploymentHealth
    heartbeat: HealthHeartbeat
    def __init__(self, snapshot: _Optional[_Union[HealthSnapshot, _Mapping]] = ..., change: _Optional[_Union[DeploymentHealth, _Mapping]] = ..., heartbeat: _Optional[_Union[HealthHeartbeat, _Mapping]] = ...) -> None: ...

class HealthSnapshot(_message.Message):
    __slots__ = ("deployments", "groups", "shared", "config_fresh")
    DEPLOYMENTS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FRESH_FIELD_NUMBER: _ClassVar[int]
    deployments: _containers.RepeatedCompositeFieldContainer[DeploymentHealth]
    groups: _containers.RepeatedCompositeFieldContainer[GroupHealth]
    shared: bool
    config_fresh: bool
    def __init__(self, deployments: _Optional[_Iterable[_Union[DeploymentHealth, _Mapping]]] = ..., groups: _Optional[_Iterable[_Union[GroupHealth, _Mapping]]] = ..., shared: _Optional[bool] = ..., config_fresh: _Optional[bool] = ...) -> None: ...

class HealthHeartbeat(_message.Message):
    __slots__ = ("shared", "config_fresh")
    SHARED_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FRESH_FIELD_NUMBER: _ClassVar[int]
    shared: bool
    config_fresh: bool
    def __init__(self, shared: _Optional[bool] = ..., config_fresh: _Optional[bool] = ...) -> None: ...

class DeploymentHealth(_message.Message):
    __slots__ = ("deployment_id", "model_group", "state", "circuit", "cooldown_until", "last_error", "latency_p50", "latency_p95", "first_token_p50", "in_flight", "requests", "failures", "reported_failures", "removed", "since")
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_GROUP_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CIRCUIT_FIELD_NUMBER: _ClassVar[int]
    COOLDOWN_UNTIL_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P50_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P95_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_P50_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    REPORTED_FAILURES_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    model_group: str
    state: HealthState
    circuit: CircuitState
    cooldown_until: _timestamp_pb2.Timestamp
    last_error: str
    latency_p50: _duration_pb2.Duration
    latency_p95: _duration_pb2.Duration
    first_token_p50: _duration_pb2.Duration
    in_flight: int
    requests: int
    failures: int
    reported_failures: int
    removed: bool
    since: _timestamp_pb2.Timestamp
    def __init__(self, deployment_id: _Optional[str] = ..., model_group: _Optional[str] = ..., state: _Optional[_Union[HealthState, str]] = ..., circuit: _Optional[_Union[CircuitState, str]] = ..., cooldown_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_error: _Optional[str] = ..., latency_p50: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., latency_p95: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., first_token_p50: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., in_flight: _Optional[int] = ..., requests: _Optional[int] = ..., failures: _Optional[int] = ..., reported_failures: _Optional[int] = ..., removed: _Optional[bool] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GroupHealth(_message.Message):
    __slots__ = ("model_group", "state", "available", "total")
    MODEL_GROUP_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    model_group: str
    state: HealthState
    available: int
    total: int
    def __init__(self, model_group: _Optional[str] = ..., state: _Optional[_Union[HealthState, str]] = ..., available: _Optional[int] = ..., total: _Optional[int] = ...) -> None: ...
