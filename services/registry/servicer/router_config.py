from __future__ import annotations

from typing import Final

from dynamicagents.registry.v1 import (
    router_config_pb2,
    router_config_service_pb2,
    router_config_service_pb2_grpc,
)

from libs import identity, masks
from services.registry.service.router_config import RouterConfigs
from services.registry.servicer import translation
from services.registry.servicer.translation import SET_BY_SERVER, Context, parse, router_config, to_spec

_CHANGEABLE: Final = frozenset(router_config_pb2.RouterConfig.DESCRIPTOR.fields_by_name) - {*SET_BY_SERVER}


class RouterConfigServicer(router_config_service_pb2_grpc.RouterConfigServiceServicer):
    def __init__(self, configs: RouterConfigs) -> None:
        self._configs = configs

    async def GetRouterConfig(
        self, request: router_config_service_pb2.GetRouterConfigRequest, context: Context
    ) -> router_config_service_pb2.GetRouterConfigResponse:
        found = await self._configs.get(identity.current())
        return router_config_service_pb2.GetRouterConfigResponse(router_config=router_config(found))

    async def UpdateRouterConfig(
        self, request: router_config_service_pb2.UpdateRouterConfigRequest, context: Context
    ) -> router_config_service_pb2.UpdateRouterConfigResponse:
        config = request.router_config
        paths = masks.paths(request.update_mask, router_config_pb2.RouterConfig.DESCRIPTOR, _CHANGEABLE)
        spec = to_spec(config, "router_config")
        made = await self._configs.update(identity.current(), spec, paths, config.etag)
        return router_config_service_pb2.UpdateRouterConfigResponse(router_config=router_config(made))

    async def AddDeployment(
        self, request: router_config_service_pb2.AddDeploymentRequest, context: Context
    ) -> router_config_service_pb2.AddDeploymentResponse:
        deployment = to_spec(request.deployment, "deployment")
        added, config = await self._configs.add_deployment(identity.current(), deployment, request.request_id)
        response = router_config_service_pb2.AddDeploymentResponse(router_config=router_config(config))
        parse(added, response.deployment)
        return response

    async def RemoveDeployment(
        self, request: router_config_service_pb2.RemoveDeploymentRequest, context: Context
    ) -> router_config_service_pb2.RemoveDeploymentResponse:
        config = await self._configs.remove_deployment(identity.current(), request.deployment_id, request.request_id)
        return router_config_service_pb2.RemoveDeploymentResponse(router_config=router_config(config))

    async def ListRouterConfigRevisions(
        self, request: router_config_service_pb2.ListRouterConfigRevisionsRequest, context: Context
    ) -> router_config_service_pb2.ListRouterConfigRevisionsResponse:
        found, token = await self._configs.revisions(identity.current(), request.page_size, request.page_token)
        return router_config_service_pb2.ListRouterConfigRevisionsResponse(
            revisions=map(translation.revision, found), next_page_token=token
        )

    async def RollbackRouterConfig(
        self, request: router_config_service_pb2.RollbackRouterConfigRequest, context: Context
    ) -> router_config_service_pb2.RollbackRouterConfigResponse:
        made = await self._configs.rollback(identity.current(), request.revision, request.etag)
        return router_config_service_pb2.RollbackRouterConfigResponse(router_config=router_config(made))
