"""How cost grows: the same piece of work where there is 1, 3 and 10 times as much of something, all else equal.

The exponent is the slope of CPU, and of time, over the size, both in logarithms: 0 where the size does not matter, 1
where cost grows with it. CPU is that of the service that is asked. Execution, Registry and the stub of a Router are
processes of their own; the rounds of the sizes alternate, and an exponent is of one round. Runs are on SQLite, and on
PostgreSQL where DYNAMIC_AGENTS_TEST_POSTGRES names one.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
import uvloop
from dynamicagents.router.v1 import chat_pb2, router_service_pb2, router_service_pb2_grpc

from bench.callers import Agents, Runs
from bench.execution import POSTGRES, postgres, service
from bench.hosts import until_listed
from bench.report import Report
from bench.serving import serve
from bench.streams import free_port, process
from libs import database
from libs.config import Settings
from libs.identity import DEFAULT_TENANT
from services.execution.app import MIGRATIONS as EXECUTION
from services.execution.config import ExecutionSettings
from services.registry.app import MIGRATIONS as REGISTRY
from services.registry.config import RegistrySettings
from tests.stores import plenty

SIZES: Final = (1, 3, 10)
Once = Callable[[], Awaitable[object]]


@dataclass
class Point:
    """Work at one size; `units` is what a figure is divided by."""

    size: int
    once: Once
    pid: int
    units: int = 1
    found: list[tuple[float, float]] = field(default_factory=list)
    """CPU and time of a unit, in seconds, of each round."""

    async def round(self, times: int) -> None:
        cpu, started = spent(self.pid), time.perf_counter()
        for _ in range(times):
            await self.once()
        seconds, used = time.perf_counter() - started, spent(self.pid) - cpu
        self.found.append((used / times / self.units, seconds / times / self.units))


def spent(pid: int) -> float:
    """Seconds on the clock of a process, see clock_getcpuclockid(3)."""
    return time.clock_gettime((~pid << 3) | 2)


def exponents(points: Sequence[Point], what: int) -> list[float]:
    """Of each round: the slope of the least squares through its points."""
    sizes = [math.log(one.size) for one in points]
    middle = statistics.mean(sizes)
    spread = sum((size - middle) ** 2 for size in sizes)
    slopes = []
    for found in zip(*(one.found for one in points), strict=True):
        costs = [math.log(max(one[what], 1e-9)) for one in found]
        slopes.append(sum((size - middle) * cost for size, cost in zip(sizes, costs, strict=True)) / spread)
    return slopes


class Router(router_service_pb2_grpc.RouterServiceServicer):
    """As many pieces as the model's name says, each when there was time to commit the one before."""

    async def ChatStream(  # noqa: N802
        self, request: router_service_pb2.ChatStreamRequest, context: Any
    ) -> AsyncIterator[router_service_pb2.ChatStreamResponse]:
        for number in range(int(request.model)):
            if number:
                await asyncio.sleep(0.008)
            yield router_service_pb2.ChatStreamResponse(chunk=chat_pb2.ChatChunk(text=f" token{number % 10}"))
        last = chat_pb2.ChatChunk(finish_reason=chat_pb2.FINISH_REASON_STOP, usage=chat_pb2.Usage(output_tokens=1))
        yield router_service_pb2.ChatStreamResponse(chunk=last)


async def serve_router(port: int) -> None:
    await serve(router_service_pb2_grpc.add_RouterServiceServicer_to_server, Router(), port)  # type: ignore[abstract]


class Growths:
    def __init__(self, report: Report, rounds: int) -> None:
        self._report, self._rounds = report, rounds

    async def of(self, name: str, points: Sequence[Point], times: int, most: float | None = None) -> None:
        """All sizes are there at once, and take turns."""
        print(name)
        for one in points:
            await one.once()
        for number in range(self._rounds):
            for one in points if number % 2 else reversed(points):
                await one.round(times)
        for what, unit in ((0, "CPU"), (1, "time")):
            told = ", ".join(f"{statistics.median(each[what] for each in one.found) * 1e6:.0f}" for one in points)
            sizes = ", ".join(str(one.size) for one in points)
            named = f"{name}: {unit}, {told} us at {sizes}"
            aim = {"most": most} if most and what == 0 else {}  # time is that of all that the machine does
            self._report.note("growth", named, "", exponents(points, what), **aim)


