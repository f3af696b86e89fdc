"""Proto <-> model for Registry's services."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import grpc
from dynamicagents.registry.v1 import (
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    router_config_pb2,
    router_config_service_pb2,
    router_config_service_pb2_grpc,
    watch_service_pb2,
    watch_service_pb2_grpc,
)
from google.protobuf.json_format import Error as JsonError
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message

from libs import errors, identity, masks
from services.registry.model import Change, Draft, Kind, Resource, Spec
from services.registry.service.resources import Agents
from services.registry.service.router_config import RouterConfigs
from services.registry.service.watch import Heartbeat, SnapshotComplete, Watches, to_token

Context = grpc.aio.ServicerContext[Any, Any]

_KINDS: Final = {
    watch_service_pb2.RESOURCE_KIND_AGENT: Kind.AGENT,
    watch_service_pb2.RESOURCE_KIND_ROUTER_CONFIG: Kind.ROUTER_CONFIG,
}
_KIND_NUMBERS: Final = {kind: number for number, kind in _KINDS.items()}


class AgentServicer(agent_service_pb2_grpc.AgentServiceServicer):
    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def CreateAgent(
        self, request: agent_service_pb2.CreateAgentRequest, context: Context
    ) -> agent_service_pb2.CreateAgentResponse:
        made = await self._agents.create(identity.current(), _draft(request.agent), request.request_id)
        return agent_service_pb2.CreateAgentResponse(agent=_agent(made))

    async def GetAgent(
        self, request: agent_service_pb2.GetAgentRequest, context: Context
    ) -> agent_service_pb2.GetAgentResponse:
        found = await self._agents.get(identity.current(), request.agent_id, request.revision)
        return agent_service_pb2.GetAgentResponse(agent=_agent(found))

    async def ListAgents(
        self, request: agent_service_pb2.ListAgentsRequest, context: Context
    ) -> agent_service_pb2.ListAgentsResponse:
        found, token = await self._agents.list(
            identity.current(), request.page_size, request.page_token, request.filter, request.order_by
        )
        return agent_service_pb2.ListAgentsResponse(agents=map(_agent, found), next_page_token=token)

    async def UpdateAgent(
        self, request: agent_service_pb2.UpdateAgentRequest, context: Context
    ) -> agent_service_pb2.UpdateAgentResponse:
        changeable = ("display_name", "description", "labels", "spec")
        paths = masks.paths(request.update_mask, agent_pb2.Agent.DESCRIPTOR, changeable)
        made = await self._agents.update(identity.current(), _draft(request.agent), paths, request.agent.etag)
        return agent_service_pb2.UpdateAgentResponse(agent=_agent(made))

    async def DeleteAgent(
        self, request: agent_service_pb2.DeleteAgentRequest, context: Context
    ) -> agent_service_pb2.DeleteAgentResponse:
        await self._agents.delete(identity.current(), request.agent_id, request.etag)
        return agent_service_pb2.DeleteAgentResponse()


class RouterConfigServicer(router_config_service_pb2_grpc.RouterConfigServiceServicer):
    def __init__(self, configs: RouterConfigs) -> None:
        self._configs = configs

    async def GetRouterConfig(
        self, request: router_config_service_pb2.GetRouterConfigRequest, context: Context
    ) -> router_config_service_pb2.GetRouterConfigResponse:
        found = await self._configs.get(identity.current())
        return router_config_service_pb2.GetRouterConfigResponse(router_config=_router_config(found))

    async def UpdateRouterConfig(
        self, request: router_config_service_pb2.UpdateRouterConfigRequest, context: Context
    ) -> router_config_service_pb2.UpdateRouterConfigResponse:
        config = request.router_config
        changeable = ("deployments", "num_retries", "timeout")
        paths = masks.paths(request.update_mask, router_config_pb2.RouterConfig.DESCRIPTOR, changeable)
        made = await self._configs.update(identity.current(), _spec(config, "router_config"), paths, config.etag)
        return router_config_service_pb2.UpdateRouterConfigResponse(router_config=_router_config(made))

    async def AddDeployment(
        self, request: router_config_service_pb2.AddDeploymentRequest, context: Context
    ) -> router_config_service_pb2.AddDeploymentResponse:
        added, config = await self._configs.add_deployment(identity.current(), _spec(request.deployment, "deployment"))
        return router_config_service_pb2.AddDeploymentResponse(
            deployment=ParseDict(added, router_config_pb2.Deployment()), router_config=_router_config(config)
        )

    async def RemoveDeployment(
        self, request: router_config_service_pb2.RemoveDeploymentRequest, context: Context
    ) -> router_config_service_pb2.RemoveDeploymentResponse:
        config = await self._configs.remove_deployment(identity.current(), request.deployment_id)
        return router_config_service_pb2.RemoveDeploymentResponse(router_config=_router_config(config))


class WatchServicer(watch_service_pb2_grpc.WatchServiceServicer):
    def __init__(self, watches: Watches) -> None:
        self._watches = watches

    async def Watch(
        self, request: watch_service_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[watch_service_pb2.WatchResponse]:
        kinds = [_KINDS[kind] for kind in request.kinds]
        watch = self._watches.watch(identity.current(), kinds, request.resume_token, snapshot=request.snapshot)
        async with aclosing(watch):
            async for item in watch:
                yield _watch_response(item)


def _spec(message: Message, field: str) -> dict[str, Any]:
    try:
        return MessageToDict(message, preserving_proto_field_name=True)
    except JsonError:
        raise errors.invalid(field, "has a number that JSON does not know") from None


def _draft(agent: agent_pb2.Agent) -> Draft:
    return Draft(
        agent.agent_id, agent.display_name, agent.description, dict(agent.labels), _spec(agent.spec, "agent.spec")
    )


def _agent(resource: Resource) -> agent_pb2.Agent:
    agent = agent_pb2.Agent(
        agent_id=resource.resource_id,
        display_name=resource.display_name,
        description=resource.description,
        labels=resource.labels,
        revision=resource.revision,
        etag=resource.etag,
    )
    agent.create_time.FromDatetime(resource.create_time)
    agent.update_time.FromDatetime(resource.update_time)
    _parse(resource.spec, agent.spec)
    return agent


def _router_config(resource: Resource) -> router_config_pb2.RouterConfig:
    config = router_config_pb2.RouterConfig(revision=resource.revision, etag=resource.etag)
    if resource.revision:
        config.update_time.FromDatetime(resource.update_time)
    _parse(resource.spec, config)
    return config


def _parse(spec: Spec, into: Message) -> None:
    ParseDict(dict(spec), into, ignore_unknown_fields=True)


def _watch_response(item: Change | SnapshotComplete | Heartbeat) -> watch_service_pb2.WatchResponse:
    response = watch_service_pb2.WatchResponse(resume_token=to_token(item.position))
    match item:
        case SnapshotComplete():
            response.snapshot_complete.SetInParent()
        case Heartbeat():
            response.heartbeat.SetInParent()
        case Change(resource=resource):
            change = response.change
            change.kind = _KIND_NUMBERS[resource.kind]
            change.resource_id, change.revision, change.deleted = (
                resource.resource_id,
                resource.revision,
                resource.deleted,
            )
            if not resource.deleted and resource.kind is Kind.AGENT:
                change.agent.CopyFrom(_agent(resource))
            elif not resource.deleted:
                change.router_config.CopyFrom(_router_config(resource))
    return response
