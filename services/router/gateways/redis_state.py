"""Limits, cooldowns and spending that replicas share through Redis. A call asks it for the limits of the minute alone,
in one round trip that is given up soon; the rest travels in rounds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Self

import structlog
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.router.service.budgets import Ledger
from services.router.service.state import DeploymentStates

log = structlog.get_logger()

_PATIENCE: Final = 0.05
"""Seconds that a call waits for Redis."""
_TURNS: Final = 20
_ANSWER_PATIENCE: Final = 1.0
_ROUND: Final = 0.25
_RESPITE: Final = 1.0
"""Seconds for which calls leave a Redis alone that did not answer."""
_ROUND_PATIENCE: Final = 5.0
_MINUTE_KEPT: Final = 120
_MOST_AT_ONCE: Final = 500
_FAULTS: Final = (RedisError, OSError, TimeoutError)

# KEYS: of each deployment its requests, its tokens, its cooldown. ARGV: tokens of the call, then of each deployment rpm
# and tpm, -1 for none. The first that may take the call counts it; its index comes back, or -1.
_ADMIT: Final = """
for i = 0, #KEYS / 3 - 1 do
  local rpm, tpm = tonumber(ARGV[2 * i + 2]), tonumber(ARGV[2 * i + 3])
  local requests = tonumber(redis.call('GET', KEYS[3 * i + 1]) or 0)
  local tokens = tonumber(redis.call('GET', KEYS[3 * i + 2]) or 0)
  if (rpm < 0 or requests < rpm) and (tpm < 0 or tokens + tonumber(ARGV[1]) <= tpm)
      and redis.call('EXISTS', KEYS[3 * i + 3]) == 0 then
    redis.call('INCR', KEYS[3 * i + 1])
    redis.call('EXPIRE', KEYS[3 * i + 1], 120)
    return i
  end
