from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs import errors
from services.execution.model.turns import ModelCall, ModelPiece
from services.execution.service.timeouts import Durations, Patience, TimedModels, quantile


@pytest.mark.parametrize(
    ("q", "durations", "expected"),
    [(0.95, [3.0], 3.0), (0.5, [1, 2, 3, 4], 2), (0.95, range(1, 101), 95), (1.0, [2, 9, 1], 9), (0.0, [2, 9, 1], 1)],
)
def test_quantile(q: float, durations: list[float], expected: float) -> None:
    assert quantile(durations, q) == expected


@given(st.lists(st.floats(0, 1e6), min_size=20), st.floats(1, 10), st.floats(0, 100))
def test_limit_is_above_most_of_the_known_calls_and_the_floor(known: list[float], factor: float, floor: float) -> None:
    limit = Patience(factor, floor).limit(known)
    assert limit is not None
    assert limit >= floor
    assert sum(one <= limit for one in known) >= 0.95 * len(known)


def test_no_limit_while_little_is_known_or_when_switched_off() -> None:
    assert Patience(4, 1).limit([1.0] * 19) is None
    assert Patience(0, 1).limit([1.0] * 50) is None
    assert Patience(4, 1).limit([0.5] * 20) == 2.0


def test_old_durations_and_kinds_are_forgotten() -> None:
    durations = Durations()
    for n in range(300):
        durations.note(("a", "m"), n)
    assert (min(durations.of(("a", "m"))), len(durations.of(("a", "m")))) == (100, 200)
    for n in range(1000):
        durations.note((str(n), "m"), 1.0)
    assert durations.of(("a", "m")) == ()
    assert durations.of(("999", "m"))


class Models:
    """Answers at once, or never."""

    def __init__(self) -> None:
        self.stuck, self.closed = False, 0

    async def stream(self, call: ModelCall) -> AsyncGenerator[ModelPiece, None]:
        try:
            yield ModelPiece(text="a")
            if self.stuck:
                await asyncio.Event().wait()
            yield ModelPiece(text="b")
        finally:
            self.closed += 1


def call(agent: str = "helper") -> ModelCall:
    return ModelCall("m", [], [], "", None, {}, "run", agent)


async def text(models: TimedModels, agent: str = "helper") -> str:
    return "".join([piece.text async for piece in models.stream(call(agent))])


async def test_call_that_takes_far_longer_than_usual_is_given_up() -> None:
    models = Models()
    timed = TimedModels(models, Patience(4, 0.01))
    assert [await text(timed) for _ in range(20)] == ["ab"] * 20
    models.stuck = True
    with pytest.raises(errors.DeadlineExceeded):
        await text(timed)
    assert models.closed == 21
    models.stuck = False
    assert await text(timed) == "ab"


async def test_kinds_are_apart_and_a_limit_from_outside_stays_one() -> None:
    models = Models()
    timed = TimedModels(models, Patience(4, 0.01))
    for _ in range(20):
        await text(timed)
    models.stuck = True
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await text(timed, "another")
