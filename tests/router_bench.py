"""A real Router with a real Registry, a provider on loopback, and a Secrets that knows one key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from dynamicagents.registry.v1 import router_config_pb2, router_config_service_pb2, router_config_service_pb2_grpc
from dynamicagents.router.v1 import chat_pb2, router_service_pb2, router_service_pb2_grpc
from dynamicagents.secrets.v1 import secrets_service_pb2, secrets_service_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider

from libs.server import Server
from services.registry.app import app as registry_app
from services.registry.config import RegistrySettings
from services.router.app import app as router_app
from services.router.config import RouterSettings
from services.router.gateways.upstream import LiteLLMUpstream
from tests import harness, openai_server

KEY = "sk-very-secret-0123456789"
REFERENCE = "secret:openai:api_key"


class Secrets(secrets_service_pb2_grpc.SecretsServiceServicer):
    def __init__(self) -> None:
        self.values = {REFERENCE: KEY}
        self.asked: list[str] = []
        self.metadata: list[dict[str, Any]] = []
        self.failure = secrets_service_pb2.RESOLUTION_FAILURE_NOT_FOUND

    async def ResolveReferences(
        self, request: secrets_service_pb2.ResolveReferencesRequest, context: Any
    ) -> secrets_service_pb2.ResolveReferencesResponse:
        self.asked += request.references
        self.metadata.append(dict(context.invocation_metadata()))
        response = secrets_service_pb2.ResolveReferencesResponse()
        for reference in request.references:
            if reference in self.values:
                response.results.add(reference=reference, value=self.values[reference])
            else:
                response.results.add(reference=reference, failure=self.failure)
        return response


@dataclass
class Bench:
    provider: openai_server.OpenAIServer
    secrets: Secrets
    registry: Server
    server: Server
    settings: RouterSettings
    stubs: router_service_pb2_grpc.RouterServiceAsyncStub
    configs: router_config_service_pb2_grpc.RouterConfigServiceAsyncStub
    health: Any
    stop_registry: AsyncExitStack = field(repr=False)

    async def add(self, deployment_id: str = "main", model_group: str = "gpt", **fields: Any) -> None:
        deployment = router_config_pb2.Deployment(
            **{
                "deployment_id": deployment_id,
                "model_group": model_group,
                "model": "openai/gpt-4o",
                "api_base": self.provider.url,
                "api_key_reference": REFERENCE,
                **fields,
            }
        )
        await self.configs.AddDeployment(router_config_service_pb2.AddDeploymentRequest(deployment=deployment))

    async def stream(self, text: str = "Hello", **fields: Any) -> list[chat_pb2.ChatChunk]:
        return [response.chunk async for response in self.streaming(text, **fields)]

    def streaming(self, text: str = "Hello", timeout: float | None = 30, **fields: Any) -> Any:
        request = router_service_pb2.ChatStreamRequest(**_request(text, fields))
        return self.stubs.ChatStream(request, timeout=timeout)

    async def chat(self, text: str = "Hello", **fields: Any) -> router_service_pb2.ChatResponse:
        return await self.stubs.Chat(router_service_pb2.ChatRequest(**_request(text, fields)), timeout=30)

    async def serving(self) -> bool:
        answer = await self.health.Check(health_pb2.HealthCheckRequest())
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _request(text: str, fields: dict[str, Any]) -> dict[str, Any]:
    messages = [chat_pb2.ChatMessage(role=chat_pb2.ROLE_USER, content=text)]
    return {"model": "gpt", "messages": messages, **fields}


async def library() -> None:
    """Imports LiteLLM within one test: an import that outlives it loses the warning filters that LiteLLM sets."""
    async with LiteLLMUpstream(offline_delay=0.0) as upstream:
        await upstream.ready()


@asynccontextmanager
async def running(
    make_settings: Callable[..., Any], provider: TracerProvider | None = None, **overrides: Any
) -> AsyncIterator[Bench]:
    await library()
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(openai_server.serving())
        secrets, secrets_server = Secrets(), grpc.aio.server()
        secrets_service_pb2_grpc.add_SecretsServiceServicer_to_server(secrets, secrets_server)
        secrets_port = secrets_server.add_insecure_port("127.0.0.1:0")
        await secrets_server.start()
        stack.push_async_callback(secrets_server.stop, 0)
        stop_registry = await stack.enter_async_context(AsyncExitStack())
        registry, registry_channel = await stop_registry.enter_async_context(
            harness.running(registry_app, make_settings(RegistrySettings), provider)
        )
        settings = make_settings(
            RouterSettings,
            registry_address=registry.address,
            secrets_address=f"127.0.0.1:{secrets_port}",
            **overrides,
        )
        server, channel = await stack.enter_async_context(harness.running(router_app, settings, provider))
        yield Bench(
            upstream,
            secrets,
            registry,
            server,
            settings,
            router_service_pb2_grpc.RouterServiceStub(channel),
            router_config_service_pb2_grpc.RouterConfigServiceStub(registry_channel),
            health_pb2_grpc.HealthStub(channel),
            stop_registry,
        )
