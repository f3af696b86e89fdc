from buf.validate import validate_pb2 as _validate_pb2
from dynamicagents.registry.v1 import agent_pb2 as _agent_pb2
from dynamicagents.registry.v1 import agent_template_pb2 as _agent_template_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateAgentTemplateRequest(_message.Message):
    __slots__ = ("agent_template", "request_id", "validate_only")
    AGENT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    agent_template: _agent_template_pb2.AgentTemplate
    request_id: str
    validate_only: bool
    def __init__(self, agent_template: _Optional[_Union[_agent_template_pb2.AgentTemplate, _Mapping]] = ..., request_id: _Optional[str] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class CreateAgentTemplateResponse(_message.Message):
    __slots__ = ("agent_template",)
    AGENT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    agent_template: _agent_template_pb2.AgentTemplate
    def __init__(self, agent_template: _Optional[_Union[_agent_template_pb2.AgentTemplate, _Mapping]] = ...) -> None: ...

class GetAgentTemplateRequest(_message.Message):
    __slots__ = ("template_id", "revision")
    TEMPLATE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    template_id: str
    revision: int
    def __init__(self, template_id: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class GetAgentTemplateResponse(_message.Message):
    __slots__ = ("agent_template",)
    AGENT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    agent_template: _agent_template_pb2.AgentTemplate
    def __init__(self, agent_template: _Optional[_Union[_agent_template_pb2.AgentTemplate, _Mapping]] = ...) -> None: ...

class ListAgentTemplatesRequest(_message.Message):
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

class ListAgentTemplatesResponse(_message.Message):
    __slots__ = ("agent_templates", "next_page_token")
    AGENT_TEMPLATES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    agent_templates: _containers.RepeatedCompositeFieldContainer[_agent_template_pb2.AgentTemplate]
    next_page_token: str
    def __init__(self, agent_templates: _Optional[_Iterable[_Union[_agent_template_pb2.AgentTemplate, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateAgentTemplateRequest(_message.Message):
    __slots__ = ("agent_template", "update_mask", "validate_only")
    AGENT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    agent_template: _agent_template_pb2.AgentTemplate
    update_mask: _field_mask_pb2.FieldMask
    validate_only: bool
    def __init__(self, agent_template: _Optional[_Union[_agent_template_pb2.AgentTemplate, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class UpdateAgentTemplateResponse(_message.Message):
    __slots__ = ("agent_template",)
    AGENT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    agent_template: _agent_template_pb2.AgentTemplate
    def __init__(self, agent_template: _Optional[_Union[_agent_template_pb2.AgentTemplate, _Mapping]] = ...) -> None: ...

class DeleteAgentTemplateRequest(_message.Message):
    __slots__ = ("template_id", "etag", "force")
    TEMPLATE_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    template_id: str
    etag: str
    force: bool
    def __init__(self, template_id: _Optional[str] = ..., etag: _Optional[str] = ..., force: _Optional[bool] = ...) -> None: ...

class DeleteAgentTemplateResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CreateAgentFromTemplateRequest(_message.Message):
    __slots__ = ("template_id", "overrides", "request_id", "validate_only")
    TEMPLATE_ID_FIELD_NUMBER: _ClassVar[int]
    OVERRIDES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    template_id: str
    overrides: _agent_pb2.Agent
    request_id: str
    validate_only: bool
    def __init__(self, template_id: _Optional[str] = ..., overrides: _Optional[_Union[_agent_pb2.Agent, _Mapping]] = ..., request_id: _Optional[str] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class CreateAgentFromTemplateResponse(_message.Message):
    __slots__ = ("agent",)
    AGENT_FIELD_NUMBER: _ClassVar[int]
    agent: _agent_pb2.Agent
    def __init__(self, agent: _Optional[_Union[_agent_pb2.Agent, _Mapping]] = ...) -> None: ...