end
return -1
"""
# The sum of a period that begins with its first call, and the milliseconds that are left of it.
_SPEND: Final = """
local sum = redis.call('INCRBYFLOAT', KEYS[1], ARGV[1])
if redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return {sum, redis.call('PTTL', KEYS[1])}
"""

Key = tuple[str, str]


@asynccontextmanager
async def connected(url: SecretStr | None) -> AsyncIterator[Redis | None]:
    """Redis, which need not be there yet; None where none is configured."""
    if url is None:
        yield None
        return
    redis = Redis.from_url(url.get_secret_value(), socket_connect_timeout=1.0, retry=None)
    try:
        yield redis
    finally:
        await redis.aclose()


class RedisState:
    def __init__(
        self,
        redis: Any,
        states: DeploymentStates,
        ledger: Ledger,
        *,
        prefix: str,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._redis, self._states, self._ledger = redis, states, ledger
        self._prefix, self._wall = prefix, wall
        self._spend = redis.register_script(_SPEND)
        self._asked: list[tuple[list[Any], asyncio.Future[int | None]]] = []
        self._asking: asyncio.Task[None] | None = None
        self._tokens: dict[Key, int] = {}
        self._spendings: dict[Key, tuple[float, float]] = {}
        self._cooldowns: dict[Key, float] = {}
        self._down_until, self.connected = 0.0, True
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._round = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(*_FAULTS):
            async with asyncio.timeout(_ANSWER_PATIENCE):
                async with self._round:  # a round that is cut off may have told what the last one would tell again
                    await self._stop()
                    await self.round()
        await self._stop()

    async def _stop(self) -> None:
        tasks = [task for task in (self._task, self._asking) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def admit(self, tenant: str, wanted: Sequence[tuple[str, int | None, int | None]], tokens: int) -> int | None:
        if time.monotonic() < self._down_until:
            return None
        minute = int(self._wall() // 60)
        keys = [key for wish in wanted for key in self._keys(tenant, wish[0], minute)]
        limits = [-1 if limit is None else limit for _, *both in wanted for limit in both]
        answer: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._asked.append(([len(keys), *keys, tokens, *limits], answer))
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        await asyncio.wait({answer}, timeout=_PATIENCE)
        for _ in range(_TURNS):  # the answer may be there, behind a loop that is busy
            if answer.done():
                return answer.result()
            await asyncio.sleep(0)
        return None

    async def _ask(self) -> None:
        """Calls that ask at the same time share a round trip."""
        while self._asked:
            asked, self._asked = self._asked, []
            pipeline = self._redis.pipeline(transaction=False)
            for arguments, _ in asked:
                pipeline.eval(_ADMIT, *arguments)
            try:
                async with asyncio.timeout(_ANSWER_PATIENCE):
                    found: list[Any] = await pipeline.execute()
            except _FAULTS as error:
                self._lost(error)
                found = [None] * len(asked)
            for (_, answer), index in zip(asked, found, strict=True):
                if not answer.done():
                    answer.set_result(index)

    def used(self, tenant: str, deployment_id: str, tokens: int) -> None:
        key = tenant, deployment_id
        self._tokens[key] = self._tokens.get(key, 0) + tokens

    def cooled(self, tenant: str, deployment_id: str, seconds: float) -> None:
        self._cooldowns[tenant, deployment_id] = time.monotonic() + seconds
        self._work.set()

    def spent(self, tenant: str, budget: str, amount: float, period: float) -> None:
        before, _ = self._spendings.get((tenant, budget), (0.0, 0.0))
        self._spendings[tenant, budget] = before + amount, period

    async def _run(self) -> None:
        while True:
            try:
                async with self._round, asyncio.timeout(_ROUND_PATIENCE):
                    await self.round()
                self._found()
            except _FAULTS as error:
                self._lost(error)
            except Exception:
                log.exception("shared state")
            with suppress(TimeoutError):
                async with asyncio.timeout(_ROUND if self.connected else _RESPITE):
                    await self._work.wait()
            self._work.clear()

    async def round(self) -> None:
        """Tells what happened here, and learns what happened elsewhere."""
        await self._tell_tokens()
        await self._tell_cooldowns()
        await self._tell_spending()
        await self._learn_cooldowns()
        await self._learn_spending()

    async def _tell_tokens(self) -> None:
        told, minute = dict(self._tokens), int(self._wall() // 60)
        pipeline = self._redis.pipeline(transaction=False)
        for (tenant, deployment_id), tokens in told.items():
            key = self._keys(tenant, deployment_id, minute)[1]
            pipeline.incrby(key, tokens)
            pipeline.expire(key, _MINUTE_KEPT)
        if told:
            await pipeline.execute()
            _subtract(self._tokens, told)

    async def _tell_cooldowns(self) -> None:
        told, now = dict(self._cooldowns), time.monotonic()
        pipeline = self._redis.pipeline(transaction=False)
        for (tenant, deployment_id), until in told.items():
            key = self._cooldown_key(tenant, deployment_id)
            if until > now:
                pipeline.set(key, "1", px=max(1, int((until - now) * 1000)))
        if told:
            await pipeline.execute()
            for done in [done for done, until in told.items() if self._cooldowns.get(done) == until]:
                del self._cooldowns[done]

    async def _tell_spending(self) -> None:
        for key, (amount, period) in list(self._spendings.items()):
            total, left = await self._spend([self._spending_key(key)], [repr(amount), max(1, int(period * 1000))])
            later = self._spendings[key][0] - amount
            if later:
                self._spendings[key] = later, period
            else:
                del self._spendings[key]
            self._settle(key, float(total) + later, left)

    async def _learn_cooldowns(self) -> None:
        states = [*self._states]
        for some in _parts(states):
            pipeline = self._redis.pipeline(transaction=False)
            for state in some:
                pipeline.pttl(self._cooldown_key(*state.key))
            for state, left in zip(some, await pipeline.execute(), strict=True):
                if left > 0 and state.key not in self._cooldowns and state.cooldown_left < left / 1000 - 0.05:
                    self._states.cool(state, left / 1000)

    async def _learn_spending(self) -> None:
        for some in _parts([*self._ledger]):
            pipeline = self._redis.pipeline(transaction=False)
            for key in some:
                pipeline.get(self._spending_key(key)).pttl(self._spending_key(key))
            found = await pipeline.execute()
            for key, total, left in zip(some, found[::2], found[1::2], strict=True):
                if total is not None and left > 0:
                    self._settle(key, float(total) + self._spendings.get(key, (0.0, 0.0))[0], left)

    def _settle(self, key: Key, amount: float, milliseconds: int) -> None:
        self._ledger.settle(*key, amount, milliseconds / 1000)

    def _keys(self, tenant: str, deployment_id: str, minute: int) -> tuple[str, str, str]:
        name = f"{self._prefix}{{{tenant}}}:{deployment_id}"
        return f"{name}:rpm:{minute}", f"{name}:tpm:{minute}", f"{name}:cooldown"

    def _cooldown_key(self, tenant: str, deployment_id: str) -> str:
        return self._keys(tenant, deployment_id, 0)[2]

    def _spending_key(self, key: Key) -> str:
        return f"{self._prefix}{{{key[0]}}}:spent:{key[1]}"

    def _lost(self, error: BaseException) -> None:
        self._down_until = time.monotonic() + _RESPITE
        if self.connected:
            self.connected = False
            log.warning("redis does not answer: limits are this replica's own", kind=type(error).__name__)

    def _found(self) -> None:
        self._down_until = 0.0
        if not self.connected:
            self.connected = True
            log.info("redis answers again")


def _subtract(counts: dict[Key, int], told: dict[Key, int]) -> None:
    for key, count in told.items():
        counts[key] -= count
        if not counts[key]:
            del counts[key]


def _parts(keys: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (keys[start : start + _MOST_AT_ONCE] for start in range(0, len(keys), _MOST_AT_ONCE))
