"""Runs of Execution, whose model says what it is told to."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
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
from dynamicagents.router.v1 import chat_pb2, router_service_pb2, router_service_pb2_grpc
from google.protobuf.json_format import ParseDict

from bench.gate.counting import Work, settle
from services.execution.app import app
from services.execution.config import ExecutionSettings

_TOKENS: Final = 5
_REPLAYED: Final = 200
_MORE: Final = 10
"""Calls of tools, and steps of a workflow, more than one: so many that a commit more or less of a run is no matter."""
_TOKEN, _WORDS = "tokens", "words"
"""Models; the first is that of an agent with the same name."""
_TOOL: Final = "builtin/calculator"
_STEP: Final = {"function": {"tool_id": _TOOL, "arguments": {"expression": "'1 + 1'"}}}
_USAGE: Final = chat_pb2.Usage(input_tokens=9, output_tokens=1, total_tokens=10)
_LAST: Final = chat_pb2.ChatChunk(text="yes", finish_reason=chat_pb2.FINISH_REASON_STOP, usage=_USAGE)
"""A turn is one message: of two, the second may come before the first is committed, or after."""
_CALL: Final = chat_pb2.ChatChunk(
    tool_calls=[chat_pb2.ToolCall(call_id="call", name="calculator", arguments='{"expression": "1 + 1"}')],
    finish_reason=chat_pb2.FINISH_REASON_TOOL_CALLS,
    usage=_USAGE,
)


class Script(router_service_pb2_grpc.RouterServiceServicer):
    """A Router whose models say what is put into them, up to the end of a turn."""

    def __init__(self) -> None:
        self._chunks: dict[str, asyncio.Queue[chat_pb2.ChatChunk]] = defaultdict(asyncio.Queue)

    def say(self, model: str, *chunks: chat_pb2.ChatChunk) -> None:
        for chunk in chunks:
            self._chunks[model].put_nowait(chunk)

    async def ChatStream(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        chunk = chat_pb2.ChatChunk()
        while not chunk.finish_reason:
            chunk = await self._chunks[request.model].get()
            yield router_service_pb2.ChatStreamResponse(chunk=chunk)


class Client:
    """One caller, and the model that its runs ask."""

    def __init__(self, channel: grpc.aio.Channel, script: Script) -> None:
        self._stub: Any = execution_service_pb2_grpc.ExecutionServiceStub(channel)
        self._script = script

    async def execute(self, *chunks: chat_pb2.ChatChunk, **target: str) -> execution_pb2.Execution:
        self._script.say(_WORDS, *chunks)
        request = execution_service_pb2.ExecuteRequest(input="hi", **target)  # type: ignore[arg-type]
        ended: execution_pb2.Execution = (await self._stub.Execute(request)).execution
        assert ended.status == execution_pb2.EXECUTION_STATUS_COMPLETED, ended
        return ended

    def running(self, *chunks: chat_pb2.ChatChunk, **target: str) -> Callable[[], Awaitable[object]]:
        return lambda: self.execute(*chunks, **target)

    async def begin(self) -> Any:
        stream = self._stub.ExecuteStream(execution_service_pb2.ExecuteRequest(input="hi", agent_id=_TOKEN))
        assert (await stream.read()).HasField("execution_started")
        return stream

    async def tokens(self, stream: Any, count: int) -> None:
        """Each is said when the one before has come."""
        for number in range(count):
            self._script.say(_TOKEN, chat_pb2.ChatChunk(text=f" token{number % 10}"))
            assert (await stream.read()).content_delta.text
            await settle()

    async def end(self, stream: Any) -> str:
        self._script.say(_TOKEN, _LAST)
        execution_id = ""
        while (event := await stream.read()) is not grpc.aio.EOF:
            execution_id = event.execution_id
        return execution_id

    async def replay(self, execution_id: str) -> None:
        async for _ in self._stub.WatchExecution(
            execution_service_pb2.WatchExecutionRequest(execution_id=execution_id)
        ):
            pass


@asynccontextmanager
async def works(folder: Path, registry: str) -> AsyncIterator[list[Work]]:
    await _configure(registry)
    script = Script()  # type: ignore[abstract]
    router = grpc.aio.server(options=[("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000)])
    router_service_pb2_grpc.add_RouterServiceServicer_to_server(script, router)
    address = f"127.0.0.1:{router.add_insecure_port('127.0.0.1:0')}"
    await router.start()
    settings = ExecutionSettings.load(
        port=0,
        data_dir=folder / "execution",
        registry_address=registry,
        router_address=address,
        lease=600,
        commit_window=0,
    )
    async with app(settings, None) as server, grpc.aio.insecure_channel(server.address) as channel:
        client = Client(channel, script)
        ended = await client.begin()
        await client.tokens(ended, _REPLAYED)
        replayed = await client.end(ended)
        stream = await client.begin()
        yield [
            Work("token through Execution", lambda: client.tokens(stream, _TOKENS), _TOKENS),
            Work("event replayed", lambda: client.replay(replayed), _REPLAYED),
            Work("run of one word", client.running(_LAST, agent_id="helper")),
            Work(
                "call of a tool, with its model turn",
                client.running(*[_CALL] * (1 + _MORE), _LAST, agent_id="worker"),
                _MORE,
                client.running(_CALL, _LAST, agent_id="worker"),
            ),
            Work(
                "step of a workflow",
                client.running(workflow_id=f"steps-{1 + _MORE}"),
                _MORE,
                client.running(workflow_id="steps-1"),
            ),
        ]
        await client.end(stream)
    await router.stop(None)


async def _configure(registry: str) -> None:
    async with grpc.aio.insecure_channel(registry) as channel:
        agents: Any = agent_service_pb2_grpc.AgentServiceStub(channel)
        for agent_id, model, tools in ((_TOKEN, _TOKEN, []), ("helper", _WORDS, []), ("worker", _WORDS, [_TOOL])):
            named = [{"tool_id": tool_id} for tool_id in tools]
            spec = agent_pb2.AgentSpec(model={"model": model}, tools=named)
            agent = agent_pb2.Agent(agent_id=agent_id, spec=spec)
            await agents.CreateAgent(agent_service_pb2.CreateAgentRequest(agent=agent))
        flows: Any = workflow_service_pb2_grpc.WorkflowServiceStub(channel)
        for count in (1, 1 + _MORE):
            steps = [{"step_id": f"s{number}", **_STEP} for number in range(count)]
            made = ParseDict({"workflow_id": f"steps-{count}", "spec": {"steps": steps}}, workflow_pb2.Workflow())
            await flows.CreateWorkflow(workflow_service_pb2.CreateWorkflowRequest(workflow=made))
