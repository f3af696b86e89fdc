from buf.validate import validate_pb2 as _validate_pb2
from dynamicagents.registry.v1 import event_rule_pb2 as _event_rule_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateEventRuleRequest(_message.Message):
    __slots__ = ("event_rule", "request_id", "validate_only")
    EVENT_RULE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    event_rule: _event_rule_pb2.EventRule
    request_id: str
    validate_only: bool
    def __init__(self, event_rule: _Optional[_Union[_event_rule_pb2.EventRule, _Mapping]] = ..., request_id: _Optional[str] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class CreateEventRuleResponse(_message.Message):
    __slots__ = ("event_rule",)
    EVENT_RULE_FIELD_NUMBER: _ClassVar[int]
    event_rule: _event_rule_pb2.EventRule
    def __init__(self, event_rule: _Optional[_Union[_event_rule_pb2.EventRule, _Mapping]] = ...) -> None: ...

class GetEventRuleRequest(_message.Message):
    __slots__ = ("event_rule_id", "revision")
    EVENT_RULE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    event_rule_id: str
    revision: int
    def __init__(self, event_rule_id: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class GetEventRuleResponse(_message.Message):
    __slots__ = ("event_rule",)
    EVENT_RULE_FIELD_NUMBER: _ClassVar[int]
    event_rule: _event_rule_pb2.EventRule
    def __init__(self, event_rule: _Optional[_Union[_event_rule_pb2.EventRule, _Mapping]] = ...) -> None: ...

class ListEventRulesRequest(_message.Message):
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

class ListEventRulesResponse(_message.Message):
    __slots__ = ("event_rules", "next_page_token")
    EVENT_RULES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    event_rules: _containers.RepeatedCompositeFieldContainer[_event_rule_pb2.EventRule]
    next_page_token: str
    def __init__(self, event_rules: _Optional[_Iterable[_Union[_event_rule_pb2.EventRule, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateEventRuleRequest(_message.Message):
    __slots__ = ("event_rule", "update_mask", "validate_only")
    EVENT_RULE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    event_rule: _event_rule_pb2.EventRule
    update_mask: _field_mask_pb2.FieldMask
    validate_only: bool
    def __init__(self, event_rule: _Optional[_Union[_event_rule_pb2.EventRule, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class UpdateEventRuleResponse(_message.Message):
    __slots__ = ("event_rule",)
    EVENT_RULE_FIELD_NUMBER: _ClassVar[int]
    event_rule: _event_rule_pb2.EventRule
    def __init__(self, event_rule: _Optional[_Union[_event_rule_pb2.EventRule, _Mapping]] = ...) -> None: ...

class DeleteEventRuleRequest(_message.Message):
    __slots__ = ("event_rule_id", "etag", "force")
    EVENT_RULE_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    event_rule_id: str
    etag: str
    force: bool
    def __init__(self, event_rule_id: _Optional[str] = ..., etag: _Optional[str] = ..., force: _Optional[bool] = ...) -> None: ...

class DeleteEventRuleResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
