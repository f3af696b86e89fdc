from __future__ import annotations

from typing import Any

import grpc
from dynamicagents.router.v1 import router_service_pb2

from libs import identity
from services.router.model import ModelGroup
from services.router.service import Router

Context = grpc.aio.ServicerContext[Any, Any]


class ModelMethods:
    _router: Router

    async def ListModels(
        self, request: router_service_pb2.ListModelsRequest, context: Context
    ) -> router_service_pb2.ListModelsResponse:
        groups = await self._router.list_models(identity.current())
        return router_service_pb2.ListModelsResponse(models=map(_group, groups))


def _group(group: ModelGroup) -> router_service_pb2.ModelGroup:
    return router_service_pb2.ModelGroup(
        model=group.name,
        deployment_models=group.models,
        offline=group.offline,
        capabilities=group.capabilities,
        context_window=group.context_window,
        max_output_tokens=group.max_output_tokens,
        input_cost_per_token=group.input_cost,
        output_cost_per_token=group.output_cost,
        mode=group.mode,
    )
