"""`dynamic-agents agent`: create, list, get and delete agents in Registry."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer
import yaml
from dynamicagents.registry.v1 import agent_pb2, agent_service_pb2, agent_service_pb2_grpc
from google.protobuf.json_format import ParseDict, ParseError
from rich.markup import escape
from rich.table import Table

from cli.connection import PORT_BASE, PortBase, call, pages
from cli.output import Failure, Json, console, print_json, to_dict

app = typer.Typer(help="Agents: create, list, get, delete.", no_args_is_help=True)
AgentId = Annotated[str, typer.Argument(metavar="AGENT_ID")]


@app.command()
def create(
    file: Annotated[Path, typer.Option("--file", "-f", help="YAML file with an agent; - reads standard input.")],
    port_base: PortBase = PORT_BASE,
    as_json: Json = False,
) -> None:
    """Creates an agent from a YAML file."""
    agent = read_agent(file, as_json=as_json)

    async def use(channel: grpc.aio.Channel, options: dict[str, Any]) -> agent_pb2.Agent:
        request = agent_service_pb2.CreateAgentRequest(agent=agent)
        return (await _stub(channel).CreateAgent(request, **options)).agent

    made = call("registry", port_base, use, as_json=as_json)
    if as_json:
        print_json(made)
    else:
        console.print(f"created [bold]{made.agent_id}[/bold], revision {made.revision}")


@app.command("list")
def list_(
    label: Annotated[list[str] | None, typer.Option(help="Only agents with this label, KEY=VALUE; repeatable.")] = None,
    port_base: PortBase = PORT_BASE,
    as_json: Json = False,
) -> None:
    """Lists the agents."""
    conditions = " AND ".join(_condition(text, as_json=as_json) for text in label or ())

    async def use(channel: grpc.aio.Channel, options: dict[str, Any]) -> list[agent_pb2.Agent]:
        request = agent_service_pb2.ListAgentsRequest(page_size=1000, filter=conditions)
        return await pages(_stub(channel).ListAgents, request, "agents", options)

    found = call("registry", port_base, use, as_json=as_json)
    if as_json:
        for agent in found:
            print_json(agent)
        return
    table = Table("agent", "name", "model", "tools", "revision", box=None)
    for agent in found:
        tools = ", ".join(tool.tool_id for tool in agent.spec.tools)
        row = (agent.agent_id, agent.display_name, agent.spec.model.model, tools, str(agent.revision))
        table.add_row(*map(escape, row))
    console.print(table if found else "no agents")


@app.command()
def get(
    agent_id: AgentId,
    revision: Annotated[int, typer.Option(min=0, help="A revision; 0 is the current one.")] = 0,
    port_base: PortBase = PORT_BASE,
    as_json: Json = False,
) -> None:
    """Shows an agent, as YAML that `create` takes."""

    async def use(channel: grpc.aio.Channel, options: dict[str, Any]) -> agent_pb2.Agent:
        request = agent_service_pb2.GetAgentRequest(agent_id=agent_id, revision=revision)
        return (await _stub(channel).GetAgent(request, **options)).agent

    agent = call("registry", port_base, use, as_json=as_json)
    if as_json:
        print_json(agent)
    else:
        print(yaml.safe_dump(to_dict(agent), sort_keys=False, allow_unicode=True), end="")


@app.command()
def delete(
    agent_id: AgentId,
    etag: Annotated[str, typer.Option(help="Delete only at this etag.")] = "",
    port_base: PortBase = PORT_BASE,
    as_json: Json = False,
) -> None:
    """Deletes an agent."""

    async def use(channel: grpc.aio.Channel, options: dict[str, Any]) -> None:
        request = agent_service_pb2.DeleteAgentRequest(agent_id=agent_id, etag=etag)
        await _stub(channel).DeleteAgent(request, **options)

    call("registry", port_base, use, as_json=as_json)
    if as_json:
        print_json({"agent_id": agent_id, "deleted": True})
    else:
        console.print(f"deleted [bold]{agent_id}[/bold]")


def read_agent(file: Path, *, as_json: bool) -> agent_pb2.Agent:
    try:
        content = yaml.safe_load(sys.stdin if str(file) == "-" else file.read_text())
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}", as_json=as_json) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Failure(f"{file}: not YAML: {' '.join(str(error).split())}", as_json=as_json) from None
    if not isinstance(content, dict):
        raise Failure(f"{file}: not a mapping with the fields of an agent", as_json=as_json)
    try:
        return ParseDict(content, agent_pb2.Agent())
    except ParseError as error:
        text = f"{file}: {_fault(error)}"
        details = {"code": "INVALID_ARGUMENT", "reason": "INVALID_FIELD"}
        raise Failure(f"INVALID_ARGUMENT: {text}", details=details, as_json=as_json) from None


def _fault(error: ParseError) -> str:
    """The field and what is wrong with it, out of protobuf's several lines."""
    text = str(error)
    if found := re.search(r'no field named "(?P<name>.*?)" at "Agent(?P<path>.*?)"', text):
        return f"agent{found['path']}.{found['name']}: is not a field"
    return text.splitlines()[0]


def _condition(label: str, *, as_json: bool) -> str:
    key, found, value = label.partition("=")
    if not found:
        raise Failure(f"--label {label}: not KEY=VALUE", as_json=as_json)
    quoted = [text.replace("\\", "\\\\").replace('"', '\\"') for text in (key, value)]
    return f'labels."{quoted[0]}" = "{quoted[1]}"'


def _stub(channel: grpc.aio.Channel) -> agent_service_pb2_grpc.AgentServiceAsyncStub:
    return agent_service_pb2_grpc.AgentServiceStub(channel)
