"""What Execution adds to a tool of a gRPC provider: CallTool beside the provider's own method, called directly.

Registry, Execution and a provider that speaks all three protocols run in processes of their own; the rounds alternate.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Final

import grpc
import uvloop
from dynamicagents.registry.v1 import tool_provider_pb2, tool_provider_service_pb2, tool_provider_service_pb2_grpc
from dynamicagents.tools.v1 import tool_provider_service_pb2 as provider_pb2
from dynamicagents.tools.v1 import tool_provider_service_pb2_grpc as provider_grpc
from dynamicagents.tools.v1 import tool_service_pb2, tool_service_pb2_grpc
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import StringValue
from mcp_grpc_transport_proto import mcp_messages_pb2 as mcp_pb2
from mcp_grpc_transport_proto import mcp_pb2_grpc

from bench.report import Report
from bench.secrets import process
from bench.streams import free_port
from tests import crm_service, google_mcp_server, tool_provider

CALLS: Final = 300
ROUNDS: Final = 10
CONCURRENCY: Final = 32
Call = Callable[[], Awaitable[Any]]


async def provide() -> None:
    """Serves all three, and prints where."""
    async with tool_provider.serving() as own, crm_service.serving() as crm:
        own.requests, own.metadata, crm.calls = _Forgetful(), _Forgetful(), _Forgetful()
        google = grpc.aio.server()
        mcp_pb2_grpc.add_McpServicer_to_server(google_mcp_server.Servicer(""), google)
        port = google.add_insecure_port("127.0.0.1:0")
        await google.start()
        print(own.address, f"127.0.0.1:{port}", crm.address, flush=True)
        await asyncio.Event().wait()


class _Forgetful(list[Any]):
    def append(self, _: Any) -> None: ...


async def started(stack: AsyncExitStack) -> list[str]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.providers", stdout=asyncio.subprocess.PIPE
    )
    stack.callback(child.kill)
    assert child.stdout is not None
    return (await child.stdout.readline()).decode().split()


async def latency(call: Call) -> float:
    """Milliseconds of the median call, one after another."""
    took = []
    for _ in range(CALLS):
        began = time.perf_counter()
        await call()
        took.append(time.perf_counter() - began)
    return 1000 * statistics.median(took)


async def rate(call: Call) -> float:
    """Calls a second, some at a time."""
    left = iter(range(CALLS))

    async def caller() -> None:
        for _ in left:
            await call()

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CONCURRENCY)))
    return CALLS / (time.perf_counter() - began)


async def run(report: Report, *, quick: bool) -> None:
    async with AsyncExitStack() as stack:
        own, google, crm = await started(stack)
        folder, port = stack.enter_context(tempfile.TemporaryDirectory()), free_port()
        common = {
            **os.environ,
            "DYNAMIC_AGENTS_DATA_DIR": folder,
            "DYNAMIC_AGENTS_REGISTRY_PORT": str(port),
            "DYNAMIC_AGENTS_REGISTRY_ADDRESS": f"127.0.0.1:{port}",
            "DYNAMIC_AGENTS_EXECUTION_PORT": "0",
        }
        registry = await stack.enter_async_context(process("services.registry", **common))
        await register(registry, "own", own, tool_provider_pb2.TOOL_PROTOCOL_PROVIDER)
        await register(registry, "google", google, tool_provider_pb2.TOOL_PROTOCOL_MCP)
        await register(registry, "crm", crm, tool_provider_pb2.TOOL_PROTOCOL_REFLECTION, methods=["crm.v1.*"])
        execution = await stack.enter_async_context(process("services.execution", **common))
        channels = [await stack.enter_async_context(grpc.aio.insecure_channel(one)) for one in (own, google, crm)]
        for name, (direct, through) in pairs(execution, *channels).items():
            await compare(report, name, direct, through, 3 if quick else ROUNDS)


async def register(registry: grpc.aio.Channel, name: str, address: str, protocol: Any, **spec: Any) -> None:
    stub = tool_provider_service_pb2_grpc.ToolProviderConfigServiceStub(registry)
    spec = {"address": address, "protocol": protocol, **spec}
    made = tool_provider_pb2.ToolProvider(tool_provider_id=name, spec=tool_provider_pb2.ToolProviderSpec(**spec))
    await stub.CreateToolProvider(tool_provider_service_pb2.CreateToolProviderRequest(tool_provider=made))


def pairs(
    execution: grpc.aio.Channel, own: grpc.aio.Channel, google: grpc.aio.Channel, crm: grpc.aio.Channel
) -> dict[str, tuple[Call, Call]]:
    """Each tool, called directly and through Execution."""
    tools: Any = tool_service_pb2_grpc.ToolServiceStub(execution)
    provider: Any = provider_grpc.ToolProviderServiceStub(own)
    mcp: Any = mcp_pb2_grpc.McpStub(google)
    say: Any = crm.unary_unary(f"/{crm_service.SERVICE}/Say", StringValue.SerializeToString, StringValue.FromString)

    def through(tool_id: str, **arguments: Any) -> Call:
        request = tool_service_pb2.CallToolRequest(tool_id=tool_id, arguments=_struct(arguments))
        return lambda: tools.CallTool(request)

    asked = provider_pb2.ExecuteToolRequest(tool_name="say", arguments=_struct({"text": "hello"}))
    called = mcp_pb2.CallToolRequest(request={"name": "add", "arguments": _struct({"a": 1, "b": 2})})
    value = StringValue(value="hello")
    return {
        "ToolProviderService": (lambda: provider.ExecuteTool(asked), through("grpc/own/say", text="hello")),
        "model_context_protocol.Mcp": (lambda: mcp.CallTool(called), through("grpc/google/add", a=1, b=2)),
        "any method, by reflection": (
            lambda: say(value),
            through(f"grpc/crm/{crm_service.SERVICE}/Say", value="hello"),
        ),
    }


def _struct(data: dict[str, Any]) -> Struct:
    made = Struct()
    made.update(data)
    return made


async def compare(report: Report, name: str, direct: Call, through: Call, rounds: int) -> None:
    answer = await through()
    assert not answer.is_error, answer.output
    for call in (direct, through):
        await rate(call)
    took, rates = [], []
    for _ in range(rounds):
        took.append((await latency(direct), await latency(through)))
        rates.append((await rate(direct), await rate(through)))
    for what, unit, pairs_ in (("p50", "ms", took), ("rate", "calls/s", rates)):
        found, baseline = [one for _, one in pairs_], [one for one, _ in pairs_]
        report.note("providers", f"CallTool, {name}, {what}", unit, found, against="called directly", baseline=baseline)


if __name__ == "__main__":
    uvloop.run(provide())
