"""`dynamic-agents session`: conversations, what was said in them and what they know."""

from __future__ import annotations

from typing import Annotated, Any

import grpc
import typer
from dynamicagents.execution.v1 import execution_service_pb2, execution_service_pb2_grpc, session_pb2
from dynamicagents.router.v1 import chat_pb2
from rich.markup import escape
from rich.table import Table

from cli.connection import PORT_BASE, PortBase, call
from cli.output import Json, console, print_json, to_dict

app = typer.Typer(help="Sessions: list, get, delete.", no_args_is_help=True)
SessionId = Annotated[str, typer.Argument(metavar="SESSION_ID")]


@app.command("list")
def list_(
    user: Annotated[str, typer.Option(help="Only of this end user.")] = "",
    agent: Annotated[str, typer.Option(help="Only those in which this agent has run.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 50,
    port_base: PortBase = PORT_BASE,
    as_json: Json = False,
) -> None:
    """Lists sessions, the last used first."""
    request = execution_service_pb2.ListSessionsRequest(page_size=limit, user_id=user, agent_id=agent)

    async def use(channel: grpc.aio.Channel, options: dict[str, Any]) -> list[session_pb2.Session]:
        return list((await _stub(channel).ListSessions(request, **options)).sessions)

    found = call("execution", port_base, use, as_json=as_json)
    if as_json:
        for session in found:
            print_json(session)
        return
    table = Table("session", "user", "agents", "messages", "last used", box=None)
    for session in found:
        used = session.update_time.ToDatetime().strftime("%Y-%m-%d %H:%M:%S")
        agents = ", ".join(session.agent_ids)
        table.add_row(escape(session.session_id), escape(session.user_id), agents, str(session.message_count), used)
    console.print(table if found else "no sessions")


@app.command()
def get(
    session_id: SessionId,
    messages: Annotated[int, typer.Option(min=1, max=1000, help="How many of the last messages.")] = 20,
    port_base: PortBase = PORT_BASE,
    as_json: Json = False,
) -> None:
    """Shows a session: its last messages, its summary and its state."""
    request = execution_service_pb2.GetSessionRequest(session_id=session_id, max_messages=messages)

    async def use(channel: grpc.aio.Channel, options: dict[str, Any]) -> execution_service_pb2.GetSessionResponse:
        return await _stub(channel).GetSession(request, **options)

    found = call("execution", port_base, use, as_json=as_json)
    if as_json:
        print_json(found)
        return
    for kept in found.messages:
        _show(kept.message)
    if found.session.summary:
        console.print(f"[bold]summary[/bold] {escape(found.session.summary)}", soft_wrap=True)
    if found.session.state_version:
        state = to_dict(found.session).get("state", {})
        console.print(f"[bold]state[/bold] (version {found.session.state_version})")
        console.print_json(data=state)


@app.command()
def delete(session_id: SessionId, port_base: PortBase = PORT_BASE, as_json: Json = False) -> None:
    """Deletes a session and all that it produced; runs that go on are cancelled."""
    request = execution_service_pb2.DeleteSessionRequest(session_id=session_id)

    async def use(channel: grpc.aio.Channel, options: dict[str, Any]) -> execution_service_pb2.DeleteSessionResponse:
        return await _stub(channel).DeleteSession(request, **options)

    deleted = call("execution", port_base, use, as_json=as_json).deleted_executions
    if as_json:
        print_json({"session_id": session_id, "deleted_executions": deleted})
    else:
        console.print(f"deleted [bold]{escape(session_id)}[/bold] with {deleted} executions")


def _show(message: chat_pb2.ChatMessage) -> None:
    role = chat_pb2.Role.Name(message.role).removeprefix("ROLE_").lower()
    console.print(f"[bold]{role}[/bold] {escape(message.content)}", soft_wrap=True)
    for asked in message.tool_calls:
        console.print(f"  [cyan]⚙ {escape(asked.name)}[/cyan] {escape(asked.arguments)}", soft_wrap=True)


def _stub(channel: grpc.aio.Channel) -> execution_service_pb2_grpc.ExecutionServiceAsyncStub:
    return execution_service_pb2_grpc.ExecutionServiceStub(channel)
