"""LiteLLM. Imported by upstream.py alone, in a thread, after the environment is set."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final

import litellm
import structlog
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER
from litellm.llms.custom_llm import CustomLLM

from libs import errors
from services.router.gateways import offline
from services.router.model import (
    OFFLINE_PROVIDER,
    ChatCall,
    Chunk,
    Deployment,
    Failure,
    FinishReason,
    ToolCall,
    ToolCalls,
    Usage,
)

log = structlog.get_logger()

_NO_KEY: Final = "none"
"""OpenAI's client insists on a key and would take one of the environment."""
_TIMEOUT: Final = 7200.0
"""Above every limit of ours, which service.py sets; LiteLLM keeps one connection pool for each distinct value."""
_warm = False
_NOBODY: Final = "http://127.0.0.1:0"
_LONGEST_RETRY_AFTER: Final = 3600.0


def _configure() -> None:
    litellm.suppress_debug_info = True
    litellm.expose_router_debug_in_errors = False
    litellm.turn_off_message_logging = True
    litellm.drop_params = False
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).disabled = True  # its texts repeat what providers say
    litellm.custom_provider_map = [{"provider": OFFLINE_PROVIDER, "custom_handler": _OfflineModel()}]
    litellm.utils.custom_llm_setup()


async def warm_up() -> None:
    """A call to ourselves and one that nobody can answer: what LiteLLM imports and makes on first use."""
    global _warm
    if _warm:
        return
    call = ChatCall("", [{"role": "user", "content": "hello"}], stream=True)
    async for _ in chat(Deployment("warm-up", "", "offline/demo"), None, call, offline_delay=0.0):
        pass
    with contextlib.suppress(Exception):
        await litellm.acompletion(**_arguments(Deployment("warm-up", "", "openai/none", _NOBODY), None, call))
    _warm = True


async def close() -> None:
    await GLOBAL_LOGGING_WORKER.stop()
    await litellm.close_litellm_async_clients()
    litellm.in_memory_llm_clients_cache.flush_cache()


async def chat(
    deployment: Deployment, key: str | None, call: ChatCall, *, offline_delay: float
) -> AsyncGenerator[Chunk, None]:
    arguments = _arguments(deployment, key, call)
    if deployment.is_offline:
        arguments |= {"offline_delay": offline_delay, "drop_params": True}
    try:
        _check_provider(deployment)
        response = await litellm.acompletion(**arguments)
        if not call.stream:
            yield _whole(deployment, response)
            return
        try:
            async for chunk in _pieces(deployment, response):
                yield chunk
        finally:
            await response.aclose()
    except Failure:
        raise
    except Exception as error:
        raise _failure(deployment, error) from None


def _arguments(deployment: Deployment, key: str | None, call: ChatCall) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "model": deployment.model,
        "messages": [dict(message) for message in call.messages],
        "api_key": key or _NO_KEY,
        "timeout": _TIMEOUT,
        "num_retries": 0,
        "max_retries": 0,
        "stream": call.stream,
        "_skip_mcp_handler": True,  # it needs LiteLLM's proxy, and the tools are the caller's
        **call.settings,
    }
    if deployment.api_base:
        arguments["api_base"] = deployment.api_base
    if call.stream:
        arguments["stream_options"] = {"include_usage": True}
    if call.tools:
        arguments["tools"] = [dict(tool) for tool in call.tools]
        if call.tool_choice:
            arguments["tool_choice"] = call.tool_choice
    else:
        arguments.pop("parallel_tool_calls", None)
    if call.response_format:
        arguments["response_format"] = dict(call.response_format)
    return arguments


def _check_provider(deployment: Deployment) -> None:
    try:
        litellm.get_llm_provider(deployment.model)
    except litellm.BadRequestError:
        text = f"deployment {deployment.deployment_id} names a provider that LiteLLM does not know"
        metadata = {"deployment_id": deployment.deployment_id}
        raise Failure(errors.FailedPrecondition(text, metadata=metadata), may_pass=False) from None


def _whole(deployment: Deployment, response: Any) -> Chunk:
    choice = response.choices[0]
    calls = ToolCalls()
    for index, call in enumerate(choice.message.tool_calls or ()):
        calls.add(index, call.id or "", call.function.name or "", call.function.arguments or "")
    usage = getattr(response, "usage", None)
    return Chunk(
        choice.message.content or "",
        getattr(choice.message, "reasoning_content", None) or "",
        calls.whole(),
        FinishReason(choice.finish_reason),
        _usage(usage),
        _cost(deployment, usage),
    )


async def _pieces(deployment: Deployment, response: Any) -> AsyncIterator[Chunk]:
    calls, usage, finish_reason = ToolCalls(), None, ""
    async for part in response:
        usage = getattr(part, "usage", None) or usage
        if not part.choices:
            continue
        finish_reason = part.choices[0].finish_reason or finish_reason
        delta = part.choices[0].delta
        for call in delta.tool_calls or ():
            calls.add(call.index or 0, call.id or "", call.function.name or "", call.function.arguments or "")
        text, reasoning = delta.content or "", getattr(delta, "reasoning_content", None) or ""
        if text or reasoning:
            yield Chunk(text, reasoning)
    # LiteLLM invents a reason where a stream just ends.
    if not (response.received_finish_reason or response.intermittent_finish_reason):
        raise Failure(_unavailable(deployment, "broke off its answer"), may_pass=True)
    yield Chunk(
        tool_calls=calls.whole(),
        finish_reason=FinishReason(finish_reason),
        usage=_usage(usage),
        cost=_cost(deployment, usage),
    )


