"""What others are told of the agents, read from Registry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import grpc
import structlog
from dynamicagents.registry.v1 import (
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    snapshot_pb2,
    watch_service_pb2,
    watch_service_pb2_grpc,
)
from google.protobuf.json_format import MessageToDict

from libs import identity
from libs.client import translated
from libs.identity import Caller
from services.execution.model.tools import AgentCard

log = structlog.get_logger()

_PAUSE: Final = 1.0
"""Seconds until a watch that was lost begins again."""


class RegistryCards:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._agents: agent_service_pb2_grpc.AgentServiceAsyncStub = agent_service_pb2_grpc.AgentServiceStub(channel)
        self._changes: watch_service_pb2_grpc.WatchServiceAsyncStub = watch_service_pb2_grpc.WatchServiceStub(channel)

    async def page(self, page_size: int, page_token: str) -> tuple[Sequence[AgentCard], str]:
        request = agent_service_pb2.ListAgentsRequest(page_size=page_size, page_token=page_token)
        with translated("registry"):
            found = await self._agents.ListAgents(request)
        return list(map(_card, found.agents)), found.next_page_token

    async def changed(self, caller: Caller, told: Callable[[], None]) -> None:
        identity.enter(caller)
        request = watch_service_pb2.WatchRequest(kinds=[snapshot_pb2.RESOURCE_KIND_AGENT])
        while True:
            try:
                async for response in self._changes.Watch(request):
                    if response.WhichOneof("event") == "change":
                        told()
            except grpc.aio.AioRpcError:
                log.warning("watch of agents lost", tenant=caller.tenant)
            await asyncio.sleep(_PAUSE)
            told()  # of what nobody heard meanwhile


def _card(agent: agent_pb2.Agent) -> AgentCard:
    spec = agent.spec
    return AgentCard(
        agent.agent_id,
        agent.revision,
        agent.display_name,
        agent.description,
        MessageToDict(spec.input_schema) if spec.HasField("input_schema") else None,
        MessageToDict(spec.output_schema) if spec.HasField("output_schema") else None,
    )
