"""The whole suite and what it is compared with, each as its users start it, and the load from a program in Go."""

from __future__ import annotations

import asyncio
import math
import os
import random
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
import orjson
from dynamicagents.execution.v1 import event_pb2, execution_service_pb2_grpc
from dynamicagents.registry.v1 import (
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    router_config_pb2,
    router_config_service_pb2,
    router_config_service_pb2_grpc,
)

from bench import environments, provider
from bench.report import Missing
from bench.serving import serve
from bench.streams import PIECES, family, free_port, process
from cli.connection import OFFSETS

_ROOT: Final = Path(__file__).parent.parent
_SOURCE: Final = _ROOT / "bench" / "go"
_PROGRAM: Final = _ROOT / ".cache" / "bench-load"
_SUITE: Final = Path(sys.executable).parent / "dynamic-agents"
_MOST: Final = "2000"
EXECUTION: Final = "services.execution"


@dataclass(frozen=True)
class Load:
    """What the clients saw; times in milliseconds, delays of pieces in microseconds."""

    seconds: float
    first_events: Sequence[float]
    first_texts: Sequence[float]
    totals: Sequence[float]
    delays: Sequence[float]
    events: int
    characters: int
    errors: Sequence[str]

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Load:
        runs = told["runs"]
        good = [one for one in runs if not one["error"]]
        return cls(
            seconds=told["seconds"],
            first_events=[one["first_event"] for one in good],
            first_texts=[one["first_text"] for one in good],
            totals=[one["total"] for one in good],
            delays=[delay for one in good for delay in one["delays"] or ()],
            events=sum(one["events"] for one in good),
            characters=sum(one["characters"] for one in good),
            errors=[one["error"] for one in runs if one["error"]],
        )


def quantile(figures: Sequence[float], part: float) -> float:
    """The least figure that at least `part` of them do not exceed; NaN where there are none."""
    return sorted(figures)[math.ceil(len(figures) * part) - 1] if figures else math.nan


def cpu(pid: int, of: str = "") -> float:
    """Seconds, of the process and all that it has started, or of those alone whose command names `of`."""
    spent = 0.0
    for one in family(pid):
        with suppress(OSError):
            if of in Path(f"/proc/{one}/cmdline").read_text():
                spent += time.clock_gettime((~one << 3) | 2)  # the clock of a process, see clock_getcpuclockid(3)
    return spent


@dataclass
class Served:
    """Something that answers, with all of its processes."""

    name: str
    pid: int
    flags: Mapping[str, str]
    """Of the program that loads it."""
    rounds: dict[Any, list[Round]] = field(default_factory=dict)

    def cpu(self) -> float:
        """Seconds, of its processes by now."""
        return cpu(self.pid)

    def memory(self) -> int:
        pages = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in family(self.pid))
        return sum(pages) * os.sysconf("SC_PAGE_SIZE")

    async def round(self, what: Any, **flags: Any) -> Round:
        before, alone = self.cpu(), cpu(self.pid, EXECUTION)
        seen = await load(**{**self.flags, **flags})
        made = Round(seen, self.cpu() - before, cpu(self.pid, EXECUTION) - alone, self.memory())
        self.rounds.setdefault(what, []).append(made)
        return made


@dataclass(frozen=True)
class Round:
    seen: Load
    cpu: float
    """Seconds, of what was loaded."""
    execution: float
    """Of them, those of the suite's Execution."""
    memory: int


@asynccontextmanager
async def ready() -> AsyncIterator[tuple[Path, str]]:
    """An empty folder and a provider's base URL; the program that loads is built. Missing where it cannot be."""
    await _built()
    with tempfile.TemporaryDirectory() as folder:
        async with provider.started() as upstream:
            yield Path(folder), upstream


async def _built() -> None:
    go = shutil.which("go")
    if go is None:
        raise Missing("the load is a program in Go, and Go is not on the PATH")
    child = await asyncio.create_subprocess_exec(go, "build", "-o", str(_PROGRAM), ".", cwd=_SOURCE)
    if await child.wait() != 0:
        raise Missing("the load cannot be built")


async def load(**flags: Any) -> Load:
    arguments = [f"-{name.replace('_', '-')}={value}" for name, value in flags.items()]
    child = await asyncio.create_subprocess_exec(str(_PROGRAM), *arguments, stdout=asyncio.subprocess.PIPE)
    out, _ = await child.communicate()
    assert child.returncode == 0, arguments
    return Load.of(orjson.loads(out))


@asynccontextmanager
async def suite(name: str, upstream: str, folder: Path, *, workers: int = 1, url: str = "") -> AsyncIterator[Served]:
    """`dynamic-agents up` with the agents `helper`, with a tool, and `plain`, without."""
    base = _free_ports()
    env = {
        "DYNAMIC_AGENTS_EXECUTION_MAX_EXECUTIONS": _MOST,
        "DYNAMIC_AGENTS_EXECUTION_MAX_EXECUTIONS_PER_TENANT": _MOST,
        "DYNAMIC_AGENTS_LOG_LEVEL": "error",
        **{f"DYNAMIC_AGENTS_{service.upper()}_WORKERS": str(workers) for service in OFFSETS},
    }
    if url:
        env["DYNAMIC_AGENTS_DATABASE_URL"] = url
        migrating = await asyncio.create_subprocess_exec(str(_SUITE), "migrate", env={**os.environ, **env})
        assert await migrating.wait() == 0
    addresses = {service: f"127.0.0.1:{base + offset}" for service, offset in OFFSETS.items()}
    argv = (str(_SUITE), "up", "--json", "--port-base", str(base), "--data-dir", str(folder))
    async with process(*argv, **env) as pid:
        async with asyncio.timeout(180), grpc.aio.insecure_channel(addresses["execution"]) as channel:
            await channel.channel_ready()
        await _configure(addresses["registry"], upstream)
        served = Served(name, pid, {"to": "grpc", "address": addresses["execution"]})
        await _warm(served)
        yield served


