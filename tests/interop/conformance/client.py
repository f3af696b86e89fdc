"""Our MCP client, as the conformance suite runs it: `python client.py URL`. It lists the tools and calls each."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from services.execution.gateways.mcp.connection import Connection
from services.execution.gateways.mcp.targets import Bounds, Target
from services.execution.service.elicitation import Answered, SourceAsks, enter_answered
from services.execution.service.sources import ToolError

_SAMPLES: dict[str, Any] = {"string": "text", "number": 3, "integer": 5, "boolean": True, "array": [], "object": {}}


async def main(url: str) -> None:
    target = Target("conformance", "http", (url,), {}, None, (), ())
    legacy = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "2026-07-28") < "2026-07-28"
    connection = Connection(target, Bounds(patience=60.0), legacy=legacy, changed=lambda: None)
    await connection.open({})
    try:
        tools, _ = await connection.tools()
        for name, arguments in _asked() or [(tool.name, _arguments(tool.input_schema)) for tool in tools]:
            try:
                await _called(connection, name, arguments)
            except ToolError as error:
                print(name, error)
    finally:
        await connection.closed()


async def _called(connection: Connection, name: str, arguments: dict[str, Any]) -> None:
    """What the tool asks is answered with samples."""
    enter_answered(None)
    for _ in range(5):
        try:
            await connection.call(name, arguments, "", None)
            return
        except SourceAsks as asks:
            answers = {key: _arguments(one.get("schema", {})) for key, one in asks.asked.questions.items()}
            enter_answered(Answered(asks.asked.state, answers))


def _asked() -> list[tuple[str, dict[str, Any]]]:
    """The calls that a scenario names."""
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    return [(one["name"], one["arguments"]) for one in context.get("toolCalls", ())]


def _arguments(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _SAMPLES.get(part.get("type"), "text")
        for name, part in schema.get("properties", {}).items()
        if isinstance(part, dict)
    }


if __name__ == "__main__":
    asyncio.run(main(sys.argv[-1]))
