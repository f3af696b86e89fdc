"""What a built-in tool is made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.execution.model.tools import Tool
from services.execution.service.tools import digest

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool, and what does its work. It gets the arguments, which fit the schema, by their names."""

    tool: Tool
    call: Callable[..., str | Awaitable[str]]

    def off(self, why: str) -> Offer:
        """Listed, with the reason why it cannot be called."""
        return replace(self, tool=replace(self.tool, unusable=True, warning=f"it is off: {why}"))


def declared(
    name: str,
    title: str,
    description: str,
    properties: Schema,
    required: Sequence[str],
    *,
    output: Schema | None = None,
    examples: Sequence[Mapping[str, Any]] = (),
    **more: Any,
) -> Tool:
    """A tool that changes nothing; `output` is the JSON Schema of what it gives, where that is data."""
    schema = {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }
    contract = [name, description, schema, *([output] if output else [])]
    return Tool(
        tool_id=f"builtin/{name}",
        function_name=name.replace(".", "_"),
        title=title,
        description=description,
        input_schema=schema,
        output_schema=dict(output) if output else None,
        version=digest(contract)[:12],
        examples=tuple(examples),
        **{"read_only": True, "idempotent": True, **more},
    )


def record(properties: Schema, *, open_ended: bool = False) -> Schema:
    """JSON Schema of an object with all of these properties."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": open_ended,
    }
