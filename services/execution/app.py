from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import grpc
from dynamicagents.execution.v1 import execution_service_pb2_grpc as execution_grpc
from dynamicagents.registry.v1 import watch_service_pb2_grpc
from dynamicagents.secrets.v1 import secrets_service_pb2_grpc
from dynamicagents.tools.v1 import host_relay_service_pb2_grpc as relay_grpc
from dynamicagents.tools.v1 import tool_service_pb2_grpc as tool_grpc
from mcp_grpc_transport_proto.mcp_pb2_grpc import add_McpServicer_to_server
from opentelemetry.sdk.trace import TracerProvider

from libs import client, database, ids, telemetry
from libs.config import StartError
from libs.metrics import Metrics
from libs.server import Drain, Server, Servicer, listening
from services.execution.config import ExecutionSettings
from services.execution.gateways.agno import toolkits
from services.execution.gateways.agno.runner import AgnoRunner
from services.execution.gateways.cards import RegistryCards
from services.execution.gateways.http_fetch import HttpFetch
from services.execution.gateways.http_fetch import Limits as FetchLimits
from services.execution.gateways.mcp.source import McpTools
from services.execution.gateways.mcp.targets import Bounds as McpBounds
from services.execution.gateways.observers.counts import CountedEvents, Counts, watch
from services.execution.gateways.observers.plugins import plugins
from services.execution.gateways.observers.traces import Traces
from services.execution.gateways.providers.source import GrpcTools
from services.execution.gateways.providers.targets import Bounds as ProviderBounds
from services.execution.gateways.registry import RegistryConfigurations
from services.execution.gateways.relay import HostRelay
from services.execution.gateways.router import RouterModels
from services.execution.gateways.secrets import SecretsGateway
from services.execution.gateways.sql_query import Limits as SqlLimits
from services.execution.gateways.sql_query import SqlQuery
from services.execution.gateways.web_search import Provider, WebSearch
from services.execution.model.targets import TargetKind
from services.execution.service.admission import Admission, Bounds
from services.execution.service.builtin import Builtin
from services.execution.service.builtin.addresses import Hosts as AllowedHosts
from services.execution.service.builtin.offers import Offer
from services.execution.service.catalogue import Catalogue
from services.execution.service.checks import Checks
from services.execution.service.continuation import Continuation
from services.execution.service.conversations import Conversations
from services.execution.service.executions import Executions
from services.execution.service.hosts.source import Hosts
from services.execution.service.leases import Leases
from services.execution.service.listing import Listing
from services.execution.service.log import EventLog
from services.execution.service.news import News
from services.execution.service.observing import ObservedModels, Observer, Observers
from services.execution.service.offers import Offers
from services.execution.service.replay import Replays
from services.execution.service.retention import Periods, Retention
from services.execution.service.room import Room
from services.execution.service.runs import Limits, Runs
from services.execution.service.sessions import Sessions
from services.execution.service.signals import Signals
from services.execution.service.sources import ToolSource
from services.execution.service.targets import TargetRunner, Targets
from services.execution.service.teams.runner import Teams
from services.execution.service.timeouts import Models, Patience, TimedModels
from services.execution.service.tool_calls import ToolCalls
from services.execution.service.tools import Tools
from services.execution.service.workflows.journaled import JournalEngine
from services.execution.service.workflows.runner import WorkflowRunner
from services.execution.servicer.executions import ExecutionServicer
from services.execution.servicer.hosts import HostRelayServicer, HostStreams
from services.execution.servicer.mcp import rpc as mcp_rpc
from services.execution.servicer.mcp.rpc import McpServicer
from services.execution.servicer.tools import ToolServicer
from services.execution.servicer.translation import weight
from services.execution.store import SqlExecutionStore, SqlListing, SqlRetentionStore, SqlSessionStore
from services.execution.store.calls import SqlCalls
from services.execution.store.hosts import SqlHosts
from services.execution.store.inputs import SqlInputStore
from services.execution.store.tool_calls import SqlCallRecords

MIGRATIONS = Path(__file__).parent / "migrations"
_READ = ("Agent", "Team", "Workflow", "Prompt", "ToolDefinition")
_REGISTRY = tuple(f"dynamicagents.registry.v1.{name}Service" for name in _READ)


