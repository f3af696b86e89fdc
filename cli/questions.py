"""What a run asks, asked at the terminal."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import grpc
import orjson
from dynamicagents.execution.v1 import event_pb2, execution_pb2, execution_service_pb2, execution_service_pb2_grpc
from google.protobuf.json_format import MessageToDict
from rich.markup import escape

from cli.output import Failure, console


async def answer(
    stub: execution_service_pb2_grpc.ExecutionServiceAsyncStub, event: event_pb2.ExecuteEvent, options: dict[str, Any]
) -> None:
    """Answers an input_required with what the user types. Somebody else may be faster: then nothing is left to do."""
    answers = [await _answer(request) for request in event.input_required.requests]
    asked = execution_service_pb2.ContinueExecutionRequest(execution_id=event.execution_id, answers=answers)
    try:
        await stub.ContinueExecution(asked, metadata=options["metadata"])
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
            raise


async def _answer(request: execution_pb2.InputRequest) -> execution_service_pb2.InputAnswer:
    found = execution_service_pb2.InputAnswer(input_id=request.input_id)
    match request.WhichOneof("kind"):
        case "approval":
            found.approval.approved = await _is_yes(f"Allow {_call(request.approval)}? [y/N] ")
        case "step_approval":
            found.approval.approved = await _is_yes(f"{request.step_approval.question} [y/N] ")
        case "external_tool":
            found.tool_result.output = await _line(f"{_call(request.external_tool)} returns: ")
        case "user_input" if request.user_input.HasField("schema"):
            found.user_input.values.update(await _object(f"{request.user_input.prompt} (JSON) "))
        case _:
            found.user_input.text = await _line(f"{request.user_input.prompt} ")
    return found


def _call(call: execution_pb2.ToolApproval | execution_pb2.ExternalToolCall) -> str:
    return f"{call.tool_id} {orjson.dumps(MessageToDict(call.arguments)).decode()}"


async def _is_yes(prompt: str) -> bool:
    return (await _line(prompt)).strip().lower() in ("y", "yes")


async def _object(prompt: str) -> dict[str, Any]:
    while True:
        try:
            value = orjson.loads(await _line(prompt))
        except orjson.JSONDecodeError:
            value = None
        if isinstance(value, dict):
            return value
        console.print("That is not a JSON object.")


async def _line(prompt: str) -> str:
    """A line of the standard input, read by a thread that holds nothing up: Ctrl-C ends the run, not the reading."""
    console.print(f"[yellow]? {escape(prompt)}[/yellow]", end="", soft_wrap=True)
    loop = asyncio.get_running_loop()
    read: asyncio.Future[str] = loop.create_future()

    def work() -> None:
        line = sys.stdin.readline()
        loop.call_soon_threadsafe(lambda: None if read.done() else read.set_result(line))

    threading.Thread(target=work, daemon=True).start()
    line = await read
    if not line:
        raise Failure("nobody is here to answer; the execution goes on waiting for ContinueExecution")
    return line.rstrip("\n")
