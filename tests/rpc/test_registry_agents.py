from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from dynamicagents.registry.v1 import agent_pb2, agent_service_pb2, agent_service_pb2_grpc

from services.registry.app import app
from services.registry.config import RegistrySettings
from tests import harness


@pytest.fixture
async def agents(make_settings: Callable[..., Any]) -> AsyncIterator[agent_service_pb2_grpc.AgentServiceAsyncStub]:
    async with harness.running(app, make_settings(RegistrySettings)) as (_, channel):
        yield agent_service_pb2_grpc.AgentServiceStub(channel)


def agent(agent_id: str = "", **spec: Any) -> agent_pb2.Agent:
    return agent_pb2.Agent(agent_id=agent_id, spec=agent_pb2.AgentSpec(**{"model": {"model": "offline"}, **spec}))


async def test_created_agent_can_be_read(agents: agent_service_pb2_grpc.AgentServiceAsyncStub) -> None:
    made = (await agents.CreateAgent(agent_service_pb2.CreateAgentRequest(agent=agent("helper")))).agent
    read = (await agents.GetAgent(agent_service_pb2.GetAgentRequest(agent_id="helper"))).agent
    assert made == read
    assert (made.revision, made.agent_id) == (1, "helper")


async def test_taken_id(agents: agent_service_pb2_grpc.AgentServiceAsyncStub) -> None:
    await agents.CreateAgent(agent_service_pb2.CreateAgentRequest(agent=agent("helper")))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await agents.CreateAgent(agent_service_pb2.CreateAgentRequest(agent=agent("helper")))
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert harness.reason_of(caught.value) == "RESOURCE_EXISTS"
