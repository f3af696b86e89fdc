"""`dynamic-agents run`: an agent's run, as it happens."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from typing import Annotated, Any, Final

import grpc
import orjson
import typer
from dynamicagents.execution.v1 import event_pb2, execution_pb2, execution_service_pb2, execution_service_pb2_grpc
from google.protobuf.json_format import MessageToDict
from rich.markup import escape

from cli import questions
from cli.connection import PORT_BASE, PortBase, call
from cli.output import Failure, Json, console, print_json, status_failure
from cli.tree import LiveTree

_CLIP: Final = 500


def run(
    words: Annotated[
        list[str], typer.Argument(metavar="[AGENT_ID] INPUT", help="Who runs, and what to do or to answer.")
    ],
    team: Annotated[str, typer.Option(help="Runs this team, in place of an agent.")] = "",
    workflow: Annotated[str, typer.Option(help="Runs this workflow, in place of an agent.")] = "",
    session: Annotated[str, typer.Option(help="Session to keep with the run.")] = "",
    revision: Annotated[int, typer.Option(min=0, help="Revision of what runs; 0 is the current one.")] = 0,
    timeout: Annotated[float | None, typer.Option(min=0.001, help="Seconds the run may take.")] = None,
    port_base: PortBase = PORT_BASE,
    as_json: Json = False,
) -> None:
    """Runs an agent, a team or a workflow and streams what it does; Ctrl-C cancels the run."""
    target, text = _asked(words, team, workflow)
    request = execution_service_pb2.ExecuteRequest(**target, input=text, session_id=session, revision=revision)
    if timeout is not None:
        request.timeout.FromMilliseconds(int(timeout * 1000))

    async def use(channel: grpc.aio.Channel, options: dict[str, Any]) -> event_pb2.ExecuteEvent:
        return await stream(channel, request, options, as_json=as_json)

    conclude(call("execution", port_base, use, as_json=as_json, timeout=None), as_json=as_json)


def _asked(words: list[str], team: str, workflow: str) -> tuple[dict[str, Any], str]:
    """The target, by its field, and the input."""
    if team and workflow:
        raise typer.BadParameter("is not for use with --team", param_hint="--workflow")
    if team or workflow:
        if len(words) != 1:
            raise typer.BadParameter("is one text, in quotes", param_hint="INPUT")
        return ({"team_id": team} if team else {"workflow_id": workflow}), words[0]
    if len(words) != 2:
        raise typer.BadParameter("are an agent's id and one text, in quotes", param_hint="AGENT_ID INPUT")
    return {"agent_id": words[0]}, words[1]


async def stream(
    channel: grpc.aio.Channel,
    request: execution_service_pb2.ExecuteRequest,
    options: dict[str, Any],
    *,
    as_json: bool,
) -> event_pb2.ExecuteEvent:
    """Shows the events of a run as they come; gives the last one."""
    stub: execution_service_pb2_grpc.ExecutionServiceAsyncStub = execution_service_pb2_grpc.ExecutionServiceStub(
        channel
    )
    last = event_pb2.ExecuteEvent()
    interrupted = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)

    async def cancel() -> None:
        await interrupted.wait()
        asked = execution_service_pb2.CancelExecutionRequest(execution_id=last.execution_id, reason="Ctrl-C")
        await stub.CancelExecution(asked, metadata=options["metadata"])

    cancelling = asyncio.create_task(cancel())
    view: View | LiveView = View() if request.WhichOneof("target") == "agent_id" else LiveView()
    events = stub.ExecuteStream(request, **options)
    answering = Answering(stub, options, events.cancel)
    try:
        async for event in events:
            last.CopyFrom(event)
            if as_json:
                print_json(event)
            else:
                view.show(event)
                answering.follow(event)
    except asyncio.CancelledError:
        answering.check()
        raise
    finally:
        answering.stop()
        cancelling.cancel()
        with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
            await cancelling
        view.line()
    return last


def conclude(event: event_pb2.ExecuteEvent, *, as_json: bool) -> None:
    """The exit of the command: 0 for an answer, 1 for an error, 130 for a cancelled run."""
    if event.HasField("execution_failed"):
        raise status_failure(event.execution_failed.error, as_json=as_json)
    if event.HasField("execution_cancelled"):
        raise typer.Exit(130)
    if not event.HasField("execution_completed"):
        raise Failure("the stream ended without a terminal event", as_json=as_json)


class Answering:
    """Asks at the terminal what the run wants to know, while its events are read on."""

    def __init__(self, stub: Any, options: dict[str, Any], give_up: Callable[[], Any]) -> None:
        self._stub, self._options, self._give_up = stub, options, give_up
        self._task: asyncio.Task[None] | None = None

    def follow(self, event: event_pb2.ExecuteEvent) -> None:
        if event.HasField("heartbeat"):
            return
        self.stop()
        if event.HasField("input_required"):
            self._task = asyncio.create_task(questions.answer(self._stub, event, self._options))
            self._task.add_done_callback(
                lambda task: None if task.cancelled() or not task.exception() else self._give_up()
            )

    def stop(self) -> None:
        if self._task:
            self._task.cancel()

    def check(self) -> None:
        """Raises what made it give up."""
        if self._task and self._task.done() and not self._task.cancelled():
            self._task.result()


class View:
    """Events for people: text as it comes, each tool call on lines of its own, the sum at the end."""

    def __init__(self) -> None:
        self._open = False
        self._models: dict[str, None] = {}

    def line(self) -> None:
        if self._open:
            console.print()
            self._open = False

    def show(self, event: event_pb2.ExecuteEvent) -> None:
        match event.WhichOneof("event"):
            case "content_delta":
                console.print(event.content_delta.text, end="", markup=False, soft_wrap=True)
                self._open = True
            case "reasoning_delta":
                console.print(event.reasoning_delta.text, end="", markup=False, style="dim italic", soft_wrap=True)
                self._open = True
            case "heartbeat" if event.heartbeat.queue_position:
                self.line()
                console.print(f"[dim]queued, place {event.heartbeat.queue_position}[/dim]")
            case "tool_call_started":
                self._tool_started(event.tool_call_started)
            case "tool_call_completed":
                self._tool_completed(event.tool_call_completed)
            case "usage_reported":
                reported = event.usage_reported
                self._models[reported.model + (" (offline)" if reported.offline else "")] = None
            case "execution_completed":
                self._sum("completed", event.execution_id, event.execution_completed.usage)
            case "execution_failed":
                self._sum("failed", event.execution_id, event.execution_failed.usage)
            case "execution_cancelled":
                reason = event.execution_cancelled.reason
                self._sum(f"cancelled ({reason})", event.execution_id, event.execution_cancelled.usage)

    def _tool_started(self, call: event_pb2.ToolCallStarted) -> None:
        self.line()
        arguments = orjson.dumps(MessageToDict(call.arguments)).decode()
        console.print(f"[cyan]⚙ {escape(call.tool_id)}[/cyan] {escape(_clip(arguments))}", soft_wrap=True)

    def _tool_completed(self, call: event_pb2.ToolCallCompleted) -> None:
        self.line()
        colour = "red" if call.is_error else "green"
        took = call.duration.ToTimedelta().total_seconds() * 1000
        output = escape(_clip(call.output))
        console.print(f"[{colour}]  → {output}[/{colour}] [dim]{took:.1f} ms[/dim]", soft_wrap=True)

    def _sum(self, outcome: str, execution_id: str, usage: execution_pb2.ExecutionUsage) -> None:
        self.line()
        cost = f" · ${usage.cost_usd:.6f}" if usage.cost_usd else ""
        models = ", ".join(self._models) or "no model"
        console.print(
            f"[dim]{escape(outcome)} · {escape(models)} · {usage.total_tokens} tokens{cost} · "
            f"model calls {usage.model_calls}, tool calls {usage.tool_calls} · execution {execution_id}[/dim]",
            soft_wrap=True,
        )


class LiveView(View):
    """Events of members and steps: the tree that they make, then the answer and the sum."""

    def __init__(self) -> None:
        super().__init__()
        self._tree = LiveTree()

    def line(self) -> None:
        self._tree.stop()

    def show(self, event: event_pb2.ExecuteEvent) -> None:
        match event.WhichOneof("event"):
            case "execution_completed":
                self._tree.show(event)
                self.line()
                console.print(event.execution_completed.output, markup=False, soft_wrap=True)
                super().show(event)
            case "execution_failed" | "execution_cancelled" | "usage_reported":
                self._tree.show(event)
                super().show(event)
            case _:
                self._tree.show(event)


def _clip(text: str) -> str:
    return text if len(text) <= _CLIP else text[:_CLIP] + "…"
