from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from dynamicagents.execution.v1 import event_pb2, execution_service_pb2, execution_service_pb2_grpc
from dynamicagents.registry.v1 import agent_pb2, agent_service_pb2, agent_service_pb2_grpc
from dynamicagents.tools.v1 import tool_service_pb2_grpc

from libs.server import Server
from services.execution.app import app as execution_app
from services.execution.config import ExecutionSettings
from services.registry.app import app as registry_app
from services.registry.config import RegistrySettings
from tests import harness
from tests.scripted_router import ScriptedRouter


@dataclass
class ExecutionBench:
    """Execution with a real Registry and a scripted Router."""

    router: ScriptedRouter
    server: Server
    executions: execution_service_pb2_grpc.ExecutionServiceAsyncStub
    tools: tool_service_pb2_grpc.ToolServiceAsyncStub
    agents: agent_service_pb2_grpc.AgentServiceAsyncStub

    async def create(self, agent_id: str = "helper", **spec: Any) -> agent_pb2.Agent:
        made = agent_pb2.Agent(agent_id=agent_id, spec=agent_pb2.AgentSpec(**{"model": {"model": "any"}, **spec}))
        return (await self.agents.CreateAgent(agent_service_pb2.CreateAgentRequest(agent=made))).agent

    async def run(self, **request: Any) -> list[event_pb2.ExecuteEvent]:
        asked = execution_service_pb2.ExecuteRequest(**{"agent_id": "helper", "input": "hi", **request})
        return [event async for event in self.executions.ExecuteStream(asked)]


def kinds(events: list[event_pb2.ExecuteEvent]) -> list[str]:
    return [str(event.WhichOneof("event")) for event in events]


@pytest.fixture
async def bench(make_settings: Callable[..., Any]) -> AsyncIterator[Callable[..., Any]]:
    """Makes an ExecutionBench with the settings given."""
    async with AsyncExitStack() as stack:

        async def make(**overrides: Any) -> ExecutionBench:
            router = ScriptedRouter()
            address = await stack.enter_async_context(router.serving())
            registry, registry_channel = await stack.enter_async_context(
                harness.running(registry_app, make_settings(RegistrySettings))
            )
            settings = make_settings(
                ExecutionSettings,
                **{"registry_address": registry.address, "router_address": address, **overrides},
            )
            server, channel = await stack.enter_async_context(harness.running(execution_app, settings))
            return ExecutionBench(
                router,
                server,
                execution_service_pb2_grpc.ExecutionServiceStub(channel),
                tool_service_pb2_grpc.ToolServiceStub(channel),
                agent_service_pb2_grpc.AgentServiceStub(registry_channel),
            )

        yield make


__all__ = ["ExecutionBench", "grpc", "kinds"]
