"""Messages on their way into LiteLLM."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

_WANTED: Final = {
    "reasoning_content": frozenset(
        {"dashscope", "deepseek", "hosted_vllm", "minimax", "moonshot", "openrouter", "xiaomi_mimo", "zai"}
    ),
    "prefix": frozenset({"deepseek", "mistral"}),
}
"""Fields of messages, and the providers that take them; the others refuse what they do not know."""

_LOST: Final = {
    "anthropic": {"input_audio": "audio"},
    "deepseek": {"image_url": "vision", "input_audio": "audio", "file": "vision"},
}


def has_media(messages: Sequence[Mapping[str, Any]]) -> bool:
    return any(isinstance(message.get("content"), list) for message in messages)


def copied(messages: Sequence[Mapping[str, Any]], provider: str) -> list[dict[str, Any]]:
    """For LiteLLM to change: the next attempt needs them as they were."""
    return [_copied(message, provider) for message in messages]


def _copied(message: Mapping[str, Any], provider: str) -> dict[str, Any]:
    made = dict(message)
    for field, providers in _WANTED.items():
        if field in made and provider not in providers:
            del made[field]
    if not ("tool_calls" in made or isinstance(made.get("content"), list)):
        return made
    made = copy.deepcopy(made)
    if provider == "anthropic" and isinstance(made.get("content"), list):
        for part in made["content"]:
            part.get("file", {}).pop("format", None)  # with it LiteLLM takes an address for the id of a file
    return made


def lost(messages: Sequence[Mapping[str, Any]], provider: str) -> str:
    """The capability that media need which LiteLLM would leave out of what it sends this provider; or empty."""
    unknown = _LOST.get(provider)
    if not unknown or not has_media(messages):
        return ""
    kinds = {
        part["type"] for message in messages if isinstance(message.get("content"), list) for part in message["content"]
    }
    return next((capability for kind, capability in unknown.items() if kind in kinds), "")
