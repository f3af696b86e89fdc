"""What Registry's reads and watches cost, next to a bare grpc.aio server of the same methods and messages.

It is measured on SQLite, and on PostgreSQL where DYNAMIC_AGENTS_TEST_POSTGRES names one.
Every server and the load are processes of their own. The rounds of what is
compared alternate, so that what else the machine does troubles all alike; medians count.
"""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import grpc
import sqlalchemy as sa
from dynamicagents.registry.v1 import (
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    watch_service_pb2,
    watch_service_pb2_grpc,
)
from google.protobuf.field_mask_pb2 import FieldMask
from sqlalchemy.ext.asyncio import create_async_engine

from bench import echo, load
from bench.report import Report
from libs import database
from services.registry.app import MIGRATIONS
from services.registry.config import RegistrySettings
from services.registry.store.tables import resources, revisions, tenants

POSTGRES: Final = "DYNAMIC_AGENTS_TEST_POSTGRES"
LARGE: Final = 200
"""So many of the agents, evenly spread, have a spec of 2 KB; the others of 200 bytes."""
WATCHERS: Final = 200
PAGE: Final = 50
_SERVICE: Final = "dynamicagents.registry.v1.AgentService"
_MODULE: Final = "dynamicagents.registry.v1.agent_service_pb2"
_WATCH: Final = "dynamicagents.registry.v1.watch_service_pb2"


def _name(number: int) -> str:
    return f"agent-{number:06}"


