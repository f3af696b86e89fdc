"""Cases of workflows: run to their end on a journal in memory, with a crash wherever one is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from libs import errors, identity
from libs.identity import Caller
from services.execution.model.events import Event, Source
from services.execution.model.executions import ExecuteRequest, Usage
from services.execution.model.inputs import InputAnswer, InputNeeded, Kind
from services.execution.model.journal import Step
from services.execution.model.targets import Agent, Part, Pinned, TargetKind, Team, Workflow
from services.execution.model.tools import Tool
from services.execution.model.turns import Answer, Work
from services.execution.model.workflows import Parking, Signal
from services.execution.service.journal import LONG_AGO, Journal, Past, RunJournal, past
from services.execution.service.record import storable
from services.execution.service.sources import ToolError, idempotency_key
from services.execution.service.targets import Targets
from services.execution.service.tools import Tools
from services.execution.service.workflows.journaled import JournalEngine
from services.execution.service.workflows.runner import WorkflowRunner

LIMIT = 100_000
_MOST_RUNS = 40


class Crash(BaseException):
    """The process dies."""


@dataclass
class World:
    """What outlives a process: what was kept, what was said, and what tools and agents have done."""

    events: list[tuple[Source, Event]] = field(default_factory=list)
    steps: dict[tuple[str, int], Step] = field(default_factory=dict)
    answers: dict[str, InputAnswer] = field(default_factory=dict)
    mail: list[Signal] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)
    tries: dict[str, int] = field(default_factory=dict)
    woken: datetime = LONG_AGO
    kept: int = 0
    dead: bool = False

    def require_alive(self) -> None:
        if self.dead:
            raise Crash

    def past(self) -> Past:
        return replace(past(list(self.steps.values()), {}, self.answers), woken=self.woken)


@dataclass
class Memory:
    """A Record in memory; dies after it has kept `until` steps."""

    world: World
    until: int | None = None
    source: Source = field(default_factory=lambda: Source(("flow",)))
    leaving: bool = False
    on_failure: Any = None

    def append(self, event: Event, source: Source | None = None) -> None:
        self.world.require_alive()
        self.world.events.append((source or self.source, type(event)(**storable(event.to_dict()))))

    def keep(self, step: Step, *, soon: bool = True) -> None:
        self.world.require_alive()
        key = (step.scope, step.number)
        known = self.world.steps.get(key)
        kept = orjson.loads(orjson.dumps(step.result)) if step.result is not None else None
        start = known.start_time if known else step.start_time
        self.world.steps[key] = replace(step, start_time=start, result=kept)
        self.world.kept += 1
        if self.world.kept == self.until:
            self.world.dead = True
        self.world.require_alive()

    def mark(self) -> int:
        return len(self.world.events) + 1

    async def room(self) -> None:
        await asyncio.sleep(0)

    async def stored(self) -> None:
        await asyncio.sleep(0)


@dataclass
class Agents:
    """Agents and teams that do what their ids say."""

    world: World

    async def run(self, work: Work, journal: Journal, members: Any) -> Answer:
        name, text = work.request.target_id, work.request.input
        work.meter.model_call()
        for _ in range(3 if name.startswith("slow") else 0):
            await asyncio.sleep(0)
        if name == "forever":
            await asyncio.sleep(3600)
        if name == "asks" and (answer := journal.answer("call")) is None:
            question = {"call_id": "call", "tool_id": "test/asked", "arguments": {}}
            raise InputNeeded([{"input_id": journal.input_id("call"), "approval": question}], [])
        self.world.require_alive()
        tries = self.world.tries[name] = self.world.tries.get(name, 0) + 1
        self.world.effects.append(f"{name} {text}")
        if name.startswith("flaky") and tries < int(name.removeprefix("flaky-")):
            raise errors.Unavailable(f"try {tries}", reason="UPSTREAM_UNAVAILABLE")
        if name == "fails":
            raise errors.FailedPrecondition("cannot", reason="CONTENT_POLICY")
        if name == "json":
            return Answer(text, orjson.loads(text))
        if name == "asks":
            return Answer(str(bool(answer and answer.value["approved"])))
        return Answer(text if name == "same" else f"{name}: {text}")


@dataclass
class ToolsOfTests:
    world: World

    def tools(self) -> Sequence[Tool]:
        schema = {"type": "object"}
        names = ("echo", "fail", "add", "undo", "json", "count")
        made = [Tool(f"test/{name}", name, name, name, schema, "1", takes_key=True) for name in names]
        return [
            replace(tool, output_schema={"type": "object"}) if tool.function_name == "json" else tool for tool in made
        ]

    async def call(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
        await asyncio.sleep(0)
        self.world.require_alive()
        effect = f"{tool.function_name} {orjson.dumps(arguments, option=orjson.OPT_SORT_KEYS).decode()}"
        key = idempotency_key()
        if key not in self.world.tries:
            self.world.tries[key] = 1
            self.world.effects.append(effect)
        match tool.function_name:
            case "fail":
                raise ToolError(str(arguments.get("say", "no")))
            case "add":
                return str(arguments["a"] + arguments["b"])
            case "json":
                return orjson.dumps(arguments).decode()
            case "count":
                self.world.tries["count"] = self.world.tries.get("count", 0) + 1
                return str(self.world.tries["count"])
        return str(arguments.get("text", ""))


@dataclass
class Mail:
    world: World

    async def signals(self, tenant: str, execution_id: str, after: int) -> Sequence[Signal]:
        return [signal for signal in self.world.mail if signal.number > after]

    async def signal(self, tenant: str, execution_id: str, signal: Signal) -> bool:
        raise NotImplementedError

    async def end(self, tenant: str, execution_id: str, event: Event) -> bool:
        raise NotImplementedError


@dataclass
class Case:
    """A workflow with what happens to it from outside."""

    name: str
    steps: Sequence[Mapping[str, Any]]
    input: str = "in"
    output: str = ""
    input_schema: Mapping[str, Any] | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)
    budget: Mapping[str, Any] = field(default_factory=dict)
    workflows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    answers: Mapping[str, bool] = field(default_factory=dict)
    """By the step that asks; whoever is not named does not answer."""
    signals: Sequence[Mapping[str, Any]] = ()
    early: Sequence[Mapping[str, Any]] = ()
    """Signals that come before anybody waits."""
    unordered: bool = False
    """Steps side by side: the events of each scope are in order, those of several are mixed."""
    effects: Sequence[str] = ()
    expected: Sequence[str] = ()


@dataclass
class Told:
    lines: list[str]
    world: World
    usage: Usage
    runs: int


async def play(case: Case, crash_after: int | None = None) -> Told:
    """Runs the case to its end; answers, signals and time come when it waits for them."""
    world = World(mail=[_signal(number, given) for number, given in enumerate(case.early, 1)])
    left, until = list(case.signals), crash_after
    for runs in range(1, _MOST_RUNS):
        usage = Usage()
        try:
            answer = await asyncio.create_task(run(case, Memory(world, until), ToolsOfTests(world), usage))
            end = "= " + _shown(answer.structured_output or answer.output)
            return Told([*_lines(world.events), end], world, usage, runs)
        except Crash:
            until, world.dead = None, False
        except InputNeeded as needed:
            _outside(case, world, needed, left)
        except errors.Error as error:
            return Told(
                [*_lines(world.events), f"! {error.reason_code} {_metadata(error)}".rstrip()], world, usage, runs
            )
    raise AssertionError("it has no end")


async def run(case: Case, record: Memory, source: ToolsOfTests, usage: Usage) -> Answer:
    """Runs the case until it ends, waits or crashes."""
    identity.enter(Caller("tenant", "somebody", frozenset()))
    world, tools = record.world, Tools([source])
    runner = WorkflowRunner(JournalEngine(Mail(world), held=0.05), tools, limit=LIMIT)
    agents = Agents(world)
    targets = Targets({TargetKind.AGENT: agents, TargetKind.TEAM: agents, TargetKind.WORKFLOW: runner})
    request = ExecuteRequest(
        "flow", case.input, session_state=case.state, budget=case.budget, target_kind=TargetKind.WORKFLOW
    )
    work = Work("execution", _pinned(case), request, usage, datetime.now(UTC))
    return await targets.run(work, RunJournal(record, world.past()))  # type: ignore[arg-type]


def _pinned(case: Case) -> Pinned:
    spec: dict[str, Any] = {"steps": case.steps, "output": case.output, "limits": case.limits}
    if case.input_schema is not None:
        spec["input_schema"] = case.input_schema
    parts: dict[str, Part] = {"workflow/flow": Workflow("flow", 1, "", spec)}
    for workflow_id, inner in case.workflows.items():
        parts[f"workflow/{workflow_id}"] = Workflow(workflow_id, 1, "", inner)
    for name in ("helper", "same", "json", "fails", "forever", "asks", "slow", "flaky-2", "flaky-3", "slow-fails"):
        parts[f"agent/{name}"] = Agent(name, 1, "", {})
    parts["team/crew"] = Team("crew", 1, "", {})
    return Pinned("workflow/flow", parts)


def _outside(case: Case, world: World, needed: InputNeeded, left: list[Mapping[str, Any]]) -> None:
    """What happens while the run holds no process."""
    answered = False
    for question in needed.questions:
        name = question.get("step_approval", {}).get("step_id", "agent")
        if name in case.answers:
            value = {"approved": case.answers[name], "note": ""}
            world.answers[question["input_id"]] = InputAnswer(question["input_id"], Kind.APPROVAL, value)
            answered = True
    if answered:
        return
    parking = Parking.of(tuple(needed.waits))
    wanted = next((given for given in left if given["name"] in parking.signals), None)
    if wanted is not None:
        left.remove(wanted)
        world.mail.append(_signal(len(world.mail) + 1, wanted))
        return
    assert parking.until is not None, f"nothing ends this wait: {parking} {needed.questions}"
    world.woken = parking.until


def _signal(number: int, given: Mapping[str, Any]) -> Signal:
    return Signal(number, given["name"], given.get("payload"), f"s{number}")


def _lines(events: Sequence[tuple[Source, Event]]) -> list[str]:
    return [f"{_where(source)} {_what(event)}" for source, event in events]


def _where(source: Source) -> str:
    return source.scope.replace("/member", "/*")


def _what(event: Event) -> str:
    fields = event.to_dict()
    match event.kind:
        case "step_started":
            return f"{fields['step_kind']}"
        case "step_completed":
            outcome = fields["outcome"].removeprefix("STEP_OUTCOME_").lower()
            error = fields["error"] or {}
            said = f"{error['reason']}" if error else _shown(fields["output"]) if outcome == "completed" else ""
            return f"{outcome} {said}".rstrip()
        case "member_started":
            return f"asked {_shown(fields['input'])}"
        case "member_completed":
            error = fields["error"]
            return f"failed {error['reason']}" if error else f"answered {_shown(fields['output'])}"
        case "tool_call_started":
            return f"calls {fields['tool_id']} {_shown(fields['arguments'])}"
        case "tool_call_completed":
            return f"{'error' if fields['is_error'] else 'told'} {_shown(fields['output'])}"
        case "wait_started":
            return f"waits for {fields['signal'] or 'a time'}"
        case "signal_received":
            return f"signal {fields['name']} {_shown(fields['payload'])}"
    return event.kind


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _metadata(error: errors.Error) -> str:
    shown = {
        key: value for key, value in sorted(error.metadata.items()) if key in ("step_id", "not_compensated", "cause")
    }
    return " ".join(f"{key}={value}" for key, value in shown.items())


def by_scope(lines: Sequence[str]) -> dict[str, list[str]]:
    """The lines of each scope, in order."""
    found: dict[str, list[str]] = {}
    for line in lines:
        where, _, what = line.partition(" ")
        found.setdefault(where, []).append(what)
    return found
