"""A thousand executions at once, on embedded defaults: the queue takes what the slots do not."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
from dynamicagents.execution.v1 import execution_pb2, execution_service_pb2, execution_service_pb2_grpc
from dynamicagents.registry.v1 import agent_pb2, agent_service_pb2, agent_service_pb2_grpc

from tests.suite.test_up import _pid_on
from tests.suite_process import Suite

MANY = 1000


async def test_a_thousand_executions_at_once(suite: Suite) -> None:
    spec = agent_pb2.AgentSpec(model={"model": "offline"}, tools=[{"tool_id": "builtin/calculator"}])
    made = agent_pb2.Agent(agent_id="crowd", spec=spec)
    async with grpc.aio.insecure_channel(suite.address("registry")) as channel:
        agents: Any = agent_service_pb2_grpc.AgentServiceStub(channel)
        await agents.CreateAgent(agent_service_pb2.CreateAgentRequest(agent=made))
    async with grpc.aio.insecure_channel(suite.address("execution")) as channel:
        stub: Any = execution_service_pb2_grpc.ExecutionServiceStub(channel)
        before, started = _memory(suite, "VmRSS"), time.perf_counter()
        requests = [
            execution_service_pb2.ExecuteRequest(agent_id="crowd", input=f"What is {n} * 2?") for n in range(MANY)
        ]
        ended = await asyncio.gather(*(stub.Execute(request, timeout=110) for request in requests))
        took = time.perf_counter() - started
    print(f"{MANY} executions in {took:.1f} s; memory {before} MiB before, {_memory(suite, 'VmHWM')} MiB at most")
    assert {one.execution.status for one in ended} == {execution_pb2.EXECUTION_STATUS_COMPLETED}
    assert [one.execution.output for one in ended] == [f"The result is {2 * n}." for n in range(MANY)]


def _memory(suite: Suite, what: str) -> int:
    """MiB of the process that serves Execution."""
    port = suite.address("execution").rpartition(":")[2]
    status = Path(f"/proc/{_pid_on(int(port))}/status").read_text()
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith(what))
