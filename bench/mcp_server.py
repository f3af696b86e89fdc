"""The MCP server of bench.mcp_tools: `python -P mcp_server.py`, or with a port for streamable HTTP."""

from __future__ import annotations

import sys

from mcp.server import MCPServer


def main(*port: str) -> None:
    server = MCPServer("bench", log_level="CRITICAL")

    @server.tool(structured_output=False)
    def say(text: str) -> str:
        return text

    if port:
        server.run("streamable-http", port=int(port[0]))
    else:
        server.run("stdio")


if __name__ == "__main__":
    main(*sys.argv[1:])
