"""Executions by what is known of them."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from libs.database import Database
from services.execution.model.executions import Execution
from services.execution.model.targets import TargetKind
from services.execution.service.listing import ExecutionQuery
from services.execution.store.rows import to_execution
from services.execution.store.session_tables import names_somebody
from services.execution.store.tables import executions


class SqlListing:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def list(self, tenant: str, query: ExecutionQuery, *, limit: int) -> Sequence[Execution]:
        columns = executions.c
        conditions: list[sa.ColumnElement[bool]] = [columns.tenant == tenant]
        for name in ("session_id", "user_id"):
            if value := getattr(query, name):
                conditions.append(columns[name] == value)
        if query.user_id:
            conditions.append(names_somebody(executions))
        for kind in TargetKind:
            if value := getattr(query, f"{kind.value}_id"):
                conditions += [columns.target_kind == kind.value, columns.target_id == value]
        if query.statuses:
            conditions.append(columns.status.in_(query.statuses))
        if query.created_from:
            conditions.append(columns.create_time >= query.created_from)
        if query.created_before:
            conditions.append(columns.create_time < query.created_before)
        if query.before:
            conditions.append(columns.execution_id < query.before)
        statement = sa.select(executions).where(*conditions).order_by(columns.execution_id.desc()).limit(limit)
        return [to_execution(row) for row in await self._db.rows(statement)]
