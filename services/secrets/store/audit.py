"""The audit trail in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, Final

from libs.database import Database
from libs.ids import new_id
from services.secrets.service.audit import Record
from services.secrets.store.tables import audit

_COLUMNS: Final = tuple(field.name for field in fields(Record))


class SqlAuditStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def append(self, records: Sequence[Record]) -> None:
        await self._db.finished(self._append([_row(record) for record in records]))

    async def _append(self, rows: list[dict[str, Any]]) -> None:
        async with self._db.write() as connection:
            await connection.execute(audit.insert(), rows)

    async def forget(self, before: datetime) -> None:
        await self._db.finished(self._forget(before))

    async def _forget(self, before: datetime) -> None:
        async with self._db.write() as connection:
            await connection.execute(audit.delete().where(audit.c.time < before))


def _row(record: Record) -> dict[str, Any]:
    return {"record_id": new_id(), **{name: getattr(record, name) for name in _COLUMNS}}  # asdict is ten times slower
