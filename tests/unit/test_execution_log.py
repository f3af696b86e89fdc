from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from libs import errors
from services.execution.model.events import (
    ContentDelta,
    Event,
    ExecutionCompleted,
    Heartbeat,
    LoggedEvent,
    ReasoningDelta,
    ToolCallCompleted,
    ToolCallStarted,
    UsageReported,
)
from services.execution.model.executions import Execution, Status, Usage
from services.execution.model.journal import Step, StepKind
from services.execution.service.log import EventLog, first
from services.execution.service.record import Append, Record

DONE = ExecutionCompleted("done", None, {})


@dataclass
class Store:
    """Keeps events in memory; `before` may fail or wait."""

    kept: dict[str, list[LoggedEvent]] = field(default_factory=dict)
    groups: list[list[Append]] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    before: Callable[[Sequence[Append]], Any] | None = None
    reads: int = 0

    async def append(self, appends: Sequence[Append]) -> set[str]:
        if self.before:
            answer = self.before(appends)
            if asyncio.iscoroutine(answer):
                await answer
        self.groups.append(list(appends))
        for append in appends:
            if append.execution_id not in self.lost:
                self.kept[append.execution_id] += append.events
        return self.lost & {append.execution_id for append in appends}

    async def events(self, tenant: str, execution_id: str, *, after: int, limit: int) -> Sequence[LoggedEvent]:
        self.reads += 1
        return [event for event in self.kept[execution_id] if event.sequence > after][:limit]


@asynccontextmanager
async def opened(store: Store, *, window: float = 0.005, patience: float = 5.0) -> AsyncIterator[Callable[..., Record]]:
    async with EventLog(store, window=window, patience=patience) as log:

        def new(execution_id: str = "run") -> Record:
            now = datetime.now(UTC)
            execution = Execution("acme", execution_id, "helper", 1, Status.RUNNING, "hi", now, "me", last_sequence=1)
            started = first(execution)
            store.kept[execution_id] = [started]
            return log.open(execution, Usage(), started)

        new.log = log  # type: ignore[attr-defined]
        yield new


def log_of(new: Callable[..., Record]) -> EventLog:
    return new.log  # type: ignore[attr-defined, no-any-return]


async def read(new: Callable[..., Record], record: Record, after: int = 0, heartbeat: float = 5.0) -> list[LoggedEvent]:
    return [event async for event in log_of(new).follow(record, after, heartbeat)]


async def ended(record: Record) -> None:
    async with asyncio.timeout(5):
        while not record.ended:
            await record.changed()


def texts(events: Sequence[LoggedEvent]) -> list[str]:
    return [e.event.text for e in events if isinstance(e.event, ContentDelta)]


async def test_events_are_numbered_without_a_gap() -> None:
    store = Store()
    async with opened(store) as new:
        record = new()
        for n in range(50):
            record.append(ToolCallStarted(str(n), "t", {}))
            if n % 7 == 0:
                await asyncio.sleep(0.007)
        record.append(DONE)
        events = await read(new, record)
    assert [event.sequence for event in events] == list(range(1, 53))
    assert events == store.kept["run"]
    assert [e.event.call_id for e in events[1:-1] if isinstance(e.event, ToolCallStarted)] == list(map(str, range(50)))
    assert record.sequence == 52


async def test_deltas_of_a_window_become_one_event() -> None:
    store = Store()
    async with opened(store) as new:
        record = new()
        for word in "abc":
            record.append(ContentDelta(word))
        await asyncio.sleep(0.05)
        record.append(ContentDelta("d"))
        record.append(DONE)
        events = await read(new, record)
    assert texts(events) == ["abc", "d"]


async def test_deltas_are_not_merged_across_other_events() -> None:
    async with opened(Store()) as new:
        record = new()
        order: list[Event] = [
            ContentDelta("a"),
            ContentDelta("b"),
            UsageReported(),
            ContentDelta("c"),
            ReasoningDelta("d"),
            ReasoningDelta("e"),
            ContentDelta("f"),
            DONE,
        ]
        for event in order:
            record.append(event)
        events = await read(new, record)
    kinds = [(e.event.kind, getattr(e.event, "text", None)) for e in events[1:-1]]
    assert kinds == [
        ("content_delta", "ab"),
        ("usage_reported", None),
        ("content_delta", "c"),
        ("reasoning_delta", "de"),
        ("content_delta", "f"),
    ]


