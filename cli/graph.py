"""`dynamic-agents graph`: a workflow as a diagram."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import grpc
import typer
from dynamicagents.registry.v1 import workflow_pb2, workflow_service_pb2, workflow_service_pb2_grpc

from cli.connection import PORT_BASE, PortBase, call


def graph(
    workflow_id: Annotated[str, typer.Argument(metavar="WORKFLOW_ID")],
    revision: Annotated[int, typer.Option(min=0, help="Revision of the workflow; 0 is the current one.")] = 0,
    port_base: PortBase = PORT_BASE,
) -> None:
    """Prints a workflow as a flow chart of Mermaid."""
    request = workflow_service_pb2.GetWorkflowRequest(workflow_id=workflow_id, revision=revision)

    async def use(channel: grpc.aio.Channel, options: dict[str, Any]) -> workflow_pb2.Workflow:
        stub: workflow_service_pb2_grpc.WorkflowServiceAsyncStub
        stub = workflow_service_pb2_grpc.WorkflowServiceStub(channel)
        return (await stub.GetWorkflow(request, **options)).workflow

    for line in mermaid(call("registry", port_base, use, as_json=False)):
        typer.echo(line)


def mermaid(workflow: workflow_pb2.Workflow) -> Iterator[str]:
    yield "flowchart TD"
    drawing = _Drawing()
    ends = drawing.steps(workflow.spec.steps, ["begin"])
    yield "  begin([begin])"
    yield from drawing.lines
    yield "  done([end])"
    yield from (f"  {end} --> done" for end in ends)


class _Drawing:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def steps(self, steps: Sequence[workflow_pb2.WorkflowStep], after: Sequence[str], word: str = "") -> list[str]:
        """Draws steps after those nodes, the first arrow with a word; gives the nodes that they end at."""
        for step in steps:
            after, word = self._step(step, after, word), ""
        return list(after)

    def _step(self, step: workflow_pb2.WorkflowStep, after: Sequence[str], word: str) -> list[str]:
        name = f"s_{step.step_id}"
        arrow = f'-->|"{_safe(word)}"|' if word else "-->"
        self.lines.append(f"  {name}{_shape(step)}")
        self.lines += [f"  {one} {arrow} {name}" for one in after]
        ends = self._within(step, name)
        if step.HasField("fallback"):
            ends += self._step(step.fallback, [name], "on failure")
        if step.HasField("compensation"):
            undo = f"s_{step.compensation.step_id}"
            self.lines += [f"  {undo}{_shape(step.compensation)}", f'  {name} -.->|"undone by"| {undo}']
        return ends

    def _within(self, step: workflow_pb2.WorkflowStep, name: str) -> list[str]:
        match step.WhichOneof("step"):
            case "parallel":
                return [end for branch in step.parallel.branches for end in self.steps(branch.steps, [name])]
            case "condition":
                ends = self.steps(step.condition.then.steps, [name], "yes")
                return [*ends, *(self.steps(step.condition.otherwise.steps, [name], "no") or [name])]
            case "router":
                choices = sorted(step.router.choices.items())
                return [end for word, choice in choices for end in self.steps(choice.steps, [name], word)]
            case "loop":
                ends = self.steps(step.loop.body.steps, [name], "each round")
                self.lines += [f'  {end} -->|"again"| {name}' for end in ends]
        return [name]


def _shape(step: workflow_pb2.WorkflowStep) -> str:
    kind = str(step.WhichOneof("step"))
    told = _safe(f"{step.display_name or step.step_id}: {_target(step, kind)}")
    match kind:
        case "condition" | "router" | "loop":
            return f'{{"{told}"}}'
        case "approval" | "wait":
            return f'[/"{told}"/]'
        case "workflow":
            return f'[["{told}"]]'
    return f'["{told}"]'


def _target(step: workflow_pb2.WorkflowStep, kind: str) -> str:
    match kind:
        case "agent" | "team" | "workflow":
            return f"{kind} {getattr(getattr(step, kind), f'{kind}_id')}"
        case "function":
            return step.function.tool_id
        case "condition":
            return step.condition.condition
        case "router":
            return step.router.selector
        case "loop":
            return f"until {step.loop.until}" if step.loop.until else f"{step.loop.max_iterations} rounds"
        case "approval":
            return step.approval.question
        case "wait" if step.wait.WhichOneof("until") == "delay":
            return f"wait {step.wait.delay.ToTimedelta()}"
        case "wait":
            return f"wait for {step.wait.signal or step.wait.time}"
    return kind


def _safe(text: str) -> str:
    """Mermaid's labels take no quotes."""
    line = " ".join(text.split())
    line = line if len(line) <= 80 else line[:80] + "…"
    for sign, code in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("|", "#124;")):
        line = line.replace(sign, code)
    return line