@dataclass(frozen=True)
class Effort:
    agents: int
    rounds: int
    gets: int
    lists: int
    batches: int
    changes: int
    pause: float = 0.15

    @property
    def large(self) -> list[str]:
        return [_name(number) for number in range(0, self.agents, self.agents // LARGE)]


FULL: Final = Effort(agents=100_000, rounds=5, gets=12_000, lists=480, batches=300, changes=40)
QUICK: Final = Effort(agents=20_000, rounds=3, gets=3000, lists=192, batches=96, changes=10, pause=0.1)


@dataclass(frozen=True)
class Measure:
    """A method with the requests that take turns."""

    name: str
    method: str
    requests: Sequence[Mapping[str, Any]]
    calls: int


async def run(report: Report, *, quick: bool) -> None:
    effort = QUICK if quick else FULL
    print(f"load from {'ghz' if load.GHZ else 'a client in Python'}, {load.CONCURRENCY} at a time; ", end="")
    print(f"medians of {effort.rounds} rounds; {effort.agents} agents")
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        await backend(report, "SQLite", {"data_dir": folder / "sqlite"}, folder, effort)
    if POSTGRES not in os.environ:
        print(f"PostgreSQL: skipped, {POSTGRES} is not set")
        return
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = await stack.enter_async_context(_postgres(os.environ[POSTGRES]))
        settings = {"data_dir": folder / "postgres", "database_url": url}
        await backend(report, "PostgreSQL", settings, folder, effort)


async def backend(report: Report, name: str, settings: Mapping[str, Any], folder: Path, effort: Effort) -> None:
    loaded = RegistrySettings.load(**settings)
    await database.migrate(loaded, MIGRATIONS)
    await fill(loaded, effort)
    async with registry(loaded, folder / "one.log") as one, registry(loaded, folder / "two.log") as two:
        async with grpc.aio.insecure_channel(one) as channel:
            tokens = await _page_tokens(channel)
            answers = await _answers(channel, effort.large)
        echo.replies(folder / "echo", f"{_MODULE} {_WATCH}", answers, trigger=f"{_SERVICE}/UpdateAgent")
        async with echo.started(folder / "echo") as bare:
            await _unary(report, name, _measures(tokens, effort), one, bare, effort)
            rows = {
                "bare echo": await watched(bare, bare, effort),
                "one process": await watched(one, one, effort),
                "two processes": await watched(one, two, effort),
            }
    for where, delays in rows.items():
        label = f"{name}: change to {WATCHERS} watchers, {where}"
        report.note("registry", f"{label}, p50", "ms", statistics.median(delays) * 1000)
        report.note("registry", f"{label}, p99", "ms", statistics.quantiles(delays, n=100)[98] * 1000)


async def _unary(report: Report, name: str, measures: Sequence[Measure], ours: str, bare: str, effort: Effort) -> None:
    rates: dict[str, list[tuple[float, float]]] = {measure.name: [] for measure in measures}
    for number in range(effort.rounds + 1):
        for measure in measures:
            requests = [dict(request) for request in measure.requests]
            calls = measure.calls // effort.rounds
            found = [
                await load.rate(address, _MODULE, f"{_SERVICE}/{measure.method}", requests, calls)
                for address in (ours, bare)
            ]
            if number:  # the first round warms up
                rates[measure.name].append((found[0], found[1]))
    for label, pairs in rates.items():
        ours_, bare_ = map(list, zip(*pairs, strict=True))
        least = 0.6 if label.startswith("GetAgent") else None
        report.note(
            "registry", f"{name}: {label}", "calls/s", ours_, against="bare grpc.aio echo", baseline=bare_, least=least
        )
    pages = [statistics.median(one for one, _ in pairs) for label, pairs in rates.items() if "page" in label]
    report.note("registry", f"{name}: fastest page over the slowest", "", max(pages) / min(pages), most=1.3)


def _measures(tokens: Mapping[str, str], effort: Effort) -> list[Measure]:
    return [
        Measure("GetAgent, 2 KB", "GetAgent", [{"agent_id": name} for name in effort.large], effort.gets),
        Measure("BatchGetAgents of 100, 2 KB", "BatchGetAgents", [{"agent_ids": effort.large[:100]}], effort.batches),
        *(
            Measure(f"ListAgents, {where} page", "ListAgents", [{"page_size": PAGE, "page_token": token}], effort.lists)
            for where, token in tokens.items()
        ),
    ]


async def watched(writer: str, reader: str, effort: Effort) -> list[float]:
    """Seconds from the request of a change to its arrival at each watcher."""
    sent: list[float] = []
    delays: list[float] = []
    async with AsyncExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(reader, options=options)) for _ in range(4)
        ]
        writing = await stack.enter_async_context(grpc.aio.insecure_channel(writer, options=options))
        stubs = [watch_service_pb2_grpc.WatchServiceStub(channel) for channel in channels]
        calls = [stubs[n % len(stubs)].Watch(watch_service_pb2.WatchRequest()) for n in range(WATCHERS)]
        await asyncio.gather(*(call.read() for call in calls))

        async def watch(call: Any) -> None:
            for number in range(effort.changes):
                while (await call.read()).WhichOneof("event") != "change":
                    pass
                delays.append(time.perf_counter() - sent[number])

        watching = asyncio.gather(*map(watch, calls))
        agents = agent_service_pb2_grpc.AgentServiceStub(writing)
        for number in range(effort.changes):
            agent = agent_pb2.Agent(agent_id=effort.large[0], description=f"{uuid.uuid4()} {number}")
            request = agent_service_pb2.UpdateAgentRequest(agent=agent, update_mask=FieldMask(paths=["description"]))
            sent.append(time.perf_counter())
            await agents.UpdateAgent(request)
            await asyncio.sleep(effort.pause)
        async with asyncio.timeout(60):
            await watching
        for call in calls:
            call.cancel()
    return delays


