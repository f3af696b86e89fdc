import datetime

from buf.validate import validate_pb2 as _validate_pb2
from dynamicagents.registry.v1 import router_config_pb2 as _router_config_pb2
from dynamicagents.router.v1 import chat_pb2 as _chat_pb2
from dynamicagents.router.v1 import health_pb2 as _health_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ChatRequest(_message.Message):
    __slots__ = ("model", "messages", "tools", "tool_choice", "response_format", "settings", "execution_id", "options")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    TOOL_CHOICE_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    model: str
    messages: _containers.RepeatedCompositeFieldContainer[_chat_pb2.ChatMessage]
    tools: _containers.RepeatedCompositeFieldContainer[_chat_pb2.FunctionTool]
    tool_choice: str
    response_format: _chat_pb2.ResponseFormat
    settings: _chat_pb2.SamplingSettings
    execution_id: str
    options: _chat_pb2.CallOptions
    def __init__(self, model: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[_chat_pb2.ChatMessage, _Mapping]]] = ..., tools: _Optional[_Iterable[_Union[_chat_pb2.FunctionTool, _Mapping]]] = ..., tool_choice: _Optional[str] = ..., response_format: _Optional[_Union[_chat_pb2.ResponseFormat, _Mapping]] = ..., settings: _Optional[_Union[_chat_pb2.SamplingSettings, _Mapping]] = ..., execution_id: _Optional[str] = ..., options: _Optional[_Union[_chat_pb2.CallOptions, _Mapping]] = ...) -> None: ...

class ChatResponse(_message.Message):
    __slots__ = ("message", "reasoning", "finish_reason", "usage", "cost_usd", "answered_by", "citations", "logprobs", "cost_estimated")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REASONING_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_BY_FIELD_NUMBER: _ClassVar[int]
    CITATIONS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    COST_ESTIMATED_FIELD_NUMBER: _ClassVar[int]
    message: _chat_pb2.ChatMessage
    reasoning: str
    finish_reason: _chat_pb2.FinishReason
    usage: _chat_pb2.Usage
    cost_usd: float
    answered_by: _chat_pb2.AnsweredBy
    citations: _containers.RepeatedCompositeFieldContainer[_chat_pb2.Citation]
    logprobs: _containers.RepeatedCompositeFieldContainer[_chat_pb2.TokenLogprob]
    cost_estimated: bool
    def __init__(self, message: _Optional[_Union[_chat_pb2.ChatMessage, _Mapping]] = ..., reasoning: _Optional[str] = ..., finish_reason: _Optional[_Union[_chat_pb2.FinishReason, str]] = ..., usage: _Optional[_Union[_chat_pb2.Usage, _Mapping]] = ..., cost_usd: _Optional[float] = ..., answered_by: _Optional[_Union[_chat_pb2.AnsweredBy, _Mapping]] = ..., citations: _Optional[_Iterable[_Union[_chat_pb2.Citation, _Mapping]]] = ..., logprobs: _Optional[_Iterable[_Union[_chat_pb2.TokenLogprob, _Mapping]]] = ..., cost_estimated: _Optional[bool] = ...) -> None: ...

class ChatStreamRequest(_message.Message):
    __slots__ = ("model", "messages", "tools", "tool_choice", "response_format", "settings", "execution_id", "options")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    TOOL_CHOICE_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    model: str
    messages: _containers.RepeatedCompositeFieldContainer[_chat_pb2.ChatMessage]
    tools: _containers.RepeatedCompositeFieldContainer[_chat_pb2.FunctionTool]
    tool_choice: str
    response_format: _chat_pb2.ResponseFormat
    settings: _chat_pb2.SamplingSettings
    execution_id: str
    options: _chat_pb2.CallOptions
    def __init__(self, model: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[_chat_pb2.ChatMessage, _Mapping]]] = ..., tools: _Optional[_Iterable[_Union[_chat_pb2.FunctionTool, _Mapping]]] = ..., tool_choice: _Optional[str] = ..., response_format: _Optional[_Union[_chat_pb2.ResponseFormat, _Mapping]] = ..., settings: _Optional[_Union[_chat_pb2.SamplingSettings, _Mapping]] = ..., execution_id: _Optional[str] = ..., options: _Optional[_Union[_chat_pb2.CallOptions, _Mapping]] = ...) -> None: ...

class ChatStreamResponse(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: _chat_pb2.ChatChunk
    def __init__(self, chunk: _Optional[_Union[_chat_pb2.ChatChunk, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelGroup]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelGroup, _Mapping]]] = ...) -> None: ...

class ModelGroup(_message.Message):
    __slots__ = ("model", "deployment_models", "offline", "capabilities", "context_window", "max_output_tokens", "input_cost_per_token", "output_cost_per_token", "mode")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_MODELS_FIELD_NUMBER: _ClassVar[int]
    OFFLINE_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_WINDOW_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    INPUT_COST_PER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_COST_PER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    model: str
    deployment_models: _containers.RepeatedScalarFieldContainer[str]
    offline: bool
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    context_window: int
    max_output_tokens: int
    input_cost_per_token: float
    output_cost_per_token: float
    mode: str
    def __init__(self, model: _Optional[str] = ..., deployment_models: _Optional[_Iterable[str]] = ..., offline: _Optional[bool] = ..., capabilities: _Optional[_Iterable[str]] = ..., context_window: _Optional[int] = ..., max_output_tokens: _Optional[int] = ..., input_cost_per_token: _Optional[float] = ..., output_cost_per_token: _Optional[float] = ..., mode: _Optional[str] = ...) -> None: ...

