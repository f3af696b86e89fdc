from buf.validate import validate_pb2 as _validate_pb2
from dynamicagents.registry.v1 import router_config_pb2 as _router_config_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetRouterConfigRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetRouterConfigResponse(_message.Message):
    __slots__ = ("router_config",)
    ROUTER_CONFIG_FIELD_NUMBER: _ClassVar[int]
    router_config: _router_config_pb2.RouterConfig
    def __init__(self, router_config: _Optional[_Union[_router_config_pb2.RouterConfig, _Mapping]] = ...) -> None: ...

class UpdateRouterConfigRequest(_message.Message):
    __slots__ = ("router_config", "update_mask")
    ROUTER_CONFIG_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    router_config: _router_config_pb2.RouterConfig
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, router_config: _Optional[_Union[_router_config_pb2.RouterConfig, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class UpdateRouterConfigResponse(_message.Message):
    __slots__ = ("router_config",)
    ROUTER_CONFIG_FIELD_NUMBER: _ClassVar[int]
    router_config: _router_config_pb2.RouterConfig
    def __init__(self, router_config: _Optional[_Union[_router_config_pb2.RouterConfig, _Mapping]] = ...) -> None: ...

class AddDeploymentRequest(_message.Message):
    __slots__ = ("deployment",)
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    deployment: _router_config_pb2.Deployment
    def __init__(self, deployment: _Optional[_Union[_router_config_pb2.Deployment, _Mapping]] = ...) -> None: ...

class AddDeploymentResponse(_message.Message):
    __slots__ = ("deployment", "router_config")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    ROUTER_CONFIG_FIELD_NUMBER: _ClassVar[int]
    deployment: _router_config_pb2.Deployment
    router_config: _router_config_pb2.RouterConfig
    def __init__(self, deployment: _Optional[_Union[_router_config_pb2.Deployment, _Mapping]] = ..., router_config: _Optional[_Union[_router_config_pb2.RouterConfig, _Mapping]] = ...) -> None: ...

class RemoveDeploymentRequest(_message.Message):
    __slots__ = ("deployment_id",)
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    def __init__(self, deployment_id: _Optional[str] = ...) -> None: ...

class RemoveDeploymentResponse(_message.Message):
    __slots__ = ("router_config",)
    ROUTER_CONFIG_FIELD_NUMBER: _ClassVar[int]
    router_config: _router_config_pb2.RouterConfig
    def __init__(self, router_config: _Optional[_Union[_router_config_pb2.RouterConfig, _Mapping]] = ...) -> None: ...
