from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest

from libs import errors
from libs.identity import Caller
from libs.server import Drain
from services.router.model import Deployment, RoutingTable, grouped
from services.router.model.health import (
    WINDOW,
    Circuit,
    DeploymentHealth,
    HealthState,
    Reports,
    Seen,
    Window,
    assess,
    group_health,
)
from services.router.service.health import Change, Health, Heartbeat, Snapshot

CALLER = Caller("t", "me", frozenset({"*"}))
MAIN, SPARE = Deployment("main", "gpt", "openai/a"), Deployment("spare", "other", "openai/b")
TABLE = RoutingTable(grouped([MAIN, SPARE]))
DOWN = "UPSTREAM_UNAVAILABLE"


class Followed:
    def __init__(self) -> None:
        self.asked, self.fresh, self.listeners = 0, True, list[Callable[[str, RoutingTable | None], None]]()

    async def table(self, caller: Caller) -> RoutingTable:
        self.asked += 1
        return TABLE

    def is_fresh(self, tenant: str) -> bool:
        return self.fresh

    def listen(self, listener: Callable[[str, RoutingTable | None], None]) -> None:
        self.listeners.append(listener)

    def serve(self, table: RoutingTable | None) -> None:
        for listener in self.listeners:
            listener("t", table)


class Wire:
    """An exchange between the replicas of one test."""

    def __init__(self) -> None:
        self.ends: list[End] = []


class End:
    def __init__(self, wire: Wire) -> None:
        self._wire, self._name, self.connected = wire, f"replica-{len(wire.ends)}", True
        wire.ends.append(self)

    def listen(self, heard: Callable[[str, str, Mapping[str, Seen]], None], asked: Callable[[], None]) -> None:
        self.heard = heard

    def send(self, tenant: str, seen: Mapping[str, Seen]) -> None:
        for end in self._wire.ends:
            if end is not self:
                end.heard(tenant, self._name, {name: Seen.from_dict(one.to_dict()) for name, one in seen.items()})


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[tuple[Health, Followed, Drain]]:
    followed, drain = Followed(), Drain()
    async with Health(followed, drain, **options) as health:
        followed.serve(TABLE)
        yield health, followed, drain


async def item(items: AsyncIterator[Any]) -> Any:
    async with asyncio.timeout(60):
        return await anext(items)


async def until(items: AsyncIterator[Any], right: Callable[[DeploymentHealth], bool]) -> DeploymentHealth:
    while True:
        found = await item(items)
        if isinstance(found, Change) and right(found.health):
            return found.health


def one_call(health: Health, reason: str | None = None, deployment: Deployment = MAIN) -> None:
    health.began("t", deployment)
    health.ended("t", deployment, 0.5, 0.1, reason)


def state_of(*seen: Seen, now: float = 1000.0) -> HealthState:
    return assess("d", "g", seen, now).state


def test_states() -> None:
    assert state_of() is HealthState.UNKNOWN
    assert state_of(Seen(requests=20, failures=2)) is HealthState.HEALTHY
    assert state_of(Seen(requests=20, failures=3)) is HealthState.DEGRADED
    assert state_of(Seen(requests=20, slow=True)) is HealthState.DEGRADED
    assert state_of(Seen(requests=9, failures=5)) is HealthState.UNHEALTHY
    assert state_of(Seen(requests=30, failures=3, recent_requests=3, recent_failures=3)) is HealthState.UNHEALTHY
    assert state_of(Seen(requests=2, failures=2, recent_requests=2, recent_failures=2)) is HealthState.DEGRADED


def test_circuit() -> None:
    opened = assess("d", "g", [Seen(requests=5, failures=5, cooldown_until=1010.0, half_open=True)], 1000.0)
    assert (opened.state, opened.circuit, opened.cooldown_until) == (HealthState.COOLING_DOWN, Circuit.OPEN, 1010.0)
    later = assess("d", "g", [Seen(requests=5, failures=5, half_open=True)], 1020.0)
    assert (later.state, later.circuit, later.cooldown_until) == (HealthState.UNHEALTHY, Circuit.HALF_OPEN, None)


def test_replicas_add_up() -> None:
    one = Seen(requests=10, failures=0, latency={0: 10}, last_error="", in_flight=1)
    two = Seen(requests=10, failures=10, latency={20: 1}, last_error=DOWN, last_failure=900.0, in_flight=2)
    both = assess("d", "g", [one, two], 1000.0)
    assert (both.requests, both.failures, both.in_flight, both.last_error) == (20, 10, 3, DOWN)
    assert both.state is HealthState.DEGRADED
    assert both.latency_p50 == pytest.approx(1.0, rel=0.1)
    assert both.latency_p95 == pytest.approx(1.1**20, rel=0.1)


