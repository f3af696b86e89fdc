"""What a stream of an execution costs, with its events kept and without.

`.venv/bin/python -m bench.execution [--quick]` measures on SQLite, and on PostgreSQL where
DYNAMIC_AGENTS_TEST_POSTGRES names one. Execution, Registry, a Router that answers at once, and the load are processes
of their own. A chunk is a piece of text as the model's provider sends it; the CPU is that of Execution alone. The
rounds of what is compared alternate; medians count.
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import sqlalchemy as sa
import uvloop
from dynamicagents.execution.v1 import execution_service_pb2, execution_service_pb2_grpc
from dynamicagents.registry.v1 import agent_pb2, agent_service_pb2, agent_service_pb2_grpc
from dynamicagents.router.v1 import chat_pb2, router_service_pb2, router_service_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy.ext.asyncio import create_async_engine

from libs import database

POSTGRES: Final = "DYNAMIC_AGENTS_TEST_POSTGRES"
CHUNKS: Final = 200
STREAMS: Final = (1, 16, 100)
IDLE: Final = 200
_TICK: Final = os.sysconf("SC_CLK_TCK")


class Router(router_service_pb2_grpc.RouterServiceServicer):
    """200 pieces at once, or, for the model "idle", silence."""

    async def ChatStream(  # noqa: N802
        self, request: router_service_pb2.ChatStreamRequest, context: Any
    ) -> AsyncIterator[router_service_pb2.ChatStreamResponse]:
        if request.model == "idle":
            await asyncio.sleep(3600)
        for n in range(CHUNKS):
            yield router_service_pb2.ChatStreamResponse(chunk=chat_pb2.ChatChunk(text=f"word{n:04} "))
        last = chat_pb2.ChatChunk(finish_reason=chat_pb2.FINISH_REASON_STOP, usage=chat_pb2.Usage(output_tokens=CHUNKS))
        yield router_service_pb2.ChatStreamResponse(chunk=last)


async def serve_router(port: int) -> None:
    server = grpc.aio.server()
    router_service_pb2_grpc.add_RouterServiceServicer_to_server(Router(), server)  # type: ignore[abstract]
    health = health_pb2_grpc.HealthServicer()
    health.Check = lambda *_: health_pb2.HealthCheckResponse(status=1)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def serve_execution(keeping: bool) -> int:
    from libs.process import main
    from services.execution.app import app
    from services.execution.config import ExecutionSettings
    from services.execution.store import SqlExecutionStore

    if not keeping:
        SqlExecutionStore.append = _forget  # type: ignore[method-assign]
    return main(ExecutionSettings, app)


async def _forget(self: Any, appends: Any) -> set[str]:
    return set()


@dataclass
class Round:
    streams: int
    seconds: float
    cpu: float
    first: Sequence[float]

    @property
    def chunks(self) -> int:
        return self.streams * CHUNKS


@dataclass
class Target:
    name: str
    pid: int
    executions: execution_service_pb2_grpc.ExecutionServiceAsyncStub
    rounds: dict[int, list[Round]] = field(default_factory=dict)

    def cpu(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def memory(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    async def stream(self) -> float:
        """Seconds to the first text."""
        started, first, text = time.perf_counter(), 0.0, 0
        async for event in self.executions.ExecuteStream(_request("helper"), timeout=120):
            if event.HasField("content_delta"):
                first = first or time.perf_counter() - started
                text += len(event.content_delta.text)
        assert text == CHUNKS * 9
        return first

    async def round(self, streams: int) -> None:
        started, cpu = time.perf_counter(), self.cpu()
        first = await asyncio.gather(*(self.stream() for _ in range(streams)))
        seconds = time.perf_counter() - started
        self.rounds.setdefault(streams, []).append(Round(streams, seconds, self.cpu() - cpu, first))

    async def resume(self) -> float:
        """Seconds that the events of a run that has ended take from its middle on."""
        ended = (await self.executions.Execute(_request("helper"), timeout=60)).execution
        asked = execution_service_pb2.WatchExecutionRequest(
            execution_id=ended.execution_id, after_sequence=ended.last_sequence // 2
        )
        started = time.perf_counter()
        async for _ in self.executions.WatchExecution(asked, timeout=60):
            pass
        return time.perf_counter() - started

    async def idle(self) -> float:
        """Bytes of memory that an open stream takes whose run says nothing."""
        before = self.memory()
        streams = [self.executions.ExecuteStream(_request("idle")) for _ in range(IDLE)]
        await asyncio.gather(*(stream.read() for stream in streams))
        used = self.memory() - before
        for stream in streams:
            stream.cancel()
        return used / IDLE


def _request(agent_id: str) -> execution_service_pb2.ExecuteRequest:
    cancelled = execution_service_pb2.ON_DISCONNECT_CANCEL
    return execution_service_pb2.ExecuteRequest(agent_id=agent_id, input="go", on_disconnect=cancelled)


@asynccontextmanager
async def process(*argv: str, port: int, **env: str) -> AsyncIterator[int]:
    """A process that serves health on the port; its pid."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *argv, env={**os.environ, "DYNAMIC_AGENTS_LOG_LEVEL": "error", **env}
    )
    try:
        async with asyncio.timeout(60), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), wait_for_ready=True)
        yield started.pid
    finally:
        if started.returncode is None:
            started.terminate()
        await started.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def postgres() -> AsyncIterator[str]:
    admin = create_async_engine(os.environ[POSTGRES], isolation_level="AUTOCOMMIT")
    name = f"bench_{uuid.uuid4().hex}"
    async with admin.connect() as connection:
        await connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
    try:
        yield admin.url.set(database=name).render_as_string(hide_password=False)
    finally:
        async with admin.connect() as connection:
            await connection.execute(sa.text(f'DROP DATABASE "{name}" WITH (FORCE)'))
        await admin.dispose()


