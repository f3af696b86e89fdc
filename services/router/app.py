from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from dynamicagents.registry.v1.watch_service_pb2_grpc import WatchServiceStub
from dynamicagents.router.v1 import router_service_pb2_grpc
from dynamicagents.secrets.v1.secrets_service_pb2_grpc import SecretsServiceStub
from opentelemetry.sdk.trace import TracerProvider

from libs import client
from libs.server import Drain, Server, Servicer, listening
from services.router.config import RouterSettings
from services.router.gateways.registry import RegistryGateway
from services.router.gateways.secrets import SecretsGateway
from services.router.gateways.upstream import LiteLLMUpstream
from services.router.service import Router
from services.router.servicer import RouterServicer

log = structlog.get_logger()

WATCH = "dynamicagents.registry.v1.WatchService"
SECRETS = "dynamicagents.secrets.v1.SecretsService"


@asynccontextmanager
async def app(settings: RouterSettings, provider: TracerProvider | None) -> AsyncIterator[Server]:
    async with (
        LiteLLMUpstream(offline_delay=settings.offline_delay) as upstream,
        client.channel(settings.registry_address, settings, provider, retried=[WATCH]) as registry,
        client.channel(settings.secrets_address, settings, provider, retried=[SECRETS]) as secrets,
        RegistryGateway(WatchServiceStub(registry), limit=settings.max_watches) as configurations,
    ):
        router = Router(configurations, SecretsGateway(SecretsServiceStub(secrets)), upstream, offline=settings.offline)
        servicer = Servicer(
            router_service_pb2_grpc.add_RouterServiceServicer_to_server,
            RouterServicer(router),
            "dynamicagents.router.v1.RouterService",
        )
        async with listening(settings, [servicer], drain=Drain(), provider=provider, ready=False) as server:
            announcing = asyncio.create_task(_announce(server, upstream))
            try:
                yield server
            finally:
                announcing.cancel()


async def _announce(server: Server, upstream: LiteLLMUpstream) -> None:
    try:
        await upstream.ready()
    except Exception:
        log.exception("litellm cannot be used")
        return
    await server.set_serving(True)