def test_window_forgets() -> None:
    window = Window()
    window.failed(0.0, DOWN)
    window.succeeded(100.0, 2.0, 0.2)
    seen = window.seen(100.0)
    assert (seen.requests, seen.failures, seen.recent_requests, seen.last_error) == (2, 1, 1, DOWN)
    seen = window.seen(WINDOW + 50.0)
    assert (seen.requests, seen.failures, seen.last_error, seen.latency.keys()) == (1, 0, "", {7})
    assert window.seen(2 * WINDOW).is_empty


def test_slow() -> None:
    window = Window()
    for _ in range(100):
        window.succeeded(0.0, 1.0, None)
    assert not window.seen(0.0).slow
    for _ in range(10):
        window.succeeded(0.0, 8.0, None)
    assert window.seen(0.0).slow


def test_one_client_cannot_take_a_deployment_down() -> None:
    window = Window()
    for _ in range(1000):
        window.reports.add(0.0, "one", failed=True)
    assert window.seen(0.0).reported_failures == 1000
    assert state_of(window.seen(0.0)) is HealthState.DEGRADED
    for _ in range(40):
        window.succeeded(0.0, 1.0, None)
    assert state_of(window.seen(0.0)) is HealthState.HEALTHY
    for client in range(100):
        window.reports.add(0.0, f"client-{client}", failed=True)
    assert state_of(window.seen(0.0)) is HealthState.DEGRADED


def test_reports_are_forgotten_and_bounded() -> None:
    reports = Reports()
    for n in range(5000):
        reports.add(0.0, f"client-{n}", failed=n % 2 == 0)
    assert reports.totals(0.0) == (1000, 500, 500)
    assert reports.totals(WINDOW) == (0, 0, 0)


def test_group_is_as_its_best_deployment() -> None:
    def made(*states: HealthState) -> list[DeploymentHealth]:
        open_ = {HealthState.COOLING_DOWN: Circuit.OPEN}
        return [DeploymentHealth("d", "g", state, open_.get(state, Circuit.CLOSED)) for state in states]

    best = group_health("g", made(HealthState.HEALTHY, HealthState.HEALTHY))
    assert (best.state, best.available, best.total) == (HealthState.HEALTHY, 2, 2)
    some = group_health("g", made(HealthState.HEALTHY, HealthState.COOLING_DOWN))
    assert (some.state, some.available, some.total) == (HealthState.DEGRADED, 1, 2)
    none = group_health("g", made(HealthState.UNHEALTHY, HealthState.COOLING_DOWN))
    assert (none.state, none.available) == (HealthState.COOLING_DOWN, 1)
    assert group_health("g", made(HealthState.UNKNOWN)).state is HealthState.UNKNOWN


def test_what_replicas_say_survives_the_way() -> None:
    window = Window()
    window.succeeded(0.0, 2.0, 0.2)
    window.failed(0.0, DOWN)
    seen = window.seen(1.0)
    assert Seen.from_dict({**seen.to_dict(), "of_a_later_version": 1}) == seen


async def test_snapshot_then_changes() -> None:
    async with running() as (health, _, _drain):
        with health.watching(CALLER, TABLE) as watch:
            items = watch.items()
            watch.watch([], [], None)
            snapshot = await item(items)
            assert isinstance(snapshot, Snapshot)
            assert [d.deployment_id for d in snapshot.deployments] == ["main", "spare"]
            assert [(g.model_group, g.state) for g in snapshot.groups] == [
                ("gpt", HealthState.UNKNOWN),
                ("other", HealthState.UNKNOWN),
            ]
            one_call(health)
            good = await until(items, lambda h: h.state is HealthState.HEALTHY)
            assert (good.deployment_id, good.requests, good.failures, good.in_flight) == ("main", 1, 0, 0)
            for _ in range(5):
                one_call(health, DOWN)
            bad = await until(items, lambda h: h.state is HealthState.UNHEALTHY)
            assert (bad.failures, bad.last_error) == (5, DOWN)
            assert bad.since > good.since


async def test_faults_of_requests_are_not_the_deployments() -> None:
    async with running() as (health, _, _drain):
        one_call(health, "CONTENT_POLICY")
        one_call(health, "CANCELLED")
        found = health.snapshot("t", frozenset({"gpt"}), frozenset())
        assert [(d.requests, d.failures) for d in found.deployments] == [(1, 0)]


