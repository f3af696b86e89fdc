from __future__ import annotations

from dynamicagents.registry.v1 import agent_service_pb2

from libs import identity
from services.registry.model import Kind
from services.registry.service.closure import Closures
from services.registry.servicer.translation import TRANSLATORS, Context, fill


class ClosureMethods:
    def __init__(self, closures: Closures) -> None:
        self._closures = closures

    async def get_agent_closure(
        self, request: agent_service_pb2.GetAgentClosureRequest, context: Context
    ) -> agent_service_pb2.GetAgentClosureResponse:
        found = await self._closures.of(identity.current(), request.agent_id, request.revision)
        response = agent_service_pb2.GetAgentClosureResponse(
            agent=TRANSLATORS[Kind.AGENT].to_proto(found.agent), digest=found.digest
        )
        for resource in found.resources:
            fill(response.resources.add(), resource)
        return response
