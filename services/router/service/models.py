"""What is known of model groups."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

from services.router.model import OFFLINE, Deployment, Facts, ModelGroup, RoutingTable
from services.router.service.ports import Upstream

_KEPT: Final = 1000


class Models:
    """Made once for each table."""

    def __init__(self, upstream: Upstream, *, offline: bool) -> None:
        self._upstream = upstream
        self._always = OFFLINE.groups if offline else {}
        self._made: OrderedDict[str, tuple[RoutingTable, Sequence[ModelGroup]]] = OrderedDict()

    async def of(self, tenant: str, table: RoutingTable) -> Sequence[ModelGroup]:
        known = self._made.get(tenant)
        if known is None or known[0] is not table:
            groups = {**table.groups, **self._always}
            known = (table, [await self._group(name, groups[name]) for name in sorted(groups)])
            self._made[tenant] = known
        self._made.move_to_end(tenant)
        while len(self._made) > _KEPT:
            self._made.popitem(last=False)
        return known[1]

    async def _group(self, name: str, deployments: Sequence[Deployment]) -> ModelGroup:
        facts = [(await self._upstream.facts(d)).corrected(d) for d in deployments]
        return ModelGroup(
            name,
            tuple(d.model for d in deployments),
            all(d.is_offline for d in deployments),
            tuple(sorted(frozenset.intersection(*(f.capabilities for f in facts)))),
            _least(f.context_window for f in facts),
            _least(f.max_output_tokens for f in facts),
            _cheapest(facts, "input"),
            _cheapest(facts, "output"),
            facts[0].mode,
        )


def _least(values: Iterable[int | None]) -> int:
    return min((value for value in values if value), default=0)


def _cheapest(facts: Iterable[Facts], side: str) -> float | None:
    prices: list[float | None] = [getattr(f.pricing, side) for f in facts]
    return min((price for price in prices if price is not None), default=None)