class Site:
    """The services that are asked, on a database of the kind that is named."""

    def __init__(self, stack: AsyncExitStack, folder: Path, kind: str) -> None:
        self.stack, self._folder, self.kind = stack, folder, kind

    async def _settings(self, settings: type[Settings], migrations: Path, name: str) -> tuple[Settings, dict[str, str]]:
        """Of a service whose database is there."""
        env = {"DYNAMIC_AGENTS_DATA_DIR": str(self._folder / name)}
        own: dict[str, Any] = {"data_dir": self._folder / name}
        if self.kind == "PostgreSQL":
            own["database_url"] = url = await self.stack.enter_async_context(postgres())
            env[f"DYNAMIC_AGENTS_{settings.service.upper()}_DATABASE_URL"] = url
        loaded = settings.load(**own)
        await database.migrate(loaded, migrations)
        return loaded, env

    async def _started(self, name: str, env: dict[str, str]) -> tuple[int, grpc.aio.Channel, int]:
        port = free_port()
        env = {**env, f"DYNAMIC_AGENTS_{name.upper()}_PORT": str(port)}
        pid = await self.stack.enter_async_context(service(f"services.{name}", port=port, **env))
        opened = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        return pid, await self.stack.enter_async_context(opened), port

    async def registry(self, described: Iterable[tuple[int, int]] = ()) -> tuple[Agents, int]:
        loaded, env = await self._settings(RegistrySettings, REGISTRY, uuid.uuid4().hex)
        if wanted := list(described):
            async with database.opened(loaded, REGISTRY) as db:
                await plenty.describe(db, wanted, tenant=DEFAULT_TENANT)
        pid, channel, port = await self._started("registry", env)
        return Agents(pid, channel), port

    async def execution(self, registry: int, router: int, fill: Callable[[Any], Awaitable[None]]) -> tuple[Runs, int]:
        loaded, env = await self._settings(ExecutionSettings, EXECUTION, uuid.uuid4().hex)
        async with database.opened(loaded, EXECUTION) as db:
            await fill(db)
        env["DYNAMIC_AGENTS_REGISTRY_ADDRESS"] = f"127.0.0.1:{registry}"
        env["DYNAMIC_AGENTS_ROUTER_ADDRESS"] = f"127.0.0.1:{router}"
        pid, channel, port = await self._started("execution", env)
        return Runs(pid, channel), port


