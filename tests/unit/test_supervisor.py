from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from libs import supervisor
from libs.supervisor import Child, Supervisor


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_DELAY", 0.05)


def child(code: str, name: str = "one", output: Path | None = None) -> Child:
    return Child(name, (sys.executable, "-c", code), {"GIVEN": "yes"}, output)


@asynccontextmanager
async def supervised(
    *children: Child, grace: float = 5.0, reports: list[str] | None = None
) -> AsyncIterator[Supervisor]:
    made = Supervisor(children, [].append if reports is None else reports.append, grace=grace)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def pid(one: Child) -> int:
    assert one.process is not None
    return one.process.pid


def is_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


SLEEP = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


async def test_child_that_dies_is_started_again_and_reported() -> None:
    reports: list[str] = []
    one = child(SLEEP)
    async with supervised(one, reports=reports) as running:
        first = pid(one)
        os.kill(first, signal.SIGKILL)
        await until(lambda: pid(one) != first)
        assert is_alive(pid(one))
        assert not running.failed.done()
    assert len(reports) == 1
    assert "one" in reports[0]
    assert "SIGKILL" in reports[0]


async def test_delays_grow() -> None:
    reports: list[str] = []
    async with supervised(child("raise SystemExit(3)"), reports=reports):
        await until(lambda: len(reports) == 3)
    assert [line.rsplit("in ", 1)[1] for line in reports] == ["0.05 s", "0.1 s", "0.2 s"]
    assert all("exit code 3" in line for line in reports)


async def test_child_that_refuses_to_start_is_left_alone() -> None:
    reports: list[str] = []
    one = child("raise SystemExit(2)")
    async with supervised(one, reports=reports) as running:
        assert await asyncio.wait_for(asyncio.shield(running.failed), 10) == "one"
        refused = pid(one)
        await asyncio.sleep(0.3)
        assert pid(one) == refused
    assert reports == []


async def test_stop_is_gentle_first(tmp_path: Path) -> None:
    output = tmp_path / "log"
    code = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('bye', os.environ['GIVEN'], flush=True), sys.exit()))\n"
        "print('up', flush=True)\ntime.sleep(60)"
    )
    async with supervised(child(code, output=output)):
        await until(lambda: output.exists() and "up" in output.read_text())
    assert output.read_text() == "up\nbye yes\n"


@pytest.mark.parametrize("at_once", [False, True])
async def test_stop_kills_what_ignores_it_after_the_grace(tmp_path: Path, at_once: bool) -> None:
    output = tmp_path / "log"
    stubborn, polite = child(STUBBORN, output=output), child(SLEEP, "two")
    async with supervised(stubborn, polite, grace=0.3) as running:
        await until(lambda: output.exists() and "up" in output.read_text())
        started = time.monotonic()
        await running.stop(at_once=at_once)
    assert 0.3 <= time.monotonic() - started < 2
    assert stubborn.process is not None
    assert polite.process is not None
    assert stubborn.process.returncode == -signal.SIGKILL
    assert polite.process.returncode == -signal.SIGTERM


async def test_stop_while_a_child_is_being_started(monkeypatch: pytest.MonkeyPatch) -> None:
    one = child(SLEEP)
    spawned: list[int] = []
    real = asyncio.create_subprocess_exec

    async def slow(*args: str, **options: object) -> asyncio.subprocess.Process:
        process = await real(*args, **options)  # type: ignore[arg-type]
        spawned.append(process.pid)
        if len(spawned) > 1:
            await asyncio.sleep(0.3)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slow)
    async with supervised(one):
        os.kill(pid(one), signal.SIGKILL)
        await until(lambda: len(spawned) == 2)
    assert not any(map(is_alive, spawned))


async def test_stop_during_the_delay_starts_nothing() -> None:
    one = child("raise SystemExit(1)")
    reports: list[str] = []
    async with supervised(one, reports=reports):
        await until(lambda: len(reports) >= 1)
    last = pid(one)
    await asyncio.sleep(0.3)
    assert pid(one) == last
    assert not is_alive(last)


async def test_stop_is_in_order_or_at_once(tmp_path: Path) -> None:
    for at_once in (False, True):
        outputs = [tmp_path / f"{n}-{at_once}" for n in range(2)]
        children = [child(STUBBORN, str(n), output) for n, output in enumerate(outputs)]
        async with supervised(*children, grace=0.4) as running:
            await until(lambda files=outputs: all(f.exists() and "up" in f.read_text() for f in files))
            started = time.monotonic()
            await running.stop(at_once=at_once)
            assert (time.monotonic() - started < 0.75) is at_once
