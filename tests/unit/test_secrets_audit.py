"""The audit trail, when the process stops in the midst of a write."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

import pytest

from libs import errors
from libs.identity import Caller
from services.secrets.service.audit import Record, Trail

CALLER = Caller("default", "somebody", frozenset())


class Slow:
    """Finishes what it has begun, as the database does; fails the first time, if it is told to."""

    def __init__(self, *, fails: bool) -> None:
        self.kept: list[str] = []
        self.asked, self.may = asyncio.Event(), asyncio.Event()
        self._fails = fails

    async def append(self, records: Sequence[Record]) -> None:
        await asyncio.shield(asyncio.create_task(self._append(records)))

    async def _append(self, records: Sequence[Record]) -> None:
        self.asked.set()
        await self.may.wait()
        if self._fails:
            self._fails = False
            raise errors.Unavailable("the database does not answer", reason="DATABASE_UNAVAILABLE")
        self.kept += [record.action for record in records]

    async def forget(self, before: datetime) -> None:
        """There is nothing old."""


@pytest.mark.parametrize("fails", [False, True])
async def test_a_trail_that_ends_while_it_writes_keeps_each_record_once(fails: bool) -> None:
    store = Slow(fails=fails)
    async with Trail(store, lambda _: ("", ""), interval=0.0) as trail:
        await trail.write([trail.record(CALLER, "first", "allow")])
        await asyncio.wait_for(store.asked.wait(), 10)
        await trail.write([trail.record(CALLER, "second", "allow")])
        asyncio.get_running_loop().call_later(0.1, store.may.set)
    assert store.kept == ["first", "second"]


async def test_who_waits_for_a_record_is_told_though_the_trail_ends() -> None:
    store = Slow(fails=False)
    async with Trail(store, lambda _: ("", ""), fail_closed=True) as trail:
        waiting = asyncio.create_task(trail.write([trail.record(CALLER, "first", "allow")]))
        await asyncio.wait_for(store.asked.wait(), 10)
        asyncio.get_running_loop().call_later(0.1, store.may.set)
    await asyncio.wait_for(waiting, 10)
    assert store.kept == ["first"]
