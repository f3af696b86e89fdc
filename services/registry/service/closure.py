"""An agent with everything that it refers to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from libs import errors
from libs.identity import Caller
from services.registry import model
from services.registry.model import Kind, Resource
from services.registry.model.references import references
from services.registry.service.resources import ResourceStore
from services.registry.service.room import STEP, Room

_MOST: Final = 2000


@dataclass(frozen=True, slots=True)
class Closure:
    agent: Resource
    resources: Sequence[Resource]

    @property
    def digest(self) -> str:
        parts = [[r.kind, r.resource_id, r.revision, r.etag] for r in (self.agent, *self.resources)]
        return model.digest(parts)


class Closures:
    def __init__(self, store: ResourceStore) -> None:
        self._store = store

    async def of(self, caller: Caller, agent_id: str, revision: int, room: Room) -> Closure:
        agent = await self._store.get(caller.tenant, Kind.AGENT, agent_id, revision)
        if agent is None or agent.deleted:
            raise errors.NotFound(Kind.AGENT, f"{agent_id}@{revision}" if revision else agent_id)
        room.require(agent)
        found: dict[tuple[Kind, str], Resource] = {}
        seen, edge = {(Kind.AGENT, agent_id)}, [agent]
        while edge:
            wanted = {(r.kind, r.resource_id) for one in edge for r in references(one.kind, one.spec)} - seen
            seen |= wanted
            if len(seen) > _MOST:
                raise errors.FailedPrecondition(f"the agent refers to more than {_MOST} resources")
            edge = []
            for kind in sorted({kind for kind, _ in wanted}):
                ids = sorted(name for other, name in wanted if other is kind)
                async for resource in self._many(caller, kind, ids):
                    room.require(resource)
                    edge.append(resource)
                    found[kind, resource.resource_id] = resource
        return Closure(agent, [found[key] for key in sorted(found)])

    async def _many(self, caller: Caller, kind: Kind, ids: Sequence[str]) -> AsyncIterator[Resource]:
        for start in range(0, len(ids), STEP):
            there = await self._store.many(caller.tenant, kind, ids[start : start + STEP])
            for resource in there.values():
                yield resource
