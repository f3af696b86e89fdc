from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs import errors
from services.execution.service.admission import Admission, Bounds, FairQueue, Ticket


def bounds(running: int = 1, per_tenant: int = 0, queued: int = 100, queued_per_tenant: int = 0) -> Bounds:
    return Bounds(running, per_tenant, queued, queued_per_tenant)


def enter(queue: FairQueue, name: str, tenant: str = "acme", session: str = "", priority: int = 0) -> Ticket:
    ticket = Ticket(tenant, name, session, priority)
    queue.enter(ticket)
    return ticket


def order_of(queue: FairQueue, tickets: list[Ticket]) -> list[str]:
    """The order in which the tickets get the one slot."""
    order: list[str] = []
    while left := [ticket for ticket in tickets if ticket.present]:
        (running,) = [ticket for ticket in left if ticket.granted]
        order.append(running.execution_id)
        queue.leave(running)
    return order


def test_tenants_take_turns() -> None:
    queue = FairQueue(bounds())
    tickets = [enter(queue, f"a{n}", "a") for n in range(4)]
    tickets += [enter(queue, "b1", "b"), enter(queue, "b2", "b"), enter(queue, "c1", "c")]
    assert order_of(queue, tickets) == ["a0", "a1", "b1", "c1", "a2", "b2", "a3"]


def test_within_a_tenant_priority_then_age() -> None:
    queue = FairQueue(bounds())
    tickets = [enter(queue, "1"), enter(queue, "2"), enter(queue, "3", priority=5), enter(queue, "4", priority=-1)]
    assert [queue.position(ticket) for ticket in tickets] == [0, 2, 1, 3]
    assert order_of(queue, tickets) == ["1", "3", "2", "4"]


def test_runs_of_a_session_go_one_after_the_other_in_their_order() -> None:
    queue = FairQueue(bounds(running=3))
    first, second = enter(queue, "1", session="s"), enter(queue, "2", session="s", priority=9)
    other, elsewhere = enter(queue, "3", session="t"), enter(queue, "4", "b", session="s")
    assert [t.granted for t in (first, second, other, elsewhere)] == [True, False, True, True]
    assert [queue.ahead(t) for t in (first, second, other, elsewhere)] == [None, "1", None, None]
    queue.leave(first)
    assert second.granted


def test_one_that_leaves_while_it_waits_holds_nobody_up() -> None:
    queue = FairQueue(bounds())
    first, second, third = (enter(queue, str(n), session="s") for n in range(3))
    queue.leave(second)
    queue.leave(second)
    assert (queue.position(second), queue.position(third), queue.queued) == (0, 1, 1)
    queue.leave(first)
    assert third.granted


def test_tenant_has_no_more_slots_than_its_own() -> None:
    queue = FairQueue(bounds(running=3, per_tenant=2))
    mine = [enter(queue, str(n), "a") for n in range(3)]
    other = enter(queue, "9", "b")
    assert [ticket.granted for ticket in mine] == [True, True, False]
    assert other.granted
    queue.leave(mine[0])
    assert mine[2].granted


def test_one_whose_session_runs_elsewhere_gives_its_slot_back_and_keeps_its_place() -> None:
    queue = FairQueue(bounds())
    first, second, third = enter(queue, "1", session="s"), enter(queue, "2"), enter(queue, "3")
    queue.give_back(first)
    assert (first.granted, second.granted) == (False, True)
    assert (queue.position(first), queue.position(third)) == (1, 2)
    queue.leave(second)
    assert third.granted, "a run that cannot begin yet holds nobody up"
    queue.ready(first)
    queue.leave(third)
    assert first.granted
    assert (queue.running, queue.queued) == (1, 0)


def test_older_run_of_the_session_that_comes_back_goes_first() -> None:
    queue = FairQueue(bounds())
    later = enter(queue, "2", session="s")
    queue.give_back(later)
    older = enter(queue, "1", session="s")
    assert older.granted
    queue.ready(later)
    assert not later.granted
    queue.leave(older)
    assert later.granted


steps = st.lists(
    st.tuples(
        st.sampled_from(["enter", "end", "drop", "give_back", "ready"]),
        st.integers(0, 30),
        st.sampled_from("abc"),
        st.sampled_from(["", "s", "t"]),
        st.integers(-2, 2),
    ),
    max_size=80,
)


