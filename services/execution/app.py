from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from dynamicagents.execution.v1 import execution_service_pb2_grpc as execution_grpc
from dynamicagents.tools.v1 import tool_service_pb2_grpc as tool_grpc
from opentelemetry.sdk.trace import TracerProvider

from libs import client, database
from libs.server import Drain, Server, Servicer, listening
from services.execution.config import ExecutionSettings
from services.execution.gateways.agno import AgnoRunner
from services.execution.gateways.registry import RegistryAgents
from services.execution.gateways.router import RouterModels
from services.execution.service.builtin import Builtin
from services.execution.service.executions import Executions, Limits
from services.execution.service.log import EventLog
from services.execution.service.tools import Tools
from services.execution.servicer import ExecutionServicer, ToolServicer
from services.execution.store import SqlExecutionStore

MIGRATIONS = Path(__file__).parent / "migrations"
_REGISTRY = ("dynamicagents.registry.v1.AgentService", "dynamicagents.registry.v1.PromptService")


@asynccontextmanager
async def app(settings: ExecutionSettings, provider: TracerProvider | None) -> AsyncIterator[Server]:
    async with AsyncExitStack() as stack:
        db = await stack.enter_async_context(database.opened(settings, MIGRATIONS))
        registry = await stack.enter_async_context(
            client.channel(settings.registry_address, settings, provider, retried=_REGISTRY)
        )
        router = await stack.enter_async_context(client.channel(settings.router_address, settings, provider))
        tools = Tools([Builtin()])
        runner = AgnoRunner(RouterModels(router), tools)
        await runner.warm_up()
        store = SqlExecutionStore(db)
        log = await stack.enter_async_context(
            EventLog(store, window=settings.commit_window, patience=settings.database_patience)
        )
        drain = Drain()
        executions = await stack.enter_async_context(
            Executions(store, log, RegistryAgents(registry), runner, tools, drain, _limits(settings))
        )
        servicers = [
            Servicer(
                execution_grpc.add_ExecutionServiceServicer_to_server,
                ExecutionServicer(executions),
                "dynamicagents.execution.v1.ExecutionService",
            ),
            Servicer(
                tool_grpc.add_ToolServiceServicer_to_server,
                ToolServicer(tools),
                "dynamicagents.tools.v1.ToolService",
            ),
        ]
        yield await stack.enter_async_context(listening(settings, servicers, drain=drain, provider=provider))


def _limits(settings: ExecutionSettings) -> Limits:
    return Limits(
        max_executions=settings.max_executions,
        default_timeout=settings.default_timeout,
        resume_grace=settings.resume_grace,
        heartbeat=settings.heartbeat,
        lease=settings.lease,
        watch_poll=settings.watch_poll,
        drain_grace=settings.drain_grace,
    )