def _free_ports() -> int:
    """The first of as many free ports as the suite takes, below those that the system gives to anybody."""
    while True:
        base = random.randrange(15_000, 30_000)  # noqa: S311
        with ExitStack() as stack, suppress(OSError):
            for offset in OFFSETS.values():
                stack.enter_context(socket.socket()).bind(("127.0.0.1", base + offset))
            return base


async def _configure(registry: str, upstream: str) -> None:
    async with grpc.aio.insecure_channel(registry) as channel:
        agents: Any = agent_service_pb2_grpc.AgentServiceStub(channel)
        for agent_id, tools in (("helper", [{"tool_id": "builtin/calculator"}]), ("plain", [])):
            spec = agent_pb2.AgentSpec(model={"model": "any"}, tools=tools)
            agent = agent_pb2.Agent(agent_id=agent_id, spec=spec)
            await agents.CreateAgent(agent_service_pb2.CreateAgentRequest(agent=agent), wait_for_ready=True)
        configs: Any = router_config_service_pb2_grpc.RouterConfigServiceStub(channel)
        deployment = router_config_pb2.Deployment(
            deployment_id="bench", model_group="any", model="openai/gpt-4o", api_base=upstream
        )
        await configs.AddDeployment(router_config_service_pb2.AddDeploymentRequest(deployment=deployment))


async def _warm(served: Served) -> None:
    """Until its answers are whole; a Router may not have heard of the deployment yet."""
    async with asyncio.timeout(180):
        while (await load(**served.flags, runs=8, input="chunks-3")).errors:  # noqa: ASYNC110
            await asyncio.sleep(0.2)


@asynccontextmanager
async def agent_os(upstream: str, folder: Path, *, workers: int = 1) -> AsyncIterator[Served]:
    python = await environments.agentos()
    argv = (str(python), "-m", "bench.agentos_server")
    database = str(folder / f"agentos-{workers}.db")
    async with _web(argv, database, upstream, workers) as (pid, url):
        yield Served(f"AgentOS{_of(workers)}", pid, {"to": "sse", "address": f"{url}/agents/tooled/runs"})


@asynccontextmanager
async def fastapi(upstream: str, *, workers: int = 1) -> AsyncIterator[Served]:
    python = await environments.fastapi()
    async with _web((str(python), "-m", "bench.fastapi_server"), "", upstream, workers) as (pid, url):
        yield Served(f"FastAPI{_of(workers)}", pid, {"to": "sse", "address": f"{url}/runs"})


def _of(workers: int) -> str:
    return "" if workers == 1 else f", {workers} workers"


@asynccontextmanager
async def _web(argv: Sequence[str], database: str, upstream: str, workers: int) -> AsyncIterator[tuple[int, str]]:
    port = free_port()
    env = {
        "AGNO_TELEMETRY": "false",
        "PYTHONPATH": str(_ROOT),
        "BENCH_DATABASE": database,
        "BENCH_UPSTREAM": upstream,
    }
    async with AsyncExitStack() as stack:
        quiet = ("sh", "-c", 'exec "$0" "$@" 2>/dev/null')  # what fails is counted by who asked
        pid = await stack.enter_async_context(process(*quiet, *argv, str(port), str(workers), **env))
        url = f"http://127.0.0.1:{port}"
        session = await stack.enter_async_context(aiohttp.ClientSession())
        async with asyncio.timeout(120):
            while not await _lives(session, f"{url}/health"):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        yield pid, url


async def _lives(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


class _Bare(execution_service_pb2_grpc.ExecutionServiceServicer):
    """A message for each of 200 pieces, and nothing else."""

    async def ExecuteStream(self, request: Any, context: Any) -> AsyncIterator[event_pb2.ExecuteEvent]:  # noqa: N802
        for number, piece in enumerate(PIECES, 1):
            event = event_pb2.ExecuteEvent(execution_id="00000000-0000-0000-0000-000000000000", sequence=number)
            event.content_delta.text = piece
            event.source.path.append("helper")
            yield event
        yield event_pb2.ExecuteEvent(execution_completed=event_pb2.ExecutionCompleted())


@asynccontextmanager
async def bare() -> AsyncIterator[Served]:
    """grpc.aio alone, with Execution's contract."""
    port = free_port()
    async with process(sys.executable, "-m", "bench.whole", str(port)) as pid:
        address = f"127.0.0.1:{port}"
        async with asyncio.timeout(60), grpc.aio.insecure_channel(address) as channel:
            await channel.channel_ready()
        yield Served("grpc.aio, a message each", pid, {"to": "grpc", "address": address})


if __name__ == "__main__":
    import uvloop

    add = execution_service_pb2_grpc.add_ExecutionServiceServicer_to_server
    uvloop.run(serve(add, _Bare(), int(sys.argv[1])))  # type: ignore[abstract]
