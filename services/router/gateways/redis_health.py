"""What replicas tell each other of deployments: messages on a channel of Redis, which keeps none of them."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

import orjson
import structlog
from redis.exceptions import RedisError

from services.router.model.health import Seen

log = structlog.get_logger()

_PAUSE: Final = 1.0
_PATIENCE: Final = 5.0
"""Seconds between two signs of life of ours, which show that the channel works."""
_MOST_WAITING: Final = 1000


class RedisExchange:
    def __init__(self, redis: Any, *, prefix: str) -> None:
        self._redis, self._channel = redis, f"{prefix}health"
        self._replica = uuid.uuid4().hex
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(_MOST_WAITING)
        self._heard: Callable[[str, str, Mapping[str, Seen]], None] = lambda *_: None
        self._asked: Callable[[], None] = lambda: None
        self._tasks: list[asyncio.Task[None]] = []
        self.connected = False

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._talk())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def listen(self, heard: Callable[[str, str, Mapping[str, Seen]], None], asked: Callable[[], None]) -> None:
        self._heard, self._asked = heard, asked

    def send(self, tenant: str, seen: Mapping[str, Seen]) -> None:
        self._put({"tenant": tenant, "seen": {name: one.to_dict() for name, one in seen.items()}})

    def _put(self, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self._waiting.put_nowait(orjson.dumps({"replica": self._replica, **message}))

    async def _talk(self) -> None:
        while True:
            message = await self._waiting.get()
            try:
                await self._redis.publish(self._channel, message)
            except (RedisError, OSError) as error:
                self._lost(error)
                await asyncio.sleep(_PAUSE)

    async def _listen(self) -> None:
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(self._channel)
                    await self._take(channel)
            except (RedisError, OSError, TimeoutError) as error:
                self._lost(error)
            await asyncio.sleep(_PAUSE)

    async def _take(self, channel: Any) -> None:
        """Our own messages come back, if the channel works."""
        self._put({"hello": True})
        silent = False
        while True:
            message = await channel.get_message(timeout=_PATIENCE)
            if message is not None:
                silent = False
                self._got(orjson.loads(message["data"]))
            elif silent:
                raise TimeoutError
            else:
                silent = True
                self._put({})

    def _got(self, message: Mapping[str, Any]) -> None:
        if message["replica"] == self._replica:
            if not self.connected:
                log.info("health is shared")
                self._asked()  # the others may have heard nothing of us for a while
            self.connected = True
        elif "hello" in message:
            self._asked()
        elif "seen" in message:
            seen = {name: Seen.from_dict(one) for name, one in message["seen"].items()}
            self._heard(message["tenant"], message["replica"], seen)

    def _lost(self, error: Exception) -> None:
        if self.connected:
            log.warning("health is no longer shared: redis does not answer", kind=type(error).__name__)
        self.connected = False