async def test_an_event_that_was_appended_is_not_changed() -> None:
    async with opened(Store()) as new:
        record = new()
        delta = ContentDelta("a")
        record.append(delta)
        record.append(ContentDelta("b"))
        assert delta.text == "a"
        record.append(DONE)
        await ended(record)


async def test_nul_characters_are_kept_out_of_the_store() -> None:
    store = Store()
    async with opened(store) as new:
        record = new()
        record.append(ContentDelta("a\0"))
        record.append(ContentDelta("\0b"))
        record.append(ToolCallStarted("c", "t", {"k\0": ["x\0", {"y": "\0", "n": 1, "b": True, "z": None}]}))
        record.append(DONE)
        events = await read(new, record)
    assert texts(events) == ["a\ufffd\ufffdb"]
    assert events[2].event == ToolCallStarted(
        "c", "t", {"k\ufffd": ["x\ufffd", {"y": "\ufffd", "n": 1, "b": True, "z": None}]}
    )
    assert events == store.kept["run"]


async def test_many_runs_are_committed_together() -> None:
    store = Store()
    async with opened(store, window=0.02) as new:
        records = [new(f"run-{n}") for n in range(100)]
        for record in records:
            record.append(ContentDelta("x"))
            record.append(DONE)
        await asyncio.gather(*map(ended, records))
    assert [len(group) for group in store.groups] == [100]


async def test_events_that_come_during_a_commit_go_into_the_next() -> None:
    store = Store(before=lambda _: asyncio.sleep(0.05))
    async with opened(store, window=0) as new:
        record = new()
        record.append(ContentDelta("a"))
        await asyncio.sleep(0.02)
        record.append(ContentDelta("b"))
        record.append(ContentDelta("c"))
        await asyncio.sleep(0.1)
        record.append(DONE)
        assert texts(await read(new, record)) == ["a", "bc"]


async def test_nobody_sees_an_event_before_it_is_stored() -> None:
    gate = asyncio.Event()
    async with opened(Store(before=lambda _: gate.wait())) as new:
        record = new()
        record.append(DONE)
        seen: list[LoggedEvent] = []

        async def watch() -> None:
            async for event in log_of(new).follow(record, 0, 5):
                seen.append(event)

        watching = asyncio.create_task(watch())
        await asyncio.sleep(0.05)
        assert [event.sequence for event in seen] == [1]
        gate.set()
        await watching
        assert [event.sequence for event in seen] == [1, 2]


async def test_usage_goes_with_the_events() -> None:
    store = Store()
    async with opened(store) as new:
        record = new()
        record.usage.model_calls = 3
        record.append(DONE)
        await ended(record)
    assert store.groups[0][0].usage["model_calls"] == 3
    assert (store.groups[0][0].attempt, store.groups[0][0].tenant) == (1, "acme")


async def test_database_that_comes_back_loses_nothing() -> None:
    failures = iter([True, True, False, False, False])

    def before(_: Any) -> None:
        if next(failures):
            raise errors.Unavailable("down")

    store = Store(before=before)
    async with opened(store) as new:
        record = new()
        record.append(ContentDelta("a"))
        await asyncio.sleep(0.1)
        record.append(ContentDelta("b"))
        record.append(DONE)
        events = await read(new, record)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert "".join(texts(events)) == "ab"


async def test_when_patience_is_over_watchers_and_the_run_hear_of_it() -> None:
    def before(_: Any) -> None:
        raise errors.Unavailable("down", reason="DATABASE_UNAVAILABLE")

    told: list[bool] = []
    store = Store(before=before)
    async with opened(store, patience=0.1) as new:
        record = new()
        record.on_failure = lambda: told.append(True)
        record.append(ContentDelta("a"))
        with pytest.raises(errors.Unavailable) as caught:
            await read(new, record)
        record.append(DONE)
        await asyncio.sleep(0.05)
    assert caught.value.reason_code == "DATABASE_UNAVAILABLE"
    assert told == [True]
    assert record.ended
    assert [event.sequence for event in store.kept["run"]] == [1]