@asynccontextmanager
async def app(settings: ExecutionSettings, provider: TracerProvider | None) -> AsyncIterator[Server]:
    async with AsyncExitStack() as stack:
        db = await stack.enter_async_context(database.opened(settings, MIGRATIONS))
        registry = await stack.enter_async_context(
            client.channel(settings.registry_address, settings, provider, retried=_REGISTRY)
        )
        router = await stack.enter_async_context(
            client.channel(settings.router_address, settings, provider, repeats=False)
        )
        secrets = SecretsGateway(
            secrets_service_pb2_grpc.SecretsServiceStub(
                await stack.enter_async_context(client.channel(settings.secrets_address, settings, provider))
            )
        )
        mcp = await stack.enter_async_context(_mcp(registry, secrets, settings))
        providers = await stack.enter_async_context(_providers(registry, secrets, settings, provider))
        calls = await stack.enter_async_context(ToolCalls(SqlCallRecords(db)))
        drain, owner = Drain(), ids.new_id()
        hosts = await _hosts(stack, db, owner, settings, provider, drain)
        metrics = Metrics()
        observer = _observer(settings, metrics, provider)
        tools = Tools(
            [await _builtin(stack, secrets, settings), *map(_source, settings.tool_sources)],
            [mcp, providers, hosts],
            limit=_result_limit(settings),
            cache=settings.tool_cache_bytes,
            note=calls.note,
            observer=observer,
        )
        runner = AgnoRunner(ObservedModels(_models(router, settings), observer), tools, observer)
        await runner.warm_up()
        store = SqlExecutionStore(db)
        log = await stack.enter_async_context(
            EventLog(CountedEvents(store, metrics), window=settings.commit_window, patience=settings.database_patience)
        )
        limits, configurations = _limits(settings), RegistryConfigurations(registry)
        inputs, admission = SqlInputStore(db), Admission(_bounds(settings))
        continuation = Continuation(inputs)
        sessions = Sessions(SqlSessionStore(db))
        talks, engine = Conversations(runner, sessions, tools), JournalEngine(inputs, held=settings.wait_held)
        workflows = WorkflowRunner(engine, tools, limit=settings.max_message_bytes // 4)
        runners: dict[TargetKind, TargetRunner] = {
            TargetKind.AGENT: talks,
            TargetKind.TEAM: Teams(talks),
            TargetKind.WORKFLOW: workflows,
        }
        targets = Targets(runners, observer)
        room = Room(settings.max_message_bytes, weight)
        runs = Runs(store, inputs, admission, log, targets, limits, room, observer)
        watch(metrics, admission, log, runs)
        await stack.enter_async_context(hosts.ending_with(drain, runs, settings.drain_grace))
        await stack.enter_async_context(Retention(SqlRetentionStore(db), _periods(settings)))
        news = News()
        await stack.enter_async_context(
            Leases(store, SqlCalls(db, news, hosts.wanted.set), runs, continuation, drain, limits)
        )
        executions = await stack.enter_async_context(
            Executions(
                store,
                inputs,
                admission,
                continuation,
                log,
                configurations,
                targets,
                runs,
                tools,
                drain,
                limits,
                news,
                engine,
            )
        )
        catalogue = Catalogue(tools, configurations, drain, heartbeat=settings.heartbeat)
        offers = Offers(
            catalogue,
            tools,
            RegistryCards(registry),
            executions,
            offered=settings.mcp_server_tools,
            depth=settings.mcp_server_depth,
        )
        servicers = [
            Servicer(
                execution_grpc.add_ExecutionServiceServicer_to_server,
                ExecutionServicer(
                    executions,
                    Signals(executions, engine, runs.wanted),
                    Replays(store, targets),
                    sessions,
                    Listing(SqlListing(db)),
                ),
                "dynamicagents.execution.v1.ExecutionService",
            ),
            Servicer(
                tool_grpc.add_ToolServiceServicer_to_server,
                ToolServicer(
                    tools,
                    catalogue,
                    Checks(providers, configurations),
                    calls,
                    HostStreams(hosts, heartbeat=settings.heartbeat, max_message_bytes=settings.max_message_bytes),
                ),
                "dynamicagents.tools.v1.ToolService",
            ),
            Servicer(add_McpServicer_to_server, McpServicer(offers), mcp_rpc.NAME),
        ]
        await stack.enter_async_context(_mcp_server(settings, offers, drain))
        yield await stack.enter_async_context(
            listening(settings, servicers, drain=drain, provider=provider, metrics=metrics)
        )


def _observer(settings: ExecutionSettings, metrics: Metrics, provider: TracerProvider | None) -> Observer:
    """Traces are around all else; hooks come last, for what they refuse is seen by the others."""
    named, required = settings.hooks, settings.required_hooks
    found = plugins(named, metrics, timeout=settings.hook_timeout, required=required)
    return Observers(
        *([Traces(provider, payloads=settings.trace_payloads)] if provider else []),
        Counts(metrics, settings.metrics_labels),
        *([found] if found else []),
    )


async def _hosts(
    stack: AsyncExitStack,
    db: database.Database,
    owner: str,
    settings: ExecutionSettings,
    provider: TracerProvider | None,
    drain: Drain,
) -> Hosts:
    """With a listener of this process's own: several may share the port, and a call is for the one with the stream."""
    relay = await stack.enter_async_context(HostRelay(settings, provider))
    hosts = Hosts(
        SqlHosts(db),
        relay,
        owner=owner,
        heartbeat=settings.heartbeat,
        lease=settings.lease,
        patience=settings.host_patience,
    )
    servicer = Servicer(
        relay_grpc.add_HostRelayServiceServicer_to_server,
        HostRelayServicer(hosts, max_message_bytes=settings.max_message_bytes),
        "dynamicagents.tools.v1.HostRelayService",
    )
    own = settings.model_copy(update={"host": settings.relay_host, "port": settings.relay_port, "workers": 1})
    server = await stack.enter_async_context(listening(own, [servicer], drain=drain, provider=provider))
    hosts.address = server.address
    return await stack.enter_async_context(hosts)


def _mcp(registry: grpc.aio.Channel, secrets: SecretsGateway, settings: ExecutionSettings) -> McpTools:
    bounds = McpBounds(
        commands=settings.mcp_commands,
        variables=settings.mcp_variables,
        patience=settings.mcp_patience,
        idle=settings.mcp_idle,
        ttl=settings.mcp_ttl,
    )
    return McpTools(watch_service_pb2_grpc.WatchServiceStub(registry), secrets, bounds)


def _providers(
    registry: grpc.aio.Channel, secrets: SecretsGateway, settings: ExecutionSettings, provider: TracerProvider | None
) -> GrpcTools:
    bounds = ProviderBounds(
        addresses=settings.grpc_provider_addresses,
        patience=settings.grpc_patience,
        idle=settings.grpc_idle,
        ttl=settings.grpc_ttl,
        max_message_bytes=settings.max_message_bytes,
        ca_file=settings.grpc_provider_ca_file,
    )
    watch: watch_service_pb2_grpc.WatchServiceAsyncStub = watch_service_pb2_grpc.WatchServiceStub(registry)
    try:
        return GrpcTools(watch, secrets, bounds, telemetry.client_interceptors(provider))
    except OSError as error:
        raise StartError(f"bad setting grpc_provider_ca_file of execution: {error}") from None


async def _builtin(stack: AsyncExitStack, secrets: SecretsGateway, settings: ExecutionSettings) -> Builtin:
    seconds, result = settings.http_fetch_timeout, _result_limit(settings)
    hosts = AllowedHosts(settings.http_fetch_hosts, settings.http_fetch_private_hosts)
    provider = Provider(settings.web_search_provider, settings.web_search_url, settings.web_search_key)
    urls = {name: url.get_secret_value() for name, url in settings.sql_databases.items()}
    # What they give is data, which is of no use once it is cut off.
    fetch = HttpFetch(hosts, FetchLimits(seconds, min(settings.http_fetch_limit, result // 2)))
    search = WebSearch(provider, secrets, seconds=seconds)
    query_limits = SqlLimits(settings.sql_timeout, settings.sql_max_rows, result // 2)
    query = SqlQuery(urls, settings.sql_tenants, secrets, query_limits)
    for one in (fetch, search, query):
        await stack.enter_async_context(one)
    allowed = [offer for named in settings.agno_toolkits for offer in _toolkit(named)]
    return Builtin(fetch.offer, search.offer, query.offer, *allowed)


def _toolkit(named: str) -> list[Offer]:
    try:
        return list(toolkits.offers(named))
    except Exception as error:
        raise StartError(f"bad setting agno_toolkits of execution: {named}: {error}") from None


@asynccontextmanager
async def _mcp_server(settings: ExecutionSettings, offers: Offers, drain: Drain) -> AsyncIterator[None]:
    if not settings.mcp_port:
        yield
        return
    http = import_module("services.execution.servicer.mcp.http")  # late: who does not want it does not pay for it
    async with http.listening(settings, settings.mcp_port, offers, drain, timeout=settings.default_timeout):
        yield


def _source(named: str) -> ToolSource:
    module, _, attribute = named.partition(":")
    try:
        made: ToolSource = getattr(import_module(module), attribute)()
    except Exception as error:
        raise StartError(f"bad setting tool_sources of execution: {named}: {error}") from None
    return made


def _limits(settings: ExecutionSettings) -> Limits:
    return Limits(
        default_timeout=settings.default_timeout,
        resume_grace=settings.resume_grace,
        heartbeat=settings.heartbeat,
        lease=settings.lease,
        watch_poll=settings.watch_poll,
        drain_grace=settings.drain_grace,
        max_deaths=settings.max_deaths,
        input_timeout=settings.input_timeout,
    )


def _result_limit(settings: ExecutionSettings) -> int:
    """A result is sent with other things."""
    return min(settings.tool_result_limit, settings.max_message_bytes // 4)


def _periods(settings: ExecutionSettings) -> Periods:
    return Periods(
        events=timedelta(days=settings.event_retention) if settings.event_retention else None,
        by_tenant={tenant: timedelta(days=days) for tenant, days in settings.tenant_event_retention.items()},
        compact_after=timedelta(hours=settings.compact_after) if settings.compact_after else None,
    )


def _bounds(settings: ExecutionSettings) -> Bounds:
    return Bounds(
        running=settings.max_executions,
        running_per_tenant=settings.max_executions_per_tenant,
        queued=settings.max_queued,
        queued_per_tenant=settings.max_queued_per_tenant,
    )


def _models(router: grpc.aio.Channel, settings: ExecutionSettings) -> Models:
    models = RouterModels(router)
    if not settings.model_patience:
        return models
    return TimedModels(models, Patience(settings.model_patience, settings.model_patience_floor))
