"""Agents, read from Registry."""

from __future__ import annotations

import grpc
from dynamicagents.registry.v1 import agent_service_pb2, agent_service_pb2_grpc
from google.protobuf.json_format import MessageToDict

from libs.client import translated
from services.execution.model import Agent


class RegistryAgents:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: agent_service_pb2_grpc.AgentServiceAsyncStub = agent_service_pb2_grpc.AgentServiceStub(channel)

    async def get(self, agent_id: str, revision: int) -> Agent:
        request = agent_service_pb2.GetAgentRequest(agent_id=agent_id, revision=revision)
        with translated("registry"):
            agent = (await self._stub.GetAgent(request)).agent
        spec = MessageToDict(agent.spec, preserving_proto_field_name=True)
        return Agent(agent.agent_id, agent.revision, agent.description, spec)
