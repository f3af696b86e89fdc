"""What a member of a team costs, beside the same agent run alone.

It is measured on SQLite, and on PostgreSQL where DYNAMIC_AGENTS_TEST_POSTGRES names one. Execution, Registry and a stub
of Router that answers with one word are processes of their own; the CPU is that of Execution. All members are asked at
once. "A member more" is what a team of many takes more than one of a single member, by the number of the others: it
holds the member's own run, but no call, no look-up in Registry and no acceptance, which the agent's run alone has. So
the ratio says what a member saves, not that running it is cheap; there is no aim for it. The other baseline is as many
runs of the agent at once, each a call of its own. The rounds alternate.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import uvloop
from dynamicagents.execution.v1 import execution_pb2, execution_service_pb2, execution_service_pb2_grpc
from dynamicagents.registry.v1 import (
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    team_pb2,
    team_service_pb2,
    team_service_pb2_grpc,
)
from dynamicagents.router.v1 import chat_pb2, router_service_pb2, router_service_pb2_grpc

from bench.execution import POSTGRES, postgres, service
from bench.report import Report
from bench.serving import serve
from bench.streams import free_port
from libs import database

MEMBERS: Final = 21
LONELY, CROWD = "the agent alone", f"{MEMBERS} runs at once"
ALONE, ONE, MANY = {"agent_id": "member-0"}, {"team_id": "one"}, {"team_id": "many"}


class Router(router_service_pb2_grpc.RouterServiceServicer):
    """One word."""

    async def ChatStream(  # noqa: N802
        self, request: router_service_pb2.ChatStreamRequest, context: Any
    ) -> AsyncIterator[router_service_pb2.ChatStreamResponse]:
        usage = chat_pb2.Usage(output_tokens=1)
        last = chat_pb2.ChatChunk(text="yes", finish_reason=chat_pb2.FINISH_REASON_STOP, usage=usage)
        yield router_service_pb2.ChatStreamResponse(chunk=last)


async def serve_router(port: int) -> None:
    await serve(router_service_pb2_grpc.add_RouterServiceServicer_to_server, Router(), port)  # type: ignore[abstract]


@dataclass
class Target:
    """An Execution, and what runs on it took: wall and CPU, in milliseconds."""

    name: str
    pid: int
    stub: Any
    took: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    async def measure(self, name: str, times: int, at_once: int, calls: int, **target: str) -> None:
        """Of one run each, which makes so many model calls."""
        cpu, started = self._cpu(), time.perf_counter()
        for _ in range(times):
            await asyncio.gather(*(self._run(calls, target) for _ in range(at_once)))
        runs = times * at_once
        wall, spent = time.perf_counter() - started, self._cpu() - cpu
        self.took[name].append((wall * 1e3 / runs, spent * 1e3 / runs))

    async def _run(self, calls: int, target: Mapping[str, Any]) -> None:
        """A team whose members have failed completes too: what tells is that all have asked the model."""
        request = execution_service_pb2.ExecuteRequest(input="hi", **target)
        ended = (await self.stub.Execute(request, timeout=120)).execution
        if ended.status != execution_pb2.EXECUTION_STATUS_COMPLETED or ended.usage.model_calls != calls:
            raise RuntimeError(f"{target}: {ended.usage.model_calls} model calls of {calls}; {ended.error.message}")

    def _cpu(self) -> float:
        return time.clock_gettime((~self.pid << 3) | 2)

    def per_member(self, what: int) -> list[float]:
        rounds = zip(self.took["many"], self.took["one"], strict=True)
        return [(many[what] - one[what]) / (MEMBERS - 1) for many, one in rounds]


async def configure(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        agents: Any = agent_service_pb2_grpc.AgentServiceStub(channel)
        teams: Any = team_service_pb2_grpc.TeamServiceStub(channel)
        for number in range(MEMBERS):
            agent = agent_pb2.Agent(agent_id=f"member-{number}", spec=agent_pb2.AgentSpec(model={"model": "any"}))
            await agents.CreateAgent(agent_service_pb2.CreateAgentRequest(agent=agent))
        for team_id, count in (("one", 1), ("many", MEMBERS)):
            members = [{"agent_id": f"member-{number}"} for number in range(count)]
            mode = team_pb2.TEAM_MODE_BROADCAST
            spec = team_pb2.TeamSpec(model={"model": "any"}, members=members, mode=mode)
            team = team_pb2.Team(team_id=team_id, spec=spec)
            await teams.CreateTeam(team_service_pb2.CreateTeamRequest(team=team))


async def started(stack: AsyncExitStack, name: str, router: int, env: dict[str, str], url: str = "") -> Target:
    from services.execution.app import MIGRATIONS
    from services.execution.config import ExecutionSettings

    port = free_port()
    own = {
        "DYNAMIC_AGENTS_EXECUTION_PORT": str(port),
        "DYNAMIC_AGENTS_ROUTER_ADDRESS": f"127.0.0.1:{router}",
        "DYNAMIC_AGENTS_DATA_DIR": f"{env['DYNAMIC_AGENTS_DATA_DIR']}/{port}",
    }
    if url:
        own["DYNAMIC_AGENTS_EXECUTION_DATABASE_URL"] = url
        await database.migrate(ExecutionSettings.load(database_url=url), MIGRATIONS)
    pid = await stack.enter_async_context(service("services.execution", port=port, **{**env, **own}))
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
    return Target(name, pid, execution_service_pb2_grpc.ExecutionServiceStub(channel))


async def run(report: Report, *, quick: bool) -> None:
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        registry, router = free_port(), free_port()
        env = {
            "DYNAMIC_AGENTS_DATA_DIR": str(Path(folder)),
            "DYNAMIC_AGENTS_REGISTRY_PORT": str(registry),
            "DYNAMIC_AGENTS_REGISTRY_ADDRESS": f"127.0.0.1:{registry}",
        }
        await stack.enter_async_context(service("services.registry", port=registry, **env))
        await configure(f"127.0.0.1:{registry}")
        await stack.enter_async_context(service("bench.teams", "--router", str(router), port=router))
        targets = [await started(stack, "SQLite", router, env)]
        if POSTGRES in os.environ:
            url = await stack.enter_async_context(postgres())
            targets.append(await started(stack, "PostgreSQL", router, env, url))
        for one in targets:
            await alternate(one, 1)
            one.took.clear()
            await alternate(one, 3 if quick else 9)
    for one in targets:
        for what, unit in enumerate(("ms", "ms CPU")):
            for against in (LONELY, CROWD):
                beside: dict[str, Any] = {"against": against, "baseline": [each[what] for each in one.took[against]]}
                name = f"{one.name}: a member more, {unit}, beside {against}"
                report.note("teams", name, unit, one.per_member(what), **beside)


async def alternate(target: Target, rounds: int) -> None:
    for number in range(rounds):
        turns = [
            (LONELY, 20, 1, 1, ALONE),
            (CROWD, 2, MEMBERS, 1, ALONE),
            ("one", 20, 1, 2, ONE),
            ("many", 4, 1, MEMBERS + 1, MANY),
        ]
        for name, times, at_once, calls, what in turns if number % 2 else reversed(turns):
            await target.measure(name, times, at_once, calls, **what)


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    _, _, port = sys.argv
    uvloop.run(serve_router(int(port)))
