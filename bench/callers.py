"""One caller of Registry, and one of Execution."""

from __future__ import annotations

from typing import Any, Final

import grpc
from dynamicagents.execution.v1 import execution_pb2, execution_service_pb2, execution_service_pb2_grpc
from dynamicagents.registry.v1 import (
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    workflow_pb2,
    workflow_service_pb2,
    workflow_service_pb2_grpc,
)
from dynamicagents.tools.v1 import tool_service_pb2_grpc
from google.protobuf import field_mask_pb2
from google.protobuf.json_format import ParseDict

_STEP: Final = {"function": {"tool_id": "builtin/calculator", "arguments": {"expression": "'1 + 1'"}}}


class Agents:
    """Registry, asked by one caller."""

    def __init__(self, pid: int, channel: grpc.aio.Channel) -> None:
        self.pid = pid
        self._stub: Any = agent_service_pb2_grpc.AgentServiceStub(channel)
        self._flows: Any = workflow_service_pb2_grpc.WorkflowServiceStub(channel)

    async def create(self, agent_id: str, model: str = "1", **spec: Any) -> None:
        agent = agent_pb2.Agent(agent_id=agent_id, spec=agent_pb2.AgentSpec(model={"model": model}, **spec))
        await self._stub.CreateAgent(agent_service_pb2.CreateAgentRequest(agent=agent))

    async def describe_flow(self, workflow_id: str, count: int) -> None:
        steps = [{"step_id": f"s{number}", **_STEP} for number in range(count)]
        made = ParseDict({"workflow_id": workflow_id, "spec": {"steps": steps}}, workflow_pb2.Workflow())
        await self._flows.CreateWorkflow(workflow_service_pb2.CreateWorkflowRequest(workflow=made))

    async def revise(self, agent_id: str, number: int) -> None:
        agent = agent_pb2.Agent(agent_id=agent_id, description=f"number {number}")
        mask = field_mask_pb2.FieldMask(paths=["description"])
        await self._stub.UpdateAgent(agent_service_pb2.UpdateAgentRequest(agent=agent, update_mask=mask))

    async def get(self, agent_id: str = "agent-00001", revision: int = 0) -> None:
        await self._stub.GetAgent(agent_service_pb2.GetAgentRequest(agent_id=agent_id, revision=revision))

    async def page(self, order_by: str = "") -> None:
        await self._stub.ListAgents(agent_service_pb2.ListAgentsRequest(page_size=20, order_by=order_by))

    async def history(self, agent_id: str) -> None:
        request = agent_service_pb2.ListAgentRevisionsRequest(agent_id=agent_id, page_size=20)
        await self._stub.ListAgentRevisions(request)


class Runs:
    """An Execution, asked by one caller."""

    def __init__(self, pid: int, channel: grpc.aio.Channel) -> None:
        self.pid = pid
        self.tools: Any = tool_service_pb2_grpc.ToolServiceStub(channel)
        self._stub: Any = execution_service_pb2_grpc.ExecutionServiceStub(channel)

    async def run(self, agent_id: str = "word", session_id: str = "") -> Any:
        request = execution_service_pb2.ExecuteRequest(agent_id=agent_id, input="hi", session_id=session_id)
        ended = (await self._stub.Execute(request, timeout=120)).execution
        assert ended.status == execution_pb2.EXECUTION_STATUS_COMPLETED, ended
        return ended

    async def flow(self, workflow_id: str) -> None:
        request = execution_service_pb2.ExecuteRequest(workflow_id=workflow_id, input="hi")
        await self._stub.Execute(request, timeout=120)

    async def watch(self, ended: Any, after: int = 0) -> None:
        request = execution_service_pb2.WatchExecutionRequest(execution_id=ended.execution_id, after_sequence=after)
        seen = sum([1 async for _ in self._stub.WatchExecution(request, timeout=60)])
        assert seen == ended.last_sequence - after, seen

    async def sessions(self, **asked: Any) -> None:
        await self._stub.ListSessions(execution_service_pb2.ListSessionsRequest(page_size=20, **asked))

    async def executions(self, **asked: Any) -> None:
        await self._stub.ListExecutions(execution_service_pb2.ListExecutionsRequest(page_size=20, **asked))
