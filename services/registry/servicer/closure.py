from __future__ import annotations

from dynamicagents.registry.v1 import agent_service_pb2, snapshot_pb2

from libs import identity
from services.registry.model import Kind, Resource
from services.registry.service.closure import Closures
from services.registry.service.room import Room
from services.registry.servicer.translation import TRANSLATORS, Context, bounded, fill


class ClosureMethods:
    def __init__(self, closures: Closures, *, most_bytes: int) -> None:
        self._closures, self._most_bytes = closures, most_bytes

    async def get_agent_closure(
        self, request: agent_service_pb2.GetAgentClosureRequest, context: Context
    ) -> agent_service_pb2.GetAgentClosureResponse:
        snapshots: dict[tuple[str, str], snapshot_pb2.ResourceSnapshot] = {}

        def weigh(resource: Resource) -> int:
            snapshot = snapshots[resource.kind, resource.resource_id] = snapshot_pb2.ResourceSnapshot()
            fill(snapshot, resource)
            return snapshot.ByteSize()

        room = Room(self._most_bytes, weigh)
        found = await self._closures.of(identity.current(), request.agent_id, request.revision, room)
        response = agent_service_pb2.GetAgentClosureResponse(
            agent=TRANSLATORS[Kind.AGENT].to_proto(found.agent), digest=found.digest
        )
        response.resources.extend(snapshots[each.kind, each.resource_id] for each in found.resources)
        return bounded(response, self._most_bytes)