def _usage(usage: Any) -> Usage | None:
    if usage is None:
        return None
    cached = getattr(usage.prompt_tokens_details, "cached_tokens", None)
    reasoning = getattr(usage.completion_tokens_details, "reasoning_tokens", None)
    return Usage(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, cached or 0, reasoning or 0)


def _cost(deployment: Deployment, usage: Any) -> float | None:
    if usage is None or deployment.is_offline:
        return None
    try:
        return float(sum(litellm.cost_per_token(model=deployment.model, usage_object=usage)))
    except Exception:
        return None  # LiteLLM has no price, and says so in several ways


def _failure(deployment: Deployment, error: Exception) -> Failure:
    """The table of RouterService. What the provider said stays here: it may repeat the key."""
    error = getattr(error, "original_exception", None) or error
    status = getattr(error, "status_code", None)
    log.warning("provider failed", deployment_id=deployment.deployment_id, kind=type(error).__name__, status=status)
    name, metadata = f"deployment {deployment.deployment_id}", {"deployment_id": deployment.deployment_id}
    if isinstance(error, litellm.ContextWindowExceededError):
        text = f"{name}: the conversation is longer than the model's context"
        return Failure(
            errors.InvalidArgument([], message=text, reason="CONTEXT_WINDOW_EXCEEDED", metadata=metadata),
            may_pass=False,
        )
    if isinstance(error, litellm.ContentPolicyViolationError):
        text = f"{name}: the provider's policy refused the content"
        return Failure(errors.FailedPrecondition(text, reason="CONTENT_POLICY", metadata=metadata), may_pass=False)
    match status:
        case 401 | 403:
            text = f"{name}: the provider refused the key (status {status})"
            return Failure(errors.Internal(text, reason="UPSTREAM_AUTH", metadata=metadata), may_pass=False)
        case 402 | 429:
            limited = errors.ResourceExhausted(
                f"{name}: the provider limits the rate (status {status})",
                reason="UPSTREAM_RATE_LIMITED",
                metadata=metadata,
                retry_after=_retry_after(error) if status == 429 else None,
            )
            return Failure(limited, may_pass=status == 429)
        case 408:
            text = f"{name} did not answer in time"
            return Failure(errors.DeadlineExceeded(text, metadata=metadata), may_pass=True)
        case int() if 400 <= status < 500:
            text = f"{name}: the provider found the request malformed (status {status})"
            return Failure(
                errors.InvalidArgument([], message=text, reason="UPSTREAM_REJECTED", metadata=metadata), may_pass=False
            )
    return Failure(_unavailable(deployment, "cannot be reached or failed"), may_pass=True)


def _unavailable(deployment: Deployment, what: str) -> errors.Error:
    return errors.Unavailable(
        f"deployment {deployment.deployment_id}: the provider {what}",
        reason="UPSTREAM_UNAVAILABLE",
        metadata={"deployment_id": deployment.deployment_id},
    )


def _retry_after(error: Exception) -> float | None:
    headers = getattr(error, "litellm_response_headers", None) or {}
    try:
        return min(max(float(headers["retry-after"]), 0.0), _LONGEST_RETRY_AFTER)
    except (KeyError, ValueError):
        return None


class _OfflineModel(CustomLLM):  # type: ignore[misc]
    async def acompletion(self, *, messages: Any, optional_params: Any, model_response: Any, **_: Any) -> Any:
        answer, usage = _answer_offline(messages, optional_params)
        await asyncio.sleep(optional_params["offline_delay"] * len(answer.words()))
        message = litellm.Message(content=answer.text or None, tool_calls=[_tool_use(c) for c in answer.calls] or None)
        model_response.choices[0].message = message
        model_response.choices[0].finish_reason = answer.finish_reason
        model_response.usage = litellm.Usage(**usage)
        return model_response

    async def astreaming(self, *, messages: Any, optional_params: Any, **_: Any) -> AsyncIterator[dict[str, Any]]:
        answer, usage = _answer_offline(messages, optional_params)
        piece = {"text": "", "is_finished": False, "finish_reason": "", "usage": None, "index": 0, "tool_use": None}
        for word in answer.words():
            await asyncio.sleep(optional_params["offline_delay"])
            yield {**piece, "text": word}
        for call in answer.calls:
            yield {**piece, "tool_use": {**_tool_use(call), "index": 0}}
        yield {**piece, "is_finished": True, "finish_reason": answer.finish_reason, "usage": usage}


def _answer_offline(messages: Any, params: Any) -> tuple[offline.Answer, dict[str, int]]:
    answer = offline.answer(
        messages, params.get("tools") or (), params.get("tool_choice") or "auto", params.get("response_format")
    )
    asked, said = offline.count(messages), answer.length()
    return answer, {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def _tool_use(call: ToolCall) -> dict[str, Any]:
    return {
        "id": call.call_id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


_configure()
