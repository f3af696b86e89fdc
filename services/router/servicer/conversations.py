"""Proto -> model of conversations, in the shape of OpenAI's API."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from dynamicagents.router.v1 import chat_pb2, router_service_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from libs import errors
from libs.errors import Violation
from services.router.model import CallOptions, ChatCall, MidStreamFailure

Request = router_service_pb2.ChatRequest | router_service_pb2.ChatStreamRequest
Counted = router_service_pb2.CountTokensRequest | router_service_pb2.ExplainRouteRequest

_ROLES: Final = {
    chat_pb2.ROLE_SYSTEM: "system",
    chat_pb2.ROLE_USER: "user",
    chat_pb2.ROLE_ASSISTANT: "assistant",
    chat_pb2.ROLE_TOOL: "tool",
}
_MID_STREAM: Final = {
    chat_pb2.MID_STREAM_FAILURE_RESTART: MidStreamFailure.RESTART,
    chat_pb2.MID_STREAM_FAILURE_CONTINUE: MidStreamFailure.CONTINUE,
}
_RENAMED: Final = {"max_output_tokens": "max_tokens"}
_AUDIO: Final = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav", "vnd.wave": "wav"}
_SCHEMES: Final = ("http://", "https://", "data:")
_LONGEST_DATA: Final = 28 * 2**20
"""20 MiB in base 64, and what stands before it."""


def chat_call(request: Request, *, stream: bool) -> ChatCall:
    _check(request.messages, request)
    settings = _settings(request)
    return ChatCall(
        model=request.model,
        messages=[_message(message) for message in request.messages],
        tools=[_tool(tool) for tool in request.tools],
        tool_choice=_tool_choice(request.tool_choice),
        response_format=_response_format(request.response_format),
        settings=settings,
        stream=stream,
        options=call_options(request.options),
        needs=frozenset(_needs(request)),
    )


def counted_call(request: Counted) -> ChatCall:
    """A conversation that is not to be sent."""
    _check(request.messages)
    messages, tools = [_message(message) for message in request.messages], [_tool(tool) for tool in request.tools]
    needs = {*_media_needs(request.messages), *(["tools"] if tools else [])}
    return ChatCall(request.model, messages, tools, needs=frozenset(needs))


def call_options(options: chat_pb2.CallOptions) -> CallOptions:
    return CallOptions(
        tags=tuple(options.tags),
        timeout=_seconds(options, "timeout"),
        first_token_timeout=_seconds(options, "first_token_timeout"),
        idle_timeout=_seconds(options, "idle_timeout"),
        num_retries=options.num_retries if options.HasField("num_retries") else None,
        disable_fallbacks=options.disable_fallbacks,
        mid_stream_failure=_MID_STREAM.get(options.mid_stream_failure, MidStreamFailure.FAIL),
        no_cache=options.no_cache,
        top_logprobs=options.top_logprobs if options.HasField("top_logprobs") else None,
    )


def _seconds(options: chat_pb2.CallOptions, name: str) -> float | None:
    given: Duration = getattr(options, name)
    return given.ToNanoseconds() / 1e9 if options.HasField(name) else None


def _check(messages: Sequence[chat_pb2.ChatMessage], request: Request | None = None) -> None:
    violations = [*_turns(messages), *_media_violations(messages), *(_wishes(request) if request else ())]
    if violations:
        raise errors.InvalidArgument(violations)


def _turns(messages: Sequence[chat_pb2.ChatMessage]) -> Iterator[Violation]:
    asked: set[str] = set()
    for index, message in enumerate(messages):
        field = f"messages[{index}]"
        if message.role == chat_pb2.ROLE_TOOL:
            if not message.tool_call_id:
                yield Violation(f"{field}.tool_call_id", "is required of a tool's result")
            elif message.tool_call_id not in asked:
                yield Violation(f"{field}.tool_call_id", "answers no call of a message before it")
        elif message.tool_call_id:
            yield Violation(f"{field}.tool_call_id", "belongs to a tool's result alone")
        if message.tool_calls and message.role != chat_pb2.ROLE_ASSISTANT:
            yield Violation(f"{field}.tool_calls", "belong to the assistant's turns alone")
        for at, call in enumerate(message.tool_calls):
            if not (call.call_id and call.name):
                yield Violation(f"{field}.tool_calls[{at}]", "lacks its call_id or its name")
            asked.add(call.call_id)
    if messages and messages[-1].role == chat_pb2.ROLE_ASSISTANT and messages[-1].tool_calls:
        yield Violation(f"messages[{len(messages) - 1}].tool_calls", "have no results: nothing is there to go on with")


def _media_violations(messages: Sequence[chat_pb2.ChatMessage]) -> Iterator[Violation]:
    for index, message in enumerate(messages):
        for at, part in enumerate(message.media):
            field = f"messages[{index}].media[{at}]"
            if message.role != chat_pb2.ROLE_USER:
                yield Violation(field, "belongs to the user's turns alone")
            if part.WhichOneof("content") == "data" and not part.mime_type:
                yield Violation(f"{field}.mime_type", "is required with data")
            if part.url and not part.url.startswith(_SCHEMES):
                yield Violation(f"{field}.url", "is no http, https or data URL")
            if part.url.startswith("data:") and len(part.url) > _LONGEST_DATA:
                yield Violation(f"{field}.url", "holds more than 20 MiB")


def _wishes(request: Request) -> Iterator[Violation]:
    known = {"", "auto", "none", *(tool.name for tool in request.tools)} | ({"required"} if request.tools else set())
    if request.tool_choice not in known:
        yield Violation("tool_choice", "names none of the tools of the request")
    names: set[str] = set()
    for index, tool in enumerate(request.tools):
        if tool.name in names:
            yield Violation(f"tools[{index}].name", "comes twice")
        names.add(tool.name)
        if not _is_object(tool.parameters):
            yield Violation(f"tools[{index}].parameters", "is no schema of an object")
    form = request.response_format
    if form.WhichOneof("format") == "json_schema" and not _is_object(form.json_schema.schema):
        yield Violation("response_format.json_schema.schema", "is no schema of an object")


def _is_object(schema: Any) -> bool:
    """True of schemas without a type too: a reference, or a choice, may say it."""
    kind = schema.fields.get("type")
    if kind is None:
        return True
    if kind.WhichOneof("kind") == "list_value":
        return any(value.string_value == "object" for value in kind.list_value.values)
    return bool(kind.string_value == "object")


def _needs(request: Request) -> Iterator[str]:
    yield from _media_needs(request.messages)
    if request.tools:
        yield "tools"
    if request.response_format.WhichOneof("format") == "json_schema":
        yield "json_schema"
    if request.settings.reasoning_effort:
        yield "reasoning"


def _media_needs(messages: Sequence[chat_pb2.ChatMessage]) -> Iterator[str]:
    for message in messages:
        for part in message.media:
            kind = _mime_type(part)
            if kind.startswith("audio/"):
                yield "audio"
            elif kind.startswith("image/"):
                yield "vision"


def _settings(request: Request) -> dict[str, Any]:
    found = _json(request.settings)
    made = {_RENAMED.get(name, name): value for name, value in found.items()}
    if request.options.HasField("top_logprobs"):
        made["logprobs"] = True
        if request.options.top_logprobs:
            made["top_logprobs"] = request.options.top_logprobs
    return made


def _json(message: Message) -> dict[str, Any]:
    found = MessageToDict(message, preserving_proto_field_name=True)
    if "seed" in found:
        found["seed"] = int(found["seed"])  # JSON has 64-bit integers as text
    return found


def _message(message: chat_pb2.ChatMessage) -> dict[str, Any]:
    made: dict[str, Any] = {"role": _ROLES[message.role], "content": message.content}
    if message.media:
        said = [{"type": "text", "text": message.content}] if message.content else []
        made["content"] = [*said, *(_part(part) for part in message.media)]
    if message.tool_calls:
        if not message.content:
            del made["content"]
        made["tool_calls"] = [
            {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        made["tool_call_id"] = message.tool_call_id
    if message.name:
        made["name"] = message.name
    if message.reasoning:
        made["reasoning_content"] = message.reasoning
    return made


def _part(part: chat_pb2.MediaPart) -> dict[str, Any]:
    kind = _mime_type(part)
    url = part.url or f"data:{kind};base64,{base64.b64encode(part.data).decode()}"
    if kind.startswith("image/"):
        image = {"url": url} | ({"detail": part.detail} if part.detail else {})
        return {"type": "image_url", "image_url": image | ({"format": part.mime_type} if part.mime_type else {})}
    if kind.startswith("audio/") and url.startswith("data:"):
        form = kind.removeprefix("audio/")
        return {
            "type": "input_audio",
            "input_audio": {"data": url.partition(",")[2], "format": _AUDIO.get(form, form)},
        }
    file = {"file_data": url} if url.startswith("data:") else {"file_id": url, "format": kind}
    return {"type": "file", "file": file | ({"filename": part.file_name} if part.file_name else {})}


def _mime_type(part: chat_pb2.MediaPart) -> str:
    """What is not said is an image."""
    if part.mime_type:
        return part.mime_type
    if part.url.startswith("data:"):
        return part.url[5:].partition(",")[0].partition(";")[0] or "text/plain"
    return "image/*"


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
