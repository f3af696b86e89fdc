from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from dynamicagents.registry.v1.prompt_service_pb2_grpc import PromptServiceServicer
from dynamicagents.registry.v1.template_service_pb2_grpc import TemplateServiceServicer
from opentelemetry.sdk.trace import TracerProvider

from libs import database
from libs.server import Drain, Server, Servicer, listening
from services.registry.config import RegistrySettings
from services.registry.feedback_store import SqlFeedbackStore
from services.registry.model import Kind
from services.registry.rendering import Sandbox
from services.registry.service.audit import Audit
from services.registry.service.bundles import Bundles
from services.registry.service.cache import Cache
from services.registry.service.closure import Closures
from services.registry.service.prompts import Prompts
from services.registry.service.resources import Resources
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
from services.registry.store import SqlAuditStore, SqlResourceStore

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
        ):
            watches = Watches(store, feed, drain, heartbeat=settings.watch_heartbeat)
            servicers = [
                *_resource_servicers(store, feed, cache),
                _template_servicer(store, feed),
                _prompt_servicer(store, feed, SqlFeedbackStore(db), sandbox),
                _servicer("router_config", "RouterConfigService", RouterConfigServicer(RouterConfigs(store, feed))),
                _servicer("watch", "WatchService", WatchServicer(watches)),
                _servicer("bundle", "BundleService", BundleServicer(Bundles(store, feed))),
                _servicer("audit", "AuditService", AuditServicer(Audit(SqlAuditStore(db)))),
            ]
            async with listening(settings, servicers, drain=drain, provider=provider) as server:
                yield server


def _resource_servicers(store: SqlResourceStore, feed: Feed, cache: Cache) -> Iterator[Servicer]:
    for kind, (noun, plural, service) in _KINDS.items():
        methods = ResourceMethods(Resources(store, feed, kind), noun, plural, kind, cache)
        more: dict[str, Any] = {}
        if kind is Kind.AGENT:
            more["GetAgentClosure"] = ClosureMethods(Closures(store)).get_agent_closure
        base = getattr(import_module(f"dynamicagents.registry.v1.{kind}_service_pb2_grpc"), f"{service}Servicer")
        yield _servicer(kind, service, servicer(base, methods, **more))


def _template_servicer(store: SqlResourceStore, feed: Feed) -> Servicer:
    own, agents = Resources(store, feed, Kind.AGENT_TEMPLATE), Resources(store, feed, Kind.AGENT)
    methods = TemplateMethods(Templates(own, agents, TenantTools(store)))
    return _servicer("template", "TemplateService", servicer(TemplateServiceServicer, methods))


def _prompt_servicer(store: SqlResourceStore, feed: Feed, feedback: SqlFeedbackStore, sandbox: Sandbox) -> Servicer:
    prompts = Resources(store, feed, Kind.PROMPT)
    methods = PromptMethods(prompts, Prompts(prompts, feedback, sandbox))
    return _servicer("prompt", "PromptService", servicer(PromptServiceServicer, methods))


def _servicer(module: str, service: str, implementation: Any) -> Servicer:
    generated = import_module(f"dynamicagents.registry.v1.{module}_service_pb2_grpc")
    add = getattr(generated, f"add_{service}Servicer_to_server")
    return Servicer(add, implementation, f"dynamicagents.registry.v1.{service}")
