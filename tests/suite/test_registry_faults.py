"""Registry without its database, and killed in the middle of writing."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
import sqlalchemy as sa

from services.registry.app import app
from services.registry.config import RegistrySettings
from services.registry.model import Kind
from tests import harness
from tests.registry_client import OFFLINE, Code, Registry, refused
from tests.suite import test_registry_process as process

AGENT = Kind.AGENT


class Proxy:
    """Stands before a server, and can be cut."""

    def __init__(self, host: str, port: int) -> None:
        self._behind = host, port
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for end in self._ends:
            end.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._behind)
        self._ends |= {writer, back}
        try:
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        finally:
            self._ends -= {writer, back}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def proxied(
    make_settings: Callable[..., Any], database_settings: dict[str, Any]
) -> AsyncIterator[tuple[RegistrySettings, RegistrySettings, Proxy]]:
    """Settings of the database, settings of it behind a proxy, and the proxy."""
    url = sa.make_url(database_settings["database_url"])
    proxy = Proxy(str(url.host), int(url.port or 5432))
    await proxy.open()
    behind = url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
    yield (
        make_settings(RegistrySettings, **database_settings),
        make_settings(RegistrySettings, **{**database_settings, "database_url": behind}),
        proxy,
    )
    await proxy.cut()


class Following:
    """A watch that is opened again, as a client does it, when it is lost."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.seen: list[tuple[str, int]] = []
        self._token, self._call = "", registry.watch()

    async def until(self, resource_id: str) -> None:
        async with asyncio.timeout(20):
            while not self.seen or self.seen[-1][0] != resource_id:
                try:
                    message = await self._call.read()
                except grpc.aio.AioRpcError as error:
                    if (error.code(), harness.reason_of(error)) != (Code.UNAVAILABLE, "DATABASE_UNAVAILABLE"):
                        raise
                    await asyncio.sleep(0.1)
                    self._call = self._registry.watch(resume_token=self._token)
                    continue
                self._token = message.resume_token
                if message.HasField("change"):
                    self.seen.append((message.change.resource_id, message.change.revision))

    def end(self) -> None:
        self._call.cancel()


@harness.only_postgres
async def test_database_away_and_back(proxied: tuple[RegistrySettings, RegistrySettings, Proxy]) -> None:
    direct, through, proxy = proxied
    async with harness.registry(direct) as (_, one), harness.running(app, through) as (_, two):
        other, registry = Registry(one), Registry(two)
        following = Following(registry)
        await registry.create(AGENT, "before")
        await following.until("before")
        await proxy.cut()
        calls: list[Callable[[], Any]] = [
            lambda: registry.get(AGENT, "before"),
            lambda: registry.list(AGENT),
            lambda: registry.create(AGENT, "lost"),
            lambda: registry.update(AGENT, "before", display_name="Lost"),
            lambda: registry.delete(AGENT, "before"),
            lambda: registry.apply({"agent": {"agent_id": "lost", "spec": {"model": OFFLINE}}}),
            lambda: registry.export(),
            lambda: registry.call("VerifyAudit"),
            lambda: registry.audit(),
            lambda: registry.call("GetAgentClosure", agent_id="before"),
            lambda: registry.watch(snapshot=True).read(),
        ]
        for call in calls:
            async with asyncio.timeout(30):
                await refused(call(), Code.UNAVAILABLE, "DATABASE_UNAVAILABLE")
        await other.create(AGENT, "meanwhile")
        await other.update(AGENT, "before", display_name="Meanwhile")
        await proxy.open()
        async with asyncio.timeout(30):
            while True:
                try:
                    assert (await registry.get(AGENT, "before")).display_name == "Meanwhile"
                    break
                except grpc.aio.AioRpcError as error:
                    if error.code() is not Code.UNAVAILABLE:
                        raise
        await registry.create(AGENT, "after")
        await following.until("after")
        assert following.seen == [("before", 1), ("meanwhile", 1), ("before", 2), ("after", 1)]
        following.end()
        assert [agent.agent_id for agent in await registry.list(AGENT)] == ["after", "before", "meanwhile"]
        assert await registry.verified()


@harness.only_postgres
async def test_database_lost_while_many_write(proxied: tuple[RegistrySettings, RegistrySettings, Proxy]) -> None:
    """What was acknowledged is there, and each bundle whole or not at all."""
    direct, through, proxy = proxied
    async with harness.registry(direct) as (_, one), harness.running(app, through) as (_, two):
        other, registry = Registry(one), Registry(two)
        for _ in range(3):
            async with loading(registry, 15) as done:
                await proxy.cut()
            await is_whole(other, done)
            await proxy.open()


@asynccontextmanager
async def loading(registry: Registry, least: int) -> AsyncIterator[dict[str, int]]:
    """Three write, until it fails; the last number that was acknowledged, by writer. Begins with the block after so
    many, and ends with the last failure."""
    done: dict[str, int] = {}
    writing = asyncio.create_task(load(registry, done))
    async with asyncio.timeout(60):
        while len(done) < 3 or sum(done.values()) < least:
            await asyncio.sleep(0.01)
        yield done
        await writing


async def load(registry: Registry, done: dict[str, int]) -> None:
    async def writer(name: str) -> None:
        with suppress(grpc.aio.AioRpcError):
            for number in range(1, 1_000_000):
                fields = {"display_name": f"{number:07}", "spec": {"model": OFFLINE}}
                await registry.apply(*({"agent": {"agent_id": f"{name}-{n}", **fields}} for n in range(10)))
                done[name] = number

    await asyncio.gather(*map(writer, ("a", "b", "c")))


async def is_whole(registry: Registry, acknowledged: dict[str, int]) -> None:
    assert acknowledged
    found: dict[str, list[tuple[str, int]]] = {}
    for agent in await registry.list(AGENT, page_size=1000):
        found.setdefault(agent.agent_id[0], []).append((agent.display_name, agent.revision))
    for name, number in acknowledged.items():
        assert len(found[name]) == 10
        ((text, _),) = {*found[name]}  # all ten are of the same bundle
        assert int(text) in (number, number + 1)
    found_entries = await registry.call("VerifyAudit")
    assert (found_entries.valid, found_entries.reason) == (True, "")
    assert found_entries.entries == sum(revision for agents in found.values() for _, revision in agents)


async def test_killed_while_it_writes(tmp_path: Path) -> None:
    """On SQLite: what was acknowledged is there, nothing is there by half, and the audit holds."""
    for attempt in range(2):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        async with killed_under_load(folder, 5 + 17 * attempt) as acknowledged:
            pass
        async with process.registry(folder, data_dir=str(folder / "data")) as (_, channel):
            registry = Registry(channel)
            await is_whole(registry, acknowledged)
            await registry.create(AGENT, "after")
            assert await registry.verified()


@asynccontextmanager
async def killed_under_load(folder: Path, least: int) -> AsyncIterator[dict[str, int]]:
    async with process.registry(folder, data_dir=str(folder / "data")) as (running, channel):
        async with loading(Registry(channel), least) as acknowledged:
            await running.stop(signal.SIGKILL)
        yield acknowledged
