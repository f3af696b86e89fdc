from buf.validate import validate_pb2 as _validate_pb2
from dynamicagents.router.v1 import chat_pb2 as _chat_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ChatRequest(_message.Message):
    __slots__ = ("model", "messages", "tools", "tool_choice", "response_format", "settings", "execution_id")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    TOOL_CHOICE_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    model: str
    messages: _containers.RepeatedCompositeFieldContainer[_chat_pb2.ChatMessage]
    tools: _containers.RepeatedCompositeFieldContainer[_chat_pb2.FunctionTool]
    tool_choice: str
    response_format: _chat_pb2.ResponseFormat
    settings: _chat_pb2.SamplingSettings
    execution_id: str
    def __init__(self, model: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[_chat_pb2.ChatMessage, _Mapping]]] = ..., tools: _Optional[_Iterable[_Union[_chat_pb2.FunctionTool, _Mapping]]] = ..., tool_choice: _Optional[str] = ..., response_format: _Optional[_Union[_chat_pb2.ResponseFormat, _Mapping]] = ..., settings: _Optional[_Union[_chat_pb2.SamplingSettings, _Mapping]] = ..., execution_id: _Optional[str] = ...) -> None: ...

class ChatResponse(_message.Message):
    __slots__ = ("message", "reasoning", "finish_reason", "usage", "cost_usd", "answered_by")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REASONING_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_BY_FIELD_NUMBER: _ClassVar[int]
    message: _chat_pb2.ChatMessage
    reasoning: str
    finish_reason: _chat_pb2.FinishReason
    usage: _chat_pb2.Usage
    cost_usd: float
    answered_by: _chat_pb2.AnsweredBy
    def __init__(self, message: _Optional[_Union[_chat_pb2.ChatMessage, _Mapping]] = ..., reasoning: _Optional[str] = ..., finish_reason: _Optional[_Union[_chat_pb2.FinishReason, str]] = ..., usage: _Optional[_Union[_chat_pb2.Usage, _Mapping]] = ..., cost_usd: _Optional[float] = ..., answered_by: _Optional[_Union[_chat_pb2.AnsweredBy, _Mapping]] = ...) -> None: ...

class ChatStreamRequest(_message.Message):
    __slots__ = ("model", "messages", "tools", "tool_choice", "response_format", "settings", "execution_id")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    TOOL_CHOICE_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    model: str
    messages: _containers.RepeatedCompositeFieldContainer[_chat_pb2.ChatMessage]
    tools: _containers.RepeatedCompositeFieldContainer[_chat_pb2.FunctionTool]
    tool_choice: str
    response_format: _chat_pb2.ResponseFormat
    settings: _chat_pb2.SamplingSettings
    execution_id: str
    def __init__(self, model: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[_chat_pb2.ChatMessage, _Mapping]]] = ..., tools: _Optional[_Iterable[_Union[_chat_pb2.FunctionTool, _Mapping]]] = ..., tool_choice: _Optional[str] = ..., response_format: _Optional[_Union[_chat_pb2.ResponseFormat, _Mapping]] = ..., settings: _Optional[_Union[_chat_pb2.SamplingSettings, _Mapping]] = ..., execution_id: _Optional[str] = ...) -> None: ...

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
    __slots__ = ("model", "deployment_models", "offline")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_MODELS_FIELD_NUMBER: _ClassVar[int]
    OFFLINE_FIELD_NUMBER: _ClassVar[int]
    model: str
    deployment_models: _containers.RepeatedScalarFieldContainer[str]
    offline: bool
    def __init__(self, model: _Optional[str] = ..., deployment_models: _Optional[_Iterable[str]] = ..., offline: _Optional[bool] = ...) -> None: ...
