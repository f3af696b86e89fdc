"""Chat: choose a deployment, resolve its key, ask, and try again where that may help."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final, Protocol

import structlog

from libs import deadline, errors
from libs.identity import Caller
from services.router import model
from services.router.model import (
    AnsweredBy,
    ChatCall,
    Chunk,
    Deployment,
    FailedAttempt,
    Failure,
    ModelGroup,
    RoutingTable,
)

log = structlog.get_logger()

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0
_KNOWN_LENGTH: Final = 250


class Configurations(Protocol):
    async def table(self, caller: Caller) -> RoutingTable:
        """The newest router configuration of the caller's tenant."""


class Keys(Protocol):
    async def resolve(self, reference: str) -> str: ...

    async def refreshed(self, reference: str) -> str:
        """The key as its keeper has it now, whatever is remembered on the way."""


class Upstream(Protocol):
    def chat(self, deployment: Deployment, key: str | None, call: ChatCall) -> AsyncGenerator[Chunk, None]:
        """The answer in pieces, or in one where `call.stream` is false. Raises Failure; closing it ends the call."""


class Router:
    def __init__(self, configurations: Configurations, keys: Keys, upstream: Upstream, *, offline: bool) -> None:
        self._configurations, self._keys, self._upstream, self._offline = configurations, keys, upstream, offline

    async def list_models(self, caller: Caller) -> Sequence[ModelGroup]:
        groups = dict((await self._configurations.table(caller)).groups)
        if self._offline:
            groups |= model.OFFLINE.groups
        return [
            ModelGroup(name, tuple(d.model for d in group), all(d.is_offline for d in group))
            for name, group in sorted(groups.items())
        ]

    async def chat(self, caller: Caller, call: ChatCall) -> Chunk:
        whole = Chunk()
        async with aclosing(self.chat_stream(caller, call)) as chunks:
            async for chunk in chunks:
                whole += chunk
        return whole

    async def chat_stream(self, caller: Caller, call: ChatCall) -> AsyncGenerator[Chunk, None]:
        table = await self._table(caller, call.model)
        group = table.groups[call.model]
        failed: list[FailedAttempt] = []
        while True:
            deployment = model.choose(group, {f.deployment_id for f in failed}, random.random())  # noqa: S311
            answered_by = AnsweredBy(deployment, tuple(failed))
            started, begun = time.monotonic(), False
            try:
                async with aclosing(self._attempt(table, deployment, call)) as chunks:
                    async for chunk in chunks:
                        marked = not begun or chunk.finish_reason
                        begun = True
                        yield replace(chunk, answered_by=answered_by) if marked else chunk
                return
            except Failure as failure:
                reason, seconds = failure.error.reason_code, time.monotonic() - started
                log.warning("attempt failed", deployment_id=deployment.deployment_id, reason=reason, begun=begun)
                failed.append(FailedAttempt(deployment.deployment_id, reason, seconds))
                if begun or not failure.may_pass or len(failed) > table.num_retries:
                    raise _final(failure, failed) from None
                pause = _pause(group, failed, failure.error.retry_after)
                if pause is None:
                    raise _final(failure, failed) from None
            await asyncio.sleep(pause)

    async def _table(self, caller: Caller, group: str) -> RoutingTable:
        if self._offline and group == model.OFFLINE_GROUP:
            return model.OFFLINE
        table = await self._configurations.table(caller)
        if group not in table.groups:
            known = sorted([*table.groups, *(model.OFFLINE.groups if self._offline else ())])
            raise errors.NotFound(
                "model_group",
                group,
                reason="MODEL_GROUP_UNKNOWN",
                metadata={"model_group": group, "known": _listed(known)},
            )
        return table

    async def _attempt(
        self, table: RoutingTable, deployment: Deployment, call: ChatCall
    ) -> AsyncGenerator[Chunk, None]:
        key = await self._keys.resolve(deployment.key_reference) if deployment.key_reference else None
        begun = False
        try:
            async with aclosing(self._upstream.chat(deployment, key, call)) as chunks:
                while (chunk := await _next(chunks, table, deployment)) is not None:
                    begun = True
                    yield chunk
            return
        except Failure as failure:
            if begun or key is None or failure.error.reason_code != "UPSTREAM_AUTH":
                raise
            renewed = await self._keys.refreshed(deployment.key_reference)
            if renewed == key:
                raise
        log.info("key renewed", deployment_id=deployment.deployment_id)
        async with aclosing(self._upstream.chat(deployment, renewed, call)) as chunks:
            while (chunk := await _next(chunks, table, deployment)) is not None:
                yield chunk


async def _next(chunks: AsyncIterator[Chunk], table: RoutingTable, deployment: Deployment) -> Chunk | None:
    try:
        async with asyncio.timeout(deadline.narrowed(table.timeout)):
            return await anext(chunks, None)
    except TimeoutError:
        over = deadline.remaining() == 0
        text = f"deployment {deployment.deployment_id} did not answer in time"
        metadata = {"deployment_id": deployment.deployment_id}
        raise Failure(errors.DeadlineExceeded(text, metadata=metadata), may_pass=not over) from None


def _pause(group: Sequence[Deployment], failed: Sequence[FailedAttempt], retry_after: float | None) -> float | None:
    """Seconds before the next attempt; None when it would come too late to be worth it."""
    left = deadline.remaining()
    if len({f.deployment_id for f in failed}) < len(group):
        return None if left == 0 else 0.0
    jittered = _FIRST_PAUSE * 2 ** (len(failed) - 1) * random.uniform(0.5, 1.5)  # noqa: S311
    pause = max(retry_after or 0.0, min(jittered, _LONGEST_PAUSE))
    return None if pause > _LONGEST_PAUSE or (left is not None and pause >= left) else pause


def _final(failure: Failure, failed: Sequence[FailedAttempt]) -> errors.Error:
    failure.error.metadata["attempts"] = str(len(failed))
    return failure.error


def _listed(names: Sequence[str]) -> str:
    """As many names as fit into an error's details."""
    text = ",".join(names)
    return text if len(text) <= _KNOWN_LENGTH else text[:_KNOWN_LENGTH].rpartition(",")[0]
