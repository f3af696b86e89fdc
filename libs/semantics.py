"""What spans say, in OpenTelemetry's GenAI conventions and in OpenInference's, which Arize Phoenix reads.

The one place where these names are: both conventions move on, and spans elsewhere say what they mean in our own words.
Text of users, models and tools is in the functions at the end alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

Attributes = dict[str, str | int | float | bool | Sequence[str]]
EXECUTION: Final = "dynamic_agents.execution_id"
REASON: Final = "error.type"
_SPAN_KIND: Final = "openinference.span.kind"
_MOST_MESSAGES: Final = 40
"""The last ones of a conversation."""


def agent(
    operation: str, agent_id: str, revision: int, execution_id: str, *, session_id: str, user_id: str, tenant: str
) -> Attributes:
    """Of an agent, a team or a workflow: invoke_agent and so on."""
    said: Attributes = {
        "gen_ai.operation.name": operation,
        "gen_ai.agent.id": agent_id,
        "gen_ai.agent.name": agent_id,
        "gen_ai.agent.version": str(revision),
        EXECUTION: execution_id,
        "dynamic_agents.tenant": tenant,
        _SPAN_KIND: "AGENT",
        "agent.name": agent_id,
    }
    if session_id:
        said |= {"gen_ai.conversation.id": session_id, "session.id": session_id}
    return said | ({"user.id": user_id} if user_id else {})


def chat(group: str, *, settings: Mapping[str, Any], tools: int) -> Attributes:
    said: Attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": group,
        "gen_ai.request.stream": True,
        "dynamic_agents.tools": tools,
        _SPAN_KIND: "LLM",
        "llm.request.model_name": group,
    }
    for ours, theirs in _PARAMETERS.items():
        if isinstance(value := settings.get(ours), int | float):
            said[theirs] = value
    return said


_PARAMETERS: Final = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
}


def answered(
    model: str,
    *,
    deployment_id: str,
    input_tokens: int,
    output_tokens: int,
    cached_input_tokens: int,
    reasoning_tokens: int,
    cost_usd: float | None,
) -> Attributes:
    """What a model's turn took; `model` as LiteLLM names it, e.g. openai/gpt-4o."""
    provider, _, name = model.rpartition("/")
    said: Attributes = {
        "gen_ai.response.model": name,
        "gen_ai.provider.name": provider or name,
        "gen_ai.usage.input_tokens": input_tokens,
        "gen_ai.usage.output_tokens": output_tokens,
        "gen_ai.usage.cache_read.input_tokens": cached_input_tokens,
        "dynamic_agents.deployment_id": deployment_id,
        "llm.model_name": name,
        "llm.provider": provider or name,
        "llm.token_count.prompt": input_tokens,
        "llm.token_count.completion": output_tokens,
        "llm.token_count.total": input_tokens + output_tokens,
        "llm.token_count.prompt_details.cache_read": cached_input_tokens,
        "llm.token_count.completion_details.reasoning": reasoning_tokens,
    }
    return said if cost_usd is None else {**said, "dynamic_agents.cost_usd": cost_usd, "llm.cost.total": cost_usd}


def first_piece(seconds: float) -> Attributes:
    return {"gen_ai.response.time_to_first_chunk": round(seconds, 6)}


def tool(tool_id: str, name: str, description: str) -> Attributes:
    return {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": name,
        "gen_ai.tool.type": "extension",
        "gen_ai.tool.description": description[:500],
        "dynamic_agents.tool_id": tool_id,
        _SPAN_KIND: "TOOL",
        "tool.name": name,
        "tool.id": tool_id,
    }


def attempt(deployment_id: str, group: str, model: str) -> Attributes:
    """Router's attempt at a deployment. Without tokens, and no LLM of OpenInference's: the turn that it is part of has
    them, and they are not to be counted twice.
    """
    return {
        "dynamic_agents.deployment_id": deployment_id,
        "dynamic_agents.model_group": group,
        "dynamic_agents.model": model,
        _SPAN_KIND: "CHAIN",
    }


# What was said


def text(side: str, value: str) -> Attributes:
    """`side` is input or output."""
    return {f"{side}.value": value, f"{side}.mime_type": "text/plain"}


def data(side: str, value: Any) -> Attributes:
    return {f"{side}.value": orjson.dumps(value, default=str).decode(), f"{side}.mime_type": "application/json"}


def messages(side: str, conversation: Sequence[Mapping[str, Any]]) -> Attributes:
    """Messages in the shape of OpenAI's chat API."""
    said: Attributes = {}
    for index, message in enumerate(conversation[-_MOST_MESSAGES:]):
        prefix = f"llm.{side}_messages.{index}.message"
        said[f"{prefix}.role"] = str(message.get("role", ""))
        said[f"{prefix}.content"] = str(message.get("content") or "")
        if message.get("tool_call_id"):
            said[f"{prefix}.tool_call_id"] = str(message["tool_call_id"])
        said |= _calls(prefix, message.get("tool_calls") or ())
    parts = [_parts(message) for message in conversation[-_MOST_MESSAGES:]]
    return said | {f"gen_ai.{side}.messages": orjson.dumps(parts, default=str).decode()}


def _calls(prefix: str, calls: Iterable[Mapping[str, Any]]) -> Attributes:
    said: Attributes = {}
    for index, call in enumerate(calls):
        at = f"{prefix}.tool_calls.{index}.tool_call"
        said[f"{at}.id"] = str(call.get("id", ""))
        said[f"{at}.function.name"] = str(call["function"]["name"])
        said[f"{at}.function.arguments"] = str(call["function"]["arguments"])
    return said


def _parts(message: Mapping[str, Any]) -> dict[str, Any]:
    """As the GenAI conventions have messages."""
    role, content = message.get("role", ""), str(message.get("content") or "")
    if role == "tool":
        answer = {"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content}
        return {"role": role, "parts": [answer]}
    parts: list[dict[str, Any]] = [{"type": "text", "content": content}] if content else []
    for call in message.get("tool_calls") or ():
        function = call["function"]
        parts.append(
            {"type": "tool_call", "id": call.get("id"), "name": function["name"], "arguments": function["arguments"]}
        )
    return {"role": role, "parts": parts}
