"""`dynamic-agents tools`: what was called, and what a changed provider of tools would break."""

from __future__ import annotations

from typing import Annotated, Any, Final

import grpc
import typer
from dynamicagents.tools.v1 import tool_call_pb2, tool_service_pb2, tool_service_pb2_grpc
from rich.markup import escape
from rich.table import Table

from cli.connection import PORT_BASE, PortBase, call
from cli.output import Json, console, print_json

app = typer.Typer(help="Tools: calls, check a provider.", no_args_is_help=True)
BROKEN: Final = 1
_BREAKING: Final = (tool_service_pb2.TOOL_CHANGE_BREAKING, tool_service_pb2.TOOL_CHANGE_REMOVED)
_COLOURS: Final = {
    tool_service_pb2.TOOL_CHANGE_BREAKING: "red",
    tool_service_pb2.TOOL_CHANGE_REMOVED: "red",
    tool_service_pb2.TOOL_CHANGE_COMPATIBLE: "yellow",
    tool_service_pb2.TOOL_CHANGE_ADDED: "green",
}

_OUTCOME: Final = {
    tool_call_pb2.TOOL_CALL_OUTCOME_COMPLETED: "completed",
    tool_call_pb2.TOOL_CALL_OUTCOME_FAILED: "failed",
    tool_call_pb2.TOOL_CALL_OUTCOME_REFUSED: "refused",
}


@app.callback()
def tools() -> None:
    """Tools: calls, check a provider."""


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


@app.command()
def calls(
    execution: Annotated[str, typer.Option(help="Only calls of this run.")] = "",
    tool: Annotated[str, typer.Option(help="Only of this tool; with * at the end, of those that begin so.")] = "",
    subject: Annotated[str, typer.Option(help="Only of this subject.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 50,
    port_base: PortBase = PORT_BASE,
    as_json: Json = False,
) -> None:
    """Lists calls of tools, the newest first."""
    request = tool_service_pb2.ListToolCallsRequest(
        page_size=limit, execution_id=execution, tool_id=tool, subject=subject
    )

    async def use(channel: grpc.aio.Channel, options: dict[str, Any]) -> list[tool_call_pb2.ToolCallRecord]:
        stub: tool_service_pb2_grpc.ToolServiceAsyncStub = tool_service_pb2_grpc.ToolServiceStub(channel)
        return list((await stub.ListToolCalls(request, **options)).tool_calls)

    found = call("execution", port_base, use, as_json=as_json)
    if as_json:
        for record in found:
            print_json(record)
        return
    table = Table("time", "tool", "outcome", "ms", "subject", "execution", "decided by", box=None)
    for record in found:
        table.add_row(
            record.time.ToDatetime().strftime("%Y-%m-%d %H:%M:%S"),
            escape(record.tool_id),
            _OUTCOME.get(record.outcome, "") + (" (cached)" if record.cached else ""),
            f"{record.duration.ToNanoseconds() / 1e6:.1f}",
            escape(record.subject),
            record.execution_id,
            _decided(record),
        )
    console.print(table if found else "no calls")


def _decided(record: tool_call_pb2.ToolCallRecord) -> str:
    if not record.HasField("decision"):
        return ""
    return escape(record.decision.subject) or "nobody, in time"
