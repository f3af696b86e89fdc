"""Records of calls outside of runs: each is written once, though the process stop or the database not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from libs import errors, identity
from libs.identity import Caller
from services.execution.model.tool_calls import CallMade, CallQuery, CallRecord
from services.execution.model.tools import Tool, ToolResult
from services.execution.service.tool_calls import ToolCalls

LOOK = Tool("some/look", "look", "", "", {"type": "object"}, "1")


class Slow:
    """Finishes what it has begun, as the database does; loses what it is given while it fails."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.asked, self.may = asyncio.Event(), asyncio.Event()
        self.fails = False

    async def add(self, records: Sequence[tuple[str, CallRecord]]) -> None:
        await asyncio.shield(asyncio.create_task(self._add(records)))

    async def _add(self, records: Sequence[tuple[str, CallRecord]]) -> None:
        self.asked.set()
        await self.may.wait()
        if self.fails:
            raise errors.Unavailable("the database does not answer", reason="DATABASE_UNAVAILABLE")
        self.kept += [one.arguments_digest for _, one in records]

    async def list(self, tenant: str, query: CallQuery, *, limit: int) -> Sequence[CallRecord]:
        raise NotImplementedError


def call(number: int) -> CallMade:
    identity.enter(Caller("default", "somebody", frozenset()))
    return CallMade(LOOK, {"number": number}, ToolResult("seen"))


async def test_a_process_that_stops_while_records_are_written_writes_none_twice() -> None:
    store = Slow()
    async with ToolCalls(store) as calls:
        calls.note(call(1))
        await asyncio.wait_for(store.asked.wait(), 10)
        calls.note(call(2))
        asyncio.get_running_loop().call_later(0.1, store.may.set)
    assert len(store.kept) == len(set(store.kept)) == 2


async def test_records_wait_for_a_database_that_does_not_answer() -> None:
    store = Slow()
    store.fails = True
    store.may.set()
    async with ToolCalls(store) as calls:
        calls.note(call(1))
        await asyncio.wait_for(store.asked.wait(), 10)
        calls.note(call(2))
        assert not store.kept
        store.fails = False
    assert len(store.kept) == len(set(store.kept)) == 2


async def test_a_write_that_fails_while_the_process_stops_is_repeated() -> None:
    store = Slow()
    store.fails = True
    async with ToolCalls(store) as calls:
        calls.note(call(1))
        await asyncio.wait_for(store.asked.wait(), 10)
        loop = asyncio.get_running_loop()
        loop.call_later(0.1, store.may.set)
        store.asked.clear()

        async def mend() -> None:
            await store.may.wait()
            await asyncio.sleep(0)
            store.fails = False

        mending = asyncio.create_task(mend())
    await mending
    assert len(store.kept) == 1
