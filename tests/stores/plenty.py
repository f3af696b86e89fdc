"""Much that is kept already, for what is asked beside it: written as rows, for runs of their own would take long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from libs.database import Database
from services.execution.store import metadata as execution_tables
from services.registry import model
from services.registry.model import Draft, Kind
from services.registry.store import metadata as registry_tables
from services.registry.store.rows import to_columns

NOW: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OF_ANN: Final = 5
"""The first so many runs, sessions and calls are the user's; the others are somebody else's."""


async def _fill(db: Database, tenant: str, rows: Mapping[sa.Table, Sequence[Mapping[str, Any]]]) -> None:
    async with db.write() as connection:
        for table, given in rows.items():
            await connection.execute(table.insert(), [{"tenant": tenant, **row} for row in given])
    if not db.is_sqlite:
        async with db.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            await connection.exec_driver_sql("ANALYZE")


def _kept(talk: str, number: int) -> dict[str, dict[str, Any]]:
    """Of a run of the session `talk`, and of another session: by the names of the tables."""
    user, run = "ann" if number < OF_ANN else "bob", f"{talk}-{number:05}"
    other = f"{talk}-s-{number:05}"
    message = {"role": "user", "content": "hi", "tool_calls": [], "tool_call_id": "", "name": ""}
    time = NOW + timedelta(seconds=number)
    texts = {"input": "hi", "output": "", "user_id": user, "session_id": talk, "request_digest": ""}
    of_session = {"user_id": user, "summary": "", "state_version": 0, "revision": 0, "message_count": 0}
    call = {"call_id": "c", "subject": "s", "tool_id": "t", "tool_version": "", "arguments_digest": ""}
    return {
        "executions": {
            **{"execution_id": run, "target_id": "helper", "revision": 1, "status": "completed", "usage": {}},
            **{**texts, "metadata": {}, "last_sequence": 3, "owner": "", "lease_time": NOW, "create_time": time},
            "end_time": time,
        },
        "sessions": {
            **{"session_id": other, **of_session, "state": {}, "metadata": {}},
            **{"create_time": time, "update_time": time},
        },
        "session_agents": {"session_id": other, "agent_id": "helper"},
        "session_messages": {
            **{"session_id": talk, "position": number + 1, "execution_id": run},
            **{"message": message, "create_time": time},
        },
        "session_changes": {
            **{"session_id": talk if number % 2 else other, "version": number + 1, "set": {}, "removed": []},
            **{"snapshot": {}, "subject": "", "agent_id": "", "execution_id": run, "call_id": "c", "create_time": time},
        },
        "tool_calls": {
            **{"record_id": run, "execution_id": run if number > OF_ANN else "mine", "step": 1, **call},
            **{"outcome": "completed", "cached": False, "duration": 0.1, "time": time},
        },
        "events": {
            **{
                "execution_id": f"{talk}-long",
                "sequence": number + 1,
                "time": time,
                "path": [],
                "kind": "content_delta",
            },
            "payload": {"text": "x"},
        },
    }


async def keep(db: Database, numbers: Iterable[int], *, tenant: str = "acme", talk: str = "talk") -> None:
    made = [_kept(talk, number) for number in numbers]
    tables = {name: table for name, table in execution_tables.tables.items() if name in made[0]}
    await _fill(db, tenant, {table: [one[name] for one in made] for name, table in tables.items()})


async def talked(db: Database, turns: int, *, tenant: str, talk: str) -> None:
    """A session in which so much was said."""
    await keep(db, range(turns), tenant=tenant, talk=talk)
    session = {**_kept(talk, 0)["sessions"], "session_id": talk, "message_count": turns, "state_version": turns}
    await _fill(db, tenant, {execution_tables.tables["sessions"]: [session]})


async def describe(db: Database, wanted: Iterable[tuple[int, int]], *, tenant: str = "acme") -> None:
    """Agents by their numbers, in revisions; each takes the next position."""
    revisions, resources, tenants = (registry_tables.tables[name] for name in ("revisions", "resources", "tenants"))
    rows = []
    async with db.read() as connection:
        position = (await connection.scalar(sa.select(sa.func.max(revisions.c.position)))) or 0
    for place, (number, revision) in enumerate(wanted, position + 1):
        draft = Draft(f"agent-{number:05}", display_name="An agent", spec={"model": {"model": "any"}})
        key = {"kind": Kind.AGENT.value, "resource_id": draft.resource_id}
        columns = to_columns(model.first(Kind.AGENT, draft, "ann"))
        rows.append({**key, **columns, "position": place, "revision": revision})
    newest = {one["resource_id"]: one for one in rows}
    async with db.write() as connection:
        await connection.execute(resources.delete().where(resources.c.resource_id.in_([*newest])))
        await connection.execute(tenants.delete())
    names = ("kind", "resource_id", "revision", "deleted")
    current = [{name: one[name] for name in names} for one in newest.values()]
    reached = [{"position": position + len(rows), "audit_hash": ""}]
    await _fill(db, tenant, {tenants: reached, resources: current, revisions: rows})
