"""An MCP server whose tools ask before they answer: `python asking_server.py`, or with `sse PORT`."""

from __future__ import annotations

import sys
from pathlib import Path

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.request_state import RequestStateSecurity
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitRequestURLParams, ElicitResult, InputRequiredResult
from pydantic import BaseModel

ASKING_SERVER = str(Path(__file__))
GUESTS = {"type": "object", "properties": {"guests": {"type": "integer", "minimum": 1}}, "required": ["guests"]}
SURE = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]}


class Guests(BaseModel):
    guests: int


def main(*arguments: str) -> None:
    # Whatever process is asked again must know what another one has sealed.
    security = RequestStateSecurity(keys=[b"0123456789abcdef0123456789abcdef"])
    server = MCPServer("asking", log_level="CRITICAL", request_state_security=security)
    booked: list[str] = []

    @server.tool(structured_output=False)
    async def book(table: str, ctx: Context) -> str | InputRequiredResult:
        """Asks for how many, then whether to do it."""
        given, guests = ctx.input_responses or {}, ctx.request_state
        if "guests" not in given and not guests:
            form = ElicitRequestFormParams(message="How many guests?", requested_schema=GUESTS)
            return InputRequiredResult(input_requests={"guests": ElicitRequest(params=form)}, request_state="asked")
        answer = given.get("guests")
        if isinstance(answer, ElicitResult):
            if answer.action != "accept":
                return f"not booked: {answer.action}"
            assert answer.content
            form = ElicitRequestFormParams(message="Are you sure?", requested_schema=SURE)
            state = str(answer.content["guests"])
            return InputRequiredResult(input_requests={"sure": ElicitRequest(params=form)}, request_state=state)
        booked.append(table)
        return f"table {table} for {guests}, booking {len(booked)}"

    @server.tool(structured_output=False)
    async def consent(ctx: Context) -> str | InputRequiredResult:
        if "page" in (ctx.input_responses or {}):
            return "thank you"
        page = ElicitRequestURLParams(message="Please agree.", url="https://example.com/agree", elicitation_id="e1")
        return InputRequiredResult(input_requests={"page": ElicitRequest(params=page)}, request_state="s")

    @server.tool(structured_output=False)
    async def again(ctx: Context) -> str | InputRequiredResult:
        """Wants to be called once more, without a question."""
        return "at last" if ctx.request_state else InputRequiredResult(request_state="once")

    @server.tool(structured_output=False)
    async def ask_now(ctx: Context) -> str:
        """Waits for the answer within its call, as before 2026-07-28."""
        return (await ctx.elicit("How many?", Guests)).action

    if arguments:
        server.run("sse", port=int(arguments[1]))
    else:
        server.run("stdio")


if __name__ == "__main__":
    main(*sys.argv[1:])
