"""The kill drill: two Execution processes on one PostgreSQL, of which the serving one is killed again and again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import grpc
from dynamicagents.execution.v1 import event_pb2, execution_service_pb2, execution_service_pb2_grpc
from dynamicagents.router.v1 import chat_pb2, router_service_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.counting_tool import ATTEMPTS, FOLDER
from tests.scripted_router import ScriptedRouter, call, calls, text

ROOT = Path(__file__).parents[1]
TURNS = 3
CALLS = 2
"""Tool calls of each turn but the last."""
WORDS = 12
CREW = ("one", "two", "three")
"""Members of a team, who work side by side."""
STAGGER = 0.12
LEASE = 1.5
_TEXT = ("content_delta", "reasoning_delta")
_TIMES = (
    ("tool_call_completed", "duration"),
    ("member_completed", "duration"),
    ("input_required", "expire_time"),
    ("wait_started", "wake_time"),
)
_TERMINAL = ("execution_completed", "execution_failed", "execution_cancelled")


class DrillRouter(ScriptedRouter):
    """Answers by what was said before, so that each run has the same turns wherever it is asked from."""

    async def ChatStream(
        self, request: router_service_pb2.ChatStreamRequest, context: Any
    ) -> AsyncIterator[router_service_pb2.ChatStreamResponse]:
        turn = sum(message.role == chat_pb2.ROLE_ASSISTANT for message in request.messages)
        chunks = text(*(f"turn {turn} word {n}; " for n in range(WORDS)))
        if request.model == "leader":
            chunks = [*chunks[:-1], *calls(*map(_delegated, CREW))] if turn == 0 else chunks
        elif turn < TURNS:
            asked = (call("count", f'{{"n": {10 * turn + n}}}', f"call-{turn}-{n}") for n in range(CALLS))
            chunks = [*chunks[:-1], *calls(*asked)]
        for chunk in chunks:
            await asyncio.sleep(random.uniform(0, 0.02))
            assert isinstance(chunk, chat_pb2.ChatChunk)
            yield router_service_pb2.ChatStreamResponse(chunk=chunk)


def _delegated(member: str) -> chat_pb2.ToolCall:
    arguments = f'{{"member_id": "{member}", "task": "go"}}'
    return call("delegate_task_to_member", arguments, f"call-{member}")


@dataclass
class Outcome:
    """What a client has read of one execution."""

    events: list[event_pb2.ExecuteEvent] = field(default_factory=list)
    breaks: int = 0
    waited: float = 0.0
    """Seconds between the break of its stream and the next event."""


Client = Callable[[Sequence[str], str, int], Coroutine[Any, Any, list[Outcome]]]


@dataclass
class Process:
    """An Execution process that can be killed and started again."""

    port: int
    env: dict[str, str]
    log: Path
    process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.execution"), env=self.env, cwd=ROOT, stdout=output, stderr=output
            )
        async with asyncio.timeout(60):
            while not await self._serves():
                await asyncio.sleep(0.05)

    async def _serves(self) -> bool:
        async with grpc.aio.insecure_channel(self.address) as channel:
            try:
                answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
            except grpc.aio.AioRpcError:
                return False
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def end(self, number: int = signal.SIGKILL) -> None:
        assert self.process
        if self.process.returncode is None:
            self.process.send_signal(number)
        await self.process.wait()


@dataclass
class Figures:
    kills: int = 0
    interrupted: int = 0
    undisturbed: int = 0
    restarted_turns: int = 0
    repeated_calls: int = 0
    waits: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        waits = sorted(self.waits) or [0.0]
        return (
            f"{self.kills} kills, {self.interrupted} executions interrupted by them, {self.undisturbed} not; "
            f"all with the golden list\n{self.restarted_turns} turns asked again, {self.repeated_calls} tool calls "
            "repeated under their keys, each with one effect\nfrom the break of a stream to its next event: median "
            f"{waits[len(waits) // 2]:.2f} s, longest {waits[-1]:.2f} s (lease {LEASE} s); {self.seconds:.0f} s in all"
        )


@asynccontextmanager
async def processes(ports: Sequence[int], folder: Path, settings: dict[str, str]) -> AsyncIterator[list[Process]]:
    made = []
    for port in ports:
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "gen" / "python"))),
            FOLDER: str(folder),
            **{f"DYNAMIC_AGENTS_EXECUTION_{name.upper()}": value for name, value in settings.items()},
            "DYNAMIC_AGENTS_EXECUTION_PORT": str(port),
            "DYNAMIC_AGENTS_EXECUTION_TOOL_SOURCES": '["tests.counting_tool:Counting"]',
        }
        made.append(Process(port, env, folder.parent / f"{port}.log"))
    try:
        await asyncio.gather(*(process.start() for process in made))
        yield made
    finally:
        for process in made:
            if process.process:
                await process.end()


async def drill(
    servers: list[Process],
    client: Client,
    kills: int,
    at_once: int,
    effects: Path,
    how: int = signal.SIGKILL,
    check: Callable[[Outcome, Any, Path], None] | None = None,
) -> Figures:
    """Ends the serving process until `kills` executions were interrupted, and checks what their clients have read."""
    check = check or check_agent
    figures, started = Figures(), time.perf_counter()
    serving, other = servers
    (golden,) = await client([serving.address, other.address], "golden", 1)
    expected = golden.events
    while figures.interrupted < kills:
        reading = asyncio.create_task(client([serving.address, other.address], f"round-{figures.kills}", at_once))
        await asyncio.sleep(random.uniform(0.1, 1.0) + STAGGER * at_once / 2)
        await serving.end(how)
        figures.kills += 1
        again = asyncio.create_task(serving.start())
        for outcome in await reading:
            check(outcome, expected, effects)
            count(figures, outcome)
        await again
        serving, other = other, serving
    attempts = (effects / ATTEMPTS).read_text().splitlines()
    figures.repeated_calls = len(attempts) - len(set(attempts))
    figures.seconds = time.perf_counter() - started
    return figures


def check_agent(outcome: Outcome, golden: Sequence[event_pb2.ExecuteEvent], effects: Path) -> None:
    events = outcome.events
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert told(events) == told(golden)
    made = sorted(path.name for path in effects.glob(f"{events[0].execution_id} *"))
    keys = [f"{events[0].execution_id} {step}" for step in range(1, TURNS * (CALLS + 1) + 1)]
    assert len(made) == TURNS * CALLS == len({name.rsplit(" ", 1)[0] for name in made} & set(keys)), made


def check_parts(outcome: Outcome, golden: Sequence[event_pb2.ExecuteEvent], effects: Path) -> None:
    """Of a run with members or steps: each scope has its golden list, and each tool call its one effect."""
    events = outcome.events
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert told_by_scope(events) == told_by_scope(golden)
    made = [path.name for path in effects.glob(f"{events[0].execution_id} *")]
    assert len(made) == len(list(effects.glob(f"{golden[0].execution_id} *")))
    assert len(made) == sum(event.tool_call_started.tool_id == "test/count" for event in events)


def told_by_scope(events: Sequence[event_pb2.ExecuteEvent]) -> dict[str, list[Any]]:
    scopes = dict.fromkeys(event.source.scope for event in events)
    return {scope: told([event for event in events if event.source.scope == scope]) for scope in scopes}


def count(figures: Figures, outcome: Outcome) -> None:
    figures.restarted_turns += sum(event.HasField("content_restarted") for event in outcome.events)
    if outcome.breaks:
        figures.interrupted += 1
        figures.waits.append(outcome.waited)
    else:
        figures.undisturbed += 1


def told(events: Sequence[event_pb2.ExecuteEvent]) -> list[Any]:
    """What the events tell: text of each turn as a whole, tool calls of each turn in order, and no times."""
    kept: list[event_pb2.ExecuteEvent] = []
    for event in events:
        if event.HasField("content_restarted"):
            start = event.content_restarted.from_sequence
            kept = [one for one in kept if one.sequence < start or one.WhichOneof("event") not in _TEXT]
        else:
            kept.append(event)
    said: list[Any] = []
    for kind, group in groupby(kept, lambda event: str(event.WhichOneof("event"))):
        if kind in _TEXT:
            said.append((kind, "".join(getattr(event, kind).text for event in group)))
        else:
            said += sorted((kind, _timeless(event, kind)) for event in group)
    return said


def _timeless(event: event_pb2.ExecuteEvent, kind: str) -> str:
    what = type(event)()
    what.CopyFrom(event)
    for name in ("time", "sequence", "execution_id"):
        what.ClearField(name)
    for part, field_name in _TIMES:
        if kind == part:
            getattr(what, part).ClearField(field_name)
    return str(what)


async def python_client(addresses: Sequence[str], name: str, at_once: int, **target: str) -> list[Outcome]:
    channels = [grpc.aio.insecure_channel(address) for address in addresses]
    stubs: list[Any] = [execution_service_pb2_grpc.ExecutionServiceStub(channel) for channel in channels]
    try:
        return list(await asyncio.gather(*(_stream(stubs, f"{name}-{n}", n * STAGGER, target) for n in range(at_once))))
    finally:
        for channel in channels:
            await channel.close()


async def crew_client(addresses: Sequence[str], name: str, at_once: int) -> list[Outcome]:
    return await python_client(addresses, name, at_once, team_id="crew")


async def flow_client(addresses: Sequence[str], name: str, at_once: int) -> list[Outcome]:
    return await python_client(addresses, name, at_once, workflow_id="flow")


async def _stream(stubs: Sequence[Any], request_id: str, delay: float, target: dict[str, str]) -> Outcome:
    await asyncio.sleep(delay)
    outcome, broken_at = Outcome(), 0.0
    target = target or {"agent_id": "helper"}
    request = execution_service_pb2.ExecuteRequest(**target, input="go", request_id=request_id)
    helping: list[asyncio.Task[None]] = []
    for attempt in range(1000):
        stub = stubs[attempt % len(stubs)]
        try:
            async for event in _events(stub, request, outcome.events):
                if event.HasField("heartbeat"):
                    continue
                if broken_at:
                    outcome.waited, broken_at = time.perf_counter() - broken_at, 0.0
                outcome.events.append(event)
                helping += [asyncio.create_task(give(stubs)) for give in _helps(event)]
            if outcome.events and outcome.events[-1].WhichOneof("event") in _TERMINAL:
                return outcome
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        outcome.breaks += 1
        broken_at = broken_at or time.perf_counter()
        await asyncio.sleep(0.05)
    raise AssertionError(f"{request_id} has no end: {outcome.events[-1:]}")


def _helps(event: event_pb2.ExecuteEvent) -> list[Callable[[Sequence[Any]], Coroutine[Any, Any, None]]]:
    """What a run waits for, given once however often it takes."""
    if event.HasField("input_required"):
        asked = execution_service_pb2.ContinueExecutionRequest(execution_id=event.execution_id, request_id="answer")
        for question in event.input_required.requests:
            asked.answers.add(input_id=question.input_id, approval={"approved": True})
        return [lambda stubs: _until_heard(stubs, "ContinueExecution", asked)]
    if event.wait_started.signal:
        sent = execution_service_pb2.SignalExecutionRequest(
            execution_id=event.execution_id, name=event.wait_started.signal, request_id=event.source.scope
        )
        return [lambda stubs: _until_heard(stubs, "SignalExecution", sent)]
    return []


async def _until_heard(stubs: Sequence[Any], method: str, request: Any) -> None:
    for attempt in range(1000):
        try:
            await getattr(stubs[attempt % len(stubs)], method)(request, timeout=20)
            return
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                return
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        await asyncio.sleep(0.05)


async def _events(
    stub: Any, request: execution_service_pb2.ExecuteRequest, have: Sequence[event_pb2.ExecuteEvent]
) -> AsyncIterator[event_pb2.ExecuteEvent]:
    """The stream from its start, or from the last event that the client has."""
    if not have:
        async for event in stub.ExecuteStream(request, timeout=60):
            yield event
        return
    asked = execution_service_pb2.WatchExecutionRequest(
        execution_id=have[-1].execution_id, after_sequence=have[-1].sequence
    )
    async for answer in stub.WatchExecution(asked, timeout=60):
        yield answer.event
