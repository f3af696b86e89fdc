"""Clients that write at random and watchers that come and go: nothing is lost, and all see the same."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from libs import database
from services.registry.app import MIGRATIONS
from services.registry.config import RegistrySettings
from services.registry.model import Kind
from tests import harness
from tests.registry_client import OFFLINE, SECRET, Registry, resource, token
from tests.suite import test_registry_process as process

AGENT = Kind.AGENT
CHANGES = int(os.environ.get("DYNAMIC_AGENTS_TEST_REGISTRY_CHANGES", "10000"))
"""Changes of the large run; 10,000 take half a minute where nothing else runs."""
LAST = "zz-last"
REFUSALS = {"STALE_ETAG", "RESOURCE_NOT_FOUND", "RESOURCE_EXISTS"}
IDS = ("a", "b")
FIELDS = ("display_name", "description", "labels")


class Watcher:
    """Follows the agents of a tenant, and is cut off now and then."""

    def __init__(self, registries: list[Registry], chance: random.Random, most: int) -> None:
        self._registries, self._chance, self._most = registries, chance, most
        self.state: dict[str, tuple[int, str]] = {}
        self.restarts, self.snapshots = 0, 0
        self._token, self._seen = "", dict[str, int]()

    async def run(self) -> None:
        """Until it has seen the last agent."""
        while LAST not in self.state:
            await self._some()
            self.restarts += 1

    async def _some(self) -> None:
        snapshot = not self._token or self._chance.random() < 0.3
        call = self._chance.choice(self._registries).watch(
            **({"snapshot": True} if snapshot else {"resume_token": self._token})
        )
        if snapshot:
            self.snapshots += 1
            self._token, self.state, self._seen = "", {}, {}
        for _ in range(self._chance.randint(1, self._most)):
            message = await call.read()
            self._token = message.resume_token
            if message.HasField("change"):
                self._take(message.change)
            if LAST in self.state and self._token:
                break
        call.cancel()

    def _take(self, change: Any) -> None:
        before = self._seen.get(change.resource_id)
        if before is not None:
            assert change.revision == before + 1, f"{change.resource_id}: {before}, then {change.revision}"
        self._seen[change.resource_id] = change.revision
        if change.deleted:
            self.state.pop(change.resource_id, None)
        else:
            self.state[change.resource_id] = (change.revision, change.agent.etag)


async def listed(registry: Registry) -> dict[str, tuple[int, str]]:
    found: dict[str, tuple[int, str]] = {}
    page = ""
    while not found or page:
        reply = await registry.call("ListAgents", page_size=300, page_token=page)
        found |= {agent.agent_id: (agent.revision, agent.etag) for agent in reply.agents}
        page = reply.next_page_token
    return found


class Client:
    """Writes by what it has read, which others may have changed since."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._read: dict[str, Any] = {}
        self.writes = 0

    async def do(self, what: str, name: str, field: str, value: int) -> None:
        try:
            await getattr(self, what)(name, field, value)
        except grpc.aio.AioRpcError as error:
            if harness.reason_of(error) not in REFUSALS:
                raise
            self._read.pop(name, None)

    async def read(self, name: str, *_: Any) -> None:
        self._read[name] = await self._registry.get(AGENT, name)

    async def create(self, name: str, field: str, value: int) -> None:
        self._wrote(await self._registry.create(AGENT, name, **changed(field, value)))

    async def update(self, name: str, field: str, value: int) -> None:
        before = await self._known(name)
        made = await self._registry.update(AGENT, name, etag=before.etag, **changed(field, value))
        if made == before:
            return
        # Nobody came between: what was read is what was changed.
        assert made.revision == before.revision + 1
        for other in {*FIELDS} - {field}:
            assert getattr(made, other) == getattr(before, other)
        self._wrote(made)

    async def merge(self, name: str, field: str, value: int) -> None:
        base = await self._known(name)
        mine = {other: as_json(base, other) for other in FIELDS} | changed(field, value)
        reply = await self._registry.call(
            "MergeAgent", agent={**resource(AGENT, name), **mine}, base_revision=base.revision
        )
        if reply.conflicts:
            assert {conflict.path.partition(".")[0] for conflict in reply.conflicts} == {field}
            self._read.pop(name)
            return
        made = reply.agent
        before = await self._registry.get(AGENT, name, made.revision - 1) if made.revision > base.revision else base
        assert as_json(made, field) == changed(field, value)[field] or field == "labels"
        for other in {*FIELDS} - {field}:
            assert getattr(made, other) == getattr(before, other) or made == before, other
        self._read[name] = made

    async def rollback(self, name: str, _field: str, value: int) -> None:
        before = await self._known(name)
        to = 1 + value % before.revision
        asked = {"agent_id": name, "revision": to, "etag": before.etag}
        made = (await self._registry.call("RollbackAgent", **asked)).agent
        old = await self._registry.get(AGENT, name, to)
        assert made.revision == before.revision + 1
        assert all(getattr(made, field) == getattr(old, field) for field in (*FIELDS, "spec"))
        self._wrote(made)

    async def delete(self, name: str, *_: Any) -> None:
        await self._registry.delete(AGENT, name, etag=(await self._known(name)).etag)
        del self._read[name]

    async def _known(self, name: str) -> Any:
        if name not in self._read:
            await self.read(name)
        return self._read[name]

    def _wrote(self, made: Any) -> None:
        self._read[made.agent_id] = made


