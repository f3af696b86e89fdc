from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import grpc
from dynamicagents.registry.v1 import router_config_pb2
from dynamicagents.router.v1 import router_service_pb2

from libs import errors, identity
from libs.errors import Violation
from services.router.model import RoutingTable
from services.router.service import Router
from services.router.service.explain import Candidate
from services.router.servicer import conversations

Context = grpc.aio.ServicerContext[Any, Any]


class ExplainMethods:
    _router: Router
    _table: Callable[[router_config_pb2.RouterConfig], RoutingTable]

    async def ExplainRoute(
        self, request: router_service_pb2.ExplainRouteRequest, context: Context
    ) -> router_service_pb2.ExplainRouteResponse:
        table = await self._tried(request.config) if request.HasField("config") else None
        call = replace(
            conversations.counted_call(request), stream=True, options=conversations.call_options(request.options)
        )
        found = await self._router.explain(identity.current(), call, table)
        return router_service_pb2.ExplainRouteResponse(
            model_group=found.group,
            strategy=f"ROUTING_STRATEGY_{found.strategy.name}",
            candidates=map(_candidate, found.candidates),
            chosen_deployment_id=found.chosen,
            fallback_groups=found.fallback_groups,
        )

    async def _tried(self, config: router_config_pb2.RouterConfig) -> RoutingTable:
        table = self._table(config)
        problems = await self._router.problems(table)
        named = [(f"config.deployments[{n}]", d.deployment_id) for n, d in enumerate(config.deployments)]
        named += [(f"config.guardrails[{n}].kind", g.name) for n, g in enumerate(config.guardrails)]
        if violations := [Violation(field, problems[name]) for field, name in named if name in problems]:
            raise errors.InvalidArgument(violations)
        return table


def _candidate(candidate: Candidate) -> router_service_pb2.RouteCandidate:
    made = router_service_pb2.RouteCandidate(
        deployment_id=candidate.deployment_id,
        model=candidate.model,
        eligible=candidate.eligible,
        reason=candidate.reason,
        score=candidate.score,
        parts=candidate.parts,
        probability=candidate.probability,
    )
    if candidate.cooldown_left:
        made.cooldown_left.FromNanoseconds(int(candidate.cooldown_left * 1e9))
    return made
