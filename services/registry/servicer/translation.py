"""Proto <-> model for resources of every kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import grpc
from dynamicagents.registry.v1 import (
    agent_pb2,
    agent_template_pb2,
    event_rule_pb2,
    mcp_server_pb2,
    prompt_pb2,
    revision_pb2,
    router_config_pb2,
    snapshot_pb2,
    team_pb2,
    tool_definition_pb2,
    tool_provider_pb2,
    workflow_pb2,
)
from google.protobuf.json_format import Error as JsonError
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Value

from libs import errors
from services.registry.model import Draft, Kind, Resource, Spec, id_field
from services.registry.model.changes import MISSING, Conflict, Difference
from services.registry.service.resources import Revision
from services.registry.service.room import too_large

M = TypeVar("M", bound=Message)
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Translator:
    """A kind's message."""

    kind: Kind
    message: Any

    def draft(self, message: Any, field: str = "") -> Draft:
        return Draft(
            getattr(message, id_field(self.kind)),
            message.display_name,
            message.description,
            dict(message.labels),
            to_spec(message.spec, f"{field or self.kind}.spec"),
        )

    def to_proto(self, resource: Resource) -> Any:
        message = self.message(
            display_name=resource.display_name,
            description=resource.description,
            labels=resource.labels,
            revision=resource.revision,
            etag=resource.etag,
            **{id_field(self.kind): resource.resource_id},
        )
        message.create_time.FromDatetime(resource.create_time)
        message.update_time.FromDatetime(resource.update_time)
        parse(resource.spec, message.spec)
        return message


TRANSLATORS: Final[Mapping[Kind, Translator]] = {
    kind: Translator(kind, message)
    for kind, message in {
        Kind.AGENT: agent_pb2.Agent,
        Kind.TEAM: team_pb2.Team,
        Kind.WORKFLOW: workflow_pb2.Workflow,
        Kind.AGENT_TEMPLATE: agent_template_pb2.AgentTemplate,
        Kind.PROMPT: prompt_pb2.Prompt,
        Kind.TOOL_DEFINITION: tool_definition_pb2.ToolDefinition,
        Kind.MCP_SERVER: mcp_server_pb2.McpServer,
        Kind.TOOL_PROVIDER: tool_provider_pb2.ToolProvider,
        Kind.EVENT_RULE: event_rule_pb2.EventRule,
    }.items()
}
KIND_NUMBERS: Final[Mapping[Kind, Any]] = {
    kind: snapshot_pb2.ResourceKind.Value(f"RESOURCE_KIND_{kind.name}") for kind in Kind
}
SET_BY_SERVER: Final = ("revision", "etag", "update_time")
"""What of a router configuration is not the caller's to change."""
KINDS: Final = {number: kind for kind, number in KIND_NUMBERS.items()}


def to_spec(message: Message, field: str) -> dict[str, Any]:
    try:
        return MessageToDict(message, preserving_proto_field_name=True)
    except JsonError:
        raise errors.invalid(field, "has a number that JSON does not know") from None


def parse(spec: Spec, into: Message) -> None:
    ParseDict(dict(spec), into, ignore_unknown_fields=True)


def router_config(resource: Resource) -> router_config_pb2.RouterConfig:
    config = router_config_pb2.RouterConfig(revision=resource.revision, etag=resource.etag)
    if resource.revision:
        config.update_time.FromDatetime(resource.update_time)
    parse(resource.spec, config)
    return config


def fill(message: Any, resource: Resource) -> None:
    """Puts a resource of any kind into a ResourceSnapshot or a ResourceChange."""
    message.kind = KIND_NUMBERS[resource.kind]
    message.resource_id, message.revision = resource.resource_id, resource.revision
    if resource.deleted:
        return
    if resource.kind is Kind.ROUTER_CONFIG:
        message.router_config.CopyFrom(router_config(resource))
    else:
        getattr(message, resource.kind).CopyFrom(TRANSLATORS[resource.kind].to_proto(resource))


def bounded(message: M, most_bytes: int) -> M:
    """The answer, unless it is larger than may be sent."""
    if message.ByteSize() > most_bytes:
        raise too_large(most_bytes)
    return message


def revision(made: Revision) -> revision_pb2.Revision:
    resource = made.resource
    message = revision_pb2.Revision(
        revision=resource.revision,
        author=resource.author,
        etag=resource.etag,
        changed_fields=made.changed_fields,
        deleted=resource.deleted,
    )
    message.create_time.FromDatetime(resource.update_time)
    return message


def difference(found: Difference) -> revision_pb2.FieldDifference:
    return revision_pb2.FieldDifference(
        path=found.path, base_value=_value(found.base), target_value=_value(found.target)
    )


def conflict(found: Conflict) -> revision_pb2.MergeConflict:
    return revision_pb2.MergeConflict(
        path=found.path,
        base_value=_value(found.base),
        mine_value=_value(found.mine),
        current_value=_value(found.current),
    )


def _value(value: Any) -> Value | None:
    if value is MISSING:
        return None
    message = Value()
    ParseDict(value, message)
    return message
