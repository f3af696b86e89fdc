"""Which agents a changed tool provider would break."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from libs.identity import Caller
from services.execution.model.tools import Tool
from services.execution.service.compatibility import Change, Difference, compared

_MOST_AGENTS: Final = 1000
Tools = Mapping[str, Tool]


class Providers(Protocol):
    """Each gives the tools as they were and as they are, or would be."""

    async def last_change(self, caller: Caller, provider_id: str) -> tuple[Tools, Tools]: ...

    async def against_provider(self, caller: Caller, provider_id: str, other_id: str) -> tuple[Tools, Tools]: ...

    async def against_address(self, caller: Caller, provider_id: str, address: str) -> tuple[Tools, Tools]: ...


class Users(Protocol):
    async def tools_of_all(self) -> Mapping[str, Sequence[str]]:
        """The ids and patterns of tools that each agent of the tenant names."""


@dataclass(frozen=True, slots=True)
class ToolCheck:
    tool_id: str
    change: Change
    differences: Sequence[Difference]
    agent_ids: Sequence[str]


class Checks:
    def __init__(self, providers: Providers, users: Users) -> None:
        self._providers, self._users = providers, users

    async def check(self, caller: Caller, provider_id: str, *, address: str, other_id: str) -> Sequence[ToolCheck]:
        if address:
            before, now = await self._providers.against_address(caller, provider_id, address)
        elif other_id:
            before, now = await self._providers.against_provider(caller, provider_id, other_id)
        else:
            before, now = await self._providers.last_change(caller, provider_id)
        used = await self._users.tools_of_all()
        named = _named(used.values(), f"grpc/{provider_id}/")
        return [_check(tool_id, before, now, used) for tool_id in sorted({*before, *now, *named})]


def _check(tool_id: str, before: Tools, now: Tools, used: Mapping[str, Sequence[str]]) -> ToolCheck:
    change, differences = compared(before.get(tool_id), now.get(tool_id))
    agents = [agent for agent, patterns in used.items() if any(_matches(tool_id, one) for one in patterns)]
    return ToolCheck(tool_id, change, differences, sorted(agents)[:_MOST_AGENTS])


def _named(patterns: Iterable[Sequence[str]], prefix: str) -> set[str]:
    """Tools that agents name by their ids; there need not be such."""
    return {one for some in patterns for one in some if one.startswith(prefix) and not one.endswith("*")}


def _matches(tool_id: str, pattern: str) -> bool:
    return tool_id.startswith(pattern[:-1]) if pattern.endswith("*") else tool_id == pattern
