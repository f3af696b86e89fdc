"""What tests of gRPC providers share: an Execution with a provider, and what is asked of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from dynamicagents.registry.v1 import tool_provider_pb2, tool_provider_service_pb2, tool_provider_service_pb2_grpc
from dynamicagents.secrets.v1 import secret_pb2, secrets_service_pb2, secrets_service_pb2_grpc
from dynamicagents.tools.v1 import tool_pb2, tool_service_pb2
from google.protobuf.struct_pb2 import Struct

from services.secrets.app import app as secrets_app
from services.secrets.config import SecretsSettings
from tests import crm_service, harness, tool_provider
from tests.rpc.conftest import ExecutionBench

Bench = Callable[..., Any]
Code = grpc.StatusCode
LOST = (Code.UNAVAILABLE, "TOOL_SOURCE_UNAVAILABLE")
MCP = tool_provider_pb2.TOOL_PROTOCOL_MCP
REFLECTION = tool_provider_pb2.TOOL_PROTOCOL_REFLECTION
LEADS = "grpc/crm/crm.v1.LeadService"


async def register(at: ExecutionBench, address: str, provider_id: str = "crm", **spec: Any) -> None:
    made = tool_provider_pb2.ToolProvider(tool_provider_id=provider_id, spec={"address": address, **spec})
    request = tool_provider_service_pb2.CreateToolProviderRequest(tool_provider=made)
    await providers(at).CreateToolProvider(request, metadata=at.metadata)


async def change(at: ExecutionBench, **spec: Any) -> None:
    made = tool_provider_pb2.ToolProvider(tool_provider_id="crm", spec=spec)
    mask = {"paths": [f"spec.{name}" for name in spec]}
    request = tool_provider_service_pb2.UpdateToolProviderRequest(tool_provider=made, update_mask=mask)
    await providers(at).UpdateToolProvider(request, metadata=at.metadata)


async def delete(at: ExecutionBench) -> None:
    await providers(at).DeleteToolProvider(tool_provider_service_pb2.DeleteToolProviderRequest(tool_provider_id="crm"))


def providers(at: ExecutionBench) -> Any:
    return tool_provider_service_pb2_grpc.ToolProviderConfigServiceStub(at.registry)


async def answer(at: ExecutionBench, **asked: Any) -> tool_service_pb2.ListToolsResponse:
    request = tool_service_pb2.ListToolsRequest(page_size=1000, source="grpc", **asked)
    return await at.tools.ListTools(request, timeout=30, metadata=at.metadata)


async def listed(at: ExecutionBench) -> dict[str, tool_pb2.Tool]:
    return {tool.tool_id: tool for tool in (await answer(at)).tools}


async def until_listed(at: ExecutionBench, tool_id: str, *, there: bool = True) -> None:
    async with asyncio.timeout(30):
        while (tool_id in await listed(at)) is not there:
            await asyncio.sleep(0.05)


async def status(at: ExecutionBench, state: str, provider_id: str = "crm") -> tool_pb2.ToolSourceStatus:
    """How the provider is, once it is in the state."""
    async with asyncio.timeout(30):
        while True:
            for found in (await answer(at)).sources:
                if (found.source_id, tool_pb2.ToolSourceState.Name(found.state)[18:]) == (f"grpc/{provider_id}", state):
                    return found
            await asyncio.sleep(0.05)


async def use(at: ExecutionBench, tool: str, /, *, within: float = 30.0, **arguments: Any) -> Any:
    given = Struct()
    given.update(arguments)
    tool_id = tool if tool.startswith("grpc/") else f"grpc/crm/{tool}"
    request = tool_service_pb2.CallToolRequest(tool_id=tool_id, arguments=given)
    return await at.tools.CallTool(request, timeout=within, metadata=at.metadata)


def completed(events: list[Any]) -> dict[str, Any]:
    done = [event.tool_call_completed for event in events if event.HasField("tool_call_completed")]
    return {one.call_id: one for one in done}


async def fails(at: ExecutionBench, tool: str, /, **arguments: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await use(at, tool, **arguments)
    return caught.value.code(), harness.reason_of(caught.value)


async def use_again(at: ExecutionBench, tool: str, /, **arguments: Any) -> Any:
    """Calls until the provider is found again."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await use(at, tool, **arguments)
            except grpc.aio.AioRpcError as error:
                if harness.reason_of(error) != "TOOL_SOURCE_UNAVAILABLE":
                    raise
            await asyncio.sleep(0.05)


@asynccontextmanager
async def with_provider(
    bench: Bench, settings: Mapping[str, Any] | None = None, **how: Any
) -> AsyncIterator[tuple[ExecutionBench, tool_provider.Provider]]:
    async with tool_provider.serving(**how) as provider:
        at = await bench(**(settings or {}))
        await register(at, provider.address)
        await until_listed(at, "grpc/crm/say")
        yield at, provider


@asynccontextmanager
async def with_crm(
    bench: Bench, methods: tuple[str, ...] = ("crm.v1.*",), settings: Mapping[str, Any] | None = None, **how: Any
) -> AsyncIterator[tuple[ExecutionBench, crm_service.Crm]]:
    async with crm_service.serving(**how) as crm:
        at = await bench(**(settings or {}))
        await register(at, crm.address, protocol=REFLECTION, methods=methods)
        yield at, crm


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def with_token(make_settings: Callable[..., Any], folder: Path) -> AsyncIterator[tuple[str, Callable[..., Any]]]:
    """The address of a Secrets that has secret:crm:token, and what changes its value."""
    settings = make_settings(SecretsSettings, data_dir=folder / "secrets")
    async with harness.running(secrets_app, settings) as (secrets, channel):
        stub: Any = secrets_service_pb2_grpc.SecretsServiceStub(channel)
        kept = secret_pb2.Secret(provider="crm", display_name="test")
        created = secrets_service_pb2.CreateSecretRequest(secret=kept, values={"token": "first-token"})
        secret_id = (await stub.CreateSecret(created)).secret.secret_id

        async def rotate(token: str) -> None:
            changed = secret_pb2.Secret(secret_id=secret_id)
            mask = {"paths": ["values"]}
            request = secrets_service_pb2.UpdateSecretRequest(secret=changed, values={"token": token}, update_mask=mask)
            await stub.UpdateSecret(request)

        yield secrets.address, rotate
