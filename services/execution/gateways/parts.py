"""A source of tools whose parts are resources of Registry: a part for each, which comes and goes with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from dynamicagents.registry.v1 import watch_service_pb2_grpc

from libs import identity
from libs.identity import Caller
from services.execution.gateways.following import Following, Kind
from services.execution.model.tools import SourceStatus, Tool
from services.execution.service.sources import Changes, unavailable

_MOST_TENANTS: Final = 1024


class Part(Protocol):
    """One server of one tenant."""

    caller: Caller
    """Who connects next does it as the last who asked."""
    status: SourceStatus
    tools: Mapping[str, Tool] | None

    @property
    def target(self) -> Any: ...

    async def listed(self) -> Mapping[str, Tool]:
        """Its tools, asked for where they are unknown or old; raises Unavailable where none are known."""

    async def offered(self) -> Mapping[str, Tool]:
        """Likewise; none where it has failed, rather than to wait for it again."""

    def ask(self) -> None:
        """Asks for its tools without waiting for them."""

    async def call(self, tool: Tool, arguments: Mapping[str, Any]) -> str: ...

    async def close(self) -> None: ...


T = TypeVar("T")
P = TypeVar("P", bound=Part)


class Parts(Generic[T, P]):
    def __init__(
        self,
        name: str,
        registry: watch_service_pb2_grpc.WatchServiceAsyncStub,
        kind: Kind[T],
        make: Callable[[Caller, T, Callable[[], None]], P],
    ) -> None:
        self.name, self._make = name, make
        self._registry = Following(registry, kind, limit=_MOST_TENANTS, told=self._heard)
        self._parts: dict[str, dict[str, P]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.changes = Changes()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._registry.close()
        for tenant in list(self._parts):
            self._heard(tenant, {})
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def find(self, caller: Caller, pattern: str) -> Sequence[Tool]:
        _, _, rest = pattern.partition("/")
        wanted, is_whole, _ = rest.partition("/")
        parts = await self.of(caller)
        if is_whole:
            found = [parts[wanted]] if wanted in parts else []
        else:
            found = [part for part_id, part in parts.items() if part_id.startswith(wanted.rstrip("*"))]
        listed = await asyncio.gather(*(part.listed() if is_whole else part.offered() for part in found))
        return [tool for tools in listed for tool in tools.values() if _matches(tool.tool_id, pattern)]

    async def known(self, caller: Caller) -> tuple[Sequence[Tool], Sequence[SourceStatus]]:
        parts = (await self.of(caller)).values()
        for part in parts:
            part.ask()
        return [tool for part in parts for tool in (part.tools or {}).values()], [one.status for one in parts]

    async def call(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
        part_id = tool.tool_id.split("/")[1]
        part = (await self.of(identity.current())).get(part_id)
        if part is None:
            raise unavailable(f"{self.name}/{part_id}", "is not there any more")
        return await part.call(tool, arguments)

    async def of(self, caller: Caller) -> Mapping[str, P]:
        """The tenant's parts, by the ids of their resources."""
        self._made(caller, await self._registry.get(caller))
        return self._parts[caller.tenant]

    def _made(self, caller: Caller, targets: Mapping[str, T]) -> None:
        parts = self._parts.setdefault(caller.tenant, {})
        for part_id, target in targets.items():
            if part_id in parts:
                parts[part_id].caller = caller
            else:
                parts[part_id] = self._make(caller, target, self.changes.tell)

    def _heard(self, tenant: str, targets: Mapping[str, T]) -> None:
        """Ends what is no more, or not what it was."""
        parts = self._parts.get(tenant, {})
        for part_id, part in list(parts.items()):
            if targets.get(part_id) != part.target:
                del parts[part_id]
                closing = asyncio.create_task(part.close())
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)
        self.changes.tell()


def _matches(tool_id: str, pattern: str) -> bool:
    return tool_id.startswith(pattern[:-1]) if pattern.endswith("*") else tool_id == pattern
