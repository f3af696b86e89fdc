"""What a step of a workflow costs, beside a bare run of an agent.

It is measured on SQLite, and on PostgreSQL where DYNAMIC_AGENTS_TEST_POSTGRES names one. Execution, Registry and a stub
of Router that answers with one word are processes of their own; the CPU is that of Execution. "A step more" is what a
workflow of many takes more than one of a single step, by the number of the others; a condition or a wait is the
overhead alone, a tool adds its call with its two commits, an agent its run. The rounds alternate.
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
    workflow_pb2,
    workflow_service_pb2,
    workflow_service_pb2_grpc,
)
from dynamicagents.router.v1 import chat_pb2, router_service_pb2, router_service_pb2_grpc
from google.protobuf.json_format import ParseDict

from bench.execution import POSTGRES, postgres, service
from bench.report import Report
from bench.serving import serve
from bench.streams import free_port
from libs import database

STEPS: Final = 21
BRANCHES: Final = 50
WAITING: Final = 1000
THINKS: Final = 0.3
"""Seconds that a model takes in the rows "thinking"."""
_AGENT: Final = {"agent": {"agent_id": "helper"}}
_THINKER: Final = {"agent": {"agent_id": "thinker"}}
_TOOL: Final = {"function": {"tool_id": "builtin/calculator", "arguments": {"expression": "'1 + 1'"}}}


def _row(what: Mapping[str, Any], count: int, prefix: str = "s") -> list[dict[str, Any]]:
    return [{"step_id": f"{prefix}{number}", **what} for number in range(count)]


def _wide(what: Mapping[str, Any]) -> list[dict[str, Any]]:
    branches = [{"steps": [one]} for one in _row(what, BRANCHES, "b")]
    return [{"step_id": "p", "parallel": {"branches": branches}}]


def _check(number: int) -> dict[str, Any]:
    inner = {"step_id": f"w{number}", "wait": {"time": "timestamp('2020-01-01T00:00:00Z')"}}
    return {"step_id": f"c{number}", "condition": {"condition": "input != ''", "then": {"steps": [inner]}}}


FLOWS: Final[Mapping[str, list[dict[str, Any]]]] = {
    "agent-1": _row(_AGENT, 1),
    f"agent-{STEPS}": _row(_AGENT, STEPS),
    "tool-1": _row(_TOOL, 1),
    f"tool-{STEPS}": _row(_TOOL, STEPS),
    "check-1": [_check(0)],
    f"check-{STEPS}": [_check(number) for number in range(STEPS)],
    "wide": _wide(_AGENT),
    "thinking-1": _row(_THINKER, 1),
    "thinking": _wide(_THINKER),
    "waits": [{"step_id": "w", "wait": {"signal": "go"}}],
}


class Router(router_service_pb2_grpc.RouterServiceServicer):
    """One word, for the model "thinks" after a while."""

    async def ChatStream(  # noqa: N802
        self, request: router_service_pb2.ChatStreamRequest, context: Any
    ) -> AsyncIterator[router_service_pb2.ChatStreamResponse]:
        if request.model == "thinks":
            await asyncio.sleep(THINKS)
        usage = chat_pb2.Usage(output_tokens=1)
        last = chat_pb2.ChatChunk(text="yes", finish_reason=chat_pb2.FINISH_REASON_STOP, usage=usage)
        yield router_service_pb2.ChatStreamResponse(chunk=last)


async def serve_router(port: int) -> None:
    await serve(router_service_pb2_grpc.add_RouterServiceServicer_to_server, Router(), port)  # type: ignore[abstract]


@dataclass
class Target:
    """An Execution, and what runs on it took: wall and CPU, in seconds."""

    name: str
    pid: int
    stub: Any
    took: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    def cpu(self) -> float:
        return time.clock_gettime((~self.pid << 3) | 2)

    async def run(self, **target: Any) -> None:
        request = execution_service_pb2.ExecuteRequest(input="hi", **target)
        ended = (await self.stub.Execute(request, timeout=120)).execution
        if ended.status != execution_pb2.EXECUTION_STATUS_COMPLETED:
            raise RuntimeError(f"{target}: {ended.error.message}")

    async def measure(self, name: str, **target: Any) -> None:
        cpu, started = self.cpu(), time.perf_counter()
        await self.run(**target)
        self.took[name].append((time.perf_counter() - started, self.cpu() - cpu))

    def figures(self, name: str, what: int) -> list[float]:
        """Milliseconds of each round: of the wall (0) or of the CPU (1)."""
        return [one[what] * 1e3 for one in self.took[name]]

    def per_step(self, kind: str, what: int, steps: int = 1) -> list[float]:
        """A check is a condition and a wait within it."""
        rounds = zip(self.figures(f"{kind}-{STEPS}", what), self.figures(f"{kind}-1", what), strict=True)
        return [(many - one) / (STEPS - 1) / steps for many, one in rounds]

    async def rate(self, seconds: float, at_once: int, **target: Any) -> float:
        """Runs a second."""
        until, done = time.perf_counter() + seconds, 0

        async def client() -> None:
            nonlocal done
            while time.perf_counter() < until:
                await self.run(**target)
                done += 1

        await asyncio.gather(*(client() for _ in range(at_once)))
        return done / seconds

    async def waiting(self, seconds: float) -> tuple[float, float]:
        """The share of a CPU that waiting workflows take, and what none take."""
        before = await self._idle(seconds)
        goes_on = execution_service_pb2.ON_DISCONNECT_CONTINUE
        for _ in range(WAITING // 50):
            asked = execution_service_pb2.ExecuteRequest(workflow_id="waits", input="hi", on_disconnect=goes_on)
            calls = [self.stub.ExecuteStream(asked) for _ in range(50)]
            for call in calls:
                while (await call.read()).WhichOneof("event") != "wait_started":
                    pass
                call.cancel()
        await asyncio.sleep(3)
        return await self._idle(seconds), before

    async def _idle(self, seconds: float) -> float:
        cpu = self.cpu()
        await asyncio.sleep(seconds)
        return (self.cpu() - cpu) / seconds


async def configure(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        agents: Any = agent_service_pb2_grpc.AgentServiceStub(channel)
        for agent_id, model in (("helper", "any"), ("thinker", "thinks")):
            agent = agent_pb2.Agent(agent_id=agent_id, spec=agent_pb2.AgentSpec(model={"model": model}))
            await agents.CreateAgent(agent_service_pb2.CreateAgentRequest(agent=agent))
        flows: Any = workflow_service_pb2_grpc.WorkflowServiceStub(channel)
        for name, steps in FLOWS.items():
            made = ParseDict({"workflow_id": name, "spec": {"steps": steps}}, workflow_pb2.Workflow())
            await flows.CreateWorkflow(workflow_service_pb2.CreateWorkflowRequest(workflow=made))


async def targets(stack: AsyncExitStack, folder: Path) -> list[Target]:
    from services.execution.app import MIGRATIONS
    from services.execution.config import ExecutionSettings

    enter = stack.enter_async_context
    registry, router = free_port(), free_port()
    env = {"DYNAMIC_AGENTS_DATA_DIR": str(folder), "DYNAMIC_AGENTS_REGISTRY_PORT": str(registry)}
    await enter(service("services.registry", port=registry, **env))
    await enter(service("bench.workflow", "--router", str(router), port=router))
    await configure(f"127.0.0.1:{registry}")
    made = []
    for name in ("SQLite", *(("PostgreSQL",) if POSTGRES in os.environ else ())):
        port = free_port()
        own = {
            "DYNAMIC_AGENTS_EXECUTION_PORT": str(port),
            "DYNAMIC_AGENTS_EXECUTION_MAX_EXECUTIONS": "1000",
            "DYNAMIC_AGENTS_REGISTRY_ADDRESS": f"127.0.0.1:{registry}",
            "DYNAMIC_AGENTS_ROUTER_ADDRESS": f"127.0.0.1:{router}",
            "DYNAMIC_AGENTS_DATA_DIR": f"{folder}/{port}",
        }
        if name == "PostgreSQL":
            own["DYNAMIC_AGENTS_EXECUTION_DATABASE_URL"] = url = await enter(postgres())
            await database.migrate(ExecutionSettings.load(database_url=url), MIGRATIONS)
        pid = await enter(service("services.execution", port=port, **{**env, **own}))
        channel = await enter(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        made.append(Target(name, pid, execution_service_pb2_grpc.ExecutionServiceStub(channel)))
    return made


async def run(report: Report, *, quick: bool) -> None:
    rounds, seconds = (5, 3.0) if quick else (25, 10.0)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        measured = await targets(stack, folder)
        names = [name for name in FLOWS if name != "waits"]
        for one in measured:
            for name in names:
                await one.run(workflow_id=name)
        for number in range(rounds):
            for one in measured if number % 2 else reversed(measured):
                await one.measure("bare", agent_id="helper")
                for name in names:
                    await one.measure(name, workflow_id=name)
        for one in measured:
            note(report, one)
            await load(report, one, seconds)


def note(report: Report, one: Target) -> None:
    for what, told, most in ((0, "ms", 5.0), (1, "ms of CPU", 2.0)):
        beside = {"against": "bare run of the agent", "baseline": one.figures("bare", what)}
        report.note("workflow", f"{one.name}: of one agent", told, one.figures("agent-1", what), **beside)
        for kind, said, steps in (("check", "condition or wait", 2), ("tool", "tool", 1), ("agent", "agent", 1)):
            report.note(
                "workflow", f"{one.name}: a step more, {said}", told, one.per_step(kind, what, steps), most=most
            )
        for wide, single, said in (("wide", "agent-1", "at once"), ("thinking", "thinking-1", f"that take {THINKS} s")):
            beside = {"against": "one of them", "baseline": one.figures(single, what)}
            aim = {"most": 3.0} if wide == "thinking" and what == 0 else {}
            name = f"{one.name}: {BRANCHES} agents {said}, side by side"
            report.note("workflow", name, told, one.figures(wide, what), **beside, **aim)


async def load(report: Report, one: Target, seconds: float) -> None:
    bare = await one.rate(seconds, 16, agent_id="helper")
    flows = await one.rate(seconds, 16, workflow_id="agent-1")
    beside = {"against": "bare runs of the agent", "baseline": [bare]}
    report.note("workflow", f"{one.name}: of one agent, 16 at once", "a second", flows, **beside)
    waiting, idle = await one.waiting(seconds)
    beside = {"against": "none", "baseline": [idle * 100]}
    report.note("workflow", f"{one.name}: {WAITING} that wait", "% of a CPU", waiting * 100, **beside)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--router", port]:
            uvloop.run(serve_router(int(port)))
