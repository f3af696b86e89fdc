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

class RoutingStrategy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROUTING_STRATEGY_UNSPECIFIED: _ClassVar[RoutingStrategy]
    ROUTING_STRATEGY_SIMPLE_SHUFFLE: _ClassVar[RoutingStrategy]
    ROUTING_STRATEGY_LEAST_BUSY: _ClassVar[RoutingStrategy]
    ROUTING_STRATEGY_USAGE_BASED: _ClassVar[RoutingStrategy]
    ROUTING_STRATEGY_LATENCY_BASED: _ClassVar[RoutingStrategy]
    ROUTING_STRATEGY_COST_BASED: _ClassVar[RoutingStrategy]
    ROUTING_STRATEGY_SCORE_COST: _ClassVar[RoutingStrategy]
    ROUTING_STRATEGY_SCORE_SPEED: _ClassVar[RoutingStrategy]
    ROUTING_STRATEGY_SCORE_QUALITY: _ClassVar[RoutingStrategy]
    ROUTING_STRATEGY_SCORE_BALANCED: _ClassVar[RoutingStrategy]

class CacheBackend(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CACHE_BACKEND_UNSPECIFIED: _ClassVar[CacheBackend]
    CACHE_BACKEND_MEMORY: _ClassVar[CacheBackend]
    CACHE_BACKEND_REDIS: _ClassVar[CacheBackend]

class UpstreamLane(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UPSTREAM_LANE_UNSPECIFIED: _ClassVar[UpstreamLane]
    UPSTREAM_LANE_DIRECT: _ClassVar[UpstreamLane]
    UPSTREAM_LANE_LIBRARY: _ClassVar[UpstreamLane]
ROUTING_STRATEGY_UNSPECIFIED: RoutingStrategy
ROUTING_STRATEGY_SIMPLE_SHUFFLE: RoutingStrategy
ROUTING_STRATEGY_LEAST_BUSY: RoutingStrategy
ROUTING_STRATEGY_USAGE_BASED: RoutingStrategy
ROUTING_STRATEGY_LATENCY_BASED: RoutingStrategy
ROUTING_STRATEGY_COST_BASED: RoutingStrategy
ROUTING_STRATEGY_SCORE_COST: RoutingStrategy
ROUTING_STRATEGY_SCORE_SPEED: RoutingStrategy
ROUTING_STRATEGY_SCORE_QUALITY: RoutingStrategy
ROUTING_STRATEGY_SCORE_BALANCED: RoutingStrategy
CACHE_BACKEND_UNSPECIFIED: CacheBackend
CACHE_BACKEND_MEMORY: CacheBackend
CACHE_BACKEND_REDIS: CacheBackend
UPSTREAM_LANE_UNSPECIFIED: UpstreamLane
UPSTREAM_LANE_DIRECT: UpstreamLane
UPSTREAM_LANE_LIBRARY: UpstreamLane

class RouterConfig(_message.Message):
    __slots__ = ("deployments", "num_retries", "timeout", "revision", "etag", "update_time", "routing_strategy", "strategy_settings", "retry_policy", "model_group_retry_policies", "retry_after", "fallbacks", "context_window_fallbacks", "content_policy_fallbacks", "default_fallbacks", "max_fallbacks", "allowed_fails", "allowed_fails_policy", "cooldown", "disable_cooldowns", "enable_tag_filtering", "match_all_tags", "enable_pre_call_checks", "cache", "redis", "budgets", "guardrails", "model_group_aliases", "first_token_timeout", "probe_interval")
    class ModelGroupRetryPoliciesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ErrorClassPolicy
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ErrorClassPolicy, _Mapping]] = ...) -> None: ...
    class ModelGroupAliasesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DEPLOYMENTS_FIELD_NUMBER: _ClassVar[int]
    NUM_RETRIES_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ROUTING_STRATEGY_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_SETTINGS_FIELD_NUMBER: _ClassVar[int]
    RETRY_POLICY_FIELD_NUMBER: _ClassVar[int]
    MODEL_GROUP_RETRY_POLICIES_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    FALLBACKS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_WINDOW_FALLBACKS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_POLICY_FALLBACKS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_FALLBACKS_FIELD_NUMBER: _ClassVar[int]
    MAX_FALLBACKS_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_FAILS_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_FAILS_POLICY_FIELD_NUMBER: _ClassVar[int]
    COOLDOWN_FIELD_NUMBER: _ClassVar[int]
    DISABLE_COOLDOWNS_FIELD_NUMBER: _ClassVar[int]
    ENABLE_TAG_FILTERING_FIELD_NUMBER: _ClassVar[int]
    MATCH_ALL_TAGS_FIELD_NUMBER: _ClassVar[int]
    ENABLE_PRE_CALL_CHECKS_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    REDIS_FIELD_NUMBER: _ClassVar[int]
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    GUARDRAILS_FIELD_NUMBER: _ClassVar[int]
    MODEL_GROUP_ALIASES_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    PROBE_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    deployments: _containers.RepeatedCompositeFieldContainer[Deployment]
    num_retries: int
    timeout: _duration_pb2.Duration
    revision: int
    etag: str
    update_time: _timestamp_pb2.Timestamp
    routing_strategy: RoutingStrategy
    strategy_settings: StrategySettings
    retry_policy: ErrorClassPolicy
    model_group_retry_policies: _containers.MessageMap[str, ErrorClassPolicy]
    retry_after: _duration_pb2.Duration
    fallbacks: _containers.RepeatedCompositeFieldContainer[Fallback]
    context_window_fallbacks: _containers.RepeatedCompositeFieldContainer[Fallback]
    content_policy_fallbacks: _containers.RepeatedCompositeFieldContainer[Fallback]
    default_fallbacks: _containers.RepeatedScalarFieldContainer[str]
    max_fallbacks: int
    allowed_fails: int
    allowed_fails_policy: ErrorClassPolicy
    cooldown: _duration_pb2.Duration
    disable_cooldowns: bool
    enable_tag_filtering: bool
    match_all_tags: bool
    enable_pre_call_checks: bool
    cache: ResponseCache
    redis: RedisSharing
    budgets: _containers.RepeatedCompositeFieldContainer[CostBudget]
    guardrails: _containers.RepeatedCompositeFieldContainer[RouterGuardrail]
    model_group_aliases: _containers.ScalarMap[str, str]
    first_token_timeout: _duration_pb2.Duration
    probe_interval: _duration_pb2.Duration
    def __init__(self, deployments: _Optional[_Iterable[_Union[Deployment, _Mapping]]] = ..., num_retries: _Optional[int] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., revision: _Optional[int] = ..., etag: _Optional[str] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., routing_strategy: _Optional[_Union[RoutingStrategy, str]] = ..., strategy_settings: _Optional[_Union[StrategySettings, _Mapping]] = ..., retry_policy: _Optional[_Union[ErrorClassPolicy, _Mapping]] = ..., model_group_retry_policies: _Optional[_Mapping[str, ErrorClassPolicy]] = ..., retry_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., fallbacks: _Optional[_Iterable[_Union[Fallback, _Mapping]]] = ..., context_window_fallbacks: _Optional[_Iterable[_Union[Fallback, _Mapping]]] = ..., content_policy_fallbacks: _Optional[_Iterable[_Union[Fallback, _Mapping]]] = ..., default_fallbacks: _Optional[_Iterable[str]] = ..., max_fallbacks: _Optional[int] = ..., allowed_fails: _Optional[int] = ..., allowed_fails_policy: _Optional[_Union[ErrorClassPolicy, _Mapping]] = ..., cooldown: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., disable_cooldowns: _Optional[bool] = ..., enable_tag_filtering: _Optional[bool] = ..., match_all_tags: _Optional[bool] = ..., enable_pre_call_checks: _Optional[bool] = ..., cache: _Optional[_Union[ResponseCache, _Mapping]] = ..., redis: _Optional[_Union[RedisSharing, _Mapping]] = ..., budgets: _Optional[_Iterable[_Union[CostBudget, _Mapping]]] = ..., guardrails: _Optional[_Iterable[_Union[RouterGuardrail, _Mapping]]] = ..., model_group_aliases: _Optional[_Mapping[str, str]] = ..., first_token_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., probe_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class StrategySettings(_message.Message):
    __slots__ = ("latency_window", "lowest_latency_buffer", "max_latency_samples")
    LATENCY_WINDOW_FIELD_NUMBER: _ClassVar[int]
    LOWEST_LATENCY_BUFFER_FIELD_NUMBER: _ClassVar[int]
    MAX_LATENCY_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    latency_window: _duration_pb2.Duration
    lowest_latency_buffer: float
    max_latency_samples: int
    def __init__(self, latency_window: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., lowest_latency_buffer: _Optional[float] = ..., max_latency_samples: _Optional[int] = ...) -> None: ...

class ErrorClassPolicy(_message.Message):
    __slots__ = ("bad_request", "authentication", "timeout", "rate_limit", "content_policy", "internal_server")
    BAD_REQUEST_FIELD_NUMBER: _ClassVar[int]
    AUTHENTICATION_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    RATE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    CONTENT_POLICY_FIELD_NUMBER: _ClassVar[int]
    INTERNAL_SERVER_FIELD_NUMBER: _ClassVar[int]
    bad_request: int
    authentication: int
    timeout: int
    rate_limit: int
    content_policy: int
    internal_server: int
    def __init__(self, bad_request: _Optional[int] = ..., authentication: _Optional[int] = ..., timeout: _Optional[int] = ..., rate_limit: _Optional[int] = ..., content_policy: _Optional[int] = ..., internal_server: _Optional[int] = ...) -> None: ...

class Fallback(_message.Message):
    __slots__ = ("model_group", "fallback_groups")
    MODEL_GROUP_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_GROUPS_FIELD_NUMBER: _ClassVar[int]
    model_group: str
    fallback_groups: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model_group: _Optional[str] = ..., fallback_groups: _Optional[_Iterable[str]] = ...) -> None: ...

