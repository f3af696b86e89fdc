"""OpenAI's JSON -> the messages of the contract, which say what is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from dynamicagents.router.v1 import router_service_pb2
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

from libs import errors
from libs.errors import Violation
from libs.validation import validate

M = TypeVar("M", bound=Message)

_ROLES: Final = {
    "system": "ROLE_SYSTEM",
    "developer": "ROLE_SYSTEM",
    "user": "ROLE_USER",
    "assistant": "ROLE_ASSISTANT",
    "tool": "ROLE_TOOL",
}
_SETTINGS: Final = {
    "temperature": "temperature",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "top_p": "top_p",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "reasoning_effort": "reasoning_effort",
    "parallel_tool_calls": "parallel_tool_calls",
}
_READ: Final = frozenset(
    {
        "model",
        "messages",
        "tools",
        "tool_choice",
        "response_format",
        "stop",
        "logprobs",
        "top_logprobs",
        "stream",
        "stream_options",
        "tags",
    }
)
_WITHOUT_EFFECT: Final = frozenset(
    {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"}
)
_ONLY: Final[Mapping[str, Any]] = {"n": 1, "modalities": ["text"]}
"""Parameters that may say what goes without saying."""
_AUDIO: Final = {"mp3": "audio/mpeg", "wav": "audio/wav"}


def chat_request(body: Mapping[str, Any]) -> router_service_pb2.ChatStreamRequest:
    given = {name: value for name, value in body.items() if value is not None}
    if unknown := list(_unknown(given)):
        raise errors.InvalidArgument(unknown)
    settings = {ours: given[name] for name, ours in _SETTINGS.items() if name in given}
    if "stop" in given:
        settings["stop"] = [given["stop"]] if isinstance(given["stop"], str) else given["stop"]
    made = {
        "model": given.get("model", ""),
        "messages": [_message(m, f"messages[{n}]") for n, m in enumerate(_list(given.get("messages"), "messages"))],
        "tools": [_tool(tool, f"tools[{n}]") for n, tool in enumerate(_list(given.get("tools"), "tools"))],
        "tool_choice": _tool_choice(given.get("tool_choice", "")),
        "response_format": _response_format(_object(given.get("response_format"), "response_format")),
        "settings": settings,
        "options": {"tags": given.get("tags")},
    }
    if given.get("logprobs"):
        made["options"]["top_logprobs"] = given.get("top_logprobs", 0)
    return _parsed(made, router_service_pb2.ChatStreamRequest())


def embed_request(body: Mapping[str, Any]) -> router_service_pb2.EmbedRequest:
    inputs = body.get("input")
    texts = [inputs] if isinstance(inputs, str) else _list(inputs, "input")
    if not all(isinstance(text, str) for text in texts):
        raise errors.invalid("input", "holds tokens: send texts")
    made = {"model": body.get("model") or "", "inputs": texts, "dimensions": body.get("dimensions") or 0}
    return _parsed(made, router_service_pb2.EmbedRequest())


def _unknown(given: Mapping[str, Any]) -> Iterator[Violation]:
    for name, value in given.items():
        if name in _ONLY:
            if value != _ONLY[name]:
                yield Violation(name, f"can only be {_ONLY[name]!r}")
        elif name not in _READ | _SETTINGS.keys() | _WITHOUT_EFFECT:
            yield Violation(name, "is not supported")


def _parsed(made: Mapping[str, Any], message: M) -> M:
    try:
        ParseDict({name: value for name, value in made.items() if value is not None}, message)
    except (ParseError, TypeError, ValueError, AttributeError) as error:
        raise errors.invalid("body", str(error)) from None
    validate(message)
    return message


def _message(message: Any, field: str) -> dict[str, Any]:
    given = _object(message, field)
    if given is None or given.get("role") not in _ROLES:
        raise errors.invalid(f"{field}.role", f"is none of {', '.join(_ROLES)}")
    made: dict[str, Any] = {"role": _ROLES[given["role"]]}
    content = given.get("content")
    if isinstance(content, str):
        made["content"] = content
    else:
        parts = list(_list(content, f"{field}.content"))
        made["content"] = "".join(_text(part) for part in parts)
        made["media"] = [_media(part, f"{field}.content[{n}]") for n, part in enumerate(parts) if not _is_text(part)]
    calls = _list(given.get("tool_calls"), f"{field}.tool_calls")
    made["tool_calls"] = [_tool_call(call, f"{field}.tool_calls[{n}]") for n, call in enumerate(calls)]
    for name, ours in (("tool_call_id", "tool_call_id"), ("name", "name"), ("reasoning_content", "reasoning")):
        if given.get(name) is not None:
            made[ours] = given[name]
    return made


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") in ("text", "refusal")


def _text(part: Any) -> str:
    return str(part.get("text") or part.get("refusal") or "") if _is_text(part) else ""


def _media(part: Any, field: str) -> dict[str, Any]:
    match part:
        case {"type": "image_url", "image_url": {"url": str(url), **more}}:
            return {"url": url, "detail": more.get("detail") or ""}
        case {"type": "input_audio", "input_audio": {"data": str(data), "format": str(form)}}:
            return {"data": data, "mime_type": _AUDIO.get(form, f"audio/{form}")}
        case {"type": "file", "file": {"file_data": str(data), **more}}:
            kind = data[5:].partition(";")[0] if data.startswith("data:") else ""
            return {"url": data, "mime_type": kind, "file_name": more.get("filename") or ""}
    raise errors.invalid(field, "is no part that is supported: text, image_url, input_audio, or file with file_data")


def _tool_call(call: Any, field: str) -> dict[str, Any]:
    match call:
        case {"id": str(call_id), "function": {"name": str(name), "arguments": str(arguments)}}:
            return {"call_id": call_id, "name": name, "arguments": arguments}
    raise errors.invalid(field, "is no call of a function")


def _tool(tool: Any, field: str) -> dict[str, Any]:
    match tool:
        case {"type": "function", "function": {"name": str(), **rest} as function}:
            kept = {
                name: function[name] for name in ("name", "description", "parameters", "strict") if name in function
            }
            return {name: value for name, value in kept.items() if value is not None} if rest or kept else {}
    raise errors.invalid(field, "is no function")


def _tool_choice(choice: Any) -> str:
    match choice:
        case str():
            return choice
        case {"type": "function", "function": {"name": str(name)}}:
            return name
    raise errors.invalid("tool_choice", "is neither a word nor a function")


def _response_format(form: Mapping[str, Any] | None) -> dict[str, Any] | None:
    match form:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return {"json_object": {}}
        case {"type": "json_schema", "json_schema": {"name": str(name), "schema": schema}}:
            return {"json_schema": {"name": name, "schema": schema}}
    raise errors.invalid("response_format", "is none of text, json_object, and json_schema with a name and a schema")


def _list(value: Any, field: str) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise errors.invalid(field, "is no list")
    return value


def _object(value: Any, field: str) -> Mapping[str, Any] | None:
    if value is not None and not isinstance(value, Mapping):
        raise errors.invalid(field, "is no object")
    return value
