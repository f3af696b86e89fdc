"""The library lane: LiteLLM carries the call itself, for providers with a way of their own."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import litellm
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER

from services.router.gateways import answers, failures, parameters, prices
from services.router.gateways.answers import Answer
from services.router.gateways.messages import copied
from services.router.model import (
    ChatCall,
    Chunk,
    Credentials,
    Deployment,
    EmbedCall,
    Embedded,
    Failure,
    Ranked,
    RerankCall,
    Reranked,
    Usage,
)

_TIMEOUT: Final = 7200.0
"""Above every limit of ours, which service/ sets; LiteLLM keeps one connection pool for each distinct value."""
_KEPT: Final = 60
"""Seconds that LiteLLM keeps a client; OpenAI's and Azure's hold their key."""
_NOBODY: Final = "http://127.0.0.1:0"
_warm = False


def _configure() -> None:
    litellm.suppress_debug_info = True
    litellm.expose_router_debug_in_errors = False
    litellm.turn_off_message_logging = True
    litellm.drop_params = False
    litellm.disable_hf_tokenizer_download = True
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).disabled = True  # its texts repeat what providers say
    parameters.blind()
    cache = litellm.in_memory_llm_clients_cache
    keep = cache.set_cache
    cache.set_cache = lambda *args, **kwargs: keep(*args, **{**kwargs, "ttl": _KEPT})


async def warm_up() -> None:
    """A call that nobody can answer, and made-up answers: what LiteLLM imports and makes on first use."""
    global _warm
    if _warm:
        return
    nobody = Deployment("warm-up", "", "openai/none", _NOBODY)
    for stream in (True, False):
        call = ChatCall("", [{"role": "user", "content": "hello"}], stream=stream)
        arguments = _chat_arguments(nobody, Credentials(), call)
        with contextlib.suppress(Exception):
            await litellm.acompletion(**arguments)
        response = await litellm.acompletion(**arguments, mock_response="hello")
        if stream:
            [part async for part in response]
    _warm = True


async def close() -> None:
    await GLOBAL_LOGGING_WORKER.stop()
    await litellm.close_litellm_async_clients()
    await litellm.module_level_aclient.client._transport.aclose()
    litellm.in_memory_llm_clients_cache.flush_cache()


async def chat(deployment: Deployment, credentials: Credentials, call: ChatCall) -> AsyncGenerator[Chunk, None]:
    answer = Answer(deployment, call)
    try:
        response = await litellm.acompletion(**_chat_arguments(deployment, credentials, call))
        if not call.stream:
            answers.read_whole(answer, response)
            yield await answer.last()
            return
        try:
            async with aclosing(_pieces(deployment, answer, response)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            await response.aclose()
    except Failure:
        raise
    except Exception as error:
        raise failures.failure(deployment, error) from None


async def _pieces(deployment: Deployment, answer: Answer, response: Any) -> AsyncGenerator[Chunk, None]:
    async for part in response:
        answers.read_piece(answer, part)
        if chunk := answer.take():
            yield chunk
    # LiteLLM invents a reason where a stream just ends.
    if not (response.received_finish_reason or response.intermittent_finish_reason):
        raise failures.unavailable(deployment, "broke off its answer")
    yield await answer.last()


async def embed(deployment: Deployment, credentials: Credentials, call: EmbedCall) -> Embedded:
    arguments = _arguments(deployment, credentials)
    if call.dimensions:
        arguments["dimensions"] = call.dimensions
    try:
        response = await litellm.aembedding(input=list(call.inputs), **arguments)
        rows = sorted(response.data, key=lambda row: row["index"])
        vectors = [row["embedding"] for row in rows]
    except Exception as error:
        raise failures.failure(deployment, error) from None
    if len(vectors) != len(call.inputs):
        raise failures.unavailable(deployment, "sent another number of vectors than asked for")
    usage = _embedding_usage(response.usage)
    return Embedded(vectors, usage, prices.cost(deployment, usage, response.usage))


def _embedding_usage(given: Any) -> Usage | None:
    sent = getattr(given, "prompt_tokens", 0) or 0
    return Usage(input_tokens=sent, total_tokens=sent) if sent else None


async def rerank(deployment: Deployment, credentials: Credentials, call: RerankCall) -> Reranked:
    try:
        response = await litellm.arerank(
            query=call.query,
            documents=list(call.documents),
            top_n=call.top_n or len(call.documents),
            return_documents=False,
            **_arguments(deployment, credentials),
        )
        results = [Ranked(found["index"], found["relevance_score"]) for found in response.results or ()]
    except Exception as error:
        raise failures.failure(deployment, error) from None
    return Reranked(sorted(results, key=lambda found: -found.score), _rerank_cost(deployment, response))


def _rerank_cost(deployment: Deployment, response: Any) -> float | None:
    try:
        return float(litellm.completion_cost(response, model=deployment.model, call_type="arerank"))
    except Exception:
        return None  # LiteLLM has no price, and says so in several ways


def _arguments(deployment: Deployment, credentials: Credentials) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "model": deployment.model,
        "api_key": credentials.api_key or parameters.NO_KEY,
        "timeout": _TIMEOUT,
        "num_retries": 0,
        "max_retries": 0,
        **deployment.provider_parameters,
        **credentials.parameters,
    }
    if deployment.api_base:
        arguments["api_base"] = deployment.api_base
    return arguments


def _chat_arguments(deployment: Deployment, credentials: Credentials, call: ChatCall) -> dict[str, Any]:
    arguments = {
        **call.settings,
        **_arguments(deployment, credentials),
        "messages": copied(call.messages, deployment.provider),
        "stream": call.stream,
        "_skip_mcp_handler": True,  # it needs LiteLLM's proxy, and the tools are the caller's
    }
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


_configure()
