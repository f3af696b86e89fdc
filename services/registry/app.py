from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from dynamicagents.registry.v1.prompt_service_pb2_grpc import PromptServiceServicer
from dynamicagents.registry.v1.template_service_pb2_grpc import TemplateServiceServicer
from dynamicagents.router.v1.router_service_pb2_grpc import RouterServiceStub
from opentelemetry.sdk.trace import TracerProvider

from libs import client, database
from libs.metrics import Metrics
from libs.server import Drain, Server, Servicer, listening
from services.registry.config import RegistrySettings
from services.registry.gateways import RouterGateway
from services.registry.model import Kind
from services.registry.rendering import Sandbox
from services.registry.service.audit import Audit
from services.registry.service.bundles import Bundles
from services.registry.service.cache import Cache
from services.registry.service.closure import Closures
from services.registry.service.prompts import Prompts
from services.registry.service.resources import Resources
from services.registry.service.retention import Limits, Retention
from services.registry.service.router_config import RouterConfigs
from services.registry.service.templates import Templates, TenantTools
from services.registry.service.watch import Feed, Watches
from services.registry.servicer.audit import AuditServicer
from services.registry.servicer.bundle import BundleServicer
from services.registry.servicer.closure import ClosureMethods
from services.registry.servicer.prompts import PromptMethods
from services.registry.servicer.resources import ResourceMethods, servicer
from services.registry.servicer.router_config import RouterConfigServicer
from services.registry.servicer.templates import TemplateMethods
from services.registry.servicer.watch import WatchServicer
from services.registry.store import SqlAuditStore, SqlFeedbackStore, SqlResourceStore, SqlRetentionStore

MIGRATIONS = Path(__file__).parent / "migrations"
_KINDS: Final = {
    Kind.AGENT: ("Agent", "Agents", "AgentService"),
    Kind.TEAM: ("Team", "Teams", "TeamService"),
    Kind.WORKFLOW: ("Workflow", "Workflows", "WorkflowService"),
    Kind.TOOL_DEFINITION: ("ToolDefinition", "ToolDefinitions", "ToolDefinitionService"),
    Kind.MCP_SERVER: ("McpServer", "McpServers", "McpServerService"),
    Kind.TOOL_PROVIDER: ("ToolProvider", "ToolProviders", "ToolProviderConfigService"),
    Kind.EVENT_RULE: ("EventRule", "EventRules", "EventRuleService"),
}


@asynccontextmanager
async def app(settings: RegistrySettings, provider: TracerProvider | None) -> AsyncIterator[Server]:
    drain = Drain()
    async with database.opened(settings, MIGRATIONS) as db:
        store = SqlResourceStore(db)
        async with (
            Feed(store, poll=settings.watch_poll) as feed,
            Cache(store, feed, poll=settings.watch_poll) as cache,
            Sandbox() as sandbox,
            Retention(SqlRetentionStore(db), _limits(settings)),
            _router(settings, provider) as router,
        ):
            most_bytes = settings.max_message_bytes
            metrics = Metrics()
            metrics.counted(
                "registry_cache_lookups_total", "Looks into the cache.", ("result",), lambda: {**cache.lookups}
            )
            watches = Watches(store, feed, drain, heartbeat=settings.watch_heartbeat)
            servicers = [
                *_resource_servicers(store, feed, cache, most_bytes),
                _template_servicer(store, feed, most_bytes),
                _prompt_servicer(store, feed, SqlFeedbackStore(db), sandbox, most_bytes),
                _servicer(
                    "router_config", "RouterConfigService", RouterConfigServicer(RouterConfigs(store, feed, router))
                ),
                _servicer("watch", "WatchService", WatchServicer(watches, slow=settings.watch_slow_limit)),
                _servicer("bundle", "BundleService", BundleServicer(Bundles(store, feed), most_bytes=most_bytes)),
                _servicer("audit", "AuditService", AuditServicer(Audit(SqlAuditStore(db)))),
            ]
            async with listening(settings, servicers, drain=drain, provider=provider, metrics=metrics) as server:
                yield server


@asynccontextmanager
async def _router(settings: RegistrySettings, provider: TracerProvider | None) -> AsyncIterator[RouterGateway | None]:
    """The Router tries configurations out where its address is given; none is needed."""
    if "router_address" not in settings.model_fields_set:
        yield None
        return
    async with client.channel(settings.router_address, settings, provider) as channel:
        yield RouterGateway(RouterServiceStub(channel))


def _limits(settings: RegistrySettings) -> Limits:
    return Limits(
        every=timedelta(seconds=settings.upkeep_interval),
        changes=timedelta(seconds=settings.history_retention),
        fewest_changes=settings.history_minimum,
        requests=timedelta(seconds=settings.request_retention),
    )


def _resource_servicers(store: SqlResourceStore, feed: Feed, cache: Cache, most_bytes: int) -> Iterator[Servicer]:
    for kind, (noun, plural, service) in _KINDS.items():
        resources = Resources(store, feed, kind)
        methods = ResourceMethods(resources, noun, plural, kind, most_bytes=most_bytes, cache=cache)
        more: dict[str, Any] = {}
        if kind is Kind.AGENT:
            more["GetAgentClosure"] = ClosureMethods(Closures(store), most_bytes=most_bytes).get_agent_closure
        base = getattr(import_module(f"dynamicagents.registry.v1.{kind}_service_pb2_grpc"), f"{service}Servicer")
        yield _servicer(kind, service, servicer(base, methods, **more))


def _template_servicer(store: SqlResourceStore, feed: Feed, most_bytes: int) -> Servicer:
    own, agents = Resources(store, feed, Kind.AGENT_TEMPLATE), Resources(store, feed, Kind.AGENT)
    methods = TemplateMethods(Templates(own, agents, TenantTools(store)), most_bytes=most_bytes)
    return _servicer("template", "TemplateService", servicer(TemplateServiceServicer, methods))


def _prompt_servicer(
    store: SqlResourceStore, feed: Feed, feedback: SqlFeedbackStore, sandbox: Sandbox, most_bytes: int
) -> Servicer:
    prompts = Resources(store, feed, Kind.PROMPT)
    methods = PromptMethods(prompts, Prompts(prompts, feedback, sandbox), most_bytes=most_bytes)
    return _servicer("prompt", "PromptService", servicer(PromptServiceServicer, methods))


def _servicer(module: str, service: str, implementation: Any) -> Servicer:
    generated = import_module(f"dynamicagents.registry.v1.{module}_service_pb2_grpc")
    add = getattr(generated, f"add_{service}Servicer_to_server")
    return Servicer(add, implementation, f"dynamicagents.registry.v1.{service}")
