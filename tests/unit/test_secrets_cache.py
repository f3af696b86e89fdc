from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from libs import deadline, errors
from services.secrets.model import Value
from services.secrets.service.cache import Cache, Hit, Policy

DOWN = errors.Unavailable("down")
GONE = errors.NotFound("secret", "one")
REFUSED = errors.Internal("refused", reason="UPSTREAM_AUTH")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Source:
    """A backend that says what it is told to, and when."""

    says: object = "one"
    asked: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def load(self) -> object:
        self.asked += 1
        says = self.says
        await self.gate.wait()
        if isinstance(says, Exception):
            raise says
        return says


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> Cache[str, object]:
    return Cache(Policy(ttl=300, max_stale=1000, negative=10, size=3), clock=clock)


@pytest.fixture
async def source() -> Source:
    made = Source()
    made.gate.set()
    return made


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_thousand_misses_are_one_load(cache: Cache[str, object], source: Source) -> None:
    source.gate.clear()
    waiting = [asyncio.create_task(cache.get("k", source.load)) for _ in range(1000)]
    await asyncio.sleep(0)
    source.gate.set()
    assert {hit.value for hit in await asyncio.gather(*waiting)} == {"one"}
    assert source.asked == 1


async def test_cancelled_leader_fails_nobody(cache: Cache[str, object], source: Source) -> None:
    source.gate.clear()
    leader = asyncio.create_task(cache.get("k", source.load))
    await asyncio.sleep(0)
    follower = asyncio.create_task(cache.get("k", source.load))
    await asyncio.sleep(0)
    leader.cancel()
    source.gate.set()
    assert (await follower).value == "one"
    assert source.asked == 1
    with pytest.raises(asyncio.CancelledError):
        await leader


async def test_leaders_deadline_is_its_own(cache: Cache[str, object], source: Source) -> None:
    source.gate.clear()

    async def hurried() -> Hit[object]:
        deadline.enter(0.01)
        return await cache.get("k", source.load)

    leader = asyncio.create_task(hurried())
    await asyncio.sleep(0)
    follower = asyncio.create_task(cache.get("k", source.load))
    with pytest.raises(errors.DeadlineExceeded):
        await leader
    source.gate.set()
    assert (await follower).value == "one"


async def test_fresh_then_refreshed_ahead(cache: Cache[str, object], source: Source, clock: Clock) -> None:
    assert await cache.get("k", source.load) == Hit("one")
    clock.now += 200
    assert await cache.get("k", source.load) == Hit("one", 200.0, cached=True)
    await settled()
    assert source.asked == 1
    source.says = "two"
    clock.now += 86
    assert (await cache.get("k", source.load)).value == "one"
    await settled()
    assert await cache.get("k", source.load) == Hit("two", 0.0, cached=True)
    assert source.asked == 2


async def test_stale_within_the_limit_and_no_longer(cache: Cache[str, object], source: Source, clock: Clock) -> None:
    await cache.get("k", source.load)
    source.says = DOWN
    clock.now += 400
    assert await cache.get("k", source.load) == Hit("one", 400.0, stale=True, cached=True)
    clock.now += 600
    assert (await cache.get("k", source.load)).stale
    clock.now += 1
    with pytest.raises(errors.Unavailable):
        await cache.get("k", source.load)
    source.says = "two"
    assert await cache.get("k", source.load) == Hit("two")


async def test_pause_between_failures_honours_retry_after(
    cache: Cache[str, object], source: Source, clock: Clock
) -> None:
    await cache.get("k", source.load)
    source.says = errors.Unavailable("down", retry_after=50.0)
    clock.now += 301
    for _ in range(10):
        assert (await cache.get("k", source.load)).stale
    assert source.asked == 2
    clock.now += 51
    assert (await cache.get("k", source.load)).stale
    assert source.asked == 3


async def test_absence_is_believed_for_its_time(cache: Cache[str, object], source: Source, clock: Clock) -> None:
    source.says = GONE
    for _ in range(3):
        with pytest.raises(errors.NotFound):
            await cache.get("k", source.load)
    assert source.asked == 1
    source.says = "one"
    clock.now += 10
    assert (await cache.get("k", source.load)).value == "one"
    source.says = GONE
    with pytest.raises(errors.NotFound):
        await cache.get("k", source.load, refresh=True)
    source.says = "made"
    cache.discard(lambda key: key == "k")
    assert (await cache.get("k", source.load)).value == "made"


