"""No answer is larger than a client takes, and none is silently less than asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from google.rpc import error_details_pb2

from services.registry.config import RegistrySettings
from services.registry.model import Kind
from tests import harness
from tests.registry_client import OFFLINE, Code, Registry, of_size, refused, resource

AGENT = Kind.AGENT
LARGEST = 4 * 1024 * 1024


@pytest.fixture
async def registry(make_settings: Callable[..., Any], database_settings: dict[str, Any]) -> AsyncIterator[Registry]:
    async with harness.registry(make_settings(RegistrySettings, **database_settings)) as (_, channel):
        yield Registry(channel)


async def too_large(call: Any, limit: int = LARGEST) -> None:
    error = await refused(call, Code.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
    info = harness.detail(harness.status_of(error), error_details_pb2.ErrorInfo)
    assert info.metadata["limit_bytes"] == str(limit)
    assert str(limit) in str(error.details())


async def pages(registry: Registry, method: str, field: str, **fields: Any) -> list[list[Any]]:
    found = []
    token = ""
    while not found or token:
        reply = await registry.call(method, page_token=token, **fields)
        assert reply.ByteSize() < LARGEST
        found.append(list(getattr(reply, field)))
        token = reply.next_page_token
    return found


async def test_a_page_ends_where_the_message_is_full(registry: Registry) -> None:
    names = [f"a{n:02}" for n in range(12)]
    for name in names:
        await registry.create(AGENT, name, spec=of_size(700_000))
    for order in ("agent_id", "update_time"):
        found = await pages(registry, "ListAgents", "agents", page_size=1000, order_by=order)
        assert [len(page) for page in found] == [4, 4, 4]
        assert [agent.agent_id for page in found for agent in page] == names
    found = await pages(registry, "ListAgents", "agents", page_size=3, filter='agent_id < "a08"')
    assert [len(page) for page in found] == [3, 3, 2]


async def test_small_ones_fill_the_page(registry: Registry) -> None:
    await registry.apply(*({"agent": resource(AGENT, f"a{n:04}")} for n in range(310)))
    for size, lengths in ((310, [310]), (309, [309, 1]), (100, [100, 100, 100, 10]), (1000, [310])):
        found = await pages(registry, "ListAgents", "agents", page_size=size)
        assert [len(page) for page in found] == lengths
        assert [agent.agent_id for page in found for agent in page] == [f"a{n:04}" for n in range(310)]


async def test_pages_of_large_templates(registry: Registry) -> None:
    for n in range(6):
        await registry.create(Kind.AGENT_TEMPLATE, f"a{n}", spec={"agent": of_size(900_000)})
    found = await pages(registry, "ListAgentTemplates", "agent_templates", page_size=100)
    names = [template.template_id for page in found for template in page]
    assert (names, len(names)) == (sorted({*names}), 26)
    assert len(found) == 2


async def test_a_page_of_a_small_server(make_settings: Callable[..., Any]) -> None:
    async with harness.registry(make_settings(RegistrySettings, max_message_bytes=65536)) as (_, channel):
        registry = Registry(channel)
        for n in range(5):
            await registry.create(AGENT, f"a{n}", spec=of_size(30_000))
        found = await pages(registry, "ListAgents", "agents")
        assert [len(page) for page in found] == [1, 1, 1, 1, 1]
        await too_large(registry.call("BatchGetAgents", agent_ids=["a0", "a1", "a2"]), 65536)


async def test_a_batch_that_is_too_large(registry: Registry) -> None:
    for n in range(5):
        await registry.create(AGENT, f"a{n}", spec=of_size(1_000_000))
    await too_large(registry.call("BatchGetAgents", agent_ids=[f"a{n}" for n in range(5)]))
    await too_large(registry.call("BatchGetAgents", agent_ids=["a0"] * 1000))
    assert len((await registry.call("BatchGetAgents", agent_ids=["a0", "a1", "a2", "none"])).agents) == 3


async def test_a_closure_that_is_too_large(registry: Registry) -> None:
    for n in range(4):
        await registry.create(AGENT, f"a{n}", spec=of_size(1_000_000))
    for count in (2, 4):
        handoffs = [{"agent_id": f"a{n}"} for n in range(count)]
        await registry.create(AGENT, f"of-{count}", spec={**of_size(500_000), "handoffs": handoffs})
    assert len((await registry.call("GetAgentClosure", agent_id="of-2")).resources) == 2
    await too_large(registry.call("GetAgentClosure", agent_id="of-4"))


async def test_conflicts_that_are_too_large(registry: Registry) -> None:
    """A merge that cannot be answered has stored nothing."""
    base = [registry.update(AGENT, spec=numbers(n)) for n in range(1, 3)]
    await registry.create(AGENT, spec=numbers(0))
    for change in base:
        await change
    await too_large(registry.merge(AGENT, 1, spec=numbers(7)))
    await too_large(registry.call("DiffAgent", agent_id="x", base_revision=1, target_revision=2))
    assert (await registry.get(AGENT)).revision == 3


def numbers(value: int) -> dict[str, Any]:
    """Small as JSON, but each number takes eleven bytes in a message."""
    return {"model": OFFLINE, "output_schema": {"type": "object", "enum": [value] * 200_000}}


async def test_a_long_history_of_large_revisions(registry: Registry) -> None:
    await registry.create(AGENT)
    for n in range(130):
        await registry.update(AGENT, display_name=str(n))
    found = await pages(registry, "ListAgentRevisions", "revisions", agent_id="x", page_size=60)
    assert [len(page) for page in found] == [60, 60, 11]
    numbers = [revision.revision for page in found for revision in page]
    assert numbers == list(range(131, 0, -1))
    assert {tuple(r.changed_fields) for page in found for r in page if r.revision > 1} == {("display_name",)}


async def test_revisions_that_change_very_many_fields(registry: Registry) -> None:
    """A page ends early; each revision is told of."""
    await registry.create(AGENT)
    for n in range(4):
        keys = {f"{n}-{key}-{'k' * 60}": {} for key in range(6000)}
        await registry.update(AGENT, spec={"model": OFFLINE, "output_schema": {"type": "object", "properties": keys}})
    found = await pages(registry, "ListAgentRevisions", "revisions", agent_id="x", page_size=1000)
    assert [revision.revision for page in found for revision in page] == [5, 4, 3, 2, 1]
    assert len(found) > 1


async def test_paths_do_not_grow_without_bound(registry: Registry) -> None:
    """What lies deeper than a path can be long is one value."""

    def deep(value: int) -> dict[str, Any]:
        inner: dict[str, Any] = {f"f{n}": value for n in range(5000)}
        for _ in range(10):
            inner = {"p" * 300: inner}
        return {"model": OFFLINE, "output_schema": {"type": "object", "x": inner}}

    await registry.create(AGENT, spec=deep(1))
    await registry.update(AGENT, spec=deep(2))
    reply = await registry.call("DiffAgent", agent_id="x", base_revision=1, target_revision=2)
    assert [len(found.path) < 1500 for found in reply.differences] == [True]


async def test_a_bundle_whose_differences_are_too_large(registry: Registry) -> None:
    """It is applied, and says of what it does not tell the differences."""
    bundle = [{"agent": resource(AGENT, f"a{n}", spec=numbers(0) if n else of_size(10))} for n in range(2)]
    await registry.apply(*bundle)
    changed = [{"agent": resource(AGENT, f"a{n}", spec=numbers(1) if n else of_size(9))} for n in range(2)]
    for dry_run in (True, False):
        reply = await registry.call("ApplyBundle", resources=changed, dry_run=dry_run)
        assert [(change.differences_omitted, len(change.differences)) for change in reply.changes] == [
            (False, 1),
            (True, 0),
        ]
    assert [agent.revision for agent in await registry.list(AGENT, page_size=1)] == [2]
