"""Tool ids: `provider/tool` or `provider/source/tool`, or with * at the end for all that begin with the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from libs.errors import Violation
from services.registry.model import Spec
from services.registry.model.tool_options import check_options

_TOOL_ID: Final = re.compile(r"[a-z]+(/[A-Za-z0-9_.-]+)*/([A-Za-z0-9_.-]+|[A-Za-z0-9_.-]*\*)")
_PARTS: Final = {"mcp": "mcp/<mcp_server_id>/<tool>", "grpc": "grpc/<tool_provider_id>/<tool>"}
_ONE_PART: Final = {"function": "function/<tool_definition_id>", "host": "host/<tool>"}

_RUN: Final = ("agent", "team", "workflow")
"""They run as members of whoever calls them."""


def check_tools(spec: Spec, field: str) -> Iterator[Violation]:
    """The tools of an agent or of a team's leader."""
    tools = spec.get("tools", ())
    fields = [f"{field}.tools[{index}]" for index in range(len(tools))]
    yield from check_tool_ids([tool["tool_id"] for tool in tools], [f"{one}.tool_id" for one in fields])
    for tool, one in zip(tools, fields, strict=True):
        yield from check_options(tool, one)


def check_tool_ids(tool_ids: list[str], fields: list[str]) -> Iterator[Violation]:
    seen: set[str] = set()
    for tool_id, field in zip(tool_ids, fields, strict=True):
        if tool_id in seen:
            yield Violation(field, f"{tool_id} is listed twice")
        elif problem := problem_of_tool_id(tool_id):
            yield Violation(field, problem)
        seen.add(tool_id)


def problem_of_tool_id(tool_id: str) -> str | None:
    if not _TOOL_ID.fullmatch(tool_id):
        return "is not a tool id such as builtin/calculator or mcp/crm/*"
    provider, *parts = tool_id.split("/")
    if provider in _PARTS and len(parts) < 2 and not tool_id.endswith("*"):
        return f"names no tool: {_PARTS[provider]}"
    if provider in _RUN and (len(parts) > 1 or "*" in tool_id):
        return f"names no {provider}: {provider}/<{provider}_id>"
    if provider in _ONE_PART and len(parts) > 1:
        return f"has too many parts: {_ONE_PART[provider]}"
    return None


def matches(pattern: str, tool_id: str) -> bool:
    return tool_id.startswith(pattern[:-1]) if pattern.endswith("*") else tool_id == pattern
