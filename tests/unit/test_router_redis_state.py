"""What replicas tell each other is told once, though the process stop while it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Self

from services.router.gateways.redis_state import RedisState
from services.router.service.budgets import Ledger
from services.router.service.state import DeploymentStates


class SlowRedis:
    """Does what it is asked at once, and takes its time to answer."""

    def __init__(self) -> None:
        self.tokens, self.spent = 0, 0.0
        self.asked, self.may = asyncio.Event(), asyncio.Event()

    def register_script(self, _: str) -> Any:
        return self._spend

    async def _spend(self, _: Sequence[str], values: Sequence[Any]) -> tuple[str, int]:
        self.spent += float(values[0])
        await self.answer()
        return str(self.spent), 60_000

    def pipeline(self, transaction: bool) -> Pipeline:
        assert not transaction
        return Pipeline(self)

    async def answer(self) -> None:
        self.asked.set()
        await self.may.wait()


class Pipeline:
    def __init__(self, redis: SlowRedis) -> None:
        self._redis = redis
        self._adds: list[int] = []
        self._found: list[Any] = []

    def incrby(self, _: str, tokens: int) -> Self:
        self._adds.append(tokens)
        return self

    def expire(self, *_: Any) -> Self:
        return self

    def get(self, _: str) -> Self:
        self._found.append(None)
        return self

    def pttl(self, _: str) -> Self:
        self._found.append(-2)
        return self

    async def execute(self) -> list[Any]:
        if self._adds:
            self._redis.tokens += sum(self._adds)
            await self._redis.answer()
        return self._found


async def test_tokens_and_spending_are_told_once_though_the_process_stop_meanwhile() -> None:
    for tell in ("tokens", "spending"):
        redis = SlowRedis()
        state = RedisState(redis, DeploymentStates(), Ledger(), prefix="")
        if tell == "tokens":
            state.used("default", "d", 7)
        else:
            state.spent("default", "budget", 0.5, 60.0)
        async with state:
            await asyncio.wait_for(redis.asked.wait(), 10)
            asyncio.get_running_loop().call_later(0.1, redis.may.set)
        assert (redis.tokens, redis.spent) == ((7, 0.0) if tell == "tokens" else (0, 0.5))
