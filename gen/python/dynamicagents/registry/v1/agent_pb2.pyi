import datetime

from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GuardrailAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GUARDRAIL_ACTION_UNSPECIFIED: _ClassVar[GuardrailAction]
    GUARDRAIL_ACTION_REFUSE: _ClassVar[GuardrailAction]
    GUARDRAIL_ACTION_MASK: _ClassVar[GuardrailAction]
GUARDRAIL_ACTION_UNSPECIFIED: GuardrailAction
GUARDRAIL_ACTION_REFUSE: GuardrailAction
GUARDRAIL_ACTION_MASK: GuardrailAction

class Agent(_message.Message):
    __slots__ = ("agent_id", "display_name", "description", "spec", "labels", "revision", "etag", "create_time", "update_time")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    agent_id: str
    display_name: str
    description: str
    spec: AgentSpec
    labels: _containers.ScalarMap[str, str]
    revision: int
    etag: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    def __init__(self, agent_id: _Optional[str] = ..., display_name: _Optional[str] = ..., description: _Optional[str] = ..., spec: _Optional[_Union[AgentSpec, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., revision: _Optional[int] = ..., etag: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class AgentSpec(_message.Message):
    __slots__ = ("model", "instructions", "expected_output", "additional_context", "markdown", "add_datetime_to_context", "timezone", "tools", "tool_call_limit", "max_model_calls", "tool_choice", "output_schema", "prompt", "add_name_to_context", "datetime_format", "use_instruction_tags", "reasoning_model", "reasoning", "history", "memory", "session", "knowledge", "guardrails", "handoffs", "mcp_server_ids", "input_schema", "num_followups", "approval")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTIONS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    ADDITIONAL_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    MARKDOWN_FIELD_NUMBER: _ClassVar[int]
    ADD_DATETIME_TO_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    TIMEZONE_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALL_LIMIT_FIELD_NUMBER: _ClassVar[int]
    MAX_MODEL_CALLS_FIELD_NUMBER: _ClassVar[int]
    TOOL_CHOICE_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    ADD_NAME_TO_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    DATETIME_FORMAT_FIELD_NUMBER: _ClassVar[int]
    USE_INSTRUCTION_TAGS_FIELD_NUMBER: _ClassVar[int]
    REASONING_MODEL_FIELD_NUMBER: _ClassVar[int]
    REASONING_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    KNOWLEDGE_FIELD_NUMBER: _ClassVar[int]
    GUARDRAILS_FIELD_NUMBER: _ClassVar[int]
    HANDOFFS_FIELD_NUMBER: _ClassVar[int]
    MCP_SERVER_IDS_FIELD_NUMBER: _ClassVar[int]
    INPUT_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    NUM_FOLLOWUPS_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    model: ModelSettings
    instructions: _containers.RepeatedScalarFieldContainer[str]
    expected_output: str
    additional_context: str
    markdown: bool
    add_datetime_to_context: bool
    timezone: str
    tools: _containers.RepeatedCompositeFieldContainer[ToolReference]
    tool_call_limit: int
    max_model_calls: int
    tool_choice: str
    output_schema: _struct_pb2.Struct
    prompt: PromptReference
    add_name_to_context: bool
    datetime_format: str
    use_instruction_tags: bool
    reasoning_model: ModelSettings
    reasoning: ReasoningSettings
    history: HistorySettings
    memory: MemorySettings
    session: SessionSettings
    knowledge: KnowledgeSettings
    guardrails: GuardrailSettings
    handoffs: _containers.RepeatedCompositeFieldContainer[Handoff]
    mcp_server_ids: _containers.RepeatedScalarFieldContainer[str]
    input_schema: _struct_pb2.Struct
    num_followups: int
    approval: ApprovalPolicy
    def __init__(self, model: _Optional[_Union[ModelSettings, _Mapping]] = ..., instructions: _Optional[_Iterable[str]] = ..., expected_output: _Optional[str] = ..., additional_context: _Optional[str] = ..., markdown: _Optional[bool] = ..., add_datetime_to_context: _Optional[bool] = ..., timezone: _Optional[str] = ..., tools: _Optional[_Iterable[_Union[ToolReference, _Mapping]]] = ..., tool_call_limit: _Optional[int] = ..., max_model_calls: _Optional[int] = ..., tool_choice: _Optional[str] = ..., output_schema: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., prompt: _Optional[_Union[PromptReference, _Mapping]] = ..., add_name_to_context: _Optional[bool] = ..., datetime_format: _Optional[str] = ..., use_instruction_tags: _Optional[bool] = ..., reasoning_model: _Optional[_Union[ModelSettings, _Mapping]] = ..., reasoning: _Optional[_Union[ReasoningSettings, _Mapping]] = ..., history: _Optional[_Union[HistorySettings, _Mapping]] = ..., memory: _Optional[_Union[MemorySettings, _Mapping]] = ..., session: _Optional[_Union[SessionSettings, _Mapping]] = ..., knowledge: _Optional[_Union[KnowledgeSettings, _Mapping]] = ..., guardrails: _Optional[_Union[GuardrailSettings, _Mapping]] = ..., handoffs: _Optional[_Iterable[_Union[Handoff, _Mapping]]] = ..., mcp_server_ids: _Optional[_Iterable[str]] = ..., input_schema: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., num_followups: _Optional[int] = ..., approval: _Optional[_Union[ApprovalPolicy, _Mapping]] = ...) -> None: ...

class PromptReference(_message.Message):
    __slots__ = ("prompt_id", "revision", "variables")
    PROMPT_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    prompt_id: str
    revision: int
    variables: _struct_pb2.Struct
    def __init__(self, prompt_id: _Optional[str] = ..., revision: _Optional[int] = ..., variables: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class ReasoningSettings(_message.Message):
    __slots__ = ("min_steps", "max_steps")
    MIN_STEPS_FIELD_NUMBER: _ClassVar[int]
    MAX_STEPS_FIELD_NUMBER: _ClassVar[int]
    min_steps: int
    max_steps: int
    def __init__(self, min_steps: _Optional[int] = ..., max_steps: _Optional[int] = ...) -> None: ...

class HistorySettings(_message.Message):
    __slots__ = ("num_runs", "num_messages", "max_tokens", "max_tool_calls")
    NUM_RUNS_FIELD_NUMBER: _ClassVar[int]
    NUM_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOOL_CALLS_FIELD_NUMBER: _ClassVar[int]
    num_runs: int
    num_messages: int
    max_tokens: int
    max_tool_calls: int
    def __init__(self, num_runs: _Optional[int] = ..., num_messages: _Optional[int] = ..., max_tokens: _Optional[int] = ..., max_tool_calls: _Optional[int] = ...) -> None: ...

class MemorySettings(_message.Message):
    __slots__ = ("agentic", "update_on_run", "add_to_context", "retrieval_strategy")
    AGENTIC_FIELD_NUMBER: _ClassVar[int]
    UPDATE_ON_RUN_FIELD_NUMBER: _ClassVar[int]
    ADD_TO_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    RETRIEVAL_STRATEGY_FIELD_NUMBER: _ClassVar[int]
    agentic: bool
    update_on_run: bool
    add_to_context: bool
    retrieval_strategy: str
    def __init__(self, agentic: _Optional[bool] = ..., update_on_run: _Optional[bool] = ..., add_to_context: _Optional[bool] = ..., retrieval_strategy: _Optional[str] = ...) -> None: ...

class SessionSettings(_message.Message):
    __slots__ = ("initial_state", "add_state_to_context", "agentic_state", "summaries", "add_summary_to_context")
    INITIAL_STATE_FIELD_NUMBER: _ClassVar[int]
    ADD_STATE_TO_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    AGENTIC_STATE_FIELD_NUMBER: _ClassVar[int]
    SUMMARIES_FIELD_NUMBER: _ClassVar[int]
    ADD_SUMMARY_TO_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    initial_state: _struct_pb2.Struct
    add_state_to_context: bool
    agentic_state: bool
    summaries: bool
    add_summary_to_context: bool
    def __init__(self, initial_state: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., add_state_to_context: _Optional[bool] = ..., agentic_state: _Optional[bool] = ..., summaries: _Optional[bool] = ..., add_summary_to_context: _Optional[bool] = ...) -> None: ...

class KnowledgeSettings(_message.Message):
    __slots__ = ("sources", "add_to_context", "filters", "max_results")
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    ADD_TO_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    MAX_RESULTS_FIELD_NUMBER: _ClassVar[int]
    sources: _containers.RepeatedScalarFieldContainer[str]
    add_to_context: bool
    filters: _struct_pb2.Struct
    max_results: int
    def __init__(self, sources: _Optional[_Iterable[str]] = ..., add_to_context: _Optional[bool] = ..., filters: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., max_results: _Optional[int] = ...) -> None: ...

class GuardrailSettings(_message.Message):
    __slots__ = ("personal_data", "prompt_injection", "max_input_characters", "denied_output_patterns")
    PERSONAL_DATA_FIELD_NUMBER: _ClassVar[int]
    PROMPT_INJECTION_FIELD_NUMBER: _ClassVar[int]
    MAX_INPUT_CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    DENIED_OUTPUT_PATTERNS_FIELD_NUMBER: _ClassVar[int]
    personal_data: GuardrailAction
    prompt_injection: GuardrailAction
    max_input_characters: int
    denied_output_patterns: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, personal_data: _Optional[_Union[GuardrailAction, str]] = ..., prompt_injection: _Optional[_Union[GuardrailAction, str]] = ..., max_input_characters: _Optional[int] = ..., denied_output_patterns: _Optional[_Iterable[str]] = ...) -> None: ...

class Handoff(_message.Message):
    __slots__ = ("agent_id", "team_id", "description")
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    TEAM_ID_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    agent_id: str
    team_id: str
    description: str
    def __init__(self, agent_id: _Optional[str] = ..., team_id: _Optional[str] = ..., description: _Optional[str] = ...) -> None: ...

class ModelSettings(_message.Message):
    __slots__ = ("model", "temperature", "max_output_tokens", "top_p", "stop", "seed", "frequency_penalty", "presence_penalty", "reasoning_effort", "parallel_tool_calls")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    REASONING_EFFORT_FIELD_NUMBER: _ClassVar[int]
    PARALLEL_TOOL_CALLS_FIELD_NUMBER: _ClassVar[int]
    model: str
    temperature: float
    max_output_tokens: int
    top_p: float
    stop: _containers.RepeatedScalarFieldContainer[str]
    seed: int
    frequency_penalty: float
    presence_penalty: float
    reasoning_effort: str
    parallel_tool_calls: bool
    def __init__(self, model: _Optional[str] = ..., temperature: _Optional[float] = ..., max_output_tokens: _Optional[int] = ..., top_p: _Optional[float] = ..., stop: _Optional[_Iterable[str]] = ..., seed: _Optional[int] = ..., frequency_penalty: _Optional[float] = ..., presence_penalty: _Optional[float] = ..., reasoning_effort: _Optional[str] = ..., parallel_tool_calls: _Optional[bool] = ...) -> None: ...

class ToolReference(_message.Message):
    __slots__ = ("tool_id", "timeout", "requires_confirmation", "retries", "retry_backoff", "cache_ttl", "idempotent", "result_limit", "approval")
    TOOL_ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    REQUIRES_CONFIRMATION_FIELD_NUMBER: _ClassVar[int]
    RETRIES_FIELD_NUMBER: _ClassVar[int]
    RETRY_BACKOFF_FIELD_NUMBER: _ClassVar[int]
    CACHE_TTL_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENT_FIELD_NUMBER: _ClassVar[int]
    RESULT_LIMIT_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    tool_id: str
    timeout: _duration_pb2.Duration
    requires_confirmation: bool
    retries: int
    retry_backoff: _duration_pb2.Duration
    cache_ttl: _duration_pb2.Duration
    idempotent: bool
    result_limit: int
    approval: ApprovalPolicy
    def __init__(self, tool_id: _Optional[str] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., requires_confirmation: _Optional[bool] = ..., retries: _Optional[int] = ..., retry_backoff: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., cache_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., idempotent: _Optional[bool] = ..., result_limit: _Optional[int] = ..., approval: _Optional[_Union[ApprovalPolicy, _Mapping]] = ...) -> None: ...

class ApprovalPolicy(_message.Message):
    __slots__ = ("condition", "expires_after")
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AFTER_FIELD_NUMBER: _ClassVar[int]
    condition: str
    expires_after: _duration_pb2.Duration
    def __init__(self, condition: _Optional[str] = ..., expires_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
