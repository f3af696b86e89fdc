from buf.validate import validate_pb2 as _validate_pb2
from dynamicagents.registry.v1 import revision_pb2 as _revision_pb2
from dynamicagents.registry.v1 import router_config_pb2 as _router_config_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
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
    __slots__ = ("deployment", "request_id")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    deployment: _router_config_pb2.Deployment
    request_id: str
    def __init__(self, deployment: _Optional[_Union[_router_config_pb2.Deployment, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class AddDeploymentResponse(_message.Message):
    __slots__ = ("deployment", "router_config")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    ROUTER_CONFIG_FIELD_NUMBER: _ClassVar[int]
    deployment: _router_config_pb2.Deployment
    router_config: _router_config_pb2.RouterConfig
    def __init__(self, deployment: _Optional[_Union[_router_config_pb2.Deployment, _Mapping]] = ..., router_config: _Optional[_Union[_router_config_pb2.RouterConfig, _Mapping]] = ...) -> None: ...

class RemoveDeploymentRequest(_message.Message):
    __slots__ = ("deployment_id", "request_id")
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    request_id: str
    def __init__(self, deployment_id: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class RemoveDeploymentResponse(_message.Message):
    __slots__ = ("router_config",)
    ROUTER_CONFIG_FIELD_NUMBER: _ClassVar[int]
    router_config: _router_config_pb2.RouterConfig
    def __init__(self, router_config: _Optional[_Union[_router_config_pb2.RouterConfig, _Mapping]] = ...) -> None: ...

class ListRouterConfigRevisionsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListRouterConfigRevisionsResponse(_message.Message):
    __slots__ = ("revisions", "next_page_token")
    REVISIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    revisions: _containers.RepeatedCompositeFieldContainer[_revision_pb2.Revision]
    next_page_token: str
    def __init__(self, revisions: _Optional[_Iterable[_Union[_revision_pb2.Revision, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RollbackRouterConfigRequest(_message.Message):
    __slots__ = ("revision", "etag")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    revision: int
    etag: str
    def __init__(self, revision: _Optional[int] = ..., etag: _Optional[str] = ...) -> None: ...

class RollbackRouterConfigResponse(_message.Message):
    __slots__ = ("router_config",)
    ROUTER_CONFIG_FIELD_NUMBER: _ClassVar[int]
    router_config: _router_config_pb2.RouterConfig
    def __init__(self, router_config: _Optional[_Union[_router_config_pb2.RouterConfig, _Mapping]] = ...) -> None: ...
