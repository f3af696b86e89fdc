"""The rules of an agent."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from typing import Final

from libs.errors import Violation
from services.registry.model import Spec
from services.registry.model.patterns import problem_of_pattern
from services.registry.model.schemas import check_schema
from services.registry.model.tool_ids import check_tools, matches
from services.registry.model.tool_options import check_approval

_FEWEST_STEPS: Final = 1
_MOST_STEPS: Final = 10


def check_agent(spec: Spec) -> list[Violation]:
    return [
        *check_model(spec, "agent.spec"),
        *check_tools(spec, "agent.spec"),
        *check_settings(spec, "agent.spec"),
    ]


def check_model(spec: Spec, field: str) -> list[Violation]:
    if spec.get("model", {}).get("model"):
        return []
    return [Violation(f"{field}.model.model", "is required: the model group that it thinks with")]


def check_settings(spec: Spec, field: str) -> list[Violation]:
    """Everything but the model and the tools, which a template has in its own way."""
    return [
        *_check_tool_choice(spec, field),
        *_check_timezone(spec, field),
        *check_answer(spec, field),
        *_check_input(spec, field),
        *_check_reasoning(spec, field),
        *check_history(spec, field),
        *_check_guardrails(spec, field),
        *check_approval(spec, field),
    ]


def _check_tool_choice(spec: Spec, field: str) -> Iterator[Violation]:
    choice = spec.get("tool_choice", "auto")
    if choice == "required" and not spec.get("tools") and not spec.get("mcp_server_ids"):
        yield Violation(f"{field}.tool_choice", "is required, but the agent has no tools")
    if choice not in ("auto", "none", "required") and not _has_tool(spec, choice):
        yield Violation(f"{field}.tool_choice", "is none of auto, none, required and the agent's tools")


def _has_tool(spec: Spec, tool_id: str) -> bool:
    patterns = [tool["tool_id"] for tool in spec.get("tools", ())]
    patterns += [f"mcp/{server_id}/*" for server_id in spec.get("mcp_server_ids", ())]
    return "*" not in tool_id and any(matches(pattern, tool_id) for pattern in patterns)


def _check_timezone(spec: Spec, field: str) -> Iterator[Violation]:
    if "timezone" in spec and not _is_timezone(spec["timezone"]):
        yield Violation(f"{field}.timezone", "is not an IANA time zone")


def _is_timezone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def check_answer(spec: Spec, field: str) -> list[Violation]:
    if "output_schema" not in spec:
        return []
    found = check_schema(spec["output_schema"], f"{field}.output_schema", of_object=True)
    if not found and spec.get("markdown"):
        return [Violation(f"{field}.markdown", "contradicts output_schema")]
    return found


def _check_input(spec: Spec, field: str) -> list[Violation]:
    return check_schema(spec["input_schema"], f"{field}.input_schema") if "input_schema" in spec else []


def _check_reasoning(spec: Spec, field: str) -> Iterator[Violation]:
    if "reasoning_model" in spec and not spec["reasoning_model"].get("model"):
        yield Violation(f"{field}.reasoning_model.model", "is required: the model group that reasons")
    reasoning = spec.get("reasoning", {})
    fewest = reasoning.get("min_steps", _FEWEST_STEPS)
    most = reasoning.get("max_steps", _MOST_STEPS)
    if most < fewest:
        yield Violation(f"{field}.reasoning.max_steps", f"is {most}, below min_steps, {fewest}")


def check_history(spec: Spec, field: str) -> Iterator[Violation]:
    history = spec.get("history", {})
    if history.get("num_runs") and history.get("num_messages"):
        yield Violation(f"{field}.history.num_messages", "contradicts num_runs")


def _check_guardrails(spec: Spec, field: str) -> Iterator[Violation]:
    guardrails = spec.get("guardrails", {})
    if guardrails.get("prompt_injection") == "GUARDRAIL_ACTION_MASK":
        yield Violation(f"{field}.guardrails.prompt_injection", "cannot be masked, only refused")
    for index, pattern in enumerate(guardrails.get("denied_output_patterns", ())):
        if problem := problem_of_pattern(pattern):
            yield Violation(f"{field}.guardrails.denied_output_patterns[{index}]", problem)
