"""What LiteLLM knows of models."""

from __future__ import annotations

import functools
from typing import Final

import litellm

from services.router.model import Facts, Pricing

_CAPABILITIES: Final = {
    "supports_function_calling": "tools",
    "supports_parallel_function_calling": "parallel_tools",
    "supports_vision": "vision",
    "supports_response_schema": "json_schema",
    "supports_reasoning": "reasoning",
    "supports_audio_input": "audio",
    "supports_assistant_prefill": "prefill",
}
_MODES: Final = {"embedding": "embedding", "rerank": "rerank"}


@functools.lru_cache(2000)
def known(model: str) -> Facts:
    try:
        info = litellm.get_model_info(model)
    except Exception:
        return Facts()  # LiteLLM does not know it, and says so in several ways
    return Facts(
        mode=_MODES.get(str(info.get("mode")), "chat"),
        capabilities=frozenset(name for key, name in _CAPABILITIES.items() if info.get(key)),
        context_window=info.get("max_input_tokens"),
        max_output_tokens=info.get("max_output_tokens"),
        pricing=Pricing(
            info.get("input_cost_per_token"),
            info.get("output_cost_per_token"),
            info.get("cache_read_input_token_cost"),
        ),
    )
