import datetime

from buf.validate import validate_pb2 as _validate_pb2
from dynamicagents.registry.v1 import team_pb2 as _team_pb2
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

class OnError(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ON_ERROR_UNSPECIFIED: _ClassVar[OnError]
    ON_ERROR_FAIL: _ClassVar[OnError]
    ON_ERROR_SKIP: _ClassVar[OnError]
    ON_ERROR_FALLBACK: _ClassVar[OnError]
    ON_ERROR_COMPENSATE: _ClassVar[OnError]

class FailurePolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAILURE_POLICY_UNSPECIFIED: _ClassVar[FailurePolicy]
    FAILURE_POLICY_FAIL_FAST: _ClassVar[FailurePolicy]
    FAILURE_POLICY_COLLECT: _ClassVar[FailurePolicy]
ON_ERROR_UNSPECIFIED: OnError
ON_ERROR_FAIL: OnError
ON_ERROR_SKIP: OnError
ON_ERROR_FALLBACK: OnError
ON_ERROR_COMPENSATE: OnError
FAILURE_POLICY_UNSPECIFIED: FailurePolicy
FAILURE_POLICY_FAIL_FAST: FailurePolicy
FAILURE_POLICY_COLLECT: FailurePolicy

class Workflow(_message.Message):
    __slots__ = ("workflow_id", "display_name", "description", "spec", "labels", "revision", "etag", "create_time", "update_time")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    WORKFLOW_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    workflow_id: str
    display_name: str
    description: str
    spec: WorkflowSpec
    labels: _containers.ScalarMap[str, str]
    revision: int
    etag: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    def __init__(self, workflow_id: _Optional[str] = ..., display_name: _Optional[str] = ..., description: _Optional[str] = ..., spec: _Optional[_Union[WorkflowSpec, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., revision: _Optional[int] = ..., etag: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class WorkflowSpec(_message.Message):
    __slots__ = ("steps", "input_schema", "output", "limits")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    INPUT_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[WorkflowStep]
    input_schema: _struct_pb2.Struct
    output: str
    limits: _team_pb2.RunLimits
    def __init__(self, steps: _Optional[_Iterable[_Union[WorkflowStep, _Mapping]]] = ..., input_schema: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., output: _Optional[str] = ..., limits: _Optional[_Union[_team_pb2.RunLimits, _Mapping]] = ...) -> None: ...

class WorkflowStep(_message.Message):
    __slots__ = ("step_id", "display_name", "agent", "team", "function", "parallel", "condition", "loop", "router", "workflow", "approval", "wait", "input", "retry", "timeout", "on_error", "fallback", "compensation", "output_schema")
    STEP_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    TEAM_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    PARALLEL_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    LOOP_FIELD_NUMBER: _ClassVar[int]
    ROUTER_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    ON_ERROR_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    COMPENSATION_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    step_id: str
    display_name: str
    agent: AgentStep
    team: TeamStep
    function: FunctionStep
    parallel: ParallelStep
    condition: ConditionStep
    loop: LoopStep
    router: RouterStep
    workflow: SubWorkflowStep
    approval: ApprovalStep
    wait: WaitStep
    input: str
    retry: RetryPolicy
    timeout: _duration_pb2.Duration
    on_error: OnError
    fallback: WorkflowStep
    compensation: WorkflowStep
    output_schema: _struct_pb2.Struct
    def __init__(self, step_id: _Optional[str] = ..., display_name: _Optional[str] = ..., agent: _Optional[_Union[AgentStep, _Mapping]] = ..., team: _Optional[_Union[TeamStep, _Mapping]] = ..., function: _Optional[_Union[FunctionStep, _Mapping]] = ..., parallel: _Optional[_Union[ParallelStep, _Mapping]] = ..., condition: _Optional[_Union[ConditionStep, _Mapping]] = ..., loop: _Optional[_Union[LoopStep, _Mapping]] = ..., router: _Optional[_Union[RouterStep, _Mapping]] = ..., workflow: _Optional[_Union[SubWorkflowStep, _Mapping]] = ..., approval: _Optional[_Union[ApprovalStep, _Mapping]] = ..., wait: _Optional[_Union[WaitStep, _Mapping]] = ..., input: _Optional[str] = ..., retry: _Optional[_Union[RetryPolicy, _Mapping]] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., on_error: _Optional[_Union[OnError, str]] = ..., fallback: _Optional[_Union[WorkflowStep, _Mapping]] = ..., compensation: _Optional[_Union[WorkflowStep, _Mapping]] = ..., output_schema: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class RetryPolicy(_message.Message):
    __slots__ = ("max_attempts", "initial_delay", "multiplier", "max_delay")
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    INITIAL_DELAY_FIELD_NUMBER: _ClassVar[int]
    MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    MAX_DELAY_FIELD_NUMBER: _ClassVar[int]
    max_attempts: int
    initial_delay: _duration_pb2.Duration
    multiplier: float
    max_delay: _duration_pb2.Duration
    def __init__(self, max_attempts: _Optional[int] = ..., initial_delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., multiplier: _Optional[float] = ..., max_delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class AgentStep(_message.Message):
    __slots__ = ("agent_id",)
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    agent_id: str
    def __init__(self, agent_id: _Optional[str] = ...) -> None: ...

class TeamStep(_message.Message):
    __slots__ = ("team_id",)
    TEAM_ID_FIELD_NUMBER: _ClassVar[int]
    team_id: str
    def __init__(self, team_id: _Optional[str] = ...) -> None: ...

class FunctionStep(_message.Message):
    __slots__ = ("tool_id", "arguments")
    class ArgumentsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TOOL_ID_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    tool_id: str
    arguments: _containers.ScalarMap[str, str]
    def __init__(self, tool_id: _Optional[str] = ..., arguments: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ParallelStep(_message.Message):
    __slots__ = ("branches", "max_concurrency", "failure_policy")
    BRANCHES_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    FAILURE_POLICY_FIELD_NUMBER: _ClassVar[int]
    branches: _containers.RepeatedCompositeFieldContainer[StepList]
    max_concurrency: int
    failure_policy: FailurePolicy
    def __init__(self, branches: _Optional[_Iterable[_Union[StepList, _Mapping]]] = ..., max_concurrency: _Optional[int] = ..., failure_policy: _Optional[_Union[FailurePolicy, str]] = ...) -> None: ...

class StepList(_message.Message):
    __slots__ = ("steps",)
    STEPS_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[WorkflowStep]
    def __init__(self, steps: _Optional[_Iterable[_Union[WorkflowStep, _Mapping]]] = ...) -> None: ...

class ConditionStep(_message.Message):
    __slots__ = ("condition", "then", "otherwise")
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    THEN_FIELD_NUMBER: _ClassVar[int]
    OTHERWISE_FIELD_NUMBER: _ClassVar[int]
    condition: str
    then: StepList
    otherwise: StepList
    def __init__(self, condition: _Optional[str] = ..., then: _Optional[_Union[StepList, _Mapping]] = ..., otherwise: _Optional[_Union[StepList, _Mapping]] = ...) -> None: ...

class LoopStep(_message.Message):
    __slots__ = ("body", "until", "max_iterations")
    BODY_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    MAX_ITERATIONS_FIELD_NUMBER: _ClassVar[int]
    body: StepList
    until: str
    max_iterations: int
    def __init__(self, body: _Optional[_Union[StepList, _Mapping]] = ..., until: _Optional[str] = ..., max_iterations: _Optional[int] = ...) -> None: ...

class RouterStep(_message.Message):
    __slots__ = ("selector", "choices", "default_choice")
    class ChoicesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: StepList
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[StepList, _Mapping]] = ...) -> None: ...
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_CHOICE_FIELD_NUMBER: _ClassVar[int]
    selector: str
    choices: _containers.MessageMap[str, StepList]
    default_choice: str
    def __init__(self, selector: _Optional[str] = ..., choices: _Optional[_Mapping[str, StepList]] = ..., default_choice: _Optional[str] = ...) -> None: ...

class SubWorkflowStep(_message.Message):
    __slots__ = ("workflow_id",)
    WORKFLOW_ID_FIELD_NUMBER: _ClassVar[int]
    workflow_id: str
    def __init__(self, workflow_id: _Optional[str] = ...) -> None: ...

class ApprovalStep(_message.Message):
    __slots__ = ("question", "expires_after")
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AFTER_FIELD_NUMBER: _ClassVar[int]
    question: str
    expires_after: _duration_pb2.Duration
    def __init__(self, question: _Optional[str] = ..., expires_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WaitStep(_message.Message):
    __slots__ = ("delay", "time", "signal")
    DELAY_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    delay: _duration_pb2.Duration
    time: str
    signal: str
    def __init__(self, delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., time: _Optional[str] = ..., signal: _Optional[str] = ...) -> None: ...
