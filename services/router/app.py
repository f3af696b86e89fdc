from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from dynamicagents.registry.v1.watch_service_pb2_grpc import WatchServiceStub
from dynamicagents.router.v1 import router_service_pb2_grpc
from dynamicagents.secrets.v1.secrets_service_pb2_grpc import SecretsServiceStub
from opentelemetry.sdk.trace import TracerProvider
from redis.asyncio import Redis

from libs import client
from libs.config import StartError
from libs.metrics import Metrics
from libs.server import Drain, Server, Servicer, listening
from services.router.config import RouterSettings
from services.router.gateways import redis_state, tables
from services.router.gateways.observed import Attempts, ObservedUpstream, watch
from services.router.gateways.redis_cache import RedisStore
from services.router.gateways.redis_health import RedisExchange
from services.router.gateways.redis_state import RedisState
from services.router.gateways.registry import RegistryGateway
from services.router.gateways.replay import NoKeys, Recorder, Replayer
from services.router.gateways.secrets import SecretsGateway
from services.router.gateways.upstream import LiteLLMUpstream
from services.router.model import CacheBackend
from services.router.service import Keys, Router, Upstream
from services.router.service.budgets import Ledger
from services.router.service.cache import AnswerCache, AnswerStore, MemoryStore
from services.router.service.health import Health
from services.router.service.state import DeploymentStates
from services.router.servicer import RouterServicer
from services.router.servicer.side_door import side_door

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
        redis_state.connected(settings.redis_url) as redis,
        AsyncExitStack() as stack,
    ):
        states, ledger = DeploymentStates(), Ledger()
        configurations.listen(states.follow)
        shared = None
        if redis:
            shared = await stack.enter_async_context(RedisState(redis, states, ledger, prefix=settings.redis_prefix))
        metrics = Metrics()
        attempts = Attempts(metrics)
        asked, keys = _replayed(settings, upstream, SecretsGateway(SecretsServiceStub(secrets)))
        answers = _answers(settings, redis)
        router = Router(
            configurations,
            keys,
            ObservedUpstream(asked, provider, attempts),
            offline=settings.offline,
            states=states,
            ledger=ledger,
            shared=shared,
            answers=answers,
        )
        drain = Drain()
        exchange = await stack.enter_async_context(_exchange(settings, redis))
        health = await stack.enter_async_context(
            Health(
                configurations,
                drain,
                exchange=exchange,
                try_out=router.probe,
                offline=settings.offline,
                most_watches=settings.max_health_watchers,
            )
        )
        states.observe(health)
        states.observe(attempts)
        watch(metrics, health.counts, lambda: answers.lookups)
        servicer = Servicer(
            router_service_pb2_grpc.add_RouterServiceServicer_to_server,
            RouterServicer(router, health, tables.table),
            "dynamicagents.router.v1.RouterService",
        )
        async with (
            listening(settings, [servicer], drain=drain, provider=provider, metrics=metrics, ready=False) as server,
            _side_door(settings, router, provider),
        ):
            announcing = asyncio.create_task(_announce(server, upstream))
            try:
                yield server
            finally:
                announcing.cancel()


def _replayed(settings: RouterSettings, upstream: Upstream, keys: Keys) -> tuple[Upstream, Keys]:
    """Providers and keys; or what was recorded of them, and none."""
    if settings.record_dir and settings.replay_dir:
        raise StartError("record_dir and replay_dir exclude each other: set one")
    if settings.record_dir:
        return Recorder(upstream, settings.record_dir), keys
    if settings.replay_dir:
        return Replayer(upstream, settings.replay_dir), NoKeys()
    return upstream, keys


def _answers(settings: RouterSettings, redis: Redis | None) -> AnswerCache:
    stores: dict[CacheBackend, AnswerStore] = {CacheBackend.MEMORY: MemoryStore()}
    if redis:
        stores[CacheBackend.REDIS] = RedisStore(redis, prefix=settings.redis_prefix)
    return AnswerCache(stores)


@asynccontextmanager
async def _side_door(settings: RouterSettings, router: Router, provider: TracerProvider | None) -> AsyncIterator[None]:
    if settings.openai_port is None:
        yield
        return
    async with side_door(settings, settings.openai_port, router, provider):
        yield


@asynccontextmanager
async def _exchange(settings: RouterSettings, redis: Redis | None) -> AsyncIterator[RedisExchange | None]:
    if redis is None:
        yield None
        return
    async with RedisExchange(redis, prefix=settings.redis_prefix) as exchange:
        yield exchange


async def _announce(server: Server, upstream: LiteLLMUpstream) -> None:
    try:
        await upstream.ready()
    except Exception:
        log.exception("litellm cannot be used")
        return
    await server.set_serving(True)
