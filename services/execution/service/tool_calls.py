"""The calls of tools: what is kept of each, and finding it again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol, Self

import orjson
import structlog

from libs import errors, identity, ids, pagination
from libs.identity import Caller
from services.execution.model.tool_calls import CallMade, CallQuery, CallRecord
from services.execution.service.tools import digest

log = structlog.get_logger()
_PAUSE: Final = 0.5
_MOST_WAITING: Final = 10_000
_AT_ONCE: Final = 500


class CallStore(Protocol):
    async def add(self, records: Sequence[tuple[str, CallRecord]]) -> None:
        """Keeps records, each with its tenant."""

    async def list(self, tenant: str, query: CallQuery, *, limit: int) -> Sequence[CallRecord]:
        """The newest first."""


def record(made: CallMade) -> CallRecord:
    caller = identity.current_or_none()
    return CallRecord(
        record_id=ids.new_id(),
        subject=caller.subject if caller else "",
        tool_id=made.tool.tool_id,
        tool_version=made.tool.version,
        arguments_digest=_digest(made.arguments),
        outcome=made.outcome,
        cached=made.result.cached,
        duration=made.result.duration,
        time=datetime.now(UTC),
        decision=made.decision,
        **made.place,
    )


def _digest(arguments: Mapping[str, Any]) -> str:
    try:
        return digest(dict(arguments))
    except orjson.JSONEncodeError:  # a number that no JSON of 64 bits has
        return digest(repr(sorted(arguments.items())))


class ToolCalls:
    """Records of calls outside of any run are written behind them, some at a time; those of runs by the runs."""

    def __init__(self, store: CallStore) -> None:
        self._store = store
        self._waiting: list[tuple[str, CallRecord]] = []
        self._some, self._writing = asyncio.Event(), asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        async with self._writing:  # the store finishes what it has begun, and says too late how it went
            self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        with contextlib.suppress(errors.Error):
            await self._write()

    def note(self, made: CallMade) -> None:
        if len(self._waiting) >= _MOST_WAITING:
            log.error("the record of a tool call is lost: too many wait for the database", tool_id=made.tool.tool_id)
            return
        self._waiting.append((identity.current().tenant, record(made)))
        self._some.set()

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            await asyncio.sleep(_PAUSE)
            try:
                await self._write()
            except errors.Unavailable:  # it is logged where it was found, and they are written later
                pass
            except Exception:
                log.exception("records of tool calls are lost")

    async def _write(self) -> None:
        async with self._writing:
            while batch := self._waiting[:_AT_ONCE]:
                del self._waiting[: len(batch)]
                try:
                    await self._store.add(batch)
                except errors.Unavailable:
                    self._waiting[:0] = batch
                    raise
            self._some.clear()

    async def list(
        self, caller: Caller, query: CallQuery, page_size: int, page_token: str
    ) -> tuple[Sequence[CallRecord], str]:
        asked = asdict(query)
        size = pagination.page_size(page_size)
        query = replace(query, before=pagination.from_token(page_token, asked))
        found = await self._store.list(caller.tenant, query, limit=size + 1)
        page = found[:size]
        return page, pagination.to_token(page[-1].record_id, asked) if len(found) > size else ""