@pytest.mark.parametrize("error", [RuntimeError("bad row"), errors.invalid("request", "cannot be stored")])
async def test_events_that_cannot_be_stored_break_their_own_run_alone(error: Exception) -> None:
    def before(appends: Sequence[Append]) -> None:
        if any(append.execution_id == "bad" for append in appends):
            raise error

    store = Store(before=before)
    async with opened(store, window=0.02) as new:
        good, bad, other = new("good"), new("bad"), new("other")
        for record in (good, bad, other):
            record.append(DONE)
        assert len(await read(new, good)) == len(await read(new, other)) == 2
        with pytest.raises(errors.Internal) as caught:
            await read(new, bad)
    assert "bad row" not in caught.value.message


async def test_run_that_lost_its_ownership_breaks_alone() -> None:
    store = Store(lost={"mine"})
    async with opened(store, window=0.02) as new:
        mine, other = new("mine"), new("other")
        for record in (mine, other):
            record.append(DONE)
        assert len(await read(new, other)) == 2
        assert [event.sequence for event in await read(new, mine)] == [1]
        assert mine.failure
        assert (mine.moved, mine.failure.reason_code, other.moved) == (True, "EXECUTION_LOST", False)
        with pytest.raises(errors.Unavailable):
            await mine.stored()


async def test_watcher_behind_the_tail_reads_the_rest_from_the_store() -> None:
    store = Store()
    async with opened(store, window=0) as new:
        record = new()
        for n in range(1500):
            record.append(ToolCallStarted(str(n), "t", {}))
            if n % 100 == 0:
                await asyncio.sleep(0.001)
        record.append(DONE)
        await ended(record)
        assert record.after(0) is None
        events = await read(new, record)
        assert [event.sequence for event in events] == list(range(1, 1503))
        assert store.reads == 2
        assert [event.sequence for event in await read(new, record, 1500)] == [1501, 1502]
        assert store.reads == 2


async def test_slow_watcher_sees_everything_in_order() -> None:
    async with opened(Store(), window=0) as new:
        record = new()

        async def produce() -> None:
            for n in range(1200):
                record.append(ToolCallStarted(str(n), "t", {}))
                if n % 50 == 0:
                    await asyncio.sleep(0.001)
            record.append(DONE)

        producing = asyncio.create_task(produce())
        seen = []
        async for event in log_of(new).follow(record, 0, 5):
            seen.append(event.sequence)
            if event.sequence in (1, 2, 100):
                await asyncio.sleep(0.05)
        await producing
    assert seen == list(range(1, 1203))


async def test_watch_from_the_middle_and_from_the_end() -> None:
    async with opened(Store()) as new:
        record = new()
        record.append(UsageReported())
        record.append(DONE)
        await ended(record)
        assert [event.sequence for event in await read(new, record, 1)] == [2, 3]
        assert await read(new, record, 3) == []


async def test_silence_is_broken_by_heartbeats() -> None:
    async with opened(Store()) as new:
        record = new()
        seen = []
        async with aclosing(log_of(new).follow(record, 0, 0.02)) as events:
            async for event in events:
                seen.append((event.sequence, type(event.event)))
                if len(seen) == 3:
                    break
        assert seen[1:] == [(1, Heartbeat), (1, Heartbeat)]


async def test_replay_follows_the_table() -> None:
    store = Store()
    async with opened(store) as new:
        record = new()
        replay = log_of(new).replay("acme", "run", 0, poll=0.01, heartbeat=0.05, pause=asyncio.sleep)
        seen = []
        async for event in replay:
            seen.append(event)
            if isinstance(event.event, Heartbeat) and event.sequence == 1:
                record.append(ToolCallCompleted("c", "t", "x", False, 0.1))
                record.append(DONE)
    numbered = [event for event in seen if not isinstance(event.event, Heartbeat)]
    assert numbered == store.kept["run"]
    assert len(seen) > len(numbered)


