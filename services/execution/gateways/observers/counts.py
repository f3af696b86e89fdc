"""Metrics of runs, model turns, tool calls and the event log. The first names are those of the systems that this one
follows: agent_requests_total and its like.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Final, Protocol

from libs import identity
from libs.metrics import Metrics, Names
from services.execution.gateways.observers.reasons import WAITS, reason_of
from services.execution.model.acts import Act, ModelTurn, TargetRun, ToolUse
from services.execution.model.events import Event, LoggedEvent
from services.execution.model.executions import Execution
from services.execution.service.log import EventStore, oldest_of
from services.execution.service.record import Append

_BATCHES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000)
_WHOSE: Final = ("agent_name", "tenant")


class Counts:
    """`labels` says which of tenant and agent are told apart; the others are empty."""

    def __init__(self, metrics: Metrics, labels: Collection[str]) -> None:
        self._labels = labels
        self._agents, self._tenants, self._groups, self._sources = Names(), Names(), Names(), Names()
        counter, histogram = metrics.counter, metrics.histogram
        self._requests = counter("agent_requests_total", "Runs of agents and teams begun or taken up.", _WHOSE)
        self._seconds = histogram("agent_duration_seconds", "Duration of agents' runs, without the queue.", _WHOSE)
        self._errors = counter("agent_errors_total", "Runs of agents that failed, by reason.", (*_WHOSE, "error_type"))
        self._ended = counter(
            "executions_ended_total", "Executions that ended or began to wait, by event.", ("outcome",)
        )
        model = ("model_name", *_WHOSE)
        self._tokens = counter("llm_tokens_used_total", "Tokens by model group.", (*model, "kind"))
        self._cost = counter("llm_cost_usd_total", "US dollars by model group, where prices are known.", model)
        self._turns = counter("llm_requests_total", "Turns asked of models.", ("model_name", "outcome"))
        self._turn_seconds = histogram("llm_duration_seconds", "Duration of turns.", ("model_name",))
        self._first = histogram("llm_first_piece_seconds", "Time to the first piece of a turn.", ("model_name",))
        self._calls = counter(
            "tool_calls_total", "Calls of tools, by where the tools come from.", ("source", "outcome")
        )
        self._call_seconds = histogram("tool_duration_seconds", "Duration of calls of tools.", ("source",))

    def origin(self) -> str:
        return ""

    def ended(self, execution: Execution, outcome: Event) -> None:
        self._ended.labels(outcome.kind).inc()

    def seen(self, act: Act) -> AbstractAsyncContextManager[None]:
        return _Seen(self, act)

    def begun(self, act: Act) -> None:
        if isinstance(act, TargetRun):
            self._requests.labels(*self._whose(act.work.request.target.target_id)).inc()

    def over(self, act: Act, outcome: str, seconds: float) -> None:
        match act:
            case TargetRun(work):
                whose = self._whose(work.request.target.target_id)
                self._seconds.labels(*whose).observe(seconds)
                if outcome not in ("ok", WAITS):
                    self._errors.labels(*whose, outcome).inc()
            case ModelTurn():
                self._turn(act, outcome, seconds)
            case ToolUse(tool, _, result):
                source = self._sources(tool.source)
                outcome = "error" if result and result.is_error else outcome
                self._calls.labels(source, outcome).inc()
                self._call_seconds.labels(source).observe(seconds)

    def _turn(self, turn: ModelTurn, outcome: str, seconds: float) -> None:
        group = self._groups(turn.call.model)
        self._turns.labels(group, outcome).inc()
        self._turn_seconds.labels(group).observe(seconds)
        if turn.first_piece is not None:
            self._first.labels(group).observe(turn.first_piece)
        if (usage := turn.said.usage) is None:
            return
        whose = self._whose(turn.call.agent_id)
        self._tokens.labels(group, *whose, "input").inc(usage.input_tokens)
        self._tokens.labels(group, *whose, "output").inc(usage.output_tokens)
        if usage.cost_usd:
            self._cost.labels(group, *whose).inc(usage.cost_usd)

    def _whose(self, agent_id: str) -> tuple[str, str]:
        caller = identity.current_or_none()
        return (
            self._agents(agent_id) if "agent" in self._labels else "",
            self._tenants(caller.tenant) if "tenant" in self._labels and caller else "",
        )


class _Seen:
    """An act while it lasts: a plain object, for a run holds two as long as its model says nothing."""

    __slots__ = ("_act", "_began", "_counts")

    def __init__(self, counts: Counts, act: Act) -> None:
        self._counts, self._act, self._began = counts, act, time.perf_counter()

    async def __aenter__(self) -> None:
        self._counts.begun(self._act)

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._counts.over(self._act, reason_of(error) if error else "ok", time.perf_counter() - self._began)


class CountedEvents:
    """An EventStore whose commits are counted."""

    def __init__(self, store: EventStore, metrics: Metrics) -> None:
        self._store = store
        self._events = metrics.histogram("event_commit_events", "Events of one commit.", buckets=_BATCHES)
        self._runs = metrics.histogram("event_commit_executions", "Executions of one commit.", buckets=_BATCHES)
        self._seconds = metrics.histogram("event_commit_seconds", "Duration of commits of events.")
        self._waits = metrics.histogram("event_wait_seconds", "Time from the oldest event of a commit to its end.")
        self._failures = metrics.counter(
            "event_commit_failures_total", "Commits of events that failed, and are repeated."
        )

    async def append(self, appends: Sequence[Append]) -> set[str]:
        began = time.perf_counter()
        try:
            lost = await self._store.append(appends)
        except Exception:
            self._failures.inc()
            raise
        self._events.observe(sum(len(append.events) for append in appends))
        self._runs.observe(len(appends))
        self._seconds.observe(time.perf_counter() - began)
        if (oldest := oldest_of(appends)) is not None:
            self._waits.observe((datetime.now(UTC) - oldest).total_seconds())
        return lost

    async def events(self, tenant: str, execution_id: str, *, after: int, limit: int) -> Sequence[LoggedEvent]:
        return await self._store.events(tenant, execution_id, after=after, limit=limit)


class Queue(Protocol):
    @property
    def running(self) -> int: ...

    @property
    def queued(self) -> int: ...


class Backlog(Protocol):
    @property
    def waiting(self) -> int:
        """Executions with events that no commit has taken."""

    @property
    def lag(self) -> float: ...


class Processed(Protocol):
    taken_up: int


def watch(metrics: Metrics, queue: Queue, backlog: Backlog, runs: Processed) -> None:
    """What is read when somebody asks."""
    metrics.measured(
        "executions",
        "Executions of this process, by state.",
        ("state",),
        lambda: {"running": queue.running, "queued": queue.queued},
    )
    metrics.counted(
        "executions_taken_up_total",
        "Executions taken up whose process had died or left them, or that had waited for input.",
        (),
        lambda: {(): runs.taken_up},
    )
    metrics.measured("event_log_waiting", "Executions with events to commit.", (), lambda: {(): backlog.waiting})
    metrics.measured(
        "event_log_lag_seconds", "Age of the oldest event of the commit under way.", (), lambda: {(): backlog.lag}
    )
