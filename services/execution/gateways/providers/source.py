"""The source `grpc`: the tools of all tool providers that Registry has of a tenant."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dynamicagents.registry.v1 import snapshot_pb2, watch_service_pb2_grpc

from libs import errors
from libs.identity import Caller
from services.execution.gateways.following import Kind
from services.execution.gateways.parts import Parts
from services.execution.gateways.providers.channels import maker
from services.execution.gateways.providers.provider import Means, Provider, Secrets
from services.execution.gateways.providers.targets import Bounds, Target, target
from services.execution.model.tools import Tool


class GrpcTools(Parts[Target, Provider]):
    def __init__(
        self,
        registry: watch_service_pb2_grpc.WatchServiceAsyncStub,
        secrets: Secrets,
        bounds: Bounds,
        interceptors: Sequence[Any] = (),
    ) -> None:
        self._means = Means(bounds, secrets, maker(bounds, interceptors), contextvars.copy_context())

        def make(caller: Caller, target: Target, told: Callable[[], None]) -> Provider:
            return Provider(caller, target, self._means, told)

        kind = Kind(snapshot_pb2.RESOURCE_KIND_TOOL_PROVIDER, lambda change: target(change.tool_provider))
        super().__init__("grpc", registry, kind, make)

    async def last_change(self, caller: Caller, provider_id: str) -> tuple[Mapping[str, Tool], Mapping[str, Tool]]:
        """The tools before the last change that was seen, and as they are now."""
        provider = await self._provider(caller, provider_id)
        now = await provider.asked_anew()
        return now if provider.before is None else provider.before, now

    async def against_provider(
        self, caller: Caller, provider_id: str, other_id: str
    ) -> tuple[Mapping[str, Tool], Mapping[str, Tool]]:
        """The tools of a provider, and those of another as if it were that."""
        provider, other = await self._provider(caller, provider_id), await self._provider(caller, other_id)
        return await provider.asked_anew(), _renamed(await other.asked_anew(), other.target, provider.target)

    async def against_address(
        self, caller: Caller, provider_id: str, address: str
    ) -> tuple[Mapping[str, Tool], Mapping[str, Tool]]:
        """The same of a server that Registry does not know. It is not told the token."""
        provider = await self._provider(caller, provider_id)
        candidate = replace(provider.target, address=address, token_reference="")
        other = Provider(caller, candidate, self._means, lambda: None)
        try:
            return await provider.asked_anew(), await other.asked_anew()
        finally:
            await other.close()

    async def _provider(self, caller: Caller, provider_id: str) -> Provider:
        found = (await self.of(caller)).get(provider_id)
        if found is None:
            raise errors.NotFound("tool_provider", provider_id)
        return found


def _renamed(tools: Mapping[str, Tool], was: Target, becomes: Target) -> Mapping[str, Tool]:
    named = {f"{becomes.source_id}{tool_id.removeprefix(was.source_id)}": tool for tool_id, tool in tools.items()}
    return {tool_id: replace(tool, tool_id=tool_id) for tool_id, tool in named.items()}
