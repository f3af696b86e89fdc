"""How an agent has its tools: what its references say, beside what the tools say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from services.execution.model.inputs import Kind
from services.execution.model.targets import Spec
from services.execution.model.tools import ASK_USER, DEFAULT_TOOL_TIMEOUT, Approval, BoundTool, Tool

_BACKOFF: Final = 0.5


def bound(tool: Tool, reference: Mapping[str, Any], spec: Spec) -> BoundTool:
    """A reference may stand for many tools: what would not be safe with one of them does not apply to it."""
    if reference.get("idempotent"):
        tool = replace(tool, idempotent=True)
    approvals = tuple(_approval(one["approval"]) for one in (reference, spec) if "approval" in one)
    asks = _asks(tool, reference, approvals)
    return BoundTool(
        tool,
        _timeout(tool, reference),
        asks,
        approvals=approvals,
        retries=reference.get("retries", 0) if tool.repeatable else 0,
        backoff=_seconds(reference.get("retry_backoff")) or _BACKOFF,
        cache_ttl=_seconds(reference.get("cache_ttl")) or cache_ttl(tool) if tool.read_only or tool.idempotent else 0.0,
        result_limit=reference.get("result_limit", 0),
    )


def cache_ttl(tool: Tool) -> float:
    """As the tool says, where a call that is not made changes nothing."""
    return tool.cache_ttl if tool.read_only or tool.idempotent else 0.0


def _approval(said: Mapping[str, Any]) -> Approval:
    return Approval(said.get("condition", ""), _seconds(said.get("expires_after")))


def _seconds(duration: str | None) -> float | None:
    return float(duration.removesuffix("s")) if duration else None


def _timeout(tool: Tool, reference: Mapping[str, Any]) -> float:
    asked = _seconds(reference.get("timeout"))
    if asked is None:
        return tool.timeout or DEFAULT_TOOL_TIMEOUT
    return min(asked, tool.timeout) if tool.timeout else asked


def _asks(tool: Tool, reference: Mapping[str, Any], approvals: tuple[Approval, ...]) -> Kind | None:
    if tool.tool_id == ASK_USER:
        return Kind.USER_INPUT
    if tool.source == "function":
        return Kind.EXTERNAL_TOOL
    always = reference.get("requires_confirmation") or any(not one.condition for one in approvals)
    return Kind.APPROVAL if always else None