async def _page_tokens(channel: grpc.aio.Channel) -> dict[str, str]:
    """Tokens of the first, a middle and the last page, found by walking."""
    agents = agent_service_pb2_grpc.AgentServiceStub(channel)
    tokens, request = [""], agent_service_pb2.ListAgentsRequest(page_size=1000)
    while True:
        request.page_token = (await agents.ListAgents(request)).next_page_token
        if not request.page_token:
            return {"first": tokens[0], "middle": tokens[len(tokens) // 2], "last": tokens[-1]}
        tokens.append(request.page_token)


async def _answers(channel: grpc.aio.Channel, large: Sequence[str]) -> dict[str, Any]:
    """What Registry answers, for the echo to answer too."""
    agents = agent_service_pb2_grpc.AgentServiceStub(channel)
    ids = large[:100]
    got = await agents.GetAgent(agent_service_pb2.GetAgentRequest(agent_id=ids[0]))
    batch = await agents.BatchGetAgents(agent_service_pb2.BatchGetAgentsRequest(agent_ids=ids))
    page = await agents.ListAgents(agent_service_pb2.ListAgentsRequest(page_size=PAGE))
    change = watch_service_pb2.WatchResponse(resume_token="p1")  # noqa: S106
    change.change.agent.CopyFrom(got.agent)
    return {
        f"{_SERVICE}/GetAgent": got,
        f"{_SERVICE}/BatchGetAgents": batch,
        f"{_SERVICE}/ListAgents": page,
        f"{_SERVICE}/UpdateAgent": agent_service_pb2.UpdateAgentResponse(agent=got.agent),
        "dynamicagents.registry.v1.WatchService/Watch": change,
    }


@asynccontextmanager
async def registry(settings: RegistrySettings, log: Path) -> AsyncIterator[str]:
    """Registry in a process of its own, as an operator would run it; gives its address."""
    env = {**os.environ, "DYNAMIC_AGENTS_REGISTRY_PORT": "0", "DYNAMIC_AGENTS_DATA_DIR": str(settings.data_dir)}
    if settings.database_url:
        env["DYNAMIC_AGENTS_DATABASE_URL"] = settings.database_url.get_secret_value()
    with log.open("wb") as output:
        command = (sys.executable, "-m", "services.registry")
        child = await asyncio.create_subprocess_exec(*command, env=env, stdout=output, stderr=output)
    try:
        async with asyncio.timeout(60):
            while not (address := _address(log)):
                assert child.returncode is None, log
                await asyncio.sleep(0.05)
        yield address
    finally:
        child.terminate()
        await child.wait()


def _address(log: Path) -> str:
    found = re.search(r'"address":"([\d.:]+)"', log.read_text())
    return found[1] if found else ""


async def fill(settings: RegistrySettings, effort: Effort) -> None:
    """Writes the agents as the store would, but all at once."""
    engine = database.make_engine(settings, pooled=False)
    try:
        async with engine.begin() as connection:
            await connection.execute(
                tenants.insert(), {"tenant": "default", "position": effort.agents, "audit_hash": ""}
            )
            for begin in range(0, effort.agents, 10_000):
                rows = [_row(number, effort.agents // LARGE) for number in range(begin, begin + 10_000)]
                current = [{key: row[key] for key in resources.c.keys()} for row in rows]  # noqa: SIM118
                await connection.execute(resources.insert(), current)
                await connection.execute(revisions.insert(), rows)
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(sa.text("ANALYZE"))
    finally:
        await engine.dispose()


def _row(number: int, every: int) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "tenant": "default",
        "kind": "agent",
        "resource_id": _name(number),
        "revision": 1,
        "position": number + 1,
        "display_name": f"Agent {number}",
        "description": "",
        "labels": {"team": f"team-{number % 10}"},
        "spec": _spec(200 if number % every else 2000),
        "etag": f"{number:024}",
        "author": "bench",
        "create_time": now,
        "update_time": now,
        "deleted": False,
    }


def _spec(size: int) -> dict[str, Any]:
    """An agent of about so many bytes of JSON, of the fields that agents have."""
    spec: dict[str, Any] = {"model": {"model": "offline", "temperature": 0.2}, "instructions": []}
    if size > 1000:
        spec["tools"] = [{"tool_id": f"builtin/tool-{number}", "timeout": "10s"} for number in range(8)]
        properties = {f"field_{number}": {"type": "string", "maxLength": 100} for number in range(8)}
        spec["output_schema"] = {"type": "object", "properties": properties}
    while len(str(spec)) < size:
        spec["instructions"].append("Answer in one short sentence, and say where each number comes from.")
    return spec


@asynccontextmanager
async def _postgres(url: str) -> AsyncIterator[str]:
    """A database of its own, with Registry's schema still to make."""
    admin = create_async_engine(url, isolation_level="AUTOCOMMIT")
    name = f"bench_{uuid.uuid4().hex}"
    async with admin.connect() as connection:
        await connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
    try:
        yield admin.url.set(database=name).render_as_string(hide_password=False)
    finally:
        async with admin.connect() as connection:
            await connection.execute(sa.text(f'DROP DATABASE "{name}" WITH (FORCE)'))
        await admin.dispose()