@pytest.mark.parametrize("error", [DOWN, REFUSED])
async def test_failure_is_no_absence(cache: Cache[str, object], source: Source, error: errors.Error) -> None:
    source.says = error
    for _ in range(3):
        with pytest.raises(type(error)):
            await cache.get("k", source.load)
    assert source.asked == 3


@pytest.mark.parametrize("error", [REFUSED, errors.PermissionDenied("no"), GONE])
async def test_refusal_evicts_at_once(
    cache: Cache[str, object], source: Source, clock: Clock, error: errors.Error
) -> None:
    await cache.get("k", source.load)
    source.says = error
    clock.now += 290
    assert (await cache.get("k", source.load)).value == "one"  # which begins the refresh that is refused
    await settled()
    with pytest.raises(type(error)):
        await cache.get("k", source.load)


async def test_refreshes_are_spread(clock: Clock) -> None:
    cache: Cache[int, int] = Cache(Policy(ttl=300), clock=clock)
    asked: list[float] = []

    def loader(key: int) -> Callable[[], object]:
        async def load() -> int:
            asked.append(clock.now)
            return key

        return load

    for key in range(1000):
        await cache.get(key, loader(key))
    asked.clear()
    began = clock.now
    for second in range(1, 300):
        clock.now = began + second
        for key in range(1000):
            cache.peek(key, loader(key))
        await settled()
    busiest = max(asked.count(at) for at in set(asked))
    assert len(asked) == 1000
    assert busiest < 50


async def test_load_that_began_before_a_change_is_not_remembered(cache: Cache[str, object], source: Source) -> None:
    source.gate.clear()
    waiting = asyncio.create_task(cache.get("k", source.load))
    await settled()
    cache.discard(lambda key: True)
    source.says = "two"
    source.gate.set()
    assert (await waiting).value == "one"
    assert await cache.get("k", source.load) == Hit("two")


async def test_size_is_bounded(cache: Cache[str, object], source: Source) -> None:
    for key in "abcd":
        await cache.get(key, source.load)
    assert cache.known() == {"b", "c", "d"}


async def test_what_is_evicted_is_zero(cache: Cache[str, object], source: Source) -> None:
    source.says = Value("sk-canary")
    buffer = source.says._bytes
    await cache.get("k", source.load)
    source.says = "other"
    assert bytes(buffer) == b"sk-canary"
    cache.discard(lambda key: True)
    await settled()
    assert bytes(buffer) == bytes(9)


async def test_what_a_closed_cache_held_is_zero(cache: Cache[str, object], source: Source) -> None:
    source.says = Value("sk-canary")
    buffer = source.says._bytes
    await cache.get("k", source.load)
    source.says = None
    await cache.close()
    await settled()
    assert bytes(buffer) == bytes(9)


@pytest.mark.parametrize("seed", range(20))
async def test_never_too_old_and_never_after_a_seen_revocation(
    cache: Cache[str, object], source: Source, clock: Clock, seed: int
) -> None:
    dice = random.Random(seed)
    born = {0: clock.now}
    """When each version became the one before: older than that it may not be served for long."""
    version, source.says, refused_seen = 0, 0, False
    for _ in range(300):
        match dice.choice(["get", "get", "get", "refresh", "rotate", "revoke", "outage", "recover", "advance"]):
            case "rotate":
                version += 1
                born[version] = clock.now
                source.says = version
            case "revoke":
                source.says = REFUSED
            case "outage":
                source.says = DOWN
            case "recover":
                source.says = version
            case "advance":
                clock.now += dice.choice([1, 60, 250, 700])
            case step:
                try:
                    hit = await cache.get("k", source.load, refresh=step == "refresh")
                except errors.Internal:
                    refused_seen = True
                except errors.Unavailable:
                    pass
                else:
                    assert not (refused_seen and source.says is REFUSED)
                    assert hit.age <= 1000
                    replaced = born.get(int(str(hit.value)) + 1)
                    assert replaced is None or clock.now - replaced <= (1000 if hit.stale else 300)
                    refused_seen = False
        await settled()
