"""`dynamic-agents execution`: runs that are or were."""

from __future__ import annotations

from typing import Annotated, Any, Final

import grpc
import typer
from dynamicagents.execution.v1 import event_pb2, execution_pb2, execution_service_pb2, execution_service_pb2_grpc
from google.protobuf.json_format import Parse as ParseText
from google.protobuf.json_format import ParseError
from rich.markup import escape
from rich.table import Column, Table

from cli.connection import PORT_BASE, PortBase, call
from cli.output import Failure, Json, console, print_json
from cli.run import View, conclude

app = typer.Typer(help="Executions: list, get, watch, signal, cancel.", no_args_is_help=True)
ExecutionId = Annotated[str, typer.Argument(metavar="EXECUTION_ID")]
_PREFIX: Final = "EXECUTION_STATUS_"
_STATUSES: Final = {
    name.removeprefix(_PREFIX).lower(): number for name, number in execution_pb2.ExecutionStatus.items() if number
}


@app.command("list")
def list_(
    agent: Annotated[str, typer.Option(help="Only of this agent.")] = "",
    session: Annotated[str, typer.Option(help="Only of this session.")] = "",
    user: Annotated[str, typer.Option(help="Only of this end user.")] = "",
    status: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(_STATUSES)}; repeatable.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 50,
    port_base: PortBase = PORT_BASE,
    as_json: Json = False,
) -> None:
    """Lists executions, the newest first."""
    request = execution_service_pb2.ListExecutionsRequest(
        page_size=limit,
        agent_id=agent,
        session_id=session,
        user_id=user,
        statuses=[_status(name, as_json=as_json) for name in status or ()],
    )

    async def use(channel: grpc.aio.Channel, options: dict[str, Any]) -> list[execution_pb2.Execution]:
        return list((await _stub(channel).ListExecutions(request, **options)).executions)

    found = call("execution", port_base, use, as_json=as_json)
    if as_json:
        for execution in found:
            print_json(execution)
        return
    table = Table(
        Column("execution", no_wrap=True, min_width=36), "target", "status", "session", "input", "begun", box=None
    )
    for execution in found:
        begun = execution.create_time.ToDatetime().strftime("%Y-%m-%d %H:%M:%S")
        asked = escape(" ".join(execution.input.split())[:40])
        table.add_row(
            execution.execution_id, _target(execution), _name(execution), escape(execution.session_id), asked, begun
        )
    console.print(table if found else "no executions")


@app.command()
def get(execution_id: ExecutionId, port_base: PortBase = PORT_BASE, as_json: Json = False) -> None:
    """Shows an execution with its steps."""
    request = execution_service_pb2.GetExecutionRequest(execution_id=execution_id)

    async def use(channel: grpc.aio.Channel, options: dict[str, Any]) -> execution_pb2.Execution:
        return (await _stub(channel).GetExecution(request, **options)).execution

    _print(call("execution", port_base, use, as_json=as_json), as_json=as_json)


@app.command()
def watch(
    execution_id: ExecutionId,
    after: Annotated[int, typer.Option(min=0, help="Number of the last event that is known.")] = 0,
    port_base: PortBase = PORT_BASE,
    as_json: Json = False,
) -> None:
    """Shows the events of an execution to its end, as `run` does; Ctrl-C leaves it running."""
    request = execution_service_pb2.WatchExecutionRequest(execution_id=execution_id, after_sequence=after)

    async def use(channel: grpc.aio.Channel, options: dict[str, Any]) -> event_pb2.ExecuteEvent:
        view, last = View(), event_pb2.ExecuteEvent()
        async for answer in _stub(channel).WatchExecution(request, **options):
            last = answer.event
            if as_json:
                print_json(last)
            else:
                view.show(last)
        return last

    conclude(call("execution", port_base, use, as_json=as_json, timeout=None), as_json=as_json)


@app.command()
def cancel(
    execution_id: ExecutionId,
    reason: Annotated[str, typer.Option(help="Why, for the event and the log.")] = "",
    port_base: PortBase = PORT_BASE,
    as_json: Json = False,
) -> None:
    """Cancels an execution and waits for its end."""
    request = execution_service_pb2.CancelExecutionRequest(execution_id=execution_id, reason=reason)

    async def use(channel: grpc.aio.Channel, options: dict[str, Any]) -> execution_pb2.Execution:
        return (await _stub(channel).CancelExecution(request, **options)).execution

    _print(call("execution", port_base, use, as_json=as_json), as_json=as_json)


@app.command()
def signal(
    execution_id: ExecutionId,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    payload: Annotated[str, typer.Argument(metavar="[JSON]", help="What it carries.")] = "",
    request_id: Annotated[str, typer.Option(help="The same signal with the same id is sent once.")] = "",
    port_base: PortBase = PORT_BASE,
    as_json: Json = False,
) -> None:
    """Sends a signal to a workflow that waits for it, or will."""
    request = execution_service_pb2.SignalExecutionRequest(execution_id=execution_id, name=name, request_id=request_id)
    if payload:
        try:
            ParseText(payload, request.payload)
        except ParseError:
            raise Failure(f"JSON: {payload!r} is none", as_json=as_json) from None

    async def use(channel: grpc.aio.Channel, options: dict[str, Any]) -> execution_pb2.Execution:
        return (await _stub(channel).SignalExecution(request, **options)).execution

    _print(call("execution", port_base, use, as_json=as_json), as_json=as_json)


def _print(execution: execution_pb2.Execution, *, as_json: bool) -> None:
    if as_json:
        print_json(execution)
        return
    console.print(f"[bold]{execution.execution_id}[/bold] {_name(execution)}, {_target(execution)}")
    console.print(f"input   {escape(execution.input)}", soft_wrap=True)
    if execution.output:
        console.print(f"output  {escape(execution.output)}", soft_wrap=True)
    if execution.HasField("error"):
        console.print(f"error   {escape(execution.error.message)}", soft_wrap=True)
    usage = execution.usage
    console.print(
        f"took    {usage.total_tokens} tokens, {usage.model_calls} model calls, {usage.tool_calls} tool calls"
    )
    for step in execution.steps:
        what = getattr(step, step.WhichOneof("kind") or "tool_id")
        what = f"{step.scope}: {what}" if step.scope else what
        outcome = "failed" if step.is_error else "done" if step.completed else "under way"
        console.print(f"  {step.step:>3}  {escape(what)} {outcome}")


def _target(execution: execution_pb2.Execution) -> str:
    kind = str(execution.WhichOneof("target") or "agent_id")
    return f"{kind.removesuffix('_id')} {getattr(execution, kind)}"


def _name(execution: execution_pb2.Execution) -> str:
    return execution_pb2.ExecutionStatus.Name(execution.status).removeprefix(_PREFIX).lower()


def _status(name: str, *, as_json: bool) -> Any:
    if name not in _STATUSES:
        raise Failure(f"--status: not one of {', '.join(_STATUSES)}", as_json=as_json)
    return _STATUSES[name]


def _stub(channel: grpc.aio.Channel) -> execution_service_pb2_grpc.ExecutionServiceAsyncStub:
    return execution_service_pb2_grpc.ExecutionServiceStub(channel)
