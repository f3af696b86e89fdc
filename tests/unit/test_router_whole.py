"""What holds whatever happens."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs import errors
from services.router.model import Budget, BudgetScope, CallOptions, Chunk, MidStreamFailure, RoutingTable, grouped
from services.router.service import attempts
from services.router.service.state import DeploymentStates
from tests.router_script import (
    ANSWER,
    CALL,
    CALLER,
    LAST,
    Script,
    configured,
    deployment,
    down,
    indecent,
    limited,
    refused,
    rejected,
    script,
    too_long,
)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_FIRST_PAUSE", 0.0)


_FAULTS = (down, limited, refused, rejected, too_long, indecent)
TURNS = st.one_of(
    st.just("answer"),
    st.sampled_from(range(len(_FAULTS))),
    st.tuples(st.just("begun"), st.sampled_from(range(len(_FAULTS)))),
)
GROUPS = ("g", "h", "i")


def turn(kind: Any) -> list[Any]:
    match kind:
        case "answer":
            return [*ANSWER]
        case int():
            return [_FAULTS[kind]()]
        case (_, number):
            return [Chunk("he"), _FAULTS[number]()]
    raise AssertionError


@pytest.mark.timeout(600)
@settings(max_examples=200, deadline=None)
@given(st.data())
async def test_every_call_ends_within_its_bounds_and_leaves_nothing(data: st.DataObject) -> None:
    placed = data.draw(st.lists(st.tuples(st.sampled_from(GROUPS), st.integers(0, 1)), min_size=1, max_size=6))
    given_ = [deployment(f"d{n}", group, order=order) for n, (group, order) in enumerate(placed)]
    given_ = [replace(given_[0], model_group="g"), *given_[1:]]
    turns = {
        d.deployment_id: [turn(kind) for kind in data.draw(st.lists(TURNS, min_size=1, max_size=4))] for d in given_
    }
    retries, hops = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))
    lists = st.dictionaries(st.sampled_from((*GROUPS, "*")), st.tuples(st.sampled_from(GROUPS)))
    table = RoutingTable(
        grouped(given_),
        num_retries=retries,
        fallbacks=data.draw(lists),
        context_window_fallbacks=data.draw(lists),
        content_policy_fallbacks=data.draw(lists),
        default_fallbacks=tuple(data.draw(st.lists(st.sampled_from(GROUPS), max_size=2))),
        max_fallbacks=hops,
        allowed_fails=data.draw(st.none() | st.integers(0, 3)),
        cooldown=data.draw(st.sampled_from((0.0, 5.0))),
    )
    mode, calls = data.draw(st.sampled_from(MidStreamFailure)), data.draw(st.integers(1, 4))
    made = Script(table, turns)
    router = made.router()
    call = replace(CALL, options=CallOptions(mid_stream_failure=mode))
    for _ in range(calls):
        before, read, left_after = len(made.asked), 0, data.draw(st.none() | st.integers(0, 3))
        stream = router.chat_stream(CALLER, call)
        try:
            while left_after is None or read < left_after:
                await anext(stream)
                read += 1
        except (StopAsyncIteration, errors.Error):
            pass
        await stream.aclose()
        asked = len(made.asked) - before
        levels = len({(d.model_group, d.order) for d in given_})
        assert asked <= (retries + 1) * levels
        assert len({made.asked[n] for n in range(before, len(made.asked))}) <= len(given_)
        groups = {d.model_group for d in given_ if d.deployment_id in made.asked[before:]}
        assert len(groups) <= hops + 1
        made.clock.now += data.draw(st.sampled_from((0.0, 6.0, 60.0)))
    assert made.closed == len(made.asked)
    assert all((state.in_flight, state.trials) == (0, 0) for state in made.states)


@pytest.mark.timeout(600)
async def test_ten_thousand_calls_that_are_left_leave_nothing() -> None:
    made = script(deployment("a", max_parallel_requests=50), deployment("b", max_parallel_requests=50))
    router, forever = made.router(), asyncio.Event()
    made.turns = {"a": [[Chunk("he"), forever]], "b": [[forever]]}

    async def leave() -> None:
        stream = router.chat_stream(CALLER, CALL)
        running = asyncio.ensure_future(_read(stream))
        while not running.done() and sum(s.in_flight for s in made.states) == 0:
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await stream.aclose()

    for _ in range(200):
        await leave()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.take_snapshot()
    for _ in range(200):
        await asyncio.gather(*(leave() for _ in range(49)))
        made.asked.clear()
        made.calls.clear()
        made.credentials.clear()
    gc.collect()
    grown = sum(stat.size_diff for stat in tracemalloc.take_snapshot().compare_to(before, "filename"))
    tracemalloc.stop()
    assert [(s.in_flight, s.trials, s.outcomes.within(60, s.clock()).requests) for s in made.states] == [(0, 0, 0)] * 2
    assert len(asyncio.all_tasks()) == 1
    assert grown < 500_000


async def _read(stream: Any) -> None:
    async for _ in stream:
        pass


async def test_a_new_table_leaves_calls_in_flight_and_what_was_seen_alone() -> None:
    gate = asyncio.Event()
    made = script(deployment("kept"), deployment("gone"), turns={n: [[gate, *ANSWER]] for n in ("kept", "gone")})
    router = made.router()
    running = [asyncio.create_task(router.chat(CALLER, CALL)) for _ in range(20)]
    while len(made.asked) < 20:
        await asyncio.sleep(0)
    kept, gone = made.state("kept"), made.state("gone")
    assert kept.in_flight + gone.in_flight == 20
    configured(made, groups=grouped([deployment("kept", weight=2.0, rpm=1000), deployment("new", weight=0.0)]))
    assert made.state("kept") is kept
    assert made.state("gone") is gone
    after = asyncio.create_task(router.chat(CALLER, CALL))
    gate.set()
    assert all(whole.text == "hello" for whole in await asyncio.gather(*running, after))
    assert made.states.find("default", "gone") is None
    assert (made.state("kept"), kept.in_flight, kept.deployment.rpm) == (kept, 0, 1000)


def test_a_deployment_that_became_another_starts_anew() -> None:
    states = DeploymentStates()
    one = states.of("default", deployment("a"))
    assert states.of("default", deployment("a", weight=5.0)) is one
    assert states.of("default", deployment("a", model="openai/y")) is not one
    assert states.of("other", deployment("a")) is not one
    states.follow("default", None)
    assert [state.tenant for state in states] == ["other"]


class Told:
    def __init__(self) -> None:
        self.events: list[Any] = []

    def began(self, tenant: str, deployment: Any) -> None:
        self.events.append(("began", deployment.deployment_id))

    def ended(
        self, tenant: str, deployment: Any, seconds: float, first_token: float | None, reason: str | None
    ) -> None:
        self.events.append(("ended", deployment.deployment_id, reason))

    def cooling(self, tenant: str, deployment_id: str, until: float) -> None:
        self.events.append(("cooling", deployment_id, until > 0))


async def test_observers_are_told_of_every_attempt() -> None:
    made, told = script(deployment("a"), turns={"a": [[down()], ANSWER]}, allowed_fails=0, cooldown=1.0), Told()
    made.states.observe(told)
    with pytest.raises(errors.Unavailable):
        await made.router().chat(CALLER, CALL)
    made.clock.now += 1
    stream = made.router().chat_stream(CALLER, CALL)
    await anext(stream)
    await stream.aclose()
    await made.router().chat(CALLER, CALL)
    assert told.events == [
        ("began", "a"),
        ("ended", "a", "UPSTREAM_UNAVAILABLE"),
        ("cooling", "a", True),
        ("began", "a"),
        ("cooling", "a", False),
        ("ended", "a", "CANCELLED"),
        ("began", "a"),
        ("ended", "a", None),
    ]


@pytest.mark.timeout(600)
async def test_a_hundred_thousand_calls_leave_as_much_as_a_thousand() -> None:
    made = script(
        deployment("a", tpm=10**12, rpm=10**9),
        deployment("b", tpm=10**12, rpm=10**9),
        turns={"a": [[LAST]], "b": [[LAST]]},
        budgets=(Budget(BudgetScope.TENANT, "", 1e9, 60.0),),
    )
    router = made.router()

    async def answer(count: int) -> None:
        for number in range(count):
            async for _ in router.chat_stream(CALLER, CALL):
                pass
            if number % 100 == 0:
                await asyncio.sleep(0)  # cancelled timers are the loop's to clear
                made.clock.now += 3
                made.asked.clear()
                made.calls.clear()
                made.credentials.clear()

    await answer(10_000)
    gc.collect()
    before = len(gc.get_objects())
    await answer(100_000)
    gc.collect()
    assert len(gc.get_objects()) < before + 1000
    seen = sum(state.outcomes.within(300, made.clock()).successes for state in made.states)
    assert 9_500 <= seen <= 10_500
