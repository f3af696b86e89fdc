from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from dynamicagents.registry.v1 import agent_service_pb2_grpc as agents
from dynamicagents.registry.v1 import router_config_service_pb2_grpc as router_configs
from dynamicagents.registry.v1 import watch_service_pb2_grpc as watches
from opentelemetry.sdk.trace import TracerProvider

from libs import database
from libs.server import Drain, Server, Servicer, listening
from services.registry.config import RegistrySettings
from services.registry.service.resources import Agents
from services.registry.service.router_config import RouterConfigs
from services.registry.service.watch import Feed, Watches
from services.registry.servicer import AgentServicer, RouterConfigServicer, WatchServicer
from services.registry.store import SqlResourceStore

MIGRATIONS = Path(__file__).parent / "migrations"


@asynccontextmanager
async def app(settings: RegistrySettings, provider: TracerProvider | None) -> AsyncIterator[Server]:
    drain = Drain()
    async with database.opened(settings, MIGRATIONS) as db:
        store = SqlResourceStore(db)
        async with Feed(store, poll=settings.watch_poll) as feed:
            watch = Watches(store, feed, drain, heartbeat=settings.watch_heartbeat)
            servicers = [
                Servicer(
                    agents.add_AgentServiceServicer_to_server,
                    AgentServicer(Agents(store, feed)),
                    "dynamicagents.registry.v1.AgentService",
                ),
                Servicer(
                    router_configs.add_RouterConfigServiceServicer_to_server,
                    RouterConfigServicer(RouterConfigs(store, feed)),
                    "dynamicagents.registry.v1.RouterConfigService",
                ),
                Servicer(
                    watches.add_WatchServiceServicer_to_server,
                    WatchServicer(watch),
                    "dynamicagents.registry.v1.WatchService",
                ),
            ]
            async with listening(settings, servicers, drain=drain, provider=provider) as server:
                yield server