class EmbedRequest(_message.Message):
    __slots__ = ("model", "inputs", "dimensions", "options")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    model: str
    inputs: _containers.RepeatedScalarFieldContainer[str]
    dimensions: int
    options: _chat_pb2.CallOptions
    def __init__(self, model: _Optional[str] = ..., inputs: _Optional[_Iterable[str]] = ..., dimensions: _Optional[int] = ..., options: _Optional[_Union[_chat_pb2.CallOptions, _Mapping]] = ...) -> None: ...

class EmbedResponse(_message.Message):
    __slots__ = ("embeddings", "usage", "cost_usd", "answered_by")
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_BY_FIELD_NUMBER: _ClassVar[int]
    embeddings: _containers.RepeatedCompositeFieldContainer[Embedding]
    usage: _chat_pb2.Usage
    cost_usd: float
    answered_by: _chat_pb2.AnsweredBy
    def __init__(self, embeddings: _Optional[_Iterable[_Union[Embedding, _Mapping]]] = ..., usage: _Optional[_Union[_chat_pb2.Usage, _Mapping]] = ..., cost_usd: _Optional[float] = ..., answered_by: _Optional[_Union[_chat_pb2.AnsweredBy, _Mapping]] = ...) -> None: ...

class Embedding(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class RerankRequest(_message.Message):
    __slots__ = ("model", "query", "documents", "top_n", "options")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    TOP_N_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    model: str
    query: str
    documents: _containers.RepeatedScalarFieldContainer[str]
    top_n: int
    options: _chat_pb2.CallOptions
    def __init__(self, model: _Optional[str] = ..., query: _Optional[str] = ..., documents: _Optional[_Iterable[str]] = ..., top_n: _Optional[int] = ..., options: _Optional[_Union[_chat_pb2.CallOptions, _Mapping]] = ...) -> None: ...

class RerankResponse(_message.Message):
    __slots__ = ("results", "cost_usd", "answered_by")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_BY_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[RerankResult]
    cost_usd: float
    answered_by: _chat_pb2.AnsweredBy
    def __init__(self, results: _Optional[_Iterable[_Union[RerankResult, _Mapping]]] = ..., cost_usd: _Optional[float] = ..., answered_by: _Optional[_Union[_chat_pb2.AnsweredBy, _Mapping]] = ...) -> None: ...

class RerankResult(_message.Message):
    __slots__ = ("index", "score")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    index: int
    score: float
    def __init__(self, index: _Optional[int] = ..., score: _Optional[float] = ...) -> None: ...

class CountTokensRequest(_message.Message):
    __slots__ = ("model", "messages", "tools")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    model: str
    messages: _containers.RepeatedCompositeFieldContainer[_chat_pb2.ChatMessage]
    tools: _containers.RepeatedCompositeFieldContainer[_chat_pb2.FunctionTool]
    def __init__(self, model: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[_chat_pb2.ChatMessage, _Mapping]]] = ..., tools: _Optional[_Iterable[_Union[_chat_pb2.FunctionTool, _Mapping]]] = ...) -> None: ...

class CountTokensResponse(_message.Message):
    __slots__ = ("tokens", "estimated", "context_window")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_WINDOW_FIELD_NUMBER: _ClassVar[int]
    tokens: int
    estimated: bool
    context_window: int
    def __init__(self, tokens: _Optional[int] = ..., estimated: _Optional[bool] = ..., context_window: _Optional[int] = ...) -> None: ...

class ExplainRouteRequest(_message.Message):
    __slots__ = ("model", "messages", "tools", "options", "config")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    model: str
    messages: _containers.RepeatedCompositeFieldContainer[_chat_pb2.ChatMessage]
    tools: _containers.RepeatedCompositeFieldContainer[_chat_pb2.FunctionTool]
    options: _chat_pb2.CallOptions
    config: _router_config_pb2.RouterConfig
    def __init__(self, model: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[_chat_pb2.ChatMessage, _Mapping]]] = ..., tools: _Optional[_Iterable[_Union[_chat_pb2.FunctionTool, _Mapping]]] = ..., options: _Optional[_Union[_chat_pb2.CallOptions, _Mapping]] = ..., config: _Optional[_Union[_router_config_pb2.RouterConfig, _Mapping]] = ...) -> None: ...

class ExplainRouteResponse(_message.Message):
    __slots__ = ("model_group", "strategy", "candidates", "chosen_deployment_id", "fallback_groups")
    MODEL_GROUP_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_GROUPS_FIELD_NUMBER: _ClassVar[int]
    model_group: str
    strategy: _router_config_pb2.RoutingStrategy
    candidates: _containers.RepeatedCompositeFieldContainer[RouteCandidate]
    chosen_deployment_id: str
    fallback_groups: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model_group: _Optional[str] = ..., strategy: _Optional[_Union[_router_config_pb2.RoutingStrategy, str]] = ..., candidates: _Optional[_Iterable[_Union[RouteCandidate, _Mapping]]] = ..., chosen_deployment_id: _Optional[str] = ..., fallback_groups: _Optional[_Iterable[str]] = ...) -> None: ...

class RouteCandidate(_message.Message):
    __slots__ = ("deployment_id", "model", "eligible", "reason", "score", "parts", "probability", "cooldown_left")
    class PartsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ELIGIBLE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    COOLDOWN_LEFT_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    model: str
    eligible: bool
    reason: str
    score: float
    parts: _containers.ScalarMap[str, float]
    probability: float
    cooldown_left: _duration_pb2.Duration
    def __init__(self, deployment_id: _Optional[str] = ..., model: _Optional[str] = ..., eligible: _Optional[bool] = ..., reason: _Optional[str] = ..., score: _Optional[float] = ..., parts: _Optional[_Mapping[str, float]] = ..., probability: _Optional[float] = ..., cooldown_left: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