async def test_closing_commits_what_waits() -> None:
    store = Store()
    async with opened(store, window=0.05) as new:
        new().append(DONE)
    assert [event.sequence for event in store.kept["run"]] == [1, 2]


async def test_who_writes_faster_than_the_store_has_to_wait() -> None:
    gate, produced = asyncio.Event(), 0
    async with opened(Store(before=lambda _: gate.wait()), window=0) as new:
        record = new()

        async def produce() -> None:
            nonlocal produced
            for _ in range(200):
                produced += 1
                record.append(ContentDelta("x" * 10_000))
                await record.room()
                await asyncio.sleep(0)
            record.append(DONE)

        producing = asyncio.create_task(produce())
        seen = -1
        while seen != produced or produced == 0:
            seen = produced
            await asyncio.sleep(0.05)
        assert produced < 60
        gate.set()
        events = await read(new, record)
        await producing
    assert len("".join(texts(events))) == 2_000_000


async def test_what_is_waited_for_is_committed_at_once() -> None:
    async with opened(Store(), window=1000) as new:
        record = new()
        record.append(ContentDelta("a"))
        async with asyncio.timeout(5):
            await record.stored()
        record.append(DONE)
        async with asyncio.timeout(5):
            await record.stored()
        assert record.ended


async def test_steps_are_committed_with_the_events_before_them() -> None:
    store = Store()
    async with opened(store) as new:
        record = new()
        step = Step(1, StepKind.MODEL, "group", "digest", datetime.now(UTC))
        record.append(ContentDelta("a"))
        record.keep(step)
        record.append(UsageReported())
        record.keep(replace(step, end_time=datetime.now(UTC)))
        record.append(DONE)
        await ended(record)
    assert [[(s.end_sequence, s.end_time is None) for s in one.steps] for one in store.groups[0]] == [
        [(2, True), (3, False)]
    ]


async def test_number_of_what_comes_next_stays_true() -> None:
    async with opened(Store()) as new:
        record = new()
        record.append(ContentDelta("a"))
        marked = record.mark()
        record.append(ContentDelta("b"))
        record.append(DONE)
        events = await read(new, record)
    assert marked == 3
    assert texts(events) == ["a", "b"]


async def test_a_turn_of_a_model_is_kept_with_its_first_words() -> None:
    store = Store()
    step = Step(1, StepKind.MODEL, "group", "digest", datetime.now(UTC))
    async with opened(store) as new:
        record = new()
        record.keep(step, soon=False)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not store.groups
        record.append(ContentDelta("Hello"))
        await record.stored()
        (first_group,) = store.groups
        assert [len(first_group[0].steps), texts(first_group[0].events)] == [1, ["Hello"]]


async def test_what_is_kept_later_waits_neither_for_ever_nor_for_those_who_wait_for_it() -> None:
    store = Store()
    step = Step(1, StepKind.MODEL, "group", "digest", datetime.now(UTC))
    async with opened(store) as new:
        silent, hurried = new("silent"), new("hurried")
        silent.keep(step, soon=False)
        async with asyncio.timeout(5):
            await silent.changed()
            hurried.keep(step, soon=False)
            await hurried.stored()
    assert [[len(one.steps) for one in group] for group in store.groups] == [[1], [1]]


async def test_who_gives_up_waiting_is_not_told() -> None:
    store = Store()
    async with opened(store) as new:
        record = new()
        gone, stays = asyncio.create_task(record.changed()), asyncio.create_task(record.changed())
        await asyncio.sleep(0)
        gone.cancel()
        record.append(DONE)
        async with asyncio.timeout(5):
            await stays
    assert gone.cancelled()


async def test_only_the_last_events_are_in_memory() -> None:
    store = Store()
    async with opened(store) as new:
        record = new()
        record.committed([LoggedEvent(n, datetime.now(UTC), (), Heartbeat()) for n in range(2, 1002)])
        kept = record.after(900)
        assert kept is not None
        assert [event.sequence for event in kept] == list(range(901, 1002))[: len(kept)]
        assert record.after(100) is None
        assert record.after(1001) == []
