from buf.validate import validate_pb2 as _validate_pb2
from dynamicagents.registry.v1 import tool_provider_pb2 as _tool_provider_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateToolProviderRequest(_message.Message):
    __slots__ = ("tool_provider", "request_id", "validate_only")
    TOOL_PROVIDER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    tool_provider: _tool_provider_pb2.ToolProvider
    request_id: str
    validate_only: bool
    def __init__(self, tool_provider: _Optional[_Union[_tool_provider_pb2.ToolProvider, _Mapping]] = ..., request_id: _Optional[str] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class CreateToolProviderResponse(_message.Message):
    __slots__ = ("tool_provider",)
    TOOL_PROVIDER_FIELD_NUMBER: _ClassVar[int]
    tool_provider: _tool_provider_pb2.ToolProvider
    def __init__(self, tool_provider: _Optional[_Union[_tool_provider_pb2.ToolProvider, _Mapping]] = ...) -> None: ...

class GetToolProviderRequest(_message.Message):
    __slots__ = ("tool_provider_id", "revision")
    TOOL_PROVIDER_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    tool_provider_id: str
    revision: int
    def __init__(self, tool_provider_id: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class GetToolProviderResponse(_message.Message):
    __slots__ = ("tool_provider",)
    TOOL_PROVIDER_FIELD_NUMBER: _ClassVar[int]
    tool_provider: _tool_provider_pb2.ToolProvider
    def __init__(self, tool_provider: _Optional[_Union[_tool_provider_pb2.ToolProvider, _Mapping]] = ...) -> None: ...

class ListToolProvidersRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "filter", "order_by")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    ORDER_BY_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    filter: str
    order_by: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., filter: _Optional[str] = ..., order_by: _Optional[str] = ...) -> None: ...

class ListToolProvidersResponse(_message.Message):
    __slots__ = ("tool_providers", "next_page_token")
    TOOL_PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tool_providers: _containers.RepeatedCompositeFieldContainer[_tool_provider_pb2.ToolProvider]
    next_page_token: str
    def __init__(self, tool_providers: _Optional[_Iterable[_Union[_tool_provider_pb2.ToolProvider, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateToolProviderRequest(_message.Message):
    __slots__ = ("tool_provider", "update_mask", "validate_only")
    TOOL_PROVIDER_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    tool_provider: _tool_provider_pb2.ToolProvider
    update_mask: _field_mask_pb2.FieldMask
    validate_only: bool
    def __init__(self, tool_provider: _Optional[_Union[_tool_provider_pb2.ToolProvider, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class UpdateToolProviderResponse(_message.Message):
    __slots__ = ("tool_provider",)
    TOOL_PROVIDER_FIELD_NUMBER: _ClassVar[int]
    tool_provider: _tool_provider_pb2.ToolProvider
    def __init__(self, tool_provider: _Optional[_Union[_tool_provider_pb2.ToolProvider, _Mapping]] = ...) -> None: ...

class DeleteToolProviderRequest(_message.Message):
    __slots__ = ("tool_provider_id", "etag", "force")
    TOOL_PROVIDER_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    tool_provider_id: str
    etag: str
    force: bool
    def __init__(self, tool_provider_id: _Optional[str] = ..., etag: _Optional[str] = ..., force: _Optional[bool] = ...) -> None: ...

class DeleteToolProviderResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
