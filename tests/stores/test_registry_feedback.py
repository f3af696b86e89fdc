"""The contract of the store of prompts' feedback, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from libs import database
from libs.database import Database
from services.registry.app import MIGRATIONS
from services.registry.config import RegistrySettings
from services.registry.service.prompts import Feedback, Metrics
from services.registry.store import feedback as module
from services.registry.store.feedback import WEIGHT, SqlFeedbackStore
from services.registry.store.tables import metadata, prompt_failures

TABLES = ("prompt_metrics", "prompt_failures")


@pytest.fixture
async def opened(database_settings: dict[str, Any]) -> AsyncIterator[Database]:
    settings = RegistrySettings.load(**database_settings)
    await database.migrate(settings, MIGRATIONS)
    async with database.opened(settings, MIGRATIONS) as db:
        yield db


@pytest.fixture
def feedback(opened: Database) -> SqlFeedbackStore:
    return SqlFeedbackStore(opened)


async def test_nothing_is_known_of_what_was_never_used(feedback: SqlFeedbackStore) -> None:
    assert await feedback.metrics("acme", "greeting", 1) == Metrics()


async def test_the_first_use_counts_whole_and_the_next_ones_a_tenth(feedback: SqlFeedbackStore) -> None:
    first = await feedback.record("acme", "greeting", 1, Feedback(True, 2.0, 100, 0.5))
    assert first == Metrics(1, 1.0, 2.0, 100.0, 0.5, [])
    second = await feedback.record("acme", "greeting", 1, Feedback(False, 1.0, 200, 0.0))
    assert second.uses == 2
    averages = (second.success_rate, second.latency, second.tokens, second.cost_usd)
    assert averages == pytest.approx((0.9, 1.9, 110.0, 0.45))
    assert await feedback.metrics("acme", "greeting", 1) == second


async def test_revisions_prompts_and_tenants_are_apart(feedback: SqlFeedbackStore) -> None:
    await feedback.record("acme", "greeting", 1, Feedback(False, failure_pattern="late"))
    for key in (("acme", "greeting", 2), ("acme", "farewell", 1), ("other", "greeting", 1)):
        assert await feedback.metrics(*key) == Metrics()
        await feedback.record(*key, Feedback(True))
    assert (await feedback.metrics("acme", "greeting", 1)).failing_patterns == [("late", 1)]
    assert (await feedback.metrics("acme", "greeting", 1)).uses == 1


async def test_failing_patterns_most_frequent_first(feedback: SqlFeedbackStore) -> None:
    for number in range(25):
        for _ in range(2 if number in (7, 21) else 1):
            await feedback.record("acme", "greeting", 1, Feedback(False, failure_pattern=f"pattern {number:02}"))
    patterns = (await feedback.metrics("acme", "greeting", 1)).failing_patterns
    assert len(patterns) == 20
    assert patterns[:3] == [("pattern 07", 2), ("pattern 21", 2), ("pattern 00", 1)]


async def test_uses_at_once_all_count(feedback: SqlFeedbackStore) -> None:
    pattern = ("late", "wrong language")
    await asyncio.gather(
        *(
            feedback.record("acme", "greeting", 1, Feedback(False, 1.0, 10, 0.25, pattern[number % 2]))
            for number in range(50)
        )
    )
    found = await feedback.metrics("acme", "greeting", 1)
    assert (found.uses, found.success_rate) == (50, 0.0)
    assert (found.latency, found.tokens, found.cost_usd) == pytest.approx((1.0, 10.0, 0.25))
    assert found.failing_patterns == [("late", 25), ("wrong language", 25)]


async def test_an_average_is_the_same_in_whatever_order_equal_uses_come(feedback: SqlFeedbackStore) -> None:
    await feedback.record("acme", "greeting", 1, Feedback(True))
    await asyncio.gather(*(feedback.record("acme", "greeting", 1, Feedback(False)) for _ in range(20)))
    found = await feedback.metrics("acme", "greeting", 1)
    assert found.success_rate == pytest.approx((1 - WEIGHT) ** 20)


async def test_ever_new_patterns_fill_no_disk(
    feedback: SqlFeedbackStore, opened: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PATTERNS", 3)
    for number in range(6):
        await feedback.record("acme", "greeting", 1, Feedback(False, failure_pattern=f"pattern {number}"))
    found = await feedback.record("acme", "greeting", 1, Feedback(False, failure_pattern="pattern 2"))
    assert found.failing_patterns[0] == ("pattern 2", 2)
    assert (await opened.rows(sa.select(sa.func.count()).select_from(prompt_failures)))[0][0] == 3
    assert found.uses == 7


async def test_the_tables_are_those_of_the_migrations(opened: Database) -> None:
    def columns(connection: sa.Connection) -> dict[str, list[tuple[str, bool]]]:
        found = sa.inspect(connection)
        return {table: [(c["name"], c["nullable"]) for c in found.get_columns(table)] for table in TABLES}

    async with opened.read() as connection:
        migrated = await connection.run_sync(columns)
    for table, found in migrated.items():
        assert found == [(column.name, column.nullable) for column in metadata.tables[table].columns]