@asynccontextmanager
async def target(name: str, env: dict[str, str], *, keeping: bool, url: str = "") -> AsyncIterator[Target]:
    from services.execution.app import MIGRATIONS
    from services.execution.config import ExecutionSettings

    port = _free_port()
    env = {**env, "DYNAMIC_AGENTS_EXECUTION_PORT": str(port), "DYNAMIC_AGENTS_EXECUTION_MAX_EXECUTIONS": "1000"}
    env["DYNAMIC_AGENTS_DATA_DIR"] += f"/{port}"
    if url:
        env["DYNAMIC_AGENTS_EXECUTION_DATABASE_URL"] = url
        await database.migrate(ExecutionSettings.load(database_url=url), MIGRATIONS)
    address, mode = f"127.0.0.1:{port}", "--keeping" if keeping else "--forgetting"
    async with process("bench.execution", mode, port=port, **env) as pid, grpc.aio.insecure_channel(address) as channel:
        stub: Any = execution_service_pb2_grpc.ExecutionServiceStub(channel)
        yield Target(name, pid, stub)


async def create_agents(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = agent_service_pb2_grpc.AgentServiceStub(channel)
        for agent_id, model in (("helper", "any"), ("idle", "idle")):
            agent = agent_pb2.Agent(agent_id=agent_id, spec=agent_pb2.AgentSpec(model={"model": model}))
            await stub.CreateAgent(agent_service_pb2.CreateAgentRequest(agent=agent))


def report(target: Target, streams: int) -> str:
    rounds = target.rounds[streams]
    first = sorted(one * 1e3 for each in rounds for one in each.first)
    late = first[int(len(first) * 0.95)]
    rate = statistics.median(each.chunks / each.seconds for each in rounds)
    cpu = statistics.median(each.cpu / each.chunks for each in rounds) * 1e6
    return f"{target.name:<18} {streams:>7} {statistics.median(first):>9.1f} {late:>8.1f} {rate:>9.0f} {cpu:>8.1f}"


async def main(rounds: int) -> None:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        registry, router = _free_port(), _free_port()
        data = {"DYNAMIC_AGENTS_DATA_DIR": str(folder), "DYNAMIC_AGENTS_REGISTRY_PORT": str(registry)}
        await enter(process("services.registry", port=registry, **data))
        await enter(process("bench.execution", "--router", str(router), port=router))
        env = {
            "DYNAMIC_AGENTS_DATA_DIR": str(folder),
            "DYNAMIC_AGENTS_REGISTRY_ADDRESS": f"127.0.0.1:{registry}",
            "DYNAMIC_AGENTS_ROUTER_ADDRESS": f"127.0.0.1:{router}",
        }
        await create_agents(f"127.0.0.1:{registry}")
        targets = [
            await enter(target("SQLite, kept", env, keeping=True)),
            await enter(target("SQLite, not kept", env, keeping=False)),
        ]
        if POSTGRES in os.environ:
            targets.append(await enter(target("PostgreSQL, kept", env, keeping=True, url=await enter(postgres()))))
        for streams in STREAMS:
            for _ in range(rounds + 1):
                for one in targets:
                    await one.round(streams)
            for one in targets:
                del one.rounds[streams][0]
        print(f"{CHUNKS} chunks a stream    streams  first ms   p95 ms  chunks/s   CPU us")
        for streams in STREAMS:
            for one in targets:
                print(report(one, streams))
        for one in targets:
            print(f"{one.name}: {await one.idle() / 1024:.0f} KiB an idle stream")
            if "not" not in one.name:
                resumed = statistics.median([await one.resume() for _ in range(5)])
                print(f"{one.name}: resumes from the middle of a run that has ended in {resumed * 1e3:.1f} ms")


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    match sys.argv[1:]:
        case ["--router", port]:
            uvloop.run(serve_router(int(port)))
        case ["--keeping"]:
            sys.exit(serve_execution(True))
        case ["--forgetting"]:
            sys.exit(serve_execution(False))
        case arguments:
            uvloop.run(main(2 if "--quick" in arguments else 7))