async def of_registry(site: Site, growths: Growths, sizes: Sequence[int]) -> None:
    """Agents in Registry, one revision each; and revisions of one agent."""
    numbers = itertools.count()
    by_agents = [((await site.registry((n, 1) for n in range(size)))[0], size) for size in sizes]

    def asked(work: Callable[[Agents], Awaitable[object]]) -> list[Point]:
        return [Point(size, partial(work, at), at.pid) for at, size in by_agents]

    of = f"{site.kind}, agents"
    await growths.of(f"{of}: GetAgent", asked(Agents.get), 50, 0.1)
    another = asked(lambda at: at.get(f"agent-{next(numbers) % sizes[0]:05}"))
    await growths.of(f"{of}: GetAgent, not cached", another, 50, 0.1)
    await growths.of(f"{of}: a page of ListAgents", asked(Agents.page), 20, 0.1)
    await growths.of(f"{of}: a page by time", asked(lambda at: at.page("create_time")), 5)
    await growths.of(f"{of}: CreateAgent", asked(lambda at: at.create(uuid.uuid4().hex)), 20, 0.1)
    counts = [size // 10 for size in sizes]
    revised, _ = await site.registry((place, r) for place, count in enumerate(counts) for r in range(1, count + 1))

    def of_one(work: Callable[[str], Awaitable[object]]) -> list[Point]:
        return [Point(count, partial(work, f"agent-{n:05}"), revised.pid) for n, count in enumerate(counts)]

    of = f"{site.kind}, revisions of an agent"
    asked_for: dict[str, Iterator[int]] = {f"agent-{n:05}": itertools.cycle(range(1, 1 + counts[0])) for n in range(3)}
    another = of_one(lambda name: revised.get(name, next(asked_for[name])))
    await growths.of(f"{of}: GetAgent by revision, not cached", another, 10, 0.1)
    await growths.of(f"{of}: a page of its history", of_one(revised.history), 10, 0.1)
    await growths.of(f"{of}: UpdateAgent", of_one(lambda name: revised.revise(name, next(numbers))), 10, 0.1)


async def of_execution(site: Site, growths: Growths, sizes: Sequence[int], router: int) -> None:
    agents, registry = await site.registry()
    await agents.create("word")
    await agents.create("talker", history={"num_runs": 3})
    turns = [size // 10 for size in sizes]

    async def fill(db: Any, size: int) -> None:
        await plenty.keep(db, range(size), tenant=DEFAULT_TENANT)
        for count in turns:
            await plenty.talked(db, count, tenant=DEFAULT_TENANT, talk=f"talk-{count}")

    started = [(await site.execution(registry, router, partial(fill, size=size)), size) for size in sizes]
    full = [(at, size) for (at, _), size in started]

    def asked(work: Callable[[Runs], Awaitable[object]]) -> list[Point]:
        return [Point(size, partial(work, at), at.pid) for at, size in full]

    of = f"{site.kind}, runs and sessions kept"
    await growths.of(f"{of}: a run of one word", asked(Runs.run), 10, 0.1)
    await growths.of(f"{of}: the same in a new session", asked(lambda at: at.run("talker", uuid.uuid4().hex)), 10, 0.1)
    await growths.of(f"{of}: a page of ListSessions", asked(Runs.sessions), 10, 0.1)
    await growths.of(f"{of}: a page of a user's", asked(lambda at: at.sessions(user_id="ann")), 10, 0.1)
    await growths.of(f"{of}: a page of ListExecutions", asked(Runs.executions), 10, 0.1)
    await growths.of(f"{of}: a page of a user's runs", asked(lambda at: at.executions(user_id="ann")), 10, 0.1)
    (at, port), _ = started[-1]
    talks = [Point(count, partial(at.run, "talker", f"talk-{count}"), at.pid) for count in turns]
    await growths.of(f"{site.kind}, turns of a session: one more", talks, 10, 0.1)
    await of_runs(site, growths, at, agents)
    await of_tools(site, growths, at, agents, port)


async def of_runs(site: Site, growths: Growths, at: Runs, agents: Agents) -> None:
    """Long runs, and long logs."""
    pieces = [50 * size for size in SIZES]
    for count in pieces:
        await agents.create(f"pieces-{count}", str(count))
    points = [Point(count, partial(at.run, f"pieces-{count}"), at.pid, count) for count in pieces]
    await growths.of(f"{site.kind}, pieces of a run: each", points, 1, 0.1)
    ended = [await at.run(f"pieces-{count}") for count in pieces]
    replayed = [Point(one.last_sequence, partial(at.watch, one), at.pid, one.last_sequence) for one in ended]
    await growths.of(f"{site.kind}, events of a log: each replayed", replayed, 3, 0.1)
    last = [Point(one.last_sequence, partial(at.watch, one, one.last_sequence - 1), at.pid) for one in ended]
    await growths.of(f"{site.kind}, events of a log: the last", last, 10, 0.1)
    steps = [20 * size for size in SIZES]
    for count in steps:
        await agents.describe_flow(f"steps-{count}", count)
    flows = [Point(count, partial(at.flow, f"steps-{count}"), at.pid, count) for count in steps]
    await growths.of(f"{site.kind}, steps of a workflow: each", flows, 1, 0.1)


async def of_tools(site: Site, growths: Growths, at: Runs, agents: Agents, port: int) -> None:
    """It is what it is: each tool is told to the model."""
    counts = [10 * size for size in SIZES]
    for number, count in enumerate(counts, 1):
        name = f"tools{count}"
        arguments = ("-m", "bench.hosts", "--host", f"127.0.0.1:{port}", name, str(count))
        await site.stack.enter_async_context(process(sys.executable, *arguments))
        await until_listed(at.tools, sum(counts[:number]))
        await agents.create(name, tools=[{"tool_id": f"host/{name}_*"}])
    points = [Point(count, partial(at.run, f"tools{count}"), at.pid) for count in counts]
    await growths.of(f"{site.kind}, tools of an agent: a run of one word", points, 10)


async def run(report: Report, *, quick: bool) -> None:
    sizes = [(100 if quick else 1000) * size for size in SIZES]
    kinds = ("SQLite", *(("PostgreSQL",) if POSTGRES in os.environ else ()))
    growths = Growths(report, 3 if quick else 5)
    for kind in kinds:
        async with AsyncExitStack() as stack:
            site = Site(stack, Path(stack.enter_context(tempfile.TemporaryDirectory())), kind)
            router = free_port()
            await stack.enter_async_context(service("bench.growth", "--router", str(router), port=router))
            await of_registry(site, growths, sizes)
            await of_execution(site, growths, sizes, router)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--router", port]:
            uvloop.run(serve_router(int(port)))
