"""What hosted tools cost: a call through HostTools next to a bare bidirectional echo, and 200 tools at a run's start.

Execution, Registry, the stub of a Router, hosts and the echo are processes of their own. A bare echo is grpc.aio with
the same messages and nothing else: a call goes out on one stream and its answer comes back on it. CallTool of a tool
that does nothing in Execution itself is what the caller's own hop costs; what CallTool of a hosted one takes longer is
the round trip over HostTools, with its checks, and with the host. Where DYNAMIC_AGENTS_TEST_POSTGRES names a server,
calls go through a second Execution as well. The rounds alternate.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import uvloop
from dynamicagents.execution.v1 import execution_service_pb2, execution_service_pb2_grpc
from dynamicagents.registry.v1 import agent_pb2, agent_service_pb2, agent_service_pb2_grpc
from dynamicagents.tools.v1 import host_pb2, tool_service_pb2, tool_service_pb2_grpc
from google.protobuf.struct_pb2 import Struct

from bench.execution import POSTGRES, postgres, service
from bench.report import Report
from bench.serving import serve
from bench.streams import free_port, process

CALLS: Final = 300
ROUNDS: Final = 10
AT_ONCE: Final = 32
TOOLS: Final = 200
_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "description": "What to say.", "maxLength": 1000},
        "times": {"type": "integer", "minimum": 1, "maximum": 10},
        "tone": {"enum": ["kind", "plain", "stern"]},
    },
    "required": ["text"],
}


def arguments() -> Struct:
    given = Struct()
    given.update({"text": "hello"})
    return given


class Echo(tool_service_pb2_grpc.ToolServiceServicer):
    async def HostTools(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Answers each result with a call."""
        call = host_pb2.HostCall(call_id="0" * 36, tool="say", arguments=arguments())
        async for _ in request_iterator:
            yield tool_service_pb2.HostToolsResponse(call=call)


async def serve_echo(port: int) -> None:
    await serve(tool_service_pb2_grpc.add_ToolServiceServicer_to_server, Echo(), port)  # type: ignore[abstract]


async def host(address: str, name: str, tools: int) -> None:
    """A host that answers at once."""
    registration = host_pb2.HostRegistration(host_id=name, max_concurrency=1000)
    for number in range(tools):
        tool = registration.tools.add(name=f"{name}_{number}", description="Says it. " * 10)
        tool.annotations.read_only = True
        tool.input_schema.update(_SCHEMA)
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = tool_service_pb2_grpc.ToolServiceStub(channel)
        stream = stub.HostTools()
        await stream.write(tool_service_pb2.HostToolsRequest(register=registration))
        while (message := await stream.read()) is not grpc.aio.EOF:
            match message.WhichOneof("message"):
                case "call":
                    result = host_pb2.HostCallResult(call_id=message.call.call_id, output="hello")
                    await stream.write(tool_service_pb2.HostToolsRequest(result=result))
                case "heartbeat":
                    await stream.write(tool_service_pb2.HostToolsRequest(heartbeat={}))


@dataclass
class Way:
    """One thing that is measured; milliseconds. `once` gives the seconds that it took."""

    name: str
    once: Callable[[], Awaitable[float]]
    medians: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    cpus: list[float] = field(default_factory=list)

    async def round(self, calls: int, pid: int, *, crowd: bool = True) -> None:
        cpu = spent(pid)
        took = [await self.once() * 1e3 for _ in range(calls)]
        self.cpus.append((spent(pid) - cpu) * 1e3 / calls)
        self.medians.append(statistics.median(took))
        self.late.append(sorted(took)[int(len(took) * 0.99)])
        if crowd:
            self.rates.append(await self._rate(calls))

    async def _rate(self, calls: int) -> float:
        left = iter(range(calls))

        async def caller() -> None:
            for _ in left:
                await self.once()

        started = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
        return calls / (time.perf_counter() - started)


def spent(pid: int) -> float:
    """Seconds on the clock of a process, see clock_getcpuclockid(3)."""
    return time.clock_gettime((~pid << 3) | 2)


def over(medians: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(medians, others, strict=True)]


@asynccontextmanager
async def bare(address: str) -> AsyncIterator[Way]:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = tool_service_pb2_grpc.ToolServiceStub(channel)
        stream = stub.HostTools()
        result = tool_service_pb2.HostToolsRequest(result=host_pb2.HostCallResult(call_id="0" * 36, output="hello"))

        async def once() -> float:
            started = time.perf_counter()
            await stream.write(result)
            await stream.read()
            return time.perf_counter() - started

        yield Way("bare bidirectional echo", once)


def calling(name: str, stub: Any, tool_id: str, given: Struct) -> Way:
    request = tool_service_pb2.CallToolRequest(tool_id=tool_id, arguments=given)

    async def once() -> float:
        started = time.perf_counter()
        answer = await stub.CallTool(request, timeout=60)
        assert not answer.is_error, answer
        return time.perf_counter() - started

    return Way(name, once)


def starting(name: str, stub: Any, agent_id: str, kind: str) -> Way:
    """From the request to an event of the run."""
    request = execution_service_pb2.ExecuteRequest(agent_id=agent_id, input="go")

    async def once() -> float:
        started, took = time.perf_counter(), 0.0
        async for event in stub.ExecuteStream(request, timeout=60):
            if not took and event.HasField(kind):
                took = time.perf_counter() - started
        return took

    return Way(name, once)