async def test_cooldown_opens_and_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.0
    monkeypatch.setattr("time.time", lambda: now)
    async with running() as (health, _, _drain):
        with health.watching(CALLER, TABLE) as watch:
            items = watch.items()
            watch.watch([], ["main"], None)
            await item(items)
            one_call(health, DOWN)
            health.cooling("t", "main", now + 30)
            opened = await until(items, lambda h: h.circuit is Circuit.OPEN)
            assert (opened.state, opened.cooldown_until) == (HealthState.COOLING_DOWN, now + 30)
            now += 31
            half = await until(items, lambda h: h.circuit is Circuit.HALF_OPEN)
            assert (half.state, half.cooldown_until) == (HealthState.DEGRADED, None)
            health.cooling("t", "main", 0.0)
            assert (await until(items, lambda h: h.circuit is Circuit.CLOSED)).failures == 1


async def test_filters() -> None:
    async with running() as (health, _, _drain), asyncio.timeout(60):
        with health.watching(CALLER, TABLE) as watch:
            items = watch.items()
            watch.watch(["other"], [], None)
            snapshot = await item(items)
            assert [d.deployment_id for d in snapshot.deployments] == ["spare"]
            assert [g.model_group for g in snapshot.groups] == ["other"]
            one_call(health)
            one_call(health, deployment=SPARE)
            assert (await until(items, lambda h: h.requests > 0)).deployment_id == "spare"
            watch.watch([], ["main"], None)
            snapshot = await item(items)
            assert [(d.deployment_id, d.requests) for d in snapshot.deployments] == [("main", 1)]
            assert not snapshot.groups


async def test_slow_watcher_gets_the_newest_only() -> None:
    async with running() as (health, _, _drain):
        with health.watching(CALLER, TABLE) as slow, health.watching(CALLER, TABLE) as quick:
            items, others = slow.items(), quick.items()
            for watch in (slow, quick):
                watch.watch([], [], None)
            await item(items)
            await item(others)
            for n in range(1, 6):
                one_call(health, DOWN)
                await until(others, lambda h, n=n: h.failures == n)  # type: ignore[misc]
            newest = await item(items)
            assert newest.health.failures == 5
            assert not slow._pending


async def test_a_thousand_watchers_share_one_message() -> None:
    async with running() as (health, _, _drain):
        with ExitStack() as stack:
            watches = [stack.enter_context(health.watching(CALLER, TABLE)) for _ in range(1000)]
            for watch in watches:
                watch.watch([], [], None)
            sources = [watch.items() for watch in watches]
            snapshots = {id(await item(items)) for items in sources}
            assert len(snapshots) == 1
            one_call(health, DOWN)
            assert len({id(await item(items)) for items in sources}) == 1


async def test_too_many_watchers() -> None:
    async with running(most_watches=1) as (health, _, _drain):
        with health.watching(CALLER, TABLE):
            with pytest.raises(errors.ResourceExhausted), health.watching(CALLER, TABLE):
                pass
        with health.watching(CALLER, TABLE):
            pass


async def test_heartbeats_and_a_registry_that_is_away() -> None:
    async with running() as (health, followed, _drain):
        with health.watching(CALLER, TABLE) as watch:
            items = watch.items()
            watch.watch([], [], 0.01)
            assert (await item(items)).config_fresh
            assert await item(items) == Heartbeat(shared=False, config_fresh=True)
            watch.watch([], [], 3600.0)
            await item(items)
            followed.fresh = False
            assert await item(items) == Heartbeat(shared=False, config_fresh=False)


async def test_configuration_changes() -> None:
    async with running() as (health, followed, _drain):
        with health.watching(CALLER, TABLE) as watch:
            items = watch.items()
            watch.watch([], [], None)
            one_call(health)
            await item(items)
            added = Deployment("added", "gpt", "openai/c")
            followed.serve(RoutingTable(grouped([MAIN, added])))
            gone = await until(items, lambda h: h.deployment_id == "spare")
            assert gone.removed
            assert (await until(items, lambda h: h.deployment_id == "added")).state is HealthState.UNKNOWN
            snapshot = health.snapshot("t", frozenset(), frozenset())
            assert [(d.deployment_id, d.requests) for d in snapshot.deployments] == [("added", 0), ("main", 1)]
            followed.serve(RoutingTable(grouped([Deployment("main", "gpt", "openai/other")])))
            assert (await until(items, lambda h: h.deployment_id == "main")).requests == 0


