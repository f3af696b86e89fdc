"""Agents, read from Registry."""

from __future__ import annotations

import grpc
from dynamicagents.registry.v1 import (
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    prompt_service_pb2,
    prompt_service_pb2_grpc,
)
from google.protobuf.json_format import MessageToDict

from libs.client import translated
from services.execution.model import Agent


class RegistryAgents:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._agents: agent_service_pb2_grpc.AgentServiceAsyncStub = agent_service_pb2_grpc.AgentServiceStub(channel)
        self._prompts: prompt_service_pb2_grpc.PromptServiceAsyncStub
        self._prompts = prompt_service_pb2_grpc.PromptServiceStub(channel)

    async def get(self, agent_id: str, revision: int) -> Agent:
        request = agent_service_pb2.GetAgentRequest(agent_id=agent_id, revision=revision)
        with translated("registry"):
            agent = (await self._agents.GetAgent(request)).agent
            if agent.spec.HasField("prompt"):
                await self._prepend_prompt(agent.spec)
        spec = MessageToDict(agent.spec, preserving_proto_field_name=True)
        return Agent(agent.agent_id, agent.revision, agent.description, spec)

    async def _prepend_prompt(self, spec: agent_pb2.AgentSpec) -> None:
        request = prompt_service_pb2.RenderPromptRequest(
            prompt_id=spec.prompt.prompt_id, revision=spec.prompt.revision, variables=spec.prompt.variables
        )
        rendered = await self._prompts.RenderPrompt(request)
        spec.instructions.insert(0, rendered.text)