@settings(max_examples=300, deadline=None)
@given(steps, st.integers(1, 4), st.integers(0, 3))
def test_bounds_are_kept_nobody_starves_and_no_session_interleaves(
    taken: list[tuple[str, int, str, str, int]], running: int, per_tenant: int
) -> None:
    queue = FairQueue(bounds(running, per_tenant))
    tickets: list[Ticket] = []
    parked: set[str] = set()

    def check() -> None:
        inside = [ticket for ticket in tickets if ticket.present]
        granted = [ticket for ticket in inside if ticket.granted]
        assert (queue.running, queue.queued) == (len(granted), len(inside) - len(granted))
        assert len(granted) <= running
        for tenant in "abc":
            of_tenant = [t for t in granted if t.tenant == tenant]
            assert len(of_tenant) <= (per_tenant or running)
            sessions = [t.session_id for t in of_tenant if t.session_id]
            assert len(sessions) == len(set(sessions))
            waiting = [t for t in inside if t.tenant == tenant and not t.granted]
            assert sorted(map(queue.position, waiting)) == list(range(1, len(waiting) + 1))

    for number, (step, which, tenant, session, priority) in enumerate(taken):
        present = [ticket for ticket in tickets if ticket.present]
        chosen = present[which % len(present)] if present else None
        if step == "enter":
            tickets.append(enter(queue, f"{number:03}", tenant, session, priority))
        elif chosen and step == "give_back" and chosen.granted:
            queue.give_back(chosen)
            parked.add(chosen.execution_id)
        elif chosen and step == "ready" and chosen.execution_id in parked:
            parked.discard(chosen.execution_id)
            queue.ready(chosen)
        elif chosen and step in ("end", "drop") and chosen.granted == (step == "end"):
            parked.discard(chosen.execution_id)
            queue.leave(chosen)
        check()
    for ticket in tickets:
        if ticket.execution_id in parked:
            queue.ready(ticket)
    ended = 0
    while left := [ticket for ticket in tickets if ticket.present]:
        granted = [ticket for ticket in left if ticket.granted]
        assert granted, "somebody waits though nobody runs"
        queue.leave(granted[0])
        ended += 1
        check()
    assert queue.of_tenant("a") == queue.of_tenant("b") == queue.of_tenant("c") == (0, 0)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 50), st.integers(2, 5))
def test_a_lone_run_waits_for_at_most_one_of_each_other_tenant(crowd: int, tenants: int) -> None:
    queue = FairQueue(bounds())
    tickets = [enter(queue, f"{n:03}-{t}", f"t{t}", priority=9) for n in range(crowd) for t in range(tenants)]
    late = enter(queue, "999", "late", priority=-100)
    order = order_of(queue, [*tickets, late])
    assert order.index("999") <= tenants + 1


def test_full_queue_says_when_to_come_back() -> None:
    now = [0.0]
    at = Admission(bounds(running=1, queued=2, queued_per_tenant=1), lambda: now[0])
    runs = at.enter("a", "1", "", 0)
    at.check("a")
    at.enter("a", "2", "", 0)
    with pytest.raises(errors.ResourceExhausted) as of_tenant:
        at.check("a")
    at.check("b")
    at.enter("b", "3", "", 0)
    with pytest.raises(errors.ResourceExhausted) as of_server:
        at.check("c")
    assert of_tenant.value.reason_code == of_server.value.reason_code == "QUEUE_FULL"
    assert of_server.value.retry_after == 1.0
    for number in range(100):
        now[0] += 600.0
        at.leave(runs)
        runs = at.enter("d", f"9{number}", "", 100)
    with pytest.raises(errors.ResourceExhausted) as slow:
        at.check("c")
    assert slow.value.retry_after == 60.0


def test_without_a_queue_one_too_many_is_refused() -> None:
    at = Admission(bounds(running=1, queued=0))
    at.check("a")
    at.enter("a", "1", "", 0)
    assert at.room == 0
    with pytest.raises(errors.ResourceExhausted) as caught:
        at.check("b")
    assert caught.value.reason_code == "TOO_MANY_EXECUTIONS"


async def test_turn_comes_when_the_one_before_has_left() -> None:
    at = Admission(bounds())
    first, second = at.enter("a", "1", "", 0), at.enter("a", "2", "", 0)
    answers = [True, False, False]
    begun: list[Any] = []

    async def begin() -> bool:
        begun.append(at.position(second))
        return answers.pop()

    waiting = asyncio.create_task(at.turn(second, begin))
    await asyncio.sleep(0)
    assert not begun
    at.leave(first)
    await waiting
    assert begun == [0, 0, 0]
    assert second.granted