def changed(field: str, value: int) -> dict[str, Any]:
    return {field: {f"l{value % 2}": str(value)} if field == "labels" else str(value)}


def as_json(agent: Any, field: str) -> Any:
    value = getattr(agent, field)
    return value if isinstance(value, str) else dict(value)


async def has_no_gap(registry: Registry, names: Any = IDS) -> int:
    """Each agent's revisions follow each other, and each has its entry in the audit; the number of all."""
    entries = await registry.audit()
    assert await registry.verified()
    count = 0
    for name in names:
        mine = [entry.revision for entry in entries if entry.resource_id == name][::-1]
        assert mine == list(range(1, len(mine) + 1))
        if mine:
            history = (await registry.revisions(AGENT, name, page_size=1000)).revisions
            assert [revision.revision for revision in history] == mine[::-1]
            assert len({revision.etag for revision in history}) == len(history)
        count += len(mine)
    return count


@pytest.fixture
async def server(make_settings: Callable[..., Any]) -> AsyncIterator[grpc.aio.Channel]:
    async with harness.registry(make_settings(RegistrySettings, jwt_secret=SecretStr(SECRET))) as (_, channel):
        yield channel


step = st.tuples(
    st.integers(0, 2),
    st.sampled_from(["create", "read", "update", "update", "merge", "rollback", "delete"]),
    st.sampled_from(IDS),
    st.sampled_from(FIELDS),
    st.integers(0, 3),
)
tenant_numbers = iter(range(1_000_000))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(rounds=st.lists(st.lists(step, min_size=1, max_size=4), min_size=1, max_size=12), seed=st.integers(0, 999))
async def test_random_clients_and_watchers(server: grpc.aio.Channel, rounds: list[list[Any]], seed: int) -> None:
    """The steps of a round are taken at once. Each example has a tenant of its own."""
    registry = Registry(server, token(f"t{next(tenant_numbers)}"))
    clients = [Client(registry) for _ in range(3)]
    watchers = [Watcher([registry], random.Random(seed + n), 4) for n in range(2)]
    watching = asyncio.gather(*(watcher.run() for watcher in watchers))
    for steps in rounds:
        one_each = {who: (who, *rest) for who, *rest in steps}
        await asyncio.gather(*(clients[who].do(*rest) for who, *rest in one_each.values()))
    await registry.create(AGENT, LAST)
    await asyncio.wait_for(watching, 60)
    state = await listed(registry)
    assert all(watcher.state == state for watcher in watchers)
    assert await has_no_gap(registry) == len(await registry.audit()) - 1


@pytest.mark.postgres
@pytest.mark.timeout(600)
@pytest.mark.parametrize("database_settings", ["postgres"], indirect=True)
async def test_many_changes_two_processes_three_watchers(tmp_path: Path, database_settings: dict[str, Any]) -> None:
    at = RegistrySettings.load(**database_settings)
    await database.migrate(at, MIGRATIONS)
    async with AsyncExitStack() as stack:
        registries = []
        for number in range(2):
            folder = tmp_path / str(number)
            folder.mkdir()
            started = process.registry(
                folder, database_url=database_settings["database_url"], log_level="warning", data_dir=str(folder)
            )
            registries.append(Registry((await stack.enter_async_context(started))[1]))
        watchers = [Watcher(registries, random.Random(n), 400) for n in range(3)]
        watching = asyncio.gather(*(watcher.run() for watcher in watchers))
        began = time.monotonic()
        await write(registries, CHANGES - 1)
        wrote = time.monotonic() - began
        await registries[0].create(AGENT, LAST)
        await asyncio.wait_for(watching, 120)
        state = await listed(registries[1])
        assert all(watcher.state == state for watcher in watchers)
        found = await registries[1].call("VerifyAudit")
        assert (found.valid, found.entries) == (True, CHANGES)
        print(
            f"{CHANGES} changes in {wrote:.1f} s, all seen and checked after {time.monotonic() - began:.1f} s; "
            f"restarts {[w.restarts for w in watchers]}, of them with a snapshot {[w.snapshots for w in watchers]}"
        )


async def write(registries: list[Registry], count: int) -> None:
    """Eight writers, each with agents of its own to change one by one, in bundles, or to delete and create again."""

    async def writer(number: int, left: int) -> None:
        registry, chance = registries[number % 2], random.Random(number)
        names = [f"w{number}-{n}" for n in range(25)]
        there: set[str] = set()
        while left:
            size = min(left, 20) if chance.random() < 0.1 else 1
            some = chance.sample(names, size)
            fields = {"display_name": str(left), "spec": {"model": OFFLINE}}
            if size > 1:
                done = await registry.apply(*({"agent": {"agent_id": name, **fields}} for name in some))
                assert len(done) == size
                there |= {*some}
            elif some[0] not in there:
                await registry.create(AGENT, some[0], **fields)
                there |= {*some}
            elif chance.random() < 0.1:
                await registry.delete(AGENT, some[0])
                there -= {*some}
            else:
                await registry.update(AGENT, some[0], **fields)
            left -= size

    shares = [count // 8 + (number < count % 8) for number in range(8)]
    await asyncio.gather(*(writer(number, share) for number, share in enumerate(shares)))
