"""The Go CRM hosts its tools over a stream of its own; what is lost on the way, and what becomes of the runs."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest
from dynamicagents.execution.v1 import event_pb2, execution_service_pb2, execution_service_pb2_grpc
from dynamicagents.registry.v1 import agent_pb2, agent_service_pb2, agent_service_pb2_grpc
from dynamicagents.tools.v1 import tool_service_pb2, tool_service_pb2_grpc

from libs import database
from services.execution.app import MIGRATIONS
from services.execution.config import ExecutionSettings
from services.registry.config import RegistrySettings
from tests import harness
from tests.drill import Process, processes
from tests.scripted_router import ScriptedRouter, call, calls, text
from tests.suite.test_registry_process import free_port
from tests.suite_process import Suite

pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
TOOLS = [
    *("analyze_agent_messages", "assign_to_agent", "compare_agents", "get_agent_conversion_stats", "get_leads_count"),
    *("get_top_performing_agent", "qualify_lead", "update_pipeline_stage"),
]
LEASE = 1.5


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("go") / "crm-toolhost"
    source = ROOT / "examples" / "crm-toolhost"
    subprocess.run(["go", "build", "-o", str(made), "."], cwd=source, check=True, timeout=600)
    return made


def test_the_package() -> None:
    for module in ("go/toolhost", "examples/crm-toolhost"):
        subprocess.run(["go", "vet", "./..."], cwd=ROOT / module, check=True, timeout=600)
        subprocess.run(["go", "test", "-count=1", "./..."], cwd=ROOT / module, check=True, timeout=600)


@dataclass
class Crm:
    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)

    async def says(self, what: str, times: int = 1) -> str:
        """The line that begins so, once it has come so often."""
        assert self.process.stdout
        async with asyncio.timeout(60):
            while sum(line.startswith(what) for line in self.lines) < times:
                line = (await self.process.stdout.readline()).decode()
                assert line, f"the CRM has ended: {self.lines}"
                self.lines.append(line.strip())
        return [line for line in self.lines if line.startswith(what)][times - 1]

    async def end(self, number: int = signal.SIGKILL) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 60)


Start = Callable[..., Any]


@pytest.fixture
async def crm(binary: Path, tmp_path: Path) -> AsyncIterator[Start]:
    started: list[Crm] = []

    async def start(address: str, name: str, **options: str) -> Crm:
        arguments = [f"-{key}={value}" for key, value in {"execution": address, "id": name, **options}.items()]
        with (tmp_path / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                binary, *arguments, stdout=asyncio.subprocess.PIPE, stderr=log
            )
        started.append(Crm(process))
        await started[-1].says("registered")
        return started[-1]

    yield start
    for one in started:
        await one.end()


class At:
    """An Execution, with agents in its Registry."""

    def __init__(self, registry: grpc.aio.Channel, execution: grpc.aio.Channel) -> None:
        self.agents: Any = agent_service_pb2_grpc.AgentServiceStub(registry)
        self.executions: Any = execution_service_pb2_grpc.ExecutionServiceStub(execution)
        self.tools: Any = tool_service_pb2_grpc.ToolServiceStub(execution)

    async def create(self, agent_id: str, model: str) -> None:
        spec = agent_pb2.AgentSpec(model={"model": model}, tools=[{"tool_id": "host/*"}])
        agent = agent_pb2.Agent(agent_id=agent_id, spec=spec)
        await self.agents.CreateAgent(agent_service_pb2.CreateAgentRequest(agent=agent))

    def run(self, agent_id: str, said: str) -> asyncio.Task[list[event_pb2.ExecuteEvent]]:
        async def read() -> list[event_pb2.ExecuteEvent]:
            request = execution_service_pb2.ExecuteRequest(agent_id=agent_id, input=said)
            return [event async for event in self.executions.ExecuteStream(request, timeout=120)]

        return asyncio.create_task(read())

    async def listed(self) -> list[str]:
        answer = await self.tools.ListTools(tool_service_pb2.ListToolsRequest(source="host"))
        return [tool.tool_id for tool in answer.tools]


@asynccontextmanager
async def reaching(registry: str, execution: str) -> AsyncIterator[At]:
    async with grpc.aio.insecure_channel(registry) as one, grpc.aio.insecure_channel(execution) as other:
        yield At(one, other)


def answers(events: list[event_pb2.ExecuteEvent]) -> list[event_pb2.ToolCallCompleted]:
    return [event.tool_call_completed for event in events if event.HasField("tool_call_completed")]


async def test_an_agent_uses_three_tools_of_the_crm_in_one_run(suite: Suite, crm: Start) -> None:
    async with reaching(suite.address("registry"), suite.address("execution")) as at:
        host = await crm(suite.address("execution"), "crm-1")
        assert await at.listed() == [f"host/{name}" for name in TOOLS]
        await at.create("analyst", "offline")
        events = await at.run(
            "analyst",
            'get_leads_count({"period": "week"}), then get_top_performing_agent({"period": "all"}) '
            'and assign_to_agent({"lead_id": "lead-01", "agent_id": "ana", "priority": "high"}), please.',
        )
        assert events[-1].HasField("execution_completed"), events[-1]
        done = answers(events)
        assert [one.tool_id for one in done] == [
            "host/get_leads_count",
            "host/get_top_performing_agent",
            "host/assign_to_agent",
        ]
        assert not any(one.is_error for one in done), done
        assert orjson.loads(done[0].output) == {"count": 19}
        assert set(orjson.loads(done[1].output)) == {"agent_id", "name", "leads", "won", "conversion_rate"}
        assert orjson.loads(done[2].output)["priority"] == "high"
        keys = [(await host.says("call", n)).split()[3] for n in (1, 2, 3)]
        assert all(key.startswith(f"{events[0].execution_id}/") for key in keys)
        assert await host.end(signal.SIGTERM) == 0
        assert await at.listed() == []


async def test_killing_the_crm_while_it_makes_a_call(
    suite: Suite, crm: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    async with reaching(suite.address("registry"), suite.address("execution")) as at:
        await at.create("worker", "offline")
        slow = await crm(suite.address("execution"), "crm-slow", delay="60s")
        running = at.run("worker", 'assign_to_agent({"lead_id": "lead-01", "agent_id": "ana"})')
        await slow.says("call")
        killed = time.perf_counter()
        await slow.end()
        events = await running
        took = time.perf_counter() - killed
        (done,) = answers(events)
        assert done.is_error
        assert "whether it did anything is not known" in done.output
        assert events[-1].HasField("execution_completed")

        slow = await crm(suite.address("execution"), "crm-slow", delay="60s")
        running = at.run("worker", 'get_leads_count({"period": "all"})')
        await slow.says("call")
        spare = await crm(suite.address("execution"), "crm-2")
        killed = time.perf_counter()
        await slow.end()
        events = await running
        again = time.perf_counter() - killed
        (done,) = answers(events)
        assert (orjson.loads(done.output), done.is_error) == ({"count": 48}, False)
        assert (await spare.says("call")).split()[3] == slow.lines[-1].split()[3]
        with capsys.disabled():
            print(
                f"\nCRM killed in a call: the run had ended {took * 1000:.0f} ms later, told that the outcome is "
                f"unknown; one of a read-only tool was made by another host: {again * 1000:.0f} ms"
            )


@dataclass
class Replicas:
    registry: str
    processes: list[Process]
    router: ScriptedRouter


@pytest.fixture
async def replicas(database_settings: dict[str, Any], tmp_path: Path) -> AsyncIterator[Replicas]:
    (tmp_path / "effects").mkdir()
    settings = ExecutionSettings.load(**database_settings)
    await database.migrate(settings, MIGRATIONS)
    registry_settings = RegistrySettings.load(port=0, data_dir=tmp_path / "registry")
    router = ScriptedRouter()
    async with harness.registry(registry_settings) as (registry, _), router.serving() as address:
        shared = {"registry_address": registry.address, "router_address": address, "host_patience": "30"}
        shared |= {"database_url": settings.database, "database_pool_size": "4", "lease": str(LEASE)}
        async with processes([free_port(), free_port()], tmp_path / "effects", shared) as started:
            yield Replicas(registry.address, started, router)


@harness.only_postgres
async def test_killing_the_replica_that_holds_the_stream(
    replicas: Replicas, crm: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run is on the other one, and the CRM finds its way there."""
    holds, runs = replicas.processes
    async with reaching(replicas.registry, runs.address) as at:
        await at.create("worker", "any")
        addresses = f"{holds.address},{runs.address}"
        host = await crm(addresses, "crm-1", delay="1s")
        assert await at.listed() == [f"host/{name}" for name in TOOLS]

        replicas.router.turns = [calls(call("get_leads_count", '{"period": "all"}')), text("done")]
        running = at.run("worker", "go")
        await host.says("call")
        killed = time.perf_counter()
        await holds.end()
        await host.says("registered", 2)
        back = time.perf_counter() - killed
        events = await running
        took = time.perf_counter() - killed
        (done,) = answers(events)
        assert (orjson.loads(done.output), done.is_error) == ({"count": 48}, False)
        first, second = [(await host.says("call", n)).split()[3] for n in (1, 2)]
        assert first == second
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))

        # It holds the stream now; the run is on the one that has just come back.
        await holds.start()
        async with reaching(replicas.registry, holds.address) as beside:
            replicas.router.requests.clear()
            replicas.router.turns = [
                calls(call("assign_to_agent", '{"lead_id": "lead-01", "agent_id": "ana"}')),
                text("done"),
            ]
            running = beside.run("worker", "go")
            await host.says("call", 3)
            killed = time.perf_counter()
            await runs.end()
            events = await running
            in_doubt = time.perf_counter() - killed
            (done,) = answers(events)
            assert done.is_error
            assert "whether it did anything is not known" in done.output
            assert events[-1].HasField("execution_completed")
            await host.says("registered", 3)
            assert await beside.listed() == [f"host/{name}" for name in TOOLS]
    with capsys.disabled():
        print(
            f"\nreplica with the stream killed in a call: the CRM was back after {back * 1000:.0f} ms, the call of a "
            f"read-only tool (1 s) was made again under its key and its run had ended after {took * 1000:.0f} ms; "
            f"one that may not be repeated was told of after {in_doubt * 1000:.0f} ms"
        )


