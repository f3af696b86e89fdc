"""The plain way of appending: what runs say, in one hop or one round trip for all of them.

What a run leaves to its session, or where it begins to wait, changes more and goes the longer way.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from libs.database import Database
from libs.drivers import Prepared
from services.execution.service.record import Append
from services.execution.store.calls import NEWS, WATCHED
from services.execution.store.rows import event_row, progress, step_row
from services.execution.store.tables import events, executions, journal, tool_calls
from services.execution.store.tool_calls import record_row


def is_plain(append: Append) -> bool:
    pauses = append.events and append.events[-1].event.pauses
    return append.kept is None and append.parking is None and not pauses


def keep_steps(insert: Any) -> Any:
    """A step comes when it begins and when it is done; both may come in one group."""
    made = insert(journal)
    return made.on_conflict_do_update(index_elements=list(_KEY), set_={name: made.excluded[name] for name in _CHANGED})


_KEY: Final = ("tenant", "execution_id", "scope", "step")
_CHANGED: Final = ("digest", "result", "is_error", "end_time", "end_sequence")
_EVENTS: Final = Prepared(events.insert(), sqlite.dialect())
_STEPS: Final = Prepared(keep_steps(sqlite.insert), sqlite.dialect())
_RECORDS: Final = Prepared(tool_calls.insert(), sqlite.dialect())
_MOVE: Final = """
UPDATE executions SET usage = ?, last_sequence = COALESCE(?, last_sequence), deaths = CASE WHEN ? THEN 0 ELSE deaths END
WHERE tenant = ? AND execution_id = ? AND status IN ('queued', 'running') AND attempts = ?
AND (? IS NULL OR last_sequence = ?)
"""
_LAST: Final = "SELECT last_sequence, attempts FROM executions WHERE tenant = ? AND execution_id = ?"


async def append(database: Database, appends: Sequence[Append]) -> set[str]:
    """Commits all in one transaction; gives the ids of executions that another attempt has taken, left out."""
    if database.is_sqlite:
        return await database.transact(_Sqlite(appends))
    return await _on_postgres(database, appends)


class _Sqlite:
    """The transaction, with its rows made ready before it begins."""

    def __init__(self, appends: Sequence[Append]) -> None:
        self._appends = [(one, _moves(one), _ending(one), *_rows(one)) for one in appends]

    def __call__(self, cursor: sqlite3.Cursor) -> set[str]:
        lost = set()
        for one, moves, ending, said, kept, noted in self._appends:
            of = (one.tenant, one.execution_id)
            before, last, usage, got_on = moves
            cursor.execute(_MOVE, (usage, last, got_on, *of, one.attempt, before, before))
            if cursor.rowcount == 0:
                if cursor.execute(_LAST, of).fetchone() != (last, one.attempt):
                    lost.add(one.execution_id)
                continue
            if ending:
                ended = _ended(tuple(ending))
                cursor.execute(ended.sql, ended.row({**ending, "of_tenant": one.tenant, "of_id": one.execution_id}))
            if said:
                cursor.executemany(_EVENTS.sql, map(_EVENTS.row, said))
            if kept:
                cursor.executemany(_STEPS.sql, map(_STEPS.row, kept))
            if noted:
                cursor.executemany(_RECORDS.sql, map(_RECORDS.row, noted))
        return lost


def _moves(append: Append) -> tuple[int | None, int | None, str, bool]:
    """The number that the execution has, the one that it gets, its usage, and whether it has got on."""
    usage, got_on = orjson.dumps(append.usage).decode(), any(step.end_time for step in append.steps)
    if not append.events:
        return None, None, usage, got_on
    return append.events[0].sequence - 1, append.events[-1].sequence, usage, got_on


def _ending(append: Append) -> dict[str, Any]:
    """What the last event changes besides."""
    last = append.events[-1] if append.events else None
    if last is None or not last.event.terminal:
        return {}
    ending = progress(last)
    del ending["last_sequence"]
    return ending


@cache
def _ended(columns: tuple[str, ...]) -> Prepared:
    of = (executions.c.tenant == sa.bindparam("of_tenant"), executions.c.execution_id == sa.bindparam("of_id"))
    values = {name: sa.bindparam(name, type_=executions.c[name].type) for name in columns}
    return Prepared(executions.update().where(*of).values(values), sqlite.dialect())


def _rows(append: Append) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Of events, steps and the records of calls."""
    of = (append.tenant, append.execution_id)
    steps = {(step.scope, step.number): step for step in append.steps}.values()
    records = [record_row(append.tenant, step.record) for step in steps if step.record]
    return [event_row(*of, event) for event in append.events], [step_row(*of, step) for step in steps], records


_WANTED_TYPES: Final = {
    **{"tenant": "text", "execution_id": "text", "attempt": "int", "before": "bigint", "last": "bigint"},
    **{"usage": "jsonb", "got_on": "bool"},
}
_ENDING_TYPES: Final = {
    **{"status": "text", "end_time": "timestamptz", "output": "text", "structured_output": "jsonb"},
    **{"followups": "jsonb", "error": "jsonb", "cancel_reason": "text"},
}
_EVENT_TYPES: Final = {
    **{"tenant": "text", "execution_id": "text", "sequence": "bigint", "time": "timestamptz", "path": "jsonb"},
    **{"scope": "text", "kind": "text", "payload": "jsonb"},
}
_STEP_TYPES: Final = {
    **{"tenant": "text", "execution_id": "text", "scope": "text", "step": "int", "kind": "text", "name": "text"},
    **{"call_id": "text", "digest": "text", "result": "jsonb", "is_error": "bool", "start_time": "timestamptz"},
    **{"end_time": "timestamptz", "end_sequence": "bigint"},
}

