"""`dynamic-agents logs`: one run's story, out of the services' logs, its steps and its events, by time."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import grpc
import orjson
import typer
from dynamicagents.execution.v1 import execution_pb2, execution_service_pb2, execution_service_pb2_grpc
from rich.markup import escape

from cli.connection import PORT_BASE, PortBase, call
from cli.output import Failure, Json, console, print_json, to_dict
from cli.suite import DATA_DIR
from libs.config import SERVICES

_BARE: Final = frozenset({"timestamp", "event", "level", "service", "execution_id"})
_COMMON: Final = ("execution_id", "sequence", "time", "source")
_NAMES: Final = ("_id", "_ids", "_tokens", "sequence", "revision", "version", "model", "duration", "_time", "_calls")
"""Ends of the names of fields that say nothing of what users, models and tools say."""
_STYLES: Final = {"warning": "yellow", "error": "red"}
_MOST_TRACES: Final = 100


@dataclass(frozen=True, slots=True)
class Line:
    time: datetime
    source: str
    what: str
    fields: Mapping[str, Any]
    level: str = "info"


def logs(
    execution_id: Annotated[str, typer.Argument(metavar="EXECUTION_ID")],
    data_dir: Annotated[Path, typer.Option(help="Folder that `up` keeps its logs in.")] = DATA_DIR,
    payloads: Annotated[bool, typer.Option("--payloads", help="Show what was said, too.")] = False,
    port_base: PortBase = PORT_BASE,
    as_json: Json = False,
) -> None:
    """Shows what all services did for an execution, its steps and its events, in the order of their times."""
    lines = list(_from_files(data_dir / "logs", execution_id))
    try:
        lines += call(
            "execution",
            port_base,
            lambda channel, options: _from_execution(channel, options, execution_id, payloads=payloads),
            as_json=as_json,
        )
    except Failure as failure:
        if not lines or failure.details.get("code") == "NOT_FOUND":
            raise
        print(f"dynamic-agents: only what the logs say: {failure}", file=sys.stderr)
    for line in sorted(lines, key=lambda line: line.time):
        if as_json:
            said = {"time": line.time.isoformat(), "source": line.source, "level": line.level, "what": line.what}
            print_json({**said, **line.fields})
        else:
            _show(line)


def _show(line: Line) -> None:
    fields = " ".join(f"{name}={_value(value)}" for name, value in line.fields.items())
    style = _STYLES.get(line.level, "bold")
    at = line.time.astimezone().strftime("%H:%M:%S.%f")[:-3]
    console.print(
        f"[dim]{at}[/dim] {line.source:<9} [{style}]{escape(line.what)}[/{style}] {escape(fields)}", soft_wrap=True
    )


def _value(value: Any) -> str:
    return value if isinstance(value, str) and " " not in value and value else orjson.dumps(value).decode()


# The logs


def _from_files(folder: Path, execution_id: str) -> Iterator[Line]:
    """What names the execution, or one of the traces that do."""
    files = [folder / f"{service}.log" for service in SERVICES]
    files = [file for file in files if file.is_file()]
    needles = {execution_id.encode()}
    for file in files:
        for record in _records(file, needles):
            if (trace := record.get("trace_id")) and len(needles) <= _MOST_TRACES:
                needles.add(str(trace).encode())
    for file in files:
        for record in _records(file, needles):
            yield _line(record, file.stem)


def _records(file: Path, needles: set[bytes]) -> Iterator[dict[str, Any]]:
    """A log may be long: only lines that could be meant are parsed."""
    with file.open("rb") as lines:
        for line in lines:
            if not any(needle in line for needle in needles):
                continue
            try:
                record = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            named = (record.get("execution_id"), record.get("trace_id")) if isinstance(record, dict) else ()
            if any(str(name).encode() in needles for name in named if name) and "timestamp" in record:
                yield record


def _line(record: Mapping[str, Any], service: str) -> Line:
    fields = {name: value for name, value in record.items() if name not in _BARE and value is not None}
    what = str(record.get("event", ""))
    if what == "call":
        method = str(fields.pop("method", "")).rpartition("/")[2]
        what = f"{method} {fields.pop('code', '')}"
    time = datetime.fromisoformat(str(record["timestamp"]))
    return Line(time, str(record.get("service", service)), what, fields, str(record.get("level", "info")))


# The execution


async def _from_execution(
    channel: grpc.aio.Channel, options: dict[str, Any], execution_id: str, *, payloads: bool
) -> list[Line]:
    stub: execution_service_pb2_grpc.ExecutionServiceAsyncStub
    stub = execution_service_pb2_grpc.ExecutionServiceStub(channel)
    asked = execution_service_pb2.GetExecutionRequest(execution_id=execution_id)
    execution = (await stub.GetExecution(asked, **options)).execution
    lines = [_accepted(execution, payloads=payloads), *_steps(execution)]
    watch = execution_service_pb2.WatchExecutionRequest(execution_id=execution_id)
    try:
        async for answer in stub.WatchExecution(watch, **options):
            event = answer.event
            if event.WhichOneof("event") != "heartbeat":
                lines.append(_event(to_dict(event), payloads=payloads))
            if event.sequence >= execution.last_sequence:  # a run that goes on is not waited for
                break
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.OUT_OF_RANGE:  # they are no longer kept
            raise
    return lines


def _accepted(execution: execution_pb2.Execution, *, payloads: bool) -> Line:
    named = {"agent_id": execution.agent_id, "revision": execution.revision, "session_id": execution.session_id}
    fields = {**named, **({"input": execution.input} if payloads else {})}
    time = execution.create_time.ToDatetime(UTC)
    return Line(time, "run", "accepted", {name: value for name, value in fields.items() if value})


def _steps(execution: execution_pb2.Execution) -> Iterator[Line]:
    for step in execution.steps:
        what = {"model": step.model} if step.model else {"tool_id": step.tool_id, "call_id": step.call_id}
        yield Line(step.start_time.ToDatetime(UTC), "step", f"{step.step} begun", what)
        if step.completed:
            outcome, level = ("failed", "warning") if step.is_error else ("done", "info")
            yield Line(step.end_time.ToDatetime(UTC), "step", f"{step.step} {outcome}", what, level)


def _event(event: Mapping[str, Any], *, payloads: bool) -> Line:
    (kind,) = (name for name in event if name not in _COMMON)
    content = event[kind] if payloads else _bare(event[kind])
    fields = {"sequence": int(event["sequence"]), **content}
    level = "error" if kind == "execution_failed" else "info"
    return Line(datetime.fromisoformat(str(event["time"])), "event", kind, fields, level)


def _bare(content: Mapping[str, Any]) -> dict[str, Any]:
    """With the length of whatever could be somebody's words in its place."""
    return {name: _kept(name, value) for name, value in content.items()}


def _kept(name: str, value: Any) -> Any:
    if name == "usage":
        return _bare(value)
    if name == "error":
        return next((detail["reason"] for detail in value.get("details", ()) if "reason" in detail), value.get("code"))
    if isinstance(value, int | float) or name.endswith(_NAMES):
        return value
    return f"<{len(value)} {'characters' if isinstance(value, str) else 'items'}>"