async def test_a_tenant_that_was_forgotten_is_followed_again_while_it_is_watched() -> None:
    async with running() as (health, followed, _drain):
        one_call(health)
        with health.watching(CALLER, TABLE) as watch:
            items = watch.items()
            watch.watch([], [], 0.01)
            await item(items)
            followed.serve(None)
            followed.asked = 0
            while not followed.asked:
                await item(items)
            assert health.snapshot("t", frozenset(), frozenset({"main"})).deployments[0].requests == 1
        assert not health._boards
        assert not health._flags
        followed.serve(TABLE)
        followed.serve(None)
        assert not health._boards


async def test_snapshots_of_many_filters_are_not_kept() -> None:
    async with running() as (health, _, _drain):
        for number in range(1000):
            health.snapshot("t", frozenset(), frozenset({f"d{number}"}))
        assert len(health._boards["t"].snapshots) <= 100


async def test_draining_ends_watches() -> None:
    async with running() as (health, _, drain):
        with health.watching(CALLER, TABLE) as watch:
            items = watch.items()
            watch.watch([], [], None)
            await item(items)
            drain.start()
            with pytest.raises(errors.Unavailable) as caught:
                await item(items)
            assert caught.value.reason_code == "SHUTTING_DOWN"
        with pytest.raises(errors.Unavailable), health.watching(CALLER, TABLE):
            pass


async def agrees(health: Health, right: Callable[[DeploymentHealth], bool]) -> None:
    async with asyncio.timeout(60):
        while not right(health.snapshot("t", frozenset(), frozenset({"main"})).deployments[0]):
            await asyncio.sleep(0.01)


async def test_replicas_agree() -> None:
    wire = Wire()
    async with (
        running(exchange=End(wire)) as (one, _, _a),
        running(exchange=End(wire)) as (two, _, _b),
        running(exchange=End(wire)) as (three, _, _c),
    ):
        for _ in range(5):
            one_call(one, DOWN)
        one_call(two)
        for health in (one, two, three):
            await agrees(health, lambda h: (h.requests, h.failures, h.state) == (6, 5, HealthState.UNHEALTHY))
            assert health.snapshot("t", frozenset(), frozenset()).shared


async def test_a_tenant_that_does_not_share() -> None:
    wire = Wire()
    async with running(exchange=End(wire)) as (one, followed, _a), running(exchange=End(wire)) as (two, _, _b):
        followed.serve(RoutingTable(TABLE.groups, share_state=False))
        one_call(one, DOWN)
        one_call(two, DOWN)
        await agrees(two, lambda h: h.requests == 1)
        assert not one.snapshot("t", frozenset(), frozenset()).shared
        assert one.snapshot("t", frozenset(), frozenset({"main"})).deployments[0].requests == 1


async def test_probes_are_limited() -> None:
    asked: list[str] = []

    async def try_out(caller: Caller, deployment: Deployment) -> None:
        asked.append(deployment.deployment_id)
        one_call(health, deployment=deployment)

    async with running(try_out=try_out) as (health, _, _drain):
        with health.watching(CALLER, TABLE) as watch:
            items = watch.items()
            watch.watch(["gpt"], [], None)
            await item(items)
            for _ in range(10):
                watch.probe([])
            assert (await until(items, lambda h: h.requests == 1)).deployment_id == "main"
    assert asked == ["main"]


async def test_probes_by_and_by_leave_out_what_is_called_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.0
    monkeypatch.setattr("time.time", lambda: now)
    asked: list[tuple[str, str]] = []

    async def try_out(caller: Caller, deployment: Deployment) -> None:
        asked.append((caller.tenant, deployment.deployment_id))

    async with running(try_out=try_out) as (health, followed, _drain):
        followed.serve(RoutingTable(TABLE.groups, probe_interval=60.0))
        now += 60
        one_call(health)
        health.snapshot("t", frozenset(), frozenset())
        now += 31
        async with asyncio.timeout(60):
            while not asked:
                await asyncio.sleep(0.01)
    assert asked == [("t", "spare")]


async def test_watch_says_nothing_before_it_is_told_what_to_watch() -> None:
    async with running() as (health, _, _drain):
        with health.watching(CALLER, TABLE) as watch:
            one_call(health, DOWN)
            health.snapshot("t", frozenset(), frozenset())
            assert not watch._pending
