"""Turns of a conversation as JSON data, in the shape of OpenAI's chat API with `media` and `reasoning` beside."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from dynamicagents.router.v1 import chat_pb2

_ROLES: Final = {
    "system": chat_pb2.ROLE_SYSTEM,
    "developer": chat_pb2.ROLE_SYSTEM,
    "user": chat_pb2.ROLE_USER,
    "assistant": chat_pb2.ROLE_ASSISTANT,
    "tool": chat_pb2.ROLE_TOOL,
}
_NAMES: Final = {role: name for name, role in _ROLES.items() if name != "developer"}


def from_dict(message: Mapping[str, Any]) -> chat_pb2.ChatMessage:
    return chat_pb2.ChatMessage(
        role=_ROLES[message["role"]],
        content=message.get("content") or "",
        tool_call_id=message.get("tool_call_id") or "",
        name=message.get("name") or "",
        reasoning=message.get("reasoning") or "",
        media=[media_from_dict(part) for part in message.get("media") or ()],
        tool_calls=[
            chat_pb2.ToolCall(
                call_id=call["id"], name=call["function"]["name"], arguments=call["function"]["arguments"]
            )
            for call in message.get("tool_calls") or ()
        ],
    )


def to_dict(message: chat_pb2.ChatMessage) -> dict[str, Any]:
    made: dict[str, Any] = {
        "role": _NAMES[message.role],
        "content": message.content,
        "tool_calls": [
            {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ],
        "tool_call_id": message.tool_call_id,
        "name": message.name,
    }
    if message.media:
        made["media"] = [media_to_dict(part) for part in message.media]
    if message.reasoning:
        made["reasoning"] = message.reasoning
    return made


def media_from_dict(part: Mapping[str, str]) -> chat_pb2.MediaPart:
    made = chat_pb2.MediaPart(
        mime_type=part.get("mime_type", ""), file_name=part.get("file_name", ""), detail=part.get("detail", "")
    )
    if "url" in part:
        made.url = part["url"]
    else:
        made.data = base64.b64decode(part["data"])
    return made


def media_to_dict(part: chat_pb2.MediaPart) -> dict[str, str]:
    content = {"data": base64.b64encode(part.data).decode()} if part.HasField("data") else {"url": part.url}
    return {**content, "mime_type": part.mime_type, "file_name": part.file_name, "detail": part.detail}
