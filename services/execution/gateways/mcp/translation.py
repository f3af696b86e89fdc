"""What MCP servers say <-> tools and their results."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
)
from mcp_types import Tool as McpTool

from services.execution.gateways.mcp.targets import Target
from services.execution.model.tools import Tool
from services.execution.service import schemas
from services.execution.service.log import storable
from services.execution.service.names import fitted
from services.execution.service.sources import ToolError
from services.execution.service.tools import digest

_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
_LONGEST_NAME: Final = 128
_LONGEST_DESCRIPTION: Final = 10_000
_LONGEST_TITLE: Final = 200
_MOST_EXAMPLES: Final = 10


def to_tools(target: Target, found: Sequence[McpTool]) -> tuple[dict[str, Tool], str]:
    """The tools that are offered, by id, and what is to be said of those that are not."""
    tools: dict[str, Tool] = {}
    left_out = []
    for one in found:
        tool_id = f"{target.source_id}/{one.name}"
        if not target.offers(one.name):
            continue
        if not _NAME.fullmatch(one.name) or len(one.name) > _LONGEST_NAME or tool_id in tools:
            left_out.append(ascii(one.name)[:60])
            continue
        try:
            tools[tool_id] = _to_tool(target, tool_id, one)
        except (TypeError, ValueError, RecursionError):  # numbers or texts that cannot be handed on
            left_out.append(ascii(one.name)[:60])
    return tools, f"left out, for their names or schemas: {', '.join(left_out[:10])}" if left_out else ""


def _to_tool(target: Target, tool_id: str, one: McpTool) -> Tool:
    hints = one.annotations or ToolAnnotations()
    read_only = bool(hints.read_only_hint)
    made = Tool(
        tool_id=tool_id,
        function_name=fitted(one.name),
        title=storable(one.title or hints.title or one.name)[:_LONGEST_TITLE],
        description=storable(one.description or "")[:_LONGEST_DESCRIPTION],
        input_schema=storable(one.input_schema),
        output_schema=storable(one.output_schema),
        version="",
        read_only=read_only,
        idempotent=bool(hints.idempotent_hint),
        destructive=not read_only and hints.destructive_hint is not False,
        open_world=hints.open_world_hint is not False,
        examples=_examples(one.input_schema),
        timeout=target.timeout,
    )
    made = _checked(made)
    return replace(made, version=digest({**asdict(made), "timeout": None})[:12])


def _examples(schema: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found = schema.get("examples")
    return [storable(one) for one in found if isinstance(one, dict)][:_MOST_EXAMPLES] if isinstance(found, list) else []


def _checked(tool: Tool) -> Tool:
    """A schema that cannot be applied makes a tool unusable where it is of the arguments."""
    if problem := schemas.problem_of(tool.input_schema):
        empty = {"type": "object"}
        warning = f"its input schema {problem}"
        return replace(tool, input_schema=empty, output_schema=None, warning=warning, unusable=True)
    if tool.output_schema is not None and (problem := schemas.problem_of(tool.output_schema)):
        return replace(tool, output_schema=None, warning=f"results are not checked: its output schema {problem}")
    return tool


def to_output(result: CallToolResult) -> str:
    """What the model is told; raises ToolError with it where the tool says that it failed."""
    if result.structured_content is not None and not result.is_error:
        return json.dumps(result.structured_content, ensure_ascii=False, separators=(",", ":"))
    output = "\n".join(_texts(result))
    if result.is_error:
        raise ToolError(output or "the tool failed and does not say why")
    return output


def _texts(result: CallToolResult) -> Iterator[str]:
    for part in result.content:
        match part:
            case TextContent(text=text):
                yield text
            case ImageContent(data=data, mime_type=kind) | AudioContent(data=data, mime_type=kind):
                yield _bytes(kind, data)
            case EmbeddedResource(resource=TextResourceContents(text=text)):
                yield text
            case EmbeddedResource(resource=BlobResourceContents(blob=blob, mime_type=kind)):
                yield _bytes(kind, blob)
            case ResourceLink():
                yield f"[resource {part.name}: {part.uri}]"


def _bytes(kind: str | None, data: str) -> str:
    size = len(data.rstrip("=")) * 3 // 4
    return f"[{kind or 'application/octet-stream'}, {size} bytes, not shown]"
