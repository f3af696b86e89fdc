"""What MCP servers say <-> tools and their results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    ElicitResult,
    EmbeddedResource,
    ImageContent,
    InputRequiredResult,
    InputResponses,
    ResourceLink,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
)
from mcp_types import Tool as McpTool

from services.execution.gateways import described
from services.execution.gateways.described import LONGEST_DESCRIPTION, Description
from services.execution.model.tools import Tool
from services.execution.service import schemas
from services.execution.service.elicitation import Answered, Asked
from services.execution.service.log import storable
from services.execution.service.sources import TOOL_ID, ToolError


class Origin(Protocol):
    """Whose tools they are."""

    @property
    def source_id(self) -> str: ...

    @property
    def timeout(self) -> float | None: ...

    def offers(self, name: str) -> bool: ...


def to_tools(origin: Origin, found: Sequence[McpTool]) -> tuple[dict[str, Tool], str]:
    offered = (one for one in found if origin.offers(one.name))
    return described.to_tools(origin.source_id, (_description(origin, one) for one in offered))


def _description(origin: Origin, one: McpTool) -> Description:
    hints = one.annotations or ToolAnnotations()
    read_only = bool(hints.read_only_hint)
    return Description(
        name=one.name,
        function_name=one.name,
        title=one.title or hints.title or one.name,
        description=one.description or "",
        input_schema=one.input_schema,
        output_schema=one.output_schema,
        read_only=read_only,
        idempotent=bool(hints.idempotent_hint),
        destructive=not read_only and hints.destructive_hint is not False,
        open_world=hints.open_world_hint is not False,
        examples=_examples(one.input_schema),
        timeout=origin.timeout,
        relayed=TOOL_ID in (one.meta or {}),
    )


def _examples(schema: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found = schema.get("examples")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def to_output(result: CallToolResult) -> str:
    """What the model is told; raises ToolError with it where the tool says that it failed."""
    if result.structured_content is not None and not result.is_error:
        return json.dumps(result.structured_content, ensure_ascii=False, separators=(",", ":"))
    output = "\n".join(_texts(result))
    if result.is_error:
        raise ToolError(output or "the tool failed and does not say why")
    return output


def to_asked(result: InputRequiredResult) -> Asked:
    """What a server wants to know of the user; raises ToolError where it wants something else."""
    questions: dict[str, dict[str, Any]] = {}
    for key, request in (result.input_requests or {}).items():
        match request:
            case ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema)):
                if problem := schemas.problem_of(schema):
                    raise ToolError(f"the tool asks for something that cannot be given: its schema {problem}")
                questions[key] = {"prompt": storable(message)[:LONGEST_DESCRIPTION], "schema": storable(schema)}
            case ElicitRequest(params=ElicitRequestURLParams(message=message, url=url)):
                questions[key] = {"prompt": storable(f"{message}\n{url}")[:LONGEST_DESCRIPTION]}
            case _:
                raise ToolError(f"the tool asks for {request.method}, which is not to be had here")
    return Asked(questions, result.request_state)


def to_responses(answered: Answered) -> InputResponses:
    return {
        key: ElicitResult(action="decline") if values is None else _accepted(values)
        for key, values in answered.answers.items()
    }


def _accepted(values: Mapping[str, Any]) -> ElicitResult:
    return ElicitResult(action="accept", content=dict(values) or None)


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
