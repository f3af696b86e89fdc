"""Proto <-> model for RouterService."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Final

import grpc
from dynamicagents.router.v1 import chat_pb2, router_service_pb2, router_service_pb2_grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from libs import errors, identity
from services.router.model import AnsweredBy, ChatCall, Chunk, FinishReason, ToolCall, Usage
from services.router.service import Router

Context = grpc.aio.ServicerContext[Any, Any]
Request = router_service_pb2.ChatRequest | router_service_pb2.ChatStreamRequest

_ROLES: Final = {
    chat_pb2.ROLE_SYSTEM: "system",
    chat_pb2.ROLE_USER: "user",
    chat_pb2.ROLE_ASSISTANT: "assistant",
    chat_pb2.ROLE_TOOL: "tool",
}
_FINISH_REASONS: Final = {
    FinishReason.UNKNOWN: chat_pb2.FINISH_REASON_UNSPECIFIED,
    FinishReason.STOP: chat_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: chat_pb2.FINISH_REASON_LENGTH,
    FinishReason.TOOL_CALLS: chat_pb2.FINISH_REASON_TOOL_CALLS,
    FinishReason.CONTENT_FILTER: chat_pb2.FINISH_REASON_CONTENT_FILTER,
}
_RENAMED: Final = {"max_output_tokens": "max_tokens"}


class RouterServicer(router_service_pb2_grpc.RouterServiceServicer):
    def __init__(self, router: Router) -> None:
        self._router = router

    async def Chat(self, request: router_service_pb2.ChatRequest, context: Context) -> router_service_pb2.ChatResponse:
        whole = await self._router.chat(identity.current(), _call(request, stream=False))
        chunk = _chunk(whole)
        return router_service_pb2.ChatResponse(
            message=chat_pb2.ChatMessage(role=chat_pb2.ROLE_ASSISTANT, content=chunk.text, tool_calls=chunk.tool_calls),
            reasoning=chunk.reasoning,
            finish_reason=chunk.finish_reason,
            usage=chunk.usage if whole.usage else None,
            cost_usd=whole.cost,
            answered_by=chunk.answered_by,
        )

    async def ChatStream(
        self, request: router_service_pb2.ChatStreamRequest, context: Context
    ) -> AsyncIterator[router_service_pb2.ChatStreamResponse]:
        async with aclosing(self._router.chat_stream(identity.current(), _call(request, stream=True))) as chunks:
            async for chunk in chunks:
                yield router_service_pb2.ChatStreamResponse(chunk=_chunk(chunk))

    async def ListModels(
        self, request: router_service_pb2.ListModelsRequest, context: Context
    ) -> router_service_pb2.ListModelsResponse:
        groups = await self._router.list_models(identity.current())
        return router_service_pb2.ListModelsResponse(
            models=[
                router_service_pb2.ModelGroup(model=g.name, deployment_models=g.models, offline=g.offline)
                for g in groups
            ]
        )


def _call(request: Request, *, stream: bool) -> ChatCall:
    _check(request)
    settings = _json(request.settings)
    return ChatCall(
        model=request.model,
        messages=[_message(message) for message in request.messages],
        tools=[_tool(tool) for tool in request.tools],
        tool_choice=_tool_choice(request.tool_choice),
        response_format=_response_format(request.response_format),
        settings={_RENAMED.get(name, name): value for name, value in settings.items()},
        stream=stream,
    )


def _check(request: Request) -> None:
    violations = [
        errors.Violation(f"messages[{index}].tool_call_id", "is required of a tool's result")
        for index, message in enumerate(request.messages)
        if message.role == chat_pb2.ROLE_TOOL and not message.tool_call_id
    ]
    known = {"", "auto", "none", *(tool.name for tool in request.tools)} | ({"required"} if request.tools else set())
    if request.tool_choice not in known:
        violations.append(errors.Violation("tool_choice", "names none of the tools of the request"))
    if violations:
        raise errors.InvalidArgument(violations)


def _json(message: Message) -> dict[str, Any]:
    found = MessageToDict(message, preserving_proto_field_name=True)
    if "seed" in found:
        found["seed"] = int(found["seed"])  # JSON has 64-bit integers as text
    return found


def _message(message: chat_pb2.ChatMessage) -> dict[str, Any]:
    made: dict[str, Any] = {"role": _ROLES[message.role], "content": message.content}
    if message.tool_calls:
        made["content"] = message.content or None
        made["tool_calls"] = [
            {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        made["tool_call_id"] = message.tool_call_id
    if message.name:
        made["name"] = message.name
    return made


def _tool(tool: chat_pb2.FunctionTool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "description": tool.description}
    function["parameters"] = MessageToDict(tool.parameters) or {"type": "object", "properties": {}}
    if tool.HasField("strict"):
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice(choice: str) -> str | Mapping[str, Any]:
    if choice in ("", "auto", "none", "required"):
        return choice
    return {"type": "function", "function": {"name": choice}}


def _response_format(given: chat_pb2.ResponseFormat) -> dict[str, Any] | None:
    match given.WhichOneof("format"):
        case "json_object":
            return {"type": "json_object"}
        case "json_schema":
            schema = {"name": given.json_schema.name, "schema": MessageToDict(given.json_schema.schema)}
            return {"type": "json_schema", "json_schema": schema}
    return None


def _chunk(chunk: Chunk) -> chat_pb2.ChatChunk:
    return chat_pb2.ChatChunk(
        text=chunk.text,
        reasoning=chunk.reasoning,
        tool_calls=[_tool_call(call) for call in chunk.tool_calls],
        finish_reason=_FINISH_REASONS[chunk.finish_reason or FinishReason.UNKNOWN],
        usage=_usage(chunk.usage) if chunk.usage else None,
        cost_usd=chunk.cost,
        answered_by=_answered_by(chunk.answered_by) if chunk.answered_by else None,
    )


def _tool_call(call: ToolCall) -> chat_pb2.ToolCall:
    return chat_pb2.ToolCall(call_id=call.call_id, name=call.name, arguments=call.arguments)


def _usage(usage: Usage) -> chat_pb2.Usage:
    return chat_pb2.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )


def _answered_by(answered_by: AnsweredBy) -> chat_pb2.AnsweredBy:
    deployment = answered_by.deployment
    made = chat_pb2.AnsweredBy(
        deployment_id=deployment.deployment_id,
        model=deployment.model,
        provider=deployment.provider,
        offline=deployment.is_offline,
    )
    for attempt in answered_by.failed_attempts:
        failed = made.failed_attempts.add(deployment_id=attempt.deployment_id, reason=attempt.reason)
        failed.duration.FromNanoseconds(int(attempt.seconds * 1e9))
    return made
