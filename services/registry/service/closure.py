"""An agent with everything that it refers to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from libs import errors
from libs.identity import Caller
from services.registry import model
from services.registry.model import Kind, Resource
from services.registry.model.references import references
from services.registry.service.resources import ResourceStore

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

    async def of(self, caller: Caller, agent_id: str, revision: int) -> Closure:
        agent = await self._store.get(caller.tenant, Kind.AGENT, agent_id, revision)
        if agent is None or agent.deleted:
            raise errors.NotFound(Kind.AGENT, f"{agent_id}@{revision}" if revision else agent_id)
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
                there = await self._store.many(caller.tenant, kind, ids)
                edge += there.values()
                found |= {(kind, name): resource for name, resource in there.items()}
        return Closure(agent, [found[key] for key in sorted(found)])
