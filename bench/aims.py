"""The figures that the suite promises: what it adds to a provider's time, and what it holds while nothing is said.

The suite is one process a service, on SQLite, and on PostgreSQL where DYNAMIC_AGENTS_TEST_POSTGRES names one. What it
adds is the difference to asking the provider alone, with the same load, in the rounds beside; a piece's delay is
counted from the moment at which the provider says that it sent it.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import chain
from typing import Any, Final

import grpc
from dynamicagents.execution.v1 import execution_service_pb2, execution_service_pb2_grpc

from bench import whole
from bench.execution import POSTGRES, postgres
from bench.report import Report
from bench.streams import PIECES
from bench.whole import Load, Served, load, quantile

STREAMS: Final = 16
PACED: Final = "chunks-50 paced-20"
IDLE: Final = 200
LOG: Final = 1_000
CROWD: Final = 1_000
RATE: Final = 100
"""Messages a second."""


async def run(report: Report, *, quick: bool) -> None:
    rounds = 3 if quick else 9
    async with AsyncExitStack() as stack:
        folder, upstream = await stack.enter_async_context(whole.ready())
        suites = [await stack.enter_async_context(whole.suite("SQLite", upstream, folder / "sqlite"))]
        if POSTGRES in os.environ:
            url = await stack.enter_async_context(postgres())
            suites.append(await stack.enter_async_context(whole.suite("PostgreSQL", upstream, folder / "pg", url=url)))
        asked = {"to": "openai", "address": f"{upstream}/chat/completions"}
        for one in suites:
            await _delays(report, one, asked, rounds)
            await _idle(report, one)
            await _messages(report, one, asked, 2 if quick else 10)
            await _resume(report, one, 20 if quick else 100)
            await _crowd(report, one, min(rounds, 5))
            failed = [len(made.seen.errors) for made in chain.from_iterable(one.rounds.values())]
            report.note("aims", f"{one.name}: failed runs of all rounds", "", sum(failed), most=0)


def _ms(report: Report, one: Served, name: str, figures: Sequence[float], most: float, unit: str = "ms") -> None:
    report.note("aims", f"{one.name}: {name}", unit, figures, most=most)
    print(f"{one.name}: {name}: {', '.join(f'{figure:.3g}' for figure in figures)} {unit} (aim {most:g})")


async def _delays(report: Report, one: Served, asked: dict[str, str], rounds: int) -> None:
    found, alone = list[Load](), list[Load]()
    for _ in range(rounds):
        alone.append(await load(**asked, runs=STREAMS, input=PACED))
        found.append((await one.round("paced", agent="plain", runs=STREAMS, input=PACED)).seen)
    both = list(zip(found, alone, strict=True))
    for part, name, most in ((0.5, "p50", 10), (0.99, "p99", 40)):
        added = [quantile(each.first_events, part) - quantile(other.first_events, part) for each, other in both]
        _ms(report, one, f"first event over the provider's, {name}, {STREAMS} at once", added, most)
        added = [quantile(each.first_texts, part) - quantile(other.first_texts, part) for each, other in both]
        _ms(report, one, f"first text over the provider's, {name}, {STREAMS} at once", added, most)
    for streams in (1, STREAMS):
        added = []
        for _ in range(rounds):
            seen = (await one.round("delays", agent="plain", runs=streams, input=PACED)).seen
            other = await load(**asked, runs=streams, input=PACED)
            added.append((quantile(seen.delays, 0.5) - quantile(other.delays, 0.5)) / 1e3)
        _ms(report, one, f"a piece's delay over the provider's own, p50, {streams} at once", added, 1)


async def _messages(report: Report, one: Served, asked: dict[str, str], seconds: int) -> None:
    """From the message to the answer's end, begun at a rate, whatever became of those before."""
    rate: dict[str, Any] = {"runs": RATE * seconds, "rate": RATE, "input": "chunks-20"}
    added = []
    for _ in range(3):
        alone = await load(**asked, **rate)
        made = await one.round("messages", agent="plain", **rate)
        added.append(quantile(made.seen.totals, 0.95) - quantile(alone.totals, 0.95))
    _ms(report, one, f"a message's answer over the provider's, p95, {RATE} messages/s", added, 100)


async def _resume(report: Report, one: Served, times: int) -> None:
    """With a connection of its own each time, somewhere in a log in which nothing was joined."""
    async with grpc.aio.insecure_channel(one.flags["address"]) as channel:
        stub: Any = execution_service_pb2_grpc.ExecutionServiceStub(channel)
        asked = execution_service_pb2.ExecuteRequest(agent_id="plain", input=f"chunks-{LOG + 100} paced-20")
        execution = (await stub.Execute(asked, timeout=120)).execution
    watch = {**one.flags, "to": "watch", "execution": execution.execution_id, "at_once": 1}
    found = [await load(**watch, runs=times, after=LOG // 2) for _ in range(3)]
    p99 = [quantile(each.first_events, 0.99) for each in found]
    _ms(report, one, f"reconnected, to the first replayed event of {execution.last_sequence}, p99", p99, 20)


async def _crowd(report: Report, one: Served, rounds: int) -> None:
    """The floor: the CPU of the suite, the provider and the load, spread over the cores."""
    ratios = []
    for _ in range(rounds):
        began = _worked()
        made = await one.round("crowd", agent="plain", runs=CROWD, input="chunks-50", characters=50 * len(PIECES[0]))
        floor = (_worked() - began) / (os.cpu_count() or 1)
        ratios.append(made.seen.seconds / floor)
    _ms(report, one, f"{CROWD} runs of 50 pieces at once, time over the floor", ratios, 1.3, "")


def _worked() -> float:
    """Seconds of CPU of this process, of all that it has started, and of those that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return whole.cpu(os.getpid()) + ended.ru_utime + ended.ru_stime


async def _idle(report: Report, one: Served) -> None:
    """Streams whose model says nothing."""
    async with grpc.aio.insecure_channel(one.flags["address"]) as channel:
        stub: Any = execution_service_pb2_grpc.ExecutionServiceStub(channel)
        before = one.memory()
        asked = execution_service_pb2.ExecuteRequest(
            agent_id="plain", input="silence", on_disconnect=execution_service_pb2.ON_DISCONNECT_CANCEL
        )
        streams = [stub.ExecuteStream(asked, timeout=120) for _ in range(IDLE)]
        await asyncio.gather(*(stream.read() for stream in streams))
        await asyncio.sleep(1)
        used = (one.memory() - before) / IDLE / 1024
        for stream in streams:
            stream.cancel()
    _ms(report, one, f"memory of an idle stream in all services, {IDLE} open", [used], 60, "KiB")
    await asyncio.sleep(2)
