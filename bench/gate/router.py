"""Router, in front of a provider that says a piece when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
from dynamicagents.registry.v1 import (
    router_config_pb2,
    router_config_service_pb2,
    router_config_service_pb2_grpc,
)
from dynamicagents.router.v1 import chat_pb2, router_service_pb2, router_service_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench import provider
from bench.gate.counting import Work, settle
from services.router.app import app
from services.router.config import RouterSettings

_CALLS: Final = 5
_TOKENS: Final = 20


class Provider(asyncio.Protocol):
    """Answers whole at once; of a stream it sends the head."""

    streaming: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if b'"stream":true' in data:
            self._transport.write(provider.FIRST)
            Provider.streaming = self._transport
        elif b'"messages"' in data:
            self._transport.write(provider.WHOLE)


@asynccontextmanager
async def works(folder: Path, registry: str) -> AsyncIterator[list[Work]]:
    served = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{served.sockets[0].getsockname()[1]}/v1"
    await _configure(registry, url)
    settings = RouterSettings.load(port=0, data_dir=folder / "router", registry_address=registry)
    async with app(settings, None) as server, grpc.aio.insecure_channel(server.address) as channel:
        await _ready(channel)
        stub: Any = router_service_pb2_grpc.RouterServiceStub(channel)
        said = chat_pb2.ChatMessage(role=chat_pb2.ROLE_USER, content="hello")
        asked = router_service_pb2.ChatRequest(model="any", messages=[said])

        async def calls() -> None:
            for _ in range(_CALLS):
                await stub.Chat(asked)

        await calls()
        stream = stub.ChatStream(router_service_pb2.ChatStreamRequest(model="any", messages=[said]))
        reading = asyncio.ensure_future(stream.read())
        while Provider.streaming is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        said_by = Provider.streaming

        async def tokens() -> None:
            nonlocal reading
            for number in range(_TOKENS):
                said_by.write(provider.PIECES[number % 10])
                assert (await reading).chunk.text
                reading = asyncio.ensure_future(stream.read())
                await settle()

        yield [Work("Chat, one provider", calls, _CALLS), Work("token through Router", tokens, _TOKENS)]
        said_by.write(provider.LAST)
        await reading
        stream.cancel()
    served.close()


async def _configure(registry: str, url: str) -> None:
    async with grpc.aio.insecure_channel(registry) as channel:
        configs: Any = router_config_service_pb2_grpc.RouterConfigServiceStub(channel)
        deployment = router_config_pb2.Deployment(
            deployment_id="gate", model_group="any", model="openai/gpt-4o", api_base=url
        )
        await configs.AddDeployment(router_config_service_pb2.AddDeploymentRequest(deployment=deployment))


async def _ready(channel: grpc.aio.Channel) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    async with asyncio.timeout(120):
        while (await health.Check(health_pb2.HealthCheckRequest())).status != 1:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
