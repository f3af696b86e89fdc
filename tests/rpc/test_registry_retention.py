"""Watches and requests that come back after their history was forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.rpc import error_details_pb2

from libs import database
from services.registry.app import MIGRATIONS
from services.registry.config import RegistrySettings
from services.registry.model import Kind
from services.registry.store import SqlResourceStore
from services.registry.store.tables import requests
from tests import harness
from tests.registry_client import Code, Registry, refused

AGENT = Kind.AGENT


@pytest.fixture
def settings(make_settings: Callable[..., Any], database_settings: dict[str, Any]) -> RegistrySettings:
    made: RegistrySettings = make_settings(
        RegistrySettings, **database_settings, watch_poll=0.05, upkeep_interval=0.05, history_minimum=2
    )
    return made


async def expired(registry: Registry, token: str) -> str:
    """The oldest token that would do in the place of one that is too old."""
    error = await refused(registry.watch(resume_token=token).read(), Code.OUT_OF_RANGE, "RESUME_TOKEN_EXPIRED")
    return harness.detail(harness.status_of(error), error_details_pb2.ErrorInfo).metadata["oldest_resume_token"]


async def until_forgotten(settings: RegistrySettings, span: tuple[int, int]) -> None:
    async with asyncio.timeout(30), database.opened(settings, MIGRATIONS) as db:
        while await SqlResourceStore(db).span("default") != span:
            await asyncio.sleep(0.02)


async def test_a_token_older_than_what_is_kept(settings: RegistrySettings) -> None:
    async with harness.registry(settings.model_copy(update={"history_retention": 0.001})) as (_, channel):
        registry = Registry(channel)
        early = registry.watch()
        token = (await early.read()).resume_token
        for number in range(5):
            await registry.create(AGENT, f"agent-{number}")
        await until_forgotten(settings, (3, 5))
        oldest = await expired(registry, token)
        assert [await told(early) for _ in range(5)] == [f"agent-{number}" for number in range(5)]
        resumed = registry.watch(resume_token=oldest)
        assert [await told(resumed), await told(resumed)] == ["agent-3", "agent-4"]
        anew = registry.watch(snapshot=True)
        assert [await told(anew) for _ in range(5)] == [f"agent-{number}" for number in range(5)]
        assert await registry.verified()
        assert len((await registry.revisions(AGENT, "agent-0")).revisions) == 1


async def told(call: Any) -> str:
    while not (message := await call.read()).HasField("change"):
        pass
    return str(message.change.resource_id)


async def test_a_token_of_what_is_kept(settings: RegistrySettings) -> None:
    async with harness.registry(settings) as (_, channel):
        registry = Registry(channel)
        call = registry.watch()
        token = (await call.read()).resume_token
        for number in range(5):
            await registry.create(AGENT, f"agent-{number}")
        resumed = registry.watch(resume_token=token)
        assert [await told(resumed) for _ in range(5)] == [f"agent-{number}" for number in range(5)]


async def test_a_request_id_is_known_for_a_day(settings: RegistrySettings) -> None:
    async with harness.registry(settings) as (_, channel), database.opened(settings, MIGRATIONS) as db:
        registry = Registry(channel)
        made = await registry.create(AGENT, "one", request_id="yesterday")
        await registry.create(AGENT, "two", request_id="today")
        assert await registry.create(AGENT, "one", request_id="yesterday") == made
        async with db.write() as connection:
            old = requests.update().where(requests.c.request_id == "yesterday")
            await connection.execute(old.values(create_time=datetime.now(UTC) - timedelta(hours=25)))
        async with asyncio.timeout(30):
            while len(await db.rows(requests.select())) > 1:
                await asyncio.sleep(0.02)
        await refused(registry.create(AGENT, "one", request_id="yesterday"), Code.ALREADY_EXISTS, "RESOURCE_EXISTS")
        assert (await registry.create(AGENT, "two", request_id="today")).revision == 1
