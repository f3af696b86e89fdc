"""What CallTool adds to a tool that takes no time: builtin/calculator next to a bare grpc.aio echo.

Each is a process of its own. The echo (bench/echo.py) has the same method and answers with the same message.
"""

from __future__ import annotations

import tempfile
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final

import grpc
from dynamicagents.tools.v1 import tool_service_pb2, tool_service_pb2_grpc

from bench import echo
from bench.report import Report
from bench.secrets import process, rate

CALLS: Final = 5_000
ROUNDS: Final = 10
ECHO: Final = "bare grpc.aio echo"
METHOD: Final = "dynamicagents.tools.v1.ToolService/CallTool"
MODULE: Final = "dynamicagents.tools.v1.tool_service_pb2"


async def run(report: Report, *, quick: bool) -> None:
    rounds = 4 if quick else ROUNDS
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        service = await stack.enter_async_context(
            process("services.execution", DYNAMIC_AGENTS_EXECUTION_PORT="0", DYNAMIC_AGENTS_DATA_DIR=f"{folder}/data")
        )
        request = tool_service_pb2.CallToolRequest(tool_id="builtin/calculator", arguments={"expression": "17 * 23"})
        calling = tool_service_pb2_grpc.ToolServiceStub(service)
        answer = await calling.CallTool(request)
        assert answer.output == "391"
        echo.replies(Path(folder, "echo"), MODULE, {METHOD: answer})
        address = await stack.enter_async_context(echo.started(Path(folder, "echo")))
        bare = await stack.enter_async_context(grpc.aio.insecure_channel(address))
        echoing = tool_service_pb2_grpc.ToolServiceStub(bare)
        found: list[float] = []
        echoes: list[float] = []
        for stub in (calling, echoing):
            await rate(partial(stub.CallTool, request), 500)
        for _ in range(rounds):
            echoes.append(await rate(partial(echoing.CallTool, request), CALLS // rounds))
            found.append(await rate(partial(calling.CallTool, request), CALLS // rounds))
    report.note("builtin_tools", "CallTool, builtin/calculator", "calls/s", found, against=ECHO, baseline=echoes)