@harness.only_postgres
async def test_killing_the_replica_with_the_stream_and_the_run(
    replicas: Replicas, crm: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = replicas.processes
    async with reaching(replicas.registry, first.address) as at, reaching(replicas.registry, second.address) as beside:
        await at.create("worker", "any")
        host = await crm(f"{first.address},{second.address}", "crm-1", delay="1s")
        # The run's two calls of the model have their place in the script by their number.
        replicas.router.turns = [calls(call("get_leads_count", '{"period": "all"}')), text("done")]
        running = at.run("worker", "go")
        await host.says("call")
        killed = time.perf_counter()
        await first.end()
        with pytest.raises(grpc.aio.AioRpcError):
            await running
        listed = await beside.executions.ListExecutions(execution_service_pb2.ListExecutionsRequest())
        watch = execution_service_pb2.WatchExecutionRequest(execution_id=listed.executions[0].execution_id)
        events = [answer.event async for answer in beside.executions.WatchExecution(watch, timeout=120)]
        took = time.perf_counter() - killed
        (done,) = answers(events)
        assert (orjson.loads(done.output), done.is_error) == ({"count": 48}, False)
        assert events[-1].HasField("execution_completed")
        assert len({(await host.says("call", n)).split()[3] for n in (1, 2)}) == 1
    with capsys.disabled():
        print(
            f"\nreplica with stream and run killed in a call: run taken up (lease {LEASE} s), call made again under "
            f"its key by the CRM, which had connected to the other; ended after {took:.1f} s"
        )
