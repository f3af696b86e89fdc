"""Tools under the names for which the conformance suite of MCP asks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from services.execution.model.tools import Progress, Tool
from services.execution.service.sources import ToolError, on_progress

_EMPTY: dict[str, Any] = {"type": "object", "properties": {}}
_2020_12: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"}}}},
    "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}},
    "additionalProperties": False,
}


class Fixtures:
    def tools(self) -> Sequence[Tool]:
        names = ("test_simple_text", "test_error_handling", "test_tool_with_progress")
        return [
            *(Tool(name, name, name, f"Fixture {name}.", _EMPTY, "1") for name in names),
            Tool("json_schema_2020_12_tool", "", "", "A schema of 2020-12.", _2020_12, "1"),
        ]

    async def call(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
        if tool.tool_id == "test_error_handling":
            raise ToolError("This tool intentionally returns an error for testing")
        if tool.tool_id == "test_tool_with_progress":
            told = on_progress()
            for done in (0, 50, 100):
                if told:
                    told(Progress(done, 100, f"step {done}"))
                await asyncio.sleep(0.25)  # more than that is not told of
        return "This is a simple text response for testing."