_RECORD_TYPES: Final = {
    **{"tenant": "text", "record_id": "text", "execution_id": "text", "step": "int", "call_id": "text"},
    **{"subject": "text", "tool_id": "text", "tool_version": "text", "arguments_digest": "text", "outcome": "text"},
    **{"cached": "bool", "duration": "float8", "time": "timestamptz", "decision": "jsonb"},
}


_NOT_ENDED: Final = dict.fromkeys(_ENDING_TYPES)
_ENDING: Final = """,
    status = COALESCE(wanted.status, executions.status), end_time = wanted.end_time,
    session_held = CASE WHEN wanted.end_time IS NULL THEN executions.session_held END,
    waiting = CASE WHEN wanted.end_time IS NULL THEN executions.waiting END,
    output = COALESCE(wanted.output, executions.output), structured_output = wanted.structured_output,
    followups = wanted.followups, error = wanted.error,
    cancel_reason = COALESCE(wanted.cancel_reason, executions.cancel_reason)"""


def _arguments(types: dict[str, str], first: int) -> str:
    return ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(types.values(), first))


def _given(types: dict[str, str], first: int) -> str:
    return f"unnest({_arguments(types, first)}) AS given ({', '.join(types)})"


@cache
def _statement(ends: bool) -> str:
    """With what the ends of runs change, or without."""
    wanted = _WANTED_TYPES | (_ENDING_TYPES if ends else {})
    said = 1 + len(wanted)
    kept = said + len(_EVENT_TYPES)
    return f"""
WITH wanted AS (
  SELECT * FROM unnest({_arguments(wanted, 1)}) AS wanted ({", ".join(wanted)})
), moved AS (
  UPDATE executions SET usage = wanted.usage, last_sequence = COALESCE(wanted.last, executions.last_sequence),
    deaths = CASE WHEN wanted.got_on THEN 0 ELSE executions.deaths END{_ENDING if ends else ""}
  FROM wanted
  WHERE executions.tenant = wanted.tenant AND executions.execution_id = wanted.execution_id
    AND executions.status IN ('queued', 'running') AND executions.attempts = wanted.attempt
    AND (wanted.before IS NULL OR executions.last_sequence = wanted.before)
  RETURNING executions.tenant, executions.execution_id, wanted.last IS NOT NULL
    AND executions.watch_time > clock_timestamp() - interval '{WATCHED.total_seconds():.0f} seconds' AS watched
), said AS (
  INSERT INTO events ({", ".join(_EVENT_TYPES)})
  SELECT given.* FROM {_given(_EVENT_TYPES, said)} JOIN moved USING (tenant, execution_id)
), kept AS (
  INSERT INTO journal ({", ".join(_STEP_TYPES)})
  SELECT given.* FROM {_given(_STEP_TYPES, kept)} JOIN moved USING (tenant, execution_id)
  ON CONFLICT ({", ".join(_KEY)}) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _CHANGED)}
), noted AS (
  INSERT INTO tool_calls ({", ".join(_RECORD_TYPES)})
  SELECT given.* FROM {_given(_RECORD_TYPES, kept + len(_STEP_TYPES))} JOIN moved USING (tenant, execution_id)
)
SELECT tenant, execution_id, CASE WHEN watched THEN pg_notify('{NEWS}', execution_id) END FROM moved
"""  # noqa: S608


async def _on_postgres(database: Database, appends: Sequence[Append]) -> set[str]:
    said: list[dict[str, Any]] = []
    kept: list[dict[str, Any]] = []
    noted: list[dict[str, Any]] = []
    for one in appends:
        for rows, more in zip((said, kept, noted), _rows(one), strict=True):
            rows += more
    moves, endings = [_moves(one) for one in appends], [_ending(one) for one in appends]
    ends = any(endings)
    moved = await database.fetch(
        _statement(ends),
        [one.tenant for one in appends],
        [one.execution_id for one in appends],
        [one.attempt for one in appends],
        *([move[column] for move in moves] for column in range(4)),
        *(_arrays(_ENDING_TYPES, [_NOT_ENDED | ending for ending in endings]) if ends else ()),
        *_arrays(_EVENT_TYPES, said),
        *_arrays(_STEP_TYPES, kept),
        *_arrays(_RECORD_TYPES, noted),
    )
    there = {(row["tenant"], row["execution_id"]) for row in moved}
    return {one.execution_id for one in appends if (one.tenant, one.execution_id) not in there}


def _arrays(types: dict[str, str], rows: Sequence[dict[str, Any]]) -> list[list[Any]]:
    return [[_written(row[name], kind) for row in rows] for name, kind in types.items()]


def _written(value: Any, kind: str) -> Any:
    return orjson.dumps(value).decode() if kind == "jsonb" and value is not None else value
