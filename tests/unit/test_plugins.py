"""Plugins that fail, hang or block."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from libs import identity
from services.execution.gateways.observers import plugins
from services.execution.gateways.observers.plugins import Failed, Plugin
from services.execution.hooks import Hooks, Veto


class Does:
    def __init__(self, method: Any) -> None:
        self.before_tool = method


def plugin(method: Any, *, timeout: float = 5.0) -> Plugin:
    return Plugin("p", Does(method), timeout=timeout, required=False)


async def how(one: Plugin) -> str:
    with pytest.raises(Failed) as caught:
        await one.call("before_tool", {})
    return caught.value.how


def test_a_base_says_nothing() -> None:
    one = Plugin("p", Hooks(), timeout=1, required=False)
    assert not one.has("before_tool")
    assert plugin(print).has("before_tool")
    assert not plugin(print).has("after_tool")


async def test_an_async_one_that_hangs_and_refuses_to_end() -> None:
    release = asyncio.Event()

    async def hangs(_: Any) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    assert await how(plugin(hangs, timeout=0.02)) == "timeout"
    release.set()
    await asyncio.sleep(0)


async def test_threads_that_hang_are_few() -> None:
    release = threading.Event()
    one = plugin(lambda _: release.wait(), timeout=0.01)
    one._fails = lambda: None  # type: ignore[method-assign]
    assert [await how(one) for _ in range(plugins._MOST_THREADS + 1)] == ["timeout"] * plugins._MOST_THREADS + ["busy"]
    release.set()


async def test_one_that_fails_again_and_again_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    async def fails(_: Any) -> None:
        calls.append(1)
        raise ValueError("secret")

    one = plugin(fails)
    assert [await how(one) for _ in range(7)] == ["error"] * 5 + ["suspended"] * 2
    assert len(calls) == 5
    one._again = 0.0
    assert await how(one) == "error"


async def test_a_veto_is_no_failure() -> None:
    async def refuses(_: Any) -> None:
        raise Veto("no")

    one = plugin(refuses)
    for _ in range(10):
        with pytest.raises(Veto):
            await one.call("before_tool", {})


@pytest.mark.parametrize("sync", [True, False])
async def test_no_plugin_sees_the_caller(sync: bool) -> None:
    seen: list[Any] = []

    def look(_: Any) -> None:
        seen.append(identity.current_or_none())

    async def look_async(_: Any) -> None:
        look(_)

    one = plugin(look if sync else look_async)
    identity.enter(identity.Caller("acme", "ann", frozenset(), "token"))
    await one.call("before_tool", {})
    assert seen == [None]
