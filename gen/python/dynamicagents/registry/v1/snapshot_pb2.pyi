from dynamicagents.registry.v1 import agent_pb2 as _agent_pb2
from dynamicagents.registry.v1 import agent_template_pb2 as _agent_template_pb2
from dynamicagents.registry.v1 import event_rule_pb2 as _event_rule_pb2
from dynamicagents.registry.v1 import mcp_server_pb2 as _mcp_server_pb2
from dynamicagents.registry.v1 import prompt_pb2 as _prompt_pb2
from dynamicagents.registry.v1 import router_config_pb2 as _router_config_pb2
from dynamicagents.registry.v1 import team_pb2 as _team_pb2
from dynamicagents.registry.v1 import tool_definition_pb2 as _tool_definition_pb2
from dynamicagents.registry.v1 import tool_provider_pb2 as _tool_provider_pb2
from dynamicagents.registry.v1 import workflow_pb2 as _workflow_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ResourceKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESOURCE_KIND_UNSPECIFIED: _ClassVar[ResourceKind]
    RESOURCE_KIND_AGENT: _ClassVar[ResourceKind]
    RESOURCE_KIND_ROUTER_CONFIG: _ClassVar[ResourceKind]
    RESOURCE_KIND_TEAM: _ClassVar[ResourceKind]
    RESOURCE_KIND_WORKFLOW: _ClassVar[ResourceKind]
    RESOURCE_KIND_AGENT_TEMPLATE: _ClassVar[ResourceKind]
    RESOURCE_KIND_PROMPT: _ClassVar[ResourceKind]
    RESOURCE_KIND_TOOL_DEFINITION: _ClassVar[ResourceKind]
    RESOURCE_KIND_MCP_SERVER: _ClassVar[ResourceKind]
    RESOURCE_KIND_TOOL_PROVIDER: _ClassVar[ResourceKind]
    RESOURCE_KIND_EVENT_RULE: _ClassVar[ResourceKind]
RESOURCE_KIND_UNSPECIFIED: ResourceKind
RESOURCE_KIND_AGENT: ResourceKind
RESOURCE_KIND_ROUTER_CONFIG: ResourceKind
RESOURCE_KIND_TEAM: ResourceKind
RESOURCE_KIND_WORKFLOW: ResourceKind
RESOURCE_KIND_AGENT_TEMPLATE: ResourceKind
RESOURCE_KIND_PROMPT: ResourceKind
RESOURCE_KIND_TOOL_DEFINITION: ResourceKind
RESOURCE_KIND_MCP_SERVER: ResourceKind
RESOURCE_KIND_TOOL_PROVIDER: ResourceKind
RESOURCE_KIND_EVENT_RULE: ResourceKind

class ResourceSnapshot(_message.Message):
    __slots__ = ("kind", "resource_id", "revision", "agent", "router_config", "team", "workflow", "agent_template", "prompt", "tool_definition", "mcp_server", "tool_provider", "event_rule")
    KIND_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
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
    kind: ResourceKind
    resource_id: str
    revision: int
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
    def __init__(self, kind: _Optional[_Union[ResourceKind, str]] = ..., resource_id: _Optional[str] = ..., revision: _Optional[int] = ..., agent: _Optional[_Union[_agent_pb2.Agent, _Mapping]] = ..., router_config: _Optional[_Union[_router_config_pb2.RouterConfig, _Mapping]] = ..., team: _Optional[_Union[_team_pb2.Team, _Mapping]] = ..., workflow: _Optional[_Union[_workflow_pb2.Workflow, _Mapping]] = ..., agent_template: _Optional[_Union[_agent_template_pb2.AgentTemplate, _Mapping]] = ..., prompt: _Optional[_Union[_prompt_pb2.Prompt, _Mapping]] = ..., tool_definition: _Optional[_Union[_tool_definition_pb2.ToolDefinition, _Mapping]] = ..., mcp_server: _Optional[_Union[_mcp_server_pb2.McpServer, _Mapping]] = ..., tool_provider: _Optional[_Union[_tool_provider_pb2.ToolProvider, _Mapping]] = ..., event_rule: _Optional[_Union[_event_rule_pb2.EventRule, _Mapping]] = ...) -> None: ...