async def until_listed(stub: Any, tools: int) -> None:
    async with asyncio.timeout(60):
        while True:
            request = tool_service_pb2.ListToolsRequest(source="host", page_size=1000)
            if len((await stub.ListTools(request)).tools) == tools:
                return
            await asyncio.sleep(0.1)


async def run(report: Report, *, quick: bool) -> None:
    rounds = 3 if quick else ROUNDS
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        registry, router, first, second, echo = (free_port() for _ in range(5))
        env = {
            "DYNAMIC_AGENTS_DATA_DIR": str(folder),
            "DYNAMIC_AGENTS_REGISTRY_PORT": str(registry),
            "DYNAMIC_AGENTS_REGISTRY_ADDRESS": f"127.0.0.1:{registry}",
            "DYNAMIC_AGENTS_ROUTER_ADDRESS": f"127.0.0.1:{router}",
        }
        await enter(service("bench.hosts", "--echo", str(echo), port=echo))
        await enter(service("services.registry", port=registry, **env))
        await enter(service("bench.execution", "--router", str(router), port=router))
        replicas = [first]
        if POSTGRES in os.environ:
            from libs import database
            from services.execution.app import MIGRATIONS
            from services.execution.config import ExecutionSettings

            env["DYNAMIC_AGENTS_EXECUTION_DATABASE_URL"] = url = await enter(postgres())
            await database.migrate(ExecutionSettings.load(database_url=url), MIGRATIONS)
            replicas.append(second)
        stubs: list[tuple[Any, Any]] = []
        pids = []
        for port in replicas:
            own = {**env, "DYNAMIC_AGENTS_EXECUTION_PORT": str(port)}
            pids.append(await enter(service("services.execution", port=port, **own)))
            channel = await enter(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
            stubs.append(
                (
                    tool_service_pb2_grpc.ToolServiceStub(channel),
                    execution_service_pb2_grpc.ExecutionServiceStub(channel),
                )
            )
        at = f"127.0.0.1:{first}"
        await enter(process(sys.executable, "-m", "bench.hosts", "--host", at, "one", "1"))
        await enter(process(sys.executable, "-m", "bench.hosts", "--host", at, "many", str(TOOLS)))
        await until_listed(stubs[0][0], TOOLS + 1)
        await create(f"127.0.0.1:{registry}")
        calculation = Struct()
        calculation.update({"expression": "1"})
        calls = [
            await enter(bare(f"127.0.0.1:{echo}")),
            calling("CallTool builtin/calculator", stubs[0][0], "builtin/calculator", calculation),
            calling("CallTool host", stubs[0][0], "host/one_0", arguments()),
        ]
        if len(stubs) > 1:
            calls.append(calling("CallTool host, other process", stubs[1][0], "host/one_0", arguments()))
        starts = [
            starting(f"{tools} tools: {kind}", stubs[0][1], agent_id, kind)
            for kind in ("execution_started", "content_delta")
            for agent_id, tools in (("bare", 0), ("many", TOOLS))
        ]
        await alternate(calls, CALLS, rounds, pids[0], crowd=True)
        await alternate(starts, 30, rounds, pids[0], crowd=False)
    note(report, calls, starts)


async def create(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        agents: Any = agent_service_pb2_grpc.AgentServiceStub(channel)
        for agent_id, tools in (("bare", []), ("many", [{"tool_id": "host/many_*"}])):
            spec = agent_pb2.AgentSpec(model={"model": "any"}, tools=tools)
            agent = agent_pb2.Agent(agent_id=agent_id, spec=spec)
            await agents.CreateAgent(agent_service_pb2.CreateAgentRequest(agent=agent))


async def alternate(ways: Sequence[Way], calls: int, rounds: int, pid: int, *, crowd: bool) -> None:
    for one in ways:
        for _ in range(calls // 10):
            await one.once()
    for number in range(rounds):
        for one in ways if number % 2 else reversed(ways):
            await one.round(calls, pid, crowd=crowd and one is not ways[0])


def note(report: Report, calls: Sequence[Way], starts: Sequence[Way]) -> None:
    echo, own, *hosted = calls
    report.note("hosts", echo.name, "ms", echo.medians)
    for one in hosted:
        report.note("hosts", one.name, "ms", one.medians, against=own.name, baseline=own.medians)
        report.note(
            "hosts", f"{one.name}: calls/s, {AT_ONCE} at once", "", one.rates, against=own.name, baseline=own.rates
        )
        report.note("hosts", f"{one.name}: over the caller's own hop", "ms", over(one.medians, own.medians), most=2)
    for bare_, many in (starts[:2], starts[2:]):
        report.note("hosts", many.name, "ms", many.medians, against=bare_.name, baseline=bare_.medians)
        report.note("hosts", f"{many.name}: more than without", "ms", over(many.medians, bare_.medians), most=10)
        report.note("hosts", f"{many.name}: CPU of a run, more than without", "ms", over(many.cpus, bare_.cpus))


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    match sys.argv[1:]:
        case ["--echo", port]:
            uvloop.run(serve_echo(int(port)))
        case ["--host", address, name, tools]:
            uvloop.run(host(address, name, int(tools)))
