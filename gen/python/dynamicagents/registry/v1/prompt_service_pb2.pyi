import datetime

from buf.validate import validate_pb2 as _validate_pb2
from dynamicagents.registry.v1 import prompt_pb2 as _prompt_pb2
from dynamicagents.registry.v1 import revision_pb2 as _revision_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreatePromptRequest(_message.Message):
    __slots__ = ("prompt", "request_id", "validate_only")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    prompt: _prompt_pb2.Prompt
    request_id: str
    validate_only: bool
    def __init__(self, prompt: _Optional[_Union[_prompt_pb2.Prompt, _Mapping]] = ..., request_id: _Optional[str] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class CreatePromptResponse(_message.Message):
    __slots__ = ("prompt",)
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    prompt: _prompt_pb2.Prompt
    def __init__(self, prompt: _Optional[_Union[_prompt_pb2.Prompt, _Mapping]] = ...) -> None: ...

class GetPromptRequest(_message.Message):
    __slots__ = ("prompt_id", "revision")
    PROMPT_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    prompt_id: str
    revision: int
    def __init__(self, prompt_id: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class GetPromptResponse(_message.Message):
    __slots__ = ("prompt",)
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    prompt: _prompt_pb2.Prompt
    def __init__(self, prompt: _Optional[_Union[_prompt_pb2.Prompt, _Mapping]] = ...) -> None: ...

class ListPromptsRequest(_message.Message):
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

class ListPromptsResponse(_message.Message):
    __slots__ = ("prompts", "next_page_token")
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    prompts: _containers.RepeatedCompositeFieldContainer[_prompt_pb2.Prompt]
    next_page_token: str
    def __init__(self, prompts: _Optional[_Iterable[_Union[_prompt_pb2.Prompt, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdatePromptRequest(_message.Message):
    __slots__ = ("prompt", "update_mask", "validate_only")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    prompt: _prompt_pb2.Prompt
    update_mask: _field_mask_pb2.FieldMask
    validate_only: bool
    def __init__(self, prompt: _Optional[_Union[_prompt_pb2.Prompt, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class UpdatePromptResponse(_message.Message):
    __slots__ = ("prompt",)
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    prompt: _prompt_pb2.Prompt
    def __init__(self, prompt: _Optional[_Union[_prompt_pb2.Prompt, _Mapping]] = ...) -> None: ...

class DeletePromptRequest(_message.Message):
    __slots__ = ("prompt_id", "etag", "force")
    PROMPT_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    prompt_id: str
    etag: str
    force: bool
    def __init__(self, prompt_id: _Optional[str] = ..., etag: _Optional[str] = ..., force: _Optional[bool] = ...) -> None: ...

class DeletePromptResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListPromptRevisionsRequest(_message.Message):
    __slots__ = ("prompt_id", "page_size", "page_token")
    PROMPT_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    prompt_id: str
    page_size: int
    page_token: str
    def __init__(self, prompt_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPromptRevisionsResponse(_message.Message):
    __slots__ = ("revisions", "next_page_token")
    REVISIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    revisions: _containers.RepeatedCompositeFieldContainer[_revision_pb2.Revision]
    next_page_token: str
    def __init__(self, revisions: _Optional[_Iterable[_Union[_revision_pb2.Revision, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RenderPromptRequest(_message.Message):
    __slots__ = ("prompt_id", "revision", "variables")
    PROMPT_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    prompt_id: str
    revision: int
    variables: _struct_pb2.Struct
    def __init__(self, prompt_id: _Optional[str] = ..., revision: _Optional[int] = ..., variables: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class RenderPromptResponse(_message.Message):
    __slots__ = ("text", "revision")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    text: str
    revision: int
    def __init__(self, text: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class RecordFeedbackRequest(_message.Message):
    __slots__ = ("prompt_id", "revision", "success", "latency", "tokens", "cost_usd", "failure_pattern")
    PROMPT_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    FAILURE_PATTERN_FIELD_NUMBER: _ClassVar[int]
    prompt_id: str
    revision: int
    success: bool
    latency: _duration_pb2.Duration
    tokens: int
    cost_usd: float
    failure_pattern: str
    def __init__(self, prompt_id: _Optional[str] = ..., revision: _Optional[int] = ..., success: _Optional[bool] = ..., latency: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., tokens: _Optional[int] = ..., cost_usd: _Optional[float] = ..., failure_pattern: _Optional[str] = ...) -> None: ...

class RecordFeedbackResponse(_message.Message):
    __slots__ = ("metrics",)
    METRICS_FIELD_NUMBER: _ClassVar[int]
    metrics: PromptMetrics
    def __init__(self, metrics: _Optional[_Union[PromptMetrics, _Mapping]] = ...) -> None: ...

class PromptMetrics(_message.Message):
    __slots__ = ("uses", "success_rate", "latency", "tokens", "cost_usd", "failing_patterns")
    USES_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_RATE_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    FAILING_PATTERNS_FIELD_NUMBER: _ClassVar[int]
    uses: int
    success_rate: float
    latency: _duration_pb2.Duration
    tokens: float
    cost_usd: float
    failing_patterns: _containers.RepeatedCompositeFieldContainer[FailingPattern]
    def __init__(self, uses: _Optional[int] = ..., success_rate: _Optional[float] = ..., latency: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., tokens: _Optional[float] = ..., cost_usd: _Optional[float] = ..., failing_patterns: _Optional[_Iterable[_Union[FailingPattern, _Mapping]]] = ...) -> None: ...

class FailingPattern(_message.Message):
    __slots__ = ("pattern", "count")
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    pattern: str
    count: int
    def __init__(self, pattern: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class ComparePromptRequest(_message.Message):
    __slots__ = ("prompt_id", "base_revision", "target_revision")
    PROMPT_ID_FIELD_NUMBER: _ClassVar[int]
    BASE_REVISION_FIELD_NUMBER: _ClassVar[int]
    TARGET_REVISION_FIELD_NUMBER: _ClassVar[int]
    prompt_id: str
    base_revision: int
    target_revision: int
    def __init__(self, prompt_id: _Optional[str] = ..., base_revision: _Optional[int] = ..., target_revision: _Optional[int] = ...) -> None: ...

class ComparePromptResponse(_message.Message):
    __slots__ = ("base", "base_metrics", "target", "target_metrics", "differences")
    BASE_FIELD_NUMBER: _ClassVar[int]
    BASE_METRICS_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TARGET_METRICS_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    base: _prompt_pb2.Prompt
    base_metrics: PromptMetrics
    target: _prompt_pb2.Prompt
    target_metrics: PromptMetrics
    differences: _containers.RepeatedCompositeFieldContainer[_revision_pb2.FieldDifference]
    def __init__(self, base: _Optional[_Union[_prompt_pb2.Prompt, _Mapping]] = ..., base_metrics: _Optional[_Union[PromptMetrics, _Mapping]] = ..., target: _Optional[_Union[_prompt_pb2.Prompt, _Mapping]] = ..., target_metrics: _Optional[_Union[PromptMetrics, _Mapping]] = ..., differences: _Optional[_Iterable[_Union[_revision_pb2.FieldDifference, _Mapping]]] = ...) -> None: ...
