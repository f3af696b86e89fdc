"""Answers of Registry and of Secrets out of their caches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
from dynamicagents.registry.v1 import agent_pb2, agent_service_pb2, agent_service_pb2_grpc
from dynamicagents.secrets.v1 import secret_pb2, secrets_service_pb2, secrets_service_pb2_grpc

from bench.gate.counting import Work
from services.registry.app import app as registry_app
from services.registry.config import RegistrySettings
from services.secrets.app import app as secrets_app
from services.secrets.config import SecretsSettings

_CALLS: Final = 10
_REFERENCE: Final = "secret:openai:api_key"


@asynccontextmanager
async def works(folder: Path) -> AsyncIterator[list[Work]]:
    registry = RegistrySettings.load(port=0, data_dir=folder / "registry", watch_poll=60)
    secrets = SecretsSettings.load(port=0, data_dir=folder / "secrets", vault_poll=60)
    async with (
        registry_app(registry, None) as one,
        secrets_app(secrets, None) as other,
        grpc.aio.insecure_channel(one.address) as channel,
        grpc.aio.insecure_channel(other.address) as second,
    ):
        agents: Any = agent_service_pb2_grpc.AgentServiceStub(channel)
        made = agent_pb2.Agent(agent_id="helper", spec=agent_pb2.AgentSpec(model={"model": "any"}))
        await agents.CreateAgent(agent_service_pb2.CreateAgentRequest(agent=made))
        vault: Any = secrets_service_pb2_grpc.SecretsServiceStub(second)
        kept = secret_pb2.Secret(provider="openai")
        values = {"api_key": "sk-" + "k" * 48}
        await vault.CreateSecret(secrets_service_pb2.CreateSecretRequest(secret=kept, values=values))
        agent = agent_service_pb2.GetAgentRequest(agent_id="helper")
        references = secrets_service_pb2.ResolveReferencesRequest(references=[_REFERENCE])
        yield [
            Work("GetAgent, cached", _repeated(lambda: agents.GetAgent(agent)), _CALLS),
            Work("ResolveReferences, cached", _repeated(lambda: vault.ResolveReferences(references)), _CALLS),
        ]


def _repeated(call: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
    async def calls() -> None:
        for _ in range(_CALLS):
            await call()

    return calls
