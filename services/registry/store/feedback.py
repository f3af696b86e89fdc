"""How the uses of prompts went, in SQL. Averages are moved in place, under the lock of their row."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import Database
from services.registry.service.prompts import Feedback, Metrics
from services.registry.store.tables import prompt_failures, prompt_metrics

WEIGHT: Final = 0.1
"""Of the newest use in an average."""
MOST_PATTERNS: Final = 1000
"""Failing patterns kept of a revision: a caller that makes each one different fills no disk."""
_NAMED_PATTERNS: Final = 20
_AVERAGES: Final = ("success_rate", "latency", "tokens", "cost_usd")


class SqlFeedbackStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def record(self, tenant: str, prompt_id: str, revision: int, feedback: Feedback) -> Metrics:
        return await self._db.finished(self._record(tenant, prompt_id, revision, feedback))

    async def _record(self, tenant: str, prompt_id: str, revision: int, feedback: Feedback) -> Metrics:
        key = {"tenant": tenant, "prompt_id": prompt_id, "revision": revision}
        async with self._db.write() as connection:
            await self._move(connection, key, feedback)
            if feedback.failure_pattern:
                await _count(connection, key, feedback.failure_pattern)
            averages = (await connection.execute(_averages(key))).all()
            return _metrics(averages, (await connection.execute(_patterns(key))).all())

    async def _move(self, connection: AsyncConnection, key: dict[str, Any], feedback: Feedback) -> None:
        insert: Any = (sqlite if self._db.is_sqlite else postgresql).insert(prompt_metrics)
        newest = {
            "success_rate": float(feedback.success),
            "latency": feedback.latency,
            "tokens": float(feedback.tokens),
            "cost_usd": feedback.cost_usd,
        }
        moved = {name: (1 - WEIGHT) * prompt_metrics.c[name] + WEIGHT * newest[name] for name in _AVERAGES}
        await connection.execute(
            insert.values(**key, uses=1, **newest).on_conflict_do_update(
                index_elements=list(prompt_metrics.primary_key),
                set_={"uses": prompt_metrics.c.uses + 1, **moved},
            )
        )

    async def metrics(self, tenant: str, prompt_id: str, revision: int) -> Metrics:
        key = {"tenant": tenant, "prompt_id": prompt_id, "revision": revision}
        averages = await self._db.rows(_averages(key))
        return _metrics(averages, await self._db.rows(_patterns(key)))


async def _count(connection: AsyncConnection, key: dict[str, Any], pattern: str) -> None:
    """After `_move`, which holds off others of the same revision."""
    known = await connection.execute(
        prompt_failures.update()
        .where(*_of(prompt_failures, key), prompt_failures.c.pattern == pattern)
        .values(count=prompt_failures.c.count + 1)
    )
    if known.rowcount:
        return
    kept = await connection.execute(sa.select(sa.func.count()).where(*_of(prompt_failures, key)))
    if kept.scalar_one() < MOST_PATTERNS:
        await connection.execute(prompt_failures.insert().values(**key, pattern=pattern, count=1))


def _of(table: sa.Table, key: dict[str, Any]) -> list[sa.ColumnElement[bool]]:
    return [table.c[name] == value for name, value in key.items()]


def _averages(key: dict[str, Any]) -> sa.Select[Any]:
    return sa.select(prompt_metrics).where(*_of(prompt_metrics, key))


def _patterns(key: dict[str, Any]) -> sa.Select[Any]:
    failures = prompt_failures.c
    query = sa.select(failures.pattern, failures["count"]).where(*_of(prompt_failures, key))
    return query.order_by(failures["count"].desc(), failures.pattern).limit(_NAMED_PATTERNS)


def _metrics(averages: Any, patterns: Any) -> Metrics:
    if not averages:
        return Metrics()
    row = averages[0]
    failing = [(pattern, count) for pattern, count in patterns]
    return Metrics(row.uses, row.success_rate, row.latency, row.tokens, row.cost_usd, failing)
