from buf.validate import validate_pb2 as _validate_pb2
from dynamicagents.registry.v1 import agent_pb2 as _agent_pb2
from dynamicagents.registry.v1 import agent_template_pb2 as _agent_template_pb2
from dynamicagents.registry.v1 import event_rule_pb2 as _event_rule_pb2
from dynamicagents.registry.v1 import mcp_server_pb2 as _mcp_server_pb2
from dynamicagents.registry.v1 import prompt_pb2 as _prompt_pb2
from dynamicagents.registry.v1 import router_config_pb2 as _router_config_pb2
from dynamicagents.registry.v1 import snapshot_pb2 as _snapshot_pb2
from dynamicagents.registry.v1 import team_pb2 as _team_pb2
from dynamicagents.registry.v1 import tool_definition_pb2 as _tool_definition_pb2
from dynamicagents.registry.v1 import tool_provider_pb2 as _tool_provider_pb2
from dynamicagents.registry.v1 import workflow_pb2 as _workflow_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WatchRequest(_message.Message):
    __slots__ = ("kinds", "resume_token", "snapshot", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    KINDS_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    kinds: _containers.RepeatedScalarFieldContainer[_snapshot_pb2.ResourceKind]
    resume_token: str
    snapshot: bool
    labels: _containers.ScalarMap[str, str]
    def __init__(self, kinds: _Optional[_Iterable[_Union[_snapshot_pb2.ResourceKind, str]]] = ..., resume_token: _Optional[str] = ..., snapshot: _Optional[bool] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("resume_token", "change", "snapshot_complete", "heartbeat")
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_COMPLETE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    resume_token: str
    change: ResourceChange
    snapshot_complete: SnapshotComplete
    heartbeat: WatchHeartbeat
    def __init__(self, resume_token: _Optional[str] = ..., change: _Optional[_Union[ResourceChange, _Mapping]] = ..., snapshot_complete: _Optional[_Union[SnapshotComplete, _Mapping]] = ..., heartbeat: _Optional[_Union[WatchHeartbeat, _Mapping]] = ...) -> None: ...

class ResourceChange(_message.Message):
    __slots__ = ("kind", "resource_id", "revision", "deleted", "agent", "router_config", "team", "workflow", "agent_template", "prompt", "tool_definition", "mcp_server", "tool_provider", "event_rule")
    KIND_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    ROUTER_CONFIG_FIELD_NUMBER: _ClassVar[int]
    TEAM_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    AGENT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    TOOL_DEFINITION_FIELD_NUMBER: _ClassVar[int]
    MCP_SERVER_FIELD_NUMBER: _ClassVar[int]
    TOOL_PROVIDER_FIELD_NUMBER: _ClassVar[int]
    EVENT_RULE_FIELD_NUMBER: _ClassVar[int]
    kind: _snapshot_pb2.ResourceKind
    resource_id: str
    revision: int
    deleted: bool
    agent: _agent_pb2.Agent
    router_config: _router_config_pb2.RouterConfig
    team: _team_pb2.Team
    workflow: _workflow_pb2.Workflow
    agent_template: _agent_template_pb2.AgentTemplate
    prompt: _prompt_pb2.Prompt
    tool_definition: _tool_definition_pb2.ToolDefinition
    mcp_server: _mcp_server_pb2.McpServer
    tool_provider: _tool_provider_pb2.ToolProvider
    event_rule: _event_rule_pb2.EventRule
    def __init__(self, kind: _Optional[_Union[_snapshot_pb2.ResourceKind, str]] = ..., resource_id: _Optional[str] = ..., revision: _Optional[int] = ..., deleted: _Optional[bool] = ..., agent: _Optional[_Union[_agent_pb2.Agent, _Mapping]] = ..., router_config: _Optional[_Union[_router_config_pb2.RouterConfig, _Mapping]] = ..., team: _Optional[_Union[_team_pb2.Team, _Mapping]] = ..., workflow: _Optional[_Union[_workflow_pb2.Workflow, _Mapping]] = ..., agent_template: _Optional[_Union[_agent_template_pb2.AgentTemplate, _Mapping]] = ..., prompt: _Optional[_Union[_prompt_pb2.Prompt, _Mapping]] = ..., tool_definition: _Optional[_Union[_tool_definition_pb2.ToolDefinition, _Mapping]] = ..., mcp_server: _Optional[_Union[_mcp_server_pb2.McpServer, _Mapping]] = ..., tool_provider: _Optional[_Union[_tool_provider_pb2.ToolProvider, _Mapping]] = ..., event_rule: _Optional[_Union[_event_rule_pb2.EventRule, _Mapping]] = ...) -> None: ...

class SnapshotComplete(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchHeartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
