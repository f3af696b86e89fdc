"""Model turns, asked of Router."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping
from functools import lru_cache
from typing import Any, Final

import grpc
import orjson
import structlog
from dynamicagents.router.v1 import chat_pb2, router_service_pb2, router_service_pb2_grpc
from google.protobuf.json_format import ParseDict

from libs import chat, deadline, status
from services.execution.model.events import UsageReported
from services.execution.model.turns import ModelCall, ModelPiece, ToolCall

log = structlog.get_logger()

_ATTEMPTS: Final = 4
_FIRST_DELAY: Final = 0.2
_LONGEST_KEPT: Final = 16 * 1024


class RouterModels:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: router_service_pb2_grpc.RouterServiceAsyncStub = router_service_pb2_grpc.RouterServiceStub(channel)

    async def stream(self, call: ModelCall) -> AsyncGenerator[ModelPiece, None]:
        """The turn as it is made. A Router that cannot be reached is tried again, but never once it has answered:
        retries of providers are its own affair.
        """
        request = _request(call)
        for attempt in range(1, _ATTEMPTS + 1):
            answered = False
            answers: Any = self._stub.ChatStream(request)
            try:
                while (response := await answers.read()) is not grpc.aio.EOF:
                    answered = True
                    yield _piece(response.chunk)
                return
            except grpc.aio.AioRpcError as error:
                if answered or status.described_by(error) or not _unreachable(error) or attempt == _ATTEMPTS:
                    raise status.from_rpc_error(error, "router") from None
                delay = _FIRST_DELAY * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)  # noqa: S311
                left = deadline.remaining()
                if left is not None and left <= delay:
                    raise status.from_rpc_error(error, "router") from None
                log.warning("router cannot be reached", attempt=attempt, execution_id=call.execution_id)
                await asyncio.sleep(delay)
            finally:
                answers.cancel()


def _unreachable(error: grpc.aio.AioRpcError) -> bool:
    return error.code() is grpc.StatusCode.UNAVAILABLE


def _request(call: ModelCall) -> router_service_pb2.ChatStreamRequest:
    request = router_service_pb2.ChatStreamRequest(
        model=call.model,
        messages=map(chat.from_dict, call.messages),
        tool_choice=call.tool_choice,
        execution_id=call.execution_id,
    )
    request.tools.extend(_offered(tool["function"]) for tool in call.tools)
    if call.output_schema is not None:
        request.response_format.json_schema.name = "answer"
        request.response_format.json_schema.schema.update(call.output_schema)
    settings = {name: value for name, value in call.settings.items() if name != "model"}
    ParseDict(settings, request.settings, ignore_unknown_fields=True)
    return request


def _offered(function: Mapping[str, Any]) -> chat_pb2.FunctionTool:
    """Each turn of each run of an agent offers the same tools, and to translate schemas takes long."""
    written = orjson.dumps(function).decode()  # its bytes would keep the 4 KiB into which they were written
    return _kept(written) if len(written) <= _LONGEST_KEPT else _translated(written)


def _translated(written: str) -> chat_pb2.FunctionTool:
    """Agno's own keys beside these four stay here: providers refuse what they do not know."""
    function = orjson.loads(written)
    tool = chat_pb2.FunctionTool(name=function["name"], description=function.get("description") or "")
    tool.parameters.update(function.get("parameters") or {"type": "object", "properties": {}})
    if function.get("strict") is not None:
        tool.strict = bool(function["strict"])
    return tool


_kept = lru_cache(maxsize=2048)(_translated)


def _piece(chunk: chat_pb2.ChatChunk) -> ModelPiece:
    return ModelPiece(
        text=chunk.text,
        reasoning=chunk.reasoning,
        tool_calls=[ToolCall(call.call_id, call.name, call.arguments) for call in chunk.tool_calls],
        usage=_usage(chunk) if chunk.HasField("usage") else None,
        citations=[{"url": said.url, "title": said.title, "quote": said.quote} for said in chunk.citations],
    )


def _usage(chunk: chat_pb2.ChatChunk) -> UsageReported:
    return UsageReported(
        input_tokens=chunk.usage.input_tokens,
        output_tokens=chunk.usage.output_tokens,
        cached_input_tokens=chunk.usage.cached_input_tokens,
        reasoning_tokens=chunk.usage.reasoning_tokens,
        cost_usd=chunk.cost_usd if chunk.HasField("cost_usd") else None,
        deployment_id=chunk.answered_by.deployment_id,
        model=chunk.answered_by.model,
        offline=chunk.answered_by.offline,
    )
