"""Changes that name no etag, at the same time; and lists of what changes between their pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from libs import pagination
from services.registry.config import RegistrySettings
from services.registry.model import Kind
from tests import harness
from tests.registry_client import Registry, invalid

AGENT = Kind.AGENT


@pytest.fixture
def settings(make_settings: Callable[..., Any], database_settings: dict[str, Any]) -> RegistrySettings:
    made: RegistrySettings = make_settings(RegistrySettings, **database_settings)
    return made


@pytest.fixture
async def registry(settings: RegistrySettings) -> AsyncIterator[Registry]:
    async with harness.registry(settings) as (_, channel):
        yield Registry(channel)


@pytest.fixture
async def two(settings: RegistrySettings) -> AsyncIterator[tuple[Registry, Registry]]:
    """Two processes on one database, as far as locks go."""
    async with harness.registry(settings) as (_, one), harness.registry(settings) as (_, other):
        yield Registry(one), Registry(other)


async def test_updates_without_an_etag_all_come_to_pass(two: tuple[Registry, Registry]) -> None:
    await two[0].create(AGENT)
    changes = [two[n % 2].update(AGENT, labels={"n": str(n)}) for n in range(20)]
    made = await asyncio.gather(*changes)
    assert sorted(each.revision for each in made) == list(range(2, 22))


async def test_changes_of_different_fields_are_all_kept(two: tuple[Registry, Registry]) -> None:
    await two[0].create(AGENT)
    fields = ({"display_name": "Name"}, {"description": "Text"}, {"labels": {"a": "b"}})
    await asyncio.gather(*(two[n % 2].update(AGENT, **each) for n, each in enumerate(fields)))
    found = await two[1].get(AGENT, revision=4)
    assert (found.display_name, found.description, found.labels) == ("Name", "Text", {"a": "b"})


async def test_merges_and_rollbacks_without_an_etag_all_come_to_pass(two: tuple[Registry, Registry]) -> None:
    await two[0].create(AGENT)
    merges = (two[n % 2].merge(AGENT, 1, labels={f"l{n}": "1"}) for n in range(8))
    assert [list(each.conflicts) for each in await asyncio.gather(*merges)] == [[]] * 8
    assert len((await two[0].get(AGENT, revision=9)).labels) == 8
    rolled = await asyncio.gather(*(two[n % 2].rollback(AGENT, 1) for n in range(8)))
    assert sorted(each.revision for each in rolled) == list(range(10, 18))


async def test_a_delete_without_an_etag_is_not_stopped_by_changes(two: tuple[Registry, Registry]) -> None:
    for n in range(5):
        await two[0].create(AGENT, f"n{n}")
        changes = [two[1].update(AGENT, f"n{n}", description=str(each)) for each in range(3)]
        deleted, *others = await asyncio.gather(two[0].delete(AGENT, f"n{n}"), *changes, return_exceptions=True)
        assert deleted is None
        assert {harness.reason_of(each) for each in others if isinstance(each, Exception)} <= {"RESOURCE_NOT_FOUND"}  # type: ignore[arg-type]


@pytest.mark.parametrize("column", ["update_time", "display_name"])
async def test_a_page_goes_on_from_where_its_last_one_was(registry: Registry, column: str) -> None:
    for name in "abcd":
        await registry.create(AGENT, name, display_name=name)
    first = await registry.call("ListAgents", page_size=2, order_by=column)
    await registry.update(AGENT, first.agents[-1].agent_id, display_name="z")
    rest = await registry.list(AGENT, page_size=10, page_token=first.next_page_token, order_by=column)
    assert [agent.agent_id for agent in [*first.agents, *rest]] == ["a", "b", "c", "d", "b"]


async def test_a_mark_of_no_order_is_refused(registry: Registry) -> None:
    await registry.create(AGENT)
    query = {"kind": "agent", "tenant": "default", "filter": "", "order_by": "display_name"}
    for mark in ("x", "x@", "x@one", f"x@{2**64}"):
        token = pagination.to_token(mark, query)
        assert await invalid(registry.list(AGENT, page_token=token, order_by="display_name")) == ["page_token"]
    assert await registry.list(AGENT, page_token=pagination.to_token("w@1", query), order_by="display_name") == []


async def test_a_nul_in_a_filter_is_refused_with_its_place(registry: Registry) -> None:
    for text in ('display_name = "a\0"', 'labels."\0" = "x"'):
        assert await invalid(registry.list(AGENT, filter=text)) == ["filter"]
