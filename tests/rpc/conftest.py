from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import grpc
import pytest
from dynamicagents.execution.v1 import (
    event_pb2,
    execution_pb2,
    execution_service_pb2,
    execution_service_pb2_grpc,
)
from dynamicagents.registry.v1 import (
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    team_pb2,
    team_service_pb2,
    team_service_pb2_grpc,
)
from dynamicagents.tools.v1 import tool_service_pb2_grpc

from libs import database
from libs.server import Server
from services.execution.app import MIGRATIONS
from services.execution.app import app as execution_app
from services.execution.config import ExecutionSettings
from services.registry.app import app as registry_app
from services.registry.config import RegistrySettings
from tests import harness
from tests.scripted_router import ScriptedRouter

RUNNING = execution_pb2.EXECUTION_STATUS_RUNNING
COMPLETED = execution_pb2.EXECUTION_STATUS_COMPLETED
FAILED = execution_pb2.EXECUTION_STATUS_FAILED
CANCELLED = execution_pb2.EXECUTION_STATUS_CANCELLED


@dataclass
class ExecutionBench:
    """Execution with a real Registry and a scripted Router."""

    stack: AsyncExitStack
    router: ScriptedRouter
    server: Server
    settings: ExecutionSettings
    executions: execution_service_pb2_grpc.ExecutionServiceAsyncStub
    tools: tool_service_pb2_grpc.ToolServiceAsyncStub
    agents: agent_service_pb2_grpc.AgentServiceAsyncStub
    registry: grpc.aio.Channel
    metadata: tuple[tuple[str, str], ...] = ()

    async def create(self, agent_id: str = "helper", **spec: Any) -> agent_pb2.Agent:
        made = agent_pb2.Agent(agent_id=agent_id, spec=agent_pb2.AgentSpec(**{"model": {"model": "any"}, **spec}))
        asked = agent_service_pb2.CreateAgentRequest(agent=made)
        return (await self.agents.CreateAgent(asked, metadata=self.metadata)).agent

    async def create_team(self, team_id: str, *members: str, **spec: Any) -> None:
        """Of agents, or of teams where a member is "team/..."."""
        kinds = [one.split("/") if "/" in one else ("agent", one) for one in members]
        listed = [{f"{kind}_id": member_id} for kind, member_id in kinds]
        made = team_pb2.Team(
            team_id=team_id, spec=team_pb2.TeamSpec(**{"model": {"model": team_id}, "members": listed, **spec})
        )
        stub: Any = team_service_pb2_grpc.TeamServiceStub(self.registry)
        await stub.CreateTeam(team_service_pb2.CreateTeamRequest(team=made), metadata=self.metadata)

    def stream(self, *, deadline: float | None = 60.0, **request: Any) -> Any:
        """An open ExecuteStream."""
        return self.executions.ExecuteStream(execute(**request), timeout=deadline, metadata=self.metadata)

    async def run(self, **request: Any) -> list[event_pb2.ExecuteEvent]:
        return [event async for event in self.stream(**request)]

    async def begin(self, **request: Any) -> tuple[Any, str]:
        """An open ExecuteStream whose first event was read, and the execution's id."""
        call = self.stream(**request)
        return call, (await call.read()).execution_id

    async def execute(self, **request: Any) -> execution_pb2.Execution:
        return (await self.executions.Execute(execute(**request), timeout=60, metadata=self.metadata)).execution

    async def get(self, execution_id: str) -> execution_pb2.Execution:
        asked = execution_service_pb2.GetExecutionRequest(execution_id=execution_id)
        return (await self.executions.GetExecution(asked, metadata=self.metadata)).execution

    def watching(self, execution_id: str, after: int = 0) -> Any:
        asked = execution_service_pb2.WatchExecutionRequest(execution_id=execution_id, after_sequence=after)
        return self.executions.WatchExecution(asked, timeout=60, metadata=self.metadata)

    async def watch(self, execution_id: str, after: int = 0) -> list[event_pb2.ExecuteEvent]:
        return [answer.event async for answer in self.watching(execution_id, after)]

    async def cancel(self, execution_id: str, reason: str = "enough") -> execution_pb2.Execution:
        asked = execution_service_pb2.CancelExecutionRequest(execution_id=execution_id, reason=reason)
        return (await self.executions.CancelExecution(asked, timeout=60, metadata=self.metadata)).execution

    async def settled(self, execution_id: str, within: float = 5.0) -> execution_pb2.Execution:
        """The execution once it has ended, which nobody watches for it."""
        async with asyncio.timeout(within):
            while True:
                found = await self.get(execution_id)
                if found.status != RUNNING:
                    return found
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def beside(self, **overrides: Any) -> AsyncIterator[ExecutionBench]:
        """A second Execution on the same database."""
        settings = self.settings.model_copy(update=overrides)
        async with execution_app(settings, None) as server:
            # It outlives the server, to see how that ends its calls.
            channel = await self.stack.enter_async_context(grpc.aio.insecure_channel(server.address))
            yield replace(self, server=server, settings=settings, **_stubs(channel))


def execute(**request: Any) -> execution_service_pb2.ExecuteRequest:
    target = {} if {"team_id", "workflow_id"} & {*request} else {"agent_id": "helper"}
    return execution_service_pb2.ExecuteRequest(**{**target, "input": "hi", **request})


async def rest(call: Any) -> list[Any]:
    """What `begin` left to read."""
    read = []
    while (message := await call.read()) is not grpc.aio.EOF:
        read.append(message)
    return read


def kinds(events: list[event_pb2.ExecuteEvent]) -> list[str]:
    return [str(event.WhichOneof("event")) for event in events]


def sequences(events: list[event_pb2.ExecuteEvent]) -> list[int]:
    return [event.sequence for event in events]


def text_of(events: list[event_pb2.ExecuteEvent]) -> str:
    return "".join(event.content_delta.text for event in events)


def _stubs(channel: grpc.aio.Channel) -> dict[str, Any]:
    return {
        "executions": execution_service_pb2_grpc.ExecutionServiceStub(channel),
        "tools": tool_service_pb2_grpc.ToolServiceStub(channel),
    }


@pytest.fixture
async def bench(make_settings: Callable[..., Any]) -> AsyncIterator[Callable[..., Any]]:
    """Makes an ExecutionBench with the settings given; `registry` has those of Registry."""
    async with AsyncExitStack() as stack:

        async def make(registry: dict[str, Any] | None = None, **overrides: Any) -> ExecutionBench:
            router = ScriptedRouter()
            address = await stack.enter_async_context(router.serving())
            agents, agents_channel = await stack.enter_async_context(
                harness.running(registry_app, make_settings(RegistrySettings, **(registry or {})))
            )
            defaults = {"registry_address": agents.address, "router_address": address, "watch_poll": 0.02}
            settings = make_settings(ExecutionSettings, **{**defaults, **overrides})
            if not settings.embedded:
                await database.migrate(settings, MIGRATIONS)
            server, channel = await stack.enter_async_context(harness.running(execution_app, settings))
            agents_stub: Any = agent_service_pb2_grpc.AgentServiceStub(agents_channel)
            return ExecutionBench(
                stack, router, server, settings, **_stubs(channel), agents=agents_stub, registry=agents_channel
            )

        yield make
