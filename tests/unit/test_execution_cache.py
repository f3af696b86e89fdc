"""Results that answer further calls: for how long, for whom, and what becomes of those who ask at the same time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from libs import identity
from libs.identity import Caller
from services.execution.model.tools import BoundTool, Tool, ToolResult
from services.execution.service.cache import ResultCache
from services.execution.service.sources import ToolError
from services.execution.service.tools import Tools

SCHEMA = {"type": "object"}
READ = Tool("some/read", "read", "", "", SCHEMA, "1", read_only=True)
MINE = replace(READ, tool_id="some/mine", per_user=True)


class Slow:
    """Answers with the number of the call once it may."""

    def __init__(self) -> None:
        self.calls = 0
        self.asked, self.may = asyncio.Event(), asyncio.Event()
        self.fails = False

    async def __call__(self) -> ToolResult:
        self.calls += 1
        self.asked.set()
        await self.may.wait()
        return ToolResult(str(self.calls), is_error=self.fails)


async def test_who_asks_the_same_meanwhile_gets_the_same() -> None:
    cache, slow = ResultCache(10_000), Slow()
    asking = [asyncio.create_task(cache.get("k", 60, 10, slow)) for _ in range(5)]
    await slow.asked.wait()
    slow.may.set()
    found = await asyncio.gather(*asking)
    assert slow.calls == 1
    assert [(one.output, one.cached) for one in found] == [("1", False), *[("1", True)] * 4]
    assert (await cache.get("other", 60, 10, slow)).output == "2"


async def test_errors_are_not_kept() -> None:
    cache, slow = ResultCache(10_000), Slow()
    slow.may.set()
    slow.fails = True
    assert (await cache.get("k", 60, 10, slow)).output == "1"
    slow.fails = False
    assert (await cache.get("k", 60, 10, slow)).output == "2"
    assert (await cache.get("k", 60, 10, slow)).cached


async def test_caller_that_gives_up_leaves_the_others_to_ask() -> None:
    cache, slow = ResultCache(10_000), Slow()
    first = asyncio.create_task(cache.get("k", 60, 10, slow))
    await slow.asked.wait()
    second = asyncio.create_task(cache.get("k", 60, 10, slow))
    await asyncio.sleep(0)
    slow.asked.clear()
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    await slow.asked.wait()
    slow.may.set()
    assert (await second).output == "2"


async def test_patience_ends() -> None:
    cache, slow = ResultCache(10_000), Slow()
    first = asyncio.create_task(cache.get("k", 60, 10, slow))
    await slow.asked.wait()
    with pytest.raises(TimeoutError):
        await cache.get("k", 60, 0.01, slow)
    slow.may.set()
    assert (await first).output == "1"


async def test_each_says_how_old_it_may_be() -> None:
    cache, slow = ResultCache(10_000), Slow()
    slow.may.set()
    await cache.get("k", 60, 10, slow)
    assert (await cache.get("k", 0.0, 10, slow)).output == "2"
    assert (await cache.get("k", 60, 10, slow)).output == "2"


async def test_what_was_not_used_for_the_longest_goes() -> None:
    cache = ResultCache(1_000)

    async def big() -> ToolResult:
        return ToolResult("x" * 200)

    for key in ("a", "b"):
        await cache.get(key, 60, 10, big)
    assert (await cache.get("a", 60, 10, big)).cached
    await cache.get("c", 60, 10, big)
    assert [(await cache.get(key, 60, 10, big)).cached for key in ("a", "c", "b")] == [True, True, False]

    async def too_big() -> ToolResult:
        return ToolResult("x" * 2_000)

    assert not (await cache.get("d", 60, 10, too_big)).cached
    assert not (await cache.get("d", 60, 10, too_big)).cached


class Source:
    def __init__(self, *tools: Tool) -> None:
        self._tools, self.calls = tools, 0

    def tools(self) -> Sequence[Tool]:
        return self._tools

    async def call(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
        self.calls += 1
        if arguments.get("busy", 0) >= self.calls:
            raise ToolError("busy", passing=True)
        if "bad" in arguments:
            raise ToolError("bad")
        return str(self.calls)


async def ask(tools: Tools, tool: Tool, caller: Caller, **arguments: Any) -> str:
    identity.enter(caller)
    return (await tools.call(BoundTool(tool, 5.0, cache_ttl=60), arguments)).output


async def test_for_whom() -> None:
    """Of the tenant, and of the subject where the tool acts for it; arguments in any order; one version."""
    tools = Tools([Source(READ, MINE)])
    ann, bob, eve = (Caller(*who, frozenset()) for who in (("acme", "ann"), ("acme", "bob"), ("other", "ann")))
    assert await ask(tools, READ, ann, a=1, b=2) == "1"
    assert await ask(tools, READ, bob, b=2, a=1) == "1"
    assert await ask(tools, READ, eve, a=1, b=2) == "2"
    assert await ask(tools, replace(READ, version="2"), ann, a=1, b=2) == "3"
    assert await ask(tools, MINE, ann) == "4"
    assert await ask(tools, MINE, bob) == "5"
    assert await ask(tools, MINE, ann) == "4"


async def test_numbers_that_no_key_can_have_are_called() -> None:
    tools = Tools([Source(READ)])
    for expected in ("1", "2"):
        assert await ask(tools, READ, Caller("acme", "ann", frozenset()), n=2**80) == expected


@pytest.mark.parametrize(
    ("arguments", "retries", "calls", "output"),
    [({"busy": 2}, 2, 3, "3"), ({"busy": 9}, 2, 3, "busy"), ({"busy": 1}, 0, 1, "busy"), ({"bad": 1}, 5, 1, "bad")],
)
async def test_calls_that_are_made_again(arguments: dict[str, Any], retries: int, calls: int, output: str) -> None:
    """What a tool itself calls an error is an answer."""
    source = Source(READ)
    result = await Tools([source]).call(BoundTool(READ, 5.0, retries=retries, backoff=0.001), arguments)
    assert (source.calls, result.output, result.is_error) == (calls, output, output in ("busy", "bad"))


def test_options_that_would_not_be_safe_do_not_apply() -> None:
    writes = replace(READ, tool_id="some/write", read_only=False)
    keyed = replace(writes, tool_id="some/keyed", takes_key=True)
    tools = Tools([Source(READ, writes, keyed)])
    options = {"tool_id": "some/*", "retries": 3, "cache_ttl": "60s"}
    found = {one.tool.tool_id: (one.retries, one.cache_ttl) for one in tools.bind({"tools": [options]})}
    assert found == {"some/read": (3, 60.0), "some/write": (0, 0.0), "some/keyed": (3, 0.0)}
    (marked,) = tools.bind({"tools": [{**options, "tool_id": "some/write", "idempotent": True}]})
    assert (marked.retries, marked.cache_ttl, marked.tool.repeatable) == (3, 60.0, True)
