"""Agents with what they refer to, read from Registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import grpc
from dynamicagents.registry.v1 import (
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    prompt_service_pb2,
    prompt_service_pb2_grpc,
    tool_definition_pb2,
    tool_definition_service_pb2,
    tool_definition_service_pb2_grpc,
)
from google.protobuf.json_format import MessageToDict

from libs.client import translated
from services.execution.model.agents import Agent

_FUNCTION: Final = "function/"
_MOST: Final = 256


class RegistryAgents:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._agents: agent_service_pb2_grpc.AgentServiceAsyncStub = agent_service_pb2_grpc.AgentServiceStub(channel)
        self._prompts: prompt_service_pb2_grpc.PromptServiceAsyncStub
        self._prompts = prompt_service_pb2_grpc.PromptServiceStub(channel)
        self._definitions: tool_definition_service_pb2_grpc.ToolDefinitionServiceAsyncStub
        self._definitions = tool_definition_service_pb2_grpc.ToolDefinitionServiceStub(channel)

    async def get(self, agent_id: str, revision: int) -> Agent:
        request = agent_service_pb2.GetAgentRequest(agent_id=agent_id, revision=revision)
        with translated("registry"):
            agent = (await self._agents.GetAgent(request)).agent
            if agent.spec.HasField("prompt"):
                await self._prepend_prompt(agent.spec)
            functions = await self._functions([tool.tool_id for tool in agent.spec.tools])
        spec = MessageToDict(agent.spec, preserving_proto_field_name=True)
        return Agent(agent.agent_id, agent.revision, agent.description, spec, functions)

    async def _functions(self, tool_ids: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """The functions among the tools, or among those that a pattern such as function/crm-* stands for."""
        named = [one.removeprefix(_FUNCTION) for one in tool_ids if one.startswith(_FUNCTION)]
        found = [
            definition for name in named for definition in await (self._all(name) if "*" in name else self._one(name))
        ]
        return [_function(definition) for definition in found]

    async def _one(self, tool_definition_id: str) -> Sequence[tool_definition_pb2.ToolDefinition]:
        request = tool_definition_service_pb2.GetToolDefinitionRequest(tool_definition_id=tool_definition_id)
        try:
            return [(await self._definitions.GetToolDefinition(request)).tool_definition]
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT):
                return []
            raise

    async def _all(self, pattern: str) -> Sequence[tool_definition_pb2.ToolDefinition]:
        conditions = f'tool_definition_id = "{pattern}"' if pattern != "*" else ""
        request = tool_definition_service_pb2.ListToolDefinitionsRequest(page_size=_MOST, filter=conditions)
        return (await self._definitions.ListToolDefinitions(request)).tool_definitions

    async def _prepend_prompt(self, spec: agent_pb2.AgentSpec) -> None:
        request = prompt_service_pb2.RenderPromptRequest(
            prompt_id=spec.prompt.prompt_id, revision=spec.prompt.revision, variables=spec.prompt.variables
        )
        rendered = await self._prompts.RenderPrompt(request)
        spec.instructions.insert(0, rendered.text)


def _function(definition: tool_definition_pb2.ToolDefinition) -> Mapping[str, Any]:
    """As the fields of Tool."""
    spec, name = definition.spec, definition.tool_definition_id
    return {
        "tool_id": f"{_FUNCTION}{name}",
        "function_name": spec.function_name or name.replace("-", "_"),
        "title": definition.display_name,
        "description": definition.description,
        "input_schema": MessageToDict(spec.input_schema),
        "output_schema": MessageToDict(spec.output_schema) if spec.HasField("output_schema") else None,
        "version": str(definition.revision),
        "read_only": spec.read_only,
        "idempotent": spec.idempotent,
    }
