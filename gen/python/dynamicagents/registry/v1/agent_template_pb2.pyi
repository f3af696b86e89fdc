import datetime

from buf.validate import validate_pb2 as _validate_pb2
from dynamicagents.registry.v1 import agent_pb2 as _agent_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AgentTemplate(_message.Message):
    __slots__ = ("template_id", "display_name", "description", "spec", "labels", "revision", "etag", "create_time", "update_time", "built_in")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TEMPLATE_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    BUILT_IN_FIELD_NUMBER: _ClassVar[int]
    template_id: str
    display_name: str
    description: str
    spec: AgentTemplateSpec
    labels: _containers.ScalarMap[str, str]
    revision: int
    etag: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    built_in: bool
    def __init__(self, template_id: _Optional[str] = ..., display_name: _Optional[str] = ..., description: _Optional[str] = ..., spec: _Optional[_Union[AgentTemplateSpec, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., revision: _Optional[int] = ..., etag: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., built_in: _Optional[bool] = ...) -> None: ...

class AgentTemplateSpec(_message.Message):
    __slots__ = ("category", "agent", "knowledge_scope", "retrieval_strategy", "required_tools", "optional_tools", "intent_examples")
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    KNOWLEDGE_SCOPE_FIELD_NUMBER: _ClassVar[int]
    RETRIEVAL_STRATEGY_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_TOOLS_FIELD_NUMBER: _ClassVar[int]
    OPTIONAL_TOOLS_FIELD_NUMBER: _ClassVar[int]
    INTENT_EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    category: str
    agent: _agent_pb2.AgentSpec
    knowledge_scope: KnowledgeScope
    retrieval_strategy: str
    required_tools: _containers.RepeatedScalarFieldContainer[str]
    optional_tools: _containers.RepeatedScalarFieldContainer[str]
    intent_examples: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, category: _Optional[str] = ..., agent: _Optional[_Union[_agent_pb2.AgentSpec, _Mapping]] = ..., knowledge_scope: _Optional[_Union[KnowledgeScope, _Mapping]] = ..., retrieval_strategy: _Optional[str] = ..., required_tools: _Optional[_Iterable[str]] = ..., optional_tools: _Optional[_Iterable[str]] = ..., intent_examples: _Optional[_Iterable[str]] = ...) -> None: ...

class KnowledgeScope(_message.Message):
    __slots__ = ("lookback_days", "include_sessions", "include_contact_events", "include_agent_transfers", "include_campaigns")
    LOOKBACK_DAYS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_CONTACT_EVENTS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_AGENT_TRANSFERS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_CAMPAIGNS_FIELD_NUMBER: _ClassVar[int]
    lookback_days: int
    include_sessions: bool
    include_contact_events: bool
    include_agent_transfers: bool
    include_campaigns: bool
    def __init__(self, lookback_days: _Optional[int] = ..., include_sessions: _Optional[bool] = ..., include_contact_events: _Optional[bool] = ..., include_agent_transfers: _Optional[bool] = ..., include_campaigns: _Optional[bool] = ...) -> None: ...