class ResponseCache(_message.Message):
    __slots__ = ("backend", "ttl", "model_groups")
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    MODEL_GROUPS_FIELD_NUMBER: _ClassVar[int]
    backend: CacheBackend
    ttl: _duration_pb2.Duration
    model_groups: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, backend: _Optional[_Union[CacheBackend, str]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., model_groups: _Optional[_Iterable[str]] = ...) -> None: ...

class RedisSharing(_message.Message):
    __slots__ = ("disabled",)
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    disabled: bool
    def __init__(self, disabled: _Optional[bool] = ...) -> None: ...

class CostBudget(_message.Message):
    __slots__ = ("tenant", "subject", "tag", "deployment_id", "provider", "max_cost_usd", "period")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MAX_COST_USD_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    tenant: bool
    subject: str
    tag: str
    deployment_id: str
    provider: str
    max_cost_usd: float
    period: _duration_pb2.Duration
    def __init__(self, tenant: _Optional[bool] = ..., subject: _Optional[str] = ..., tag: _Optional[str] = ..., deployment_id: _Optional[str] = ..., provider: _Optional[str] = ..., max_cost_usd: _Optional[float] = ..., period: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class RouterGuardrail(_message.Message):
    __slots__ = ("name", "kind", "input", "output", "arguments")
    class ArgumentsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    input: bool
    output: bool
    arguments: _containers.ScalarMap[str, str]
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., input: _Optional[bool] = ..., output: _Optional[bool] = ..., arguments: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Deployment(_message.Message):
    __slots__ = ("deployment_id", "model_group", "model", "api_base", "api_key_reference", "weight", "labels", "rpm", "tpm", "order", "tags", "max_parallel_requests", "pricing", "timeout", "cooldown", "quality", "credential_references", "provider_parameters", "context_window", "capabilities", "lane")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class CredentialReferencesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class ProviderParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_GROUP_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    API_BASE_FIELD_NUMBER: _ClassVar[int]
    API_KEY_REFERENCE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    RPM_FIELD_NUMBER: _ClassVar[int]
    TPM_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    MAX_PARALLEL_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    PRICING_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    COOLDOWN_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_REFERENCES_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_WINDOW_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    model_group: str
    model: str
    api_base: str
    api_key_reference: str
    weight: float
    labels: _containers.ScalarMap[str, str]
    rpm: int
    tpm: int
    order: int
    tags: _containers.RepeatedScalarFieldContainer[str]
    max_parallel_requests: int
    pricing: Pricing
    timeout: _duration_pb2.Duration
    cooldown: _duration_pb2.Duration
    quality: float
    credential_references: _containers.ScalarMap[str, str]
    provider_parameters: _containers.ScalarMap[str, str]
    context_window: int
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    lane: UpstreamLane
    def __init__(self, deployment_id: _Optional[str] = ..., model_group: _Optional[str] = ..., model: _Optional[str] = ..., api_base: _Optional[str] = ..., api_key_reference: _Optional[str] = ..., weight: _Optional[float] = ..., labels: _Optional[_Mapping[str, str]] = ..., rpm: _Optional[int] = ..., tpm: _Optional[int] = ..., order: _Optional[int] = ..., tags: _Optional[_Iterable[str]] = ..., max_parallel_requests: _Optional[int] = ..., pricing: _Optional[_Union[Pricing, _Mapping]] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., cooldown: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., quality: _Optional[float] = ..., credential_references: _Optional[_Mapping[str, str]] = ..., provider_parameters: _Optional[_Mapping[str, str]] = ..., context_window: _Optional[int] = ..., capabilities: _Optional[_Iterable[str]] = ..., lane: _Optional[_Union[UpstreamLane, str]] = ...) -> None: ...

class Pricing(_message.Message):
    __slots__ = ("input_cost_per_token", "output_cost_per_token", "cached_input_cost_per_token")
    INPUT_COST_PER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_COST_PER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CACHED_INPUT_COST_PER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    input_cost_per_token: float
    output_cost_per_token: float
    cached_input_cost_per_token: float
    def __init__(self, input_cost_per_token: _Optional[float] = ..., output_cost_per_token: _Optional[float] = ..., cached_input_cost_per_token: _Optional[float] = ...) -> None: ...
