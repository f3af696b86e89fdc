"""Records of tool calls."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from libs.database import Database, aware
from services.execution.model.tool_calls import CallQuery, CallRecord, Decision, Outcome
from services.execution.store.tables import tool_calls


class SqlCallRecords:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def add(self, records: Sequence[tuple[str, CallRecord]]) -> None:
        await self._db.finished(self._add(records))

    async def _add(self, records: Sequence[tuple[str, CallRecord]]) -> None:
        async with self._db.write() as connection:
            # One may be there already: of a commit whose answer was lost.
            statement = (sqlite if self._db.is_sqlite else postgresql).insert(tool_calls).on_conflict_do_nothing()
            await connection.execute(statement, [record_row(tenant, one) for tenant, one in records])

    async def list(self, tenant: str, query: CallQuery, *, limit: int) -> Sequence[CallRecord]:
        columns = tool_calls.c
        conditions = [columns.tenant == tenant]
        for name in ("execution_id", "subject"):
            if value := getattr(query, name):
                conditions.append(columns[name] == value)
        if query.tool_id.endswith("*"):
            conditions.append(columns.tool_id.startswith(query.tool_id[:-1], autoescape=True))
        elif query.tool_id:
            conditions.append(columns.tool_id == query.tool_id)
        if query.from_time:
            conditions.append(columns.time >= query.from_time)
        if query.before_time:
            conditions.append(columns.time < query.before_time)
        if query.before:
            conditions.append(columns.record_id < query.before)
        statement = sa.select(tool_calls).where(*conditions).order_by(columns.record_id.desc()).limit(limit)
        return [_record(row) for row in await self._db.rows(statement)]


def record_row(tenant: str, record: CallRecord) -> dict[str, Any]:
    decision = record.decision
    return {
        "tenant": tenant,
        "record_id": record.record_id,
        "execution_id": record.execution_id,
        "step": record.step,
        "call_id": record.call_id,
        "subject": record.subject,
        "tool_id": record.tool_id,
        "tool_version": record.tool_version,
        "arguments_digest": record.arguments_digest,
        "outcome": record.outcome.value,
        "cached": record.cached,
        "duration": record.duration,
        "time": record.time,
        "decision": {**_dict(decision)} if decision else None,
    }


def _dict(decision: Decision) -> dict[str, Any]:
    return {"approved": decision.approved, "subject": decision.subject, "time": decision.time.isoformat()}


def _record(row: Any) -> CallRecord:
    decision = None
    if row.decision:
        decision = Decision(**{**row.decision, "time": datetime.fromisoformat(row.decision["time"])})
    return CallRecord(
        record_id=row.record_id,
        subject=row.subject,
        tool_id=row.tool_id,
        tool_version=row.tool_version,
        arguments_digest=row.arguments_digest,
        outcome=Outcome(row.outcome),
        cached=row.cached,
        duration=row.duration,
        time=aware(row.time),
        execution_id=row.execution_id,
        step=row.step,
        call_id=row.call_id,
        decision=decision,
    )
