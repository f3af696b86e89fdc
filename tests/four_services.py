"""The four services in this process, each on its own server, as `up` wires them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from dynamicagents.execution.v1 import event_pb2, execution_service_pb2, execution_service_pb2_grpc
from dynamicagents.registry.v1 import (
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    router_config_pb2,
    router_config_service_pb2,
    router_config_service_pb2_grpc,
)
from dynamicagents.secrets.v1 import secret_pb2, secrets_service_pb2, secrets_service_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider

from services.execution.app import app as execution_app
from services.execution.config import ExecutionSettings
from services.registry.app import app as registry_app
from services.registry.config import RegistrySettings
from services.router.app import app as router_app
from services.router.config import RouterSettings
from services.secrets.app import app as secrets_app
from services.secrets.config import SecretsSettings
from tests import harness, router_bench


@dataclass
class FourServices:
    registry: grpc.aio.Channel
    secrets: grpc.aio.Channel
    execution: grpc.aio.Channel
    metadata: tuple[tuple[str, str], ...] = ()

    async def create_agent(self, agent_id: str, model: str, **spec: Any) -> None:
        agent = agent_pb2.Agent(agent_id=agent_id, spec=agent_pb2.AgentSpec(model={"model": model}, **spec))
        stub = agent_service_pb2_grpc.AgentServiceStub(self.registry)
        await stub.CreateAgent(agent_service_pb2.CreateAgentRequest(agent=agent), metadata=self.metadata)

    async def add_deployment(self, group: str, url: str, reference: str, model: str = "openai/scripted") -> None:
        deployment = router_config_pb2.Deployment(
            deployment_id=f"{group}-1",
            model_group=group,
            model=model,
            api_base=url,
            api_key_reference=reference,
        )
        stub = router_config_service_pb2_grpc.RouterConfigServiceStub(self.registry)
        request = router_config_service_pb2.AddDeploymentRequest(deployment=deployment)
        await stub.AddDeployment(request, metadata=self.metadata)

    async def keep_key(self, value: str) -> None:
        request = secrets_service_pb2.CreateSecretRequest(
            secret=secret_pb2.Secret(provider="openai", display_name="test"), values={"api_key": value}
        )
        stub = secrets_service_pb2_grpc.SecretsServiceStub(self.secrets)
        await stub.CreateSecret(request, metadata=self.metadata)

    async def run(self, agent_id: str, text: str, timeout: float | None = 30) -> list[event_pb2.ExecuteEvent]:
        stub = execution_service_pb2_grpc.ExecutionServiceStub(self.execution)
        request = execution_service_pb2.ExecuteRequest(agent_id=agent_id, input=text)
        return [e async for e in stub.ExecuteStream(request, timeout=timeout, metadata=self.metadata)]


@asynccontextmanager
async def serving(
    data_dir: Path, provider: TracerProvider | None = None, **overrides: Any
) -> AsyncIterator[FourServices]:
    await router_bench.library()
    common: dict[str, Any] = {"port": 0, "data_dir": data_dir, "drain_grace": 1.0, **overrides}
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        registry, registry_channel = await enter(
            harness.running(registry_app, RegistrySettings.load(**common), provider)
        )
        secrets, secrets_channel = await enter(harness.running(secrets_app, SecretsSettings.load(**common), provider))
        common |= {"registry_address": registry.address, "secrets_address": secrets.address}
        router, router_channel = await enter(harness.running(router_app, RouterSettings.load(**common), provider))
        common |= {"router_address": router.address}
        _, execution_channel = await enter(harness.running(execution_app, ExecutionSettings.load(**common), provider))
        await _until_serving(router_channel)
        yield FourServices(registry_channel, secrets_channel, execution_channel)


async def _until_serving(channel: grpc.aio.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    while (await stub.Check(health_pb2.HealthCheckRequest())).status != health_pb2.HealthCheckResponse.SERVING:
        await asyncio.sleep(0.05)
