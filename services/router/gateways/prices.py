"""What calls cost, by the deployment's own prices or else LiteLLM's, and what their tokens are where nobody says."""

from __future__ import annotations

import asyncio
import functools
import re
from typing import Any, Final

import litellm

from services.router.model import ChatCall, Deployment, Pricing, TokenCount, Usage

_THREE: Final = ("input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost")
_FURTHER: Final = re.compile("above|tiered|off_peak|reasoning_token|regional|_per_(character|query|second|image)")
_LONG: Final = 20_000
"""Characters above which counting would hold the loop up."""
_BYTES_PER_TOKEN: Final = 4


def cost(deployment: Deployment, usage: Usage | None, given: Any = None) -> float | None:
    """In US dollars. `given` is LiteLLM's usage, which knows more than ours."""
    if usage is None or deployment.is_offline:
        return None
    own = deployment.pricing
    if own.input is not None or own.output is not None:
        return _sum(own, usage)
    if given is None and (simple := _simple(deployment.model)) is not None:
        return _sum(simple, usage)
    try:
        return float(sum(litellm.cost_per_token(model=deployment.model, usage_object=given or _litellm_usage(usage))))
    except Exception:
        return None  # LiteLLM has no price, and says so in several ways


def _sum(prices: Pricing, usage: Usage) -> float:
    cached = prices.input if prices.cached_input is None else prices.cached_input
    fresh = usage.input_tokens - usage.cached_input_tokens
    sent = fresh * (prices.input or 0.0) + usage.cached_input_tokens * (cached or 0.0)
    return sent + usage.output_tokens * (prices.output or 0.0)


@functools.lru_cache(2000)
def _simple(model: str) -> Pricing | None:
    """LiteLLM's prices where they are no more than ours: to reckon with the others takes it longer than a call."""
    try:
        info = litellm.get_model_info(model)
    except Exception:
        return None  # LiteLLM does not know it, and says so in several ways
    if any(value and _FURTHER.search(key) for key, value in info.items()):
        return None
    three = (info.get(key) for key in _THREE)
    prices = Pricing(*three)
    return None if None in (prices.input, prices.output, prices.cached_input) else prices


def _litellm_usage(usage: Usage) -> Any:
    return litellm.Usage(
        prompt_tokens=usage.input_tokens,
        completion_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        prompt_tokens_details={"cached_tokens": usage.cached_input_tokens} if usage.cached_input_tokens else None,
        completion_tokens_details={"reasoning_tokens": usage.reasoning_tokens} if usage.reasoning_tokens else None,
    )


async def estimated(deployment: Deployment, call: ChatCall, written: int) -> Usage:
    """Tokens of a call whose provider does not tell, from the bytes that it wrote."""
    asked = (await count(deployment, call)).tokens
    said = -(-written // _BYTES_PER_TOKEN)
    return Usage(asked, said, asked + said, estimated=True)


async def count(deployment: Deployment, call: ChatCall) -> TokenCount:
    long = sum(len(str(message.get("content", ""))) for message in call.messages) > _LONG
    tokens = await asyncio.to_thread(_count, deployment, call) if long else _count(deployment, call)
    return TokenCount(tokens, estimated=not _own_tokenizer(deployment))


def _count(deployment: Deployment, call: ChatCall) -> int:
    return int(
        litellm.token_counter(
            model=deployment.model,
            messages=[dict(message) for message in call.messages],
            tools=[dict(tool) for tool in call.tools] or None,
            use_default_image_token_count=True,
        )
    )


def _own_tokenizer(deployment: Deployment) -> bool:
    provider, _, model = deployment.model.partition("/")
    return provider == "openai" and model in litellm.open_ai_chat_completion_models
