"""`dynamic-agents tools`: what a changed provider of tools would break."""

from __future__ import annotations

from typing import Annotated, Any, Final

import grpc
import typer
from dynamicagents.tools.v1 import tool_service_pb2, tool_service_pb2_grpc
from rich.markup import escape

from cli.connection import PORT_BASE, PortBase, call
from cli.output import Json, console, print_json

app = typer.Typer(help="Tools: check a provider.", no_args_is_help=True)
BROKEN: Final = 1
_BREAKING: Final = (tool_service_pb2.TOOL_CHANGE_BREAKING, tool_service_pb2.TOOL_CHANGE_REMOVED)
_COLOURS: Final = {
    tool_service_pb2.TOOL_CHANGE_BREAKING: "red",
    tool_service_pb2.TOOL_CHANGE_REMOVED: "red",
    tool_service_pb2.TOOL_CHANGE_COMPATIBLE: "yellow",
    tool_service_pb2.TOOL_CHANGE_ADDED: "green",
}


@app.callback()
def tools() -> None:
    """Tools: check a provider."""


@app.command()
def check(
    provider: Annotated[str, typer.Argument(metavar="TOOL_PROVIDER_ID")],
    candidate: Annotated[str, typer.Option(help="host:port of a server that would take its place.")] = "",
    candidate_provider: Annotated[str, typer.Option(help="A tool provider that would take its place.")] = "",
    port_base: PortBase = PORT_BASE,
    as_json: Json = False,
) -> None:
    """Says what is different at a tool provider, and which agents that would break. Exits with 1 where it breaks any.

    Without a candidate it is compared with what it offered before its last change.
    """
    if candidate and candidate_provider:
        raise typer.BadParameter("--candidate and --candidate-provider exclude each other")
    request = tool_service_pb2.CheckToolProviderRequest(tool_provider_id=provider)
    if candidate:
        request.candidate_address = candidate
    if candidate_provider:
        request.candidate_tool_provider_id = candidate_provider

    async def use(channel: grpc.aio.Channel, options: dict[str, Any]) -> tool_service_pb2.CheckToolProviderResponse:
        stub: tool_service_pb2_grpc.ToolServiceAsyncStub = tool_service_pb2_grpc.ToolServiceStub(channel)
        return await stub.CheckToolProvider(request, **options)

    found = call("execution", port_base, use, as_json=as_json).tools
    for tool in found:
        if as_json:
            print_json(tool)
        else:
            _show(tool)
    if not found and not as_json:
        console.print("no tools")
    if any(tool.change in _BREAKING and tool.agent_ids for tool in found):
        raise typer.Exit(BROKEN)


def _show(tool: tool_service_pb2.ToolCheck) -> None:
    change = tool_service_pb2.ToolChange.Name(tool.change).removeprefix("TOOL_CHANGE_").lower()
    colour = _COLOURS.get(tool.change, "default")
    agents = f"  agents: {', '.join(tool.agent_ids)}" if tool.agent_ids else ""
    name = f"[bold]{escape(tool.tool_id)}[/bold]"
    console.print(f"[{colour}]{change:<10}[/{colour}] {name}{escape(agents)}", soft_wrap=True)
    for one in tool.differences:
        mark = "!" if one.breaking else " "
        console.print(f"  {mark} {escape(one.path)} {escape(one.description)}", soft_wrap=True)
