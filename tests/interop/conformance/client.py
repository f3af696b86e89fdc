"""Our MCP client, as the conformance suite runs it: `python client.py URL`. It lists the tools and calls each."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from services.execution.gateways.mcp.connection import Connection
from services.execution.gateways.mcp.targets import Bounds, Target
from services.execution.service.sources import ToolError

_SAMPLES: dict[str, Any] = {"string": "text", "number": 3, "integer": 5, "boolean": True, "array": [], "object": {}}


async def main(url: str) -> None:
    target = Target("conformance", "http", (url,), {}, None, (), ())
    legacy = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "2026-07-28") < "2026-07-28"
    connection = Connection(target, Bounds(), legacy=legacy, changed=lambda: None)
    await connection.open({})
    try:
        tools, _ = await connection.tools()
        for tool in tools:
            try:
                await connection.call(tool.name, _arguments(tool.input_schema), "", None)
            except ToolError as error:
                print(tool.name, error)
    finally:
        await connection.closed()


def _arguments(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _SAMPLES.get(part.get("type"), "text")
        for name, part in schema.get("properties", {}).items()
        if isinstance(part, dict)
    }


if __name__ == "__main__":
    asyncio.run(main(sys.argv[-1]))
