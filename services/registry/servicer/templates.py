from __future__ import annotations

from typing import Any

from dynamicagents.registry.v1 import agent_template_pb2, template_service_pb2

from libs import identity
from services.registry.model import Draft, Kind, Resource
from services.registry.service.templates import Templates
from services.registry.servicer.resources import ResourceMethods
from services.registry.servicer.translation import TRANSLATORS, Context


class TemplateMethods(ResourceMethods):
    """A template of the suite is one at revision 0, and says so."""

    def __init__(self, templates: Templates, *, most_bytes: int) -> None:
        super().__init__(
            templates,  # type: ignore[arg-type]
            "AgentTemplate",
            "AgentTemplates",
            "template",
            most_bytes=most_bytes,
        )
        self._templates = templates

    def to_proto(self, resource: Resource) -> agent_template_pb2.AgentTemplate:
        message: agent_template_pb2.AgentTemplate = super().to_proto(resource)
        if resource.revision == 0:
            message.built_in = True
            message.ClearField("create_time")
            message.ClearField("update_time")
        return message

    async def create_agent(
        self, request: template_service_pb2.CreateAgentFromTemplateRequest, context: Context
    ) -> template_service_pb2.CreateAgentFromTemplateResponse:
        agents = TRANSLATORS[Kind.AGENT]
        overrides = agents.draft(request.overrides) if request.HasField("overrides") else Draft()
        made = await self._templates.create_agent(
            identity.current(),
            request.template_id,
            overrides,
            request.request_id,
            validate_only=request.validate_only,
        )
        return template_service_pb2.CreateAgentFromTemplateResponse(agent=agents.to_proto(made))

    def named(self) -> dict[str, Any]:
        return {**super().named(), "CreateAgentFromTemplate": self.create_agent}
