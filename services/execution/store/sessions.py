"""Sessions in SQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import Database, aware, whole
from services.execution.model.executions import Execution
from services.execution.model.sessions import (
    Author,
    Kept,
    MadeChange,
    Memory,
    Pin,
    Session,
    SessionMessage,
    State,
    Talk,
)
from services.execution.model.targets import TargetKind
from services.execution.service.sessions import ChangeQuery, Deletion, SessionQuery
from services.execution.store import memories, states
from services.execution.store.session_tables import (
    names_somebody,
    pins,
    session_agents,
    session_changes,
    session_messages,
    sessions,
)
from services.execution.store.tables import executions, metadata

_ENDED: Final = ("completed", "failed", "cancelled")
_STRETCH: Final = 64
"""Messages that are looked at together."""


class SqlSessionStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def get(self, tenant: str, session_id: str) -> Session | None:
        async with self._db.read() as connection:
            row = (await connection.execute(_one(tenant, session_id))).first()
            return (await _with_agents(connection, tenant, [row]))[0] if row else None

    async def list(self, tenant: str, query: SessionQuery, *, limit: int) -> Sequence[Session]:
        """Without state."""
        columns = [column for column in sessions.c if column is not sessions.c.state]
        statement = sa.select(*columns).where(sessions.c.tenant == tenant)
        if query.user_id:
            statement = statement.where(sessions.c.user_id == query.user_id, names_somebody(sessions))
        if query.agent_id:
            # Looked up for each session until the page is full, not gathered for all of them.
            of_agent = sa.exists().where(
                session_agents.c.tenant == tenant,
                session_agents.c.session_id == sessions.c.session_id,
                session_agents.c.agent_id == query.agent_id,
            )
            statement = statement.where(of_agent)
        if query.before:
            time, session_id = query.before
            earlier = sa.and_(sessions.c.update_time == time, sessions.c.session_id < session_id)
            # The first says of the second where in the index to begin.
            statement = statement.where(sessions.c.update_time <= time, sa.or_(sessions.c.update_time < time, earlier))
        order = (sessions.c.update_time.desc(), sessions.c.session_id.desc())
        async with self._db.read() as connection:
            rows = (await connection.execute(statement.order_by(*order).limit(limit))).all()
            return await _with_agents(connection, tenant, rows)

    async def changes(self, tenant: str, query: ChangeQuery, *, limit: int) -> Sequence[MadeChange]:
        async with self._db.read() as connection:
            return await states.changes(connection, tenant, query, limit)

    async def messages(
        self, tenant: str, session_id: str, *, after: int, up_to: int, limit: int
    ) -> Sequence[SessionMessage]:
        query = _messages(tenant, session_id).where(
            session_messages.c.position > after, session_messages.c.position <= up_to
        )
        rows = await self._db.rows(query.order_by(session_messages.c.position.desc()).limit(limit))
        return [SessionMessage(row.message, row.execution_id, aware(row.create_time), row.position) for row in rows]

    async def start_of_runs(self, tenant: str, session_id: str, up_to: int, runs: int) -> int:
        """Read backwards, a stretch at a time: a session may have thousands of runs before those that are wanted."""
        position, of = session_messages.c.position, session_messages.c.execution_id
        newest: set[str] = set()
        while True:
            query = _messages(tenant, session_id, position, of).where(position <= up_to)
            rows = await self._db.rows(query.order_by(position.desc()).limit(_STRETCH))
            for row in rows:
                newest.add(row.execution_id)
                if len(newest) > runs:
                    return up_to
                up_to = row.position - 1
            if len(rows) < _STRETCH:
                return up_to if newest else 0

    async def state_at(self, tenant: str, session_id: str, time: datetime) -> tuple[State, int]:
        async with self._db.read() as connection:
            version = await states.version_at(connection, tenant, session_id, time)
            return await states.state_of(connection, tenant, session_id, version), version

    @whole
    async def change(
        self, tenant: str, session_id: str, by: Author, edit: Callable[[Session], Session]
    ) -> Session | None:
        async with self._db.write() as connection:
            session = await _locked(connection, tenant, session_id)
            if session is None:
                return None
            if by.call_id and (version := await states.made_by(connection, tenant, session_id, by)):
                state = await states.state_of(connection, tenant, session_id, version)
                return replace(session, state=state, state_version=version)
            return await _put(connection, session, edit(session), by)

    @whole
    async def pin(
        self, talk: Talk, edit: Callable[[State, int], State], *, remembers: bool, read_only: bool = False
    ) -> Pin:
        tenant, execution_id = talk.tenant, talk.execution_id
        async with self._db.write() as connection:
            query = sa.select(pins.c.pin).where(pins.c.tenant == tenant, pins.c.execution_id == execution_id)
            if (found := await connection.scalar(query)) is not None:
                return await _pinned(connection, talk, found)
            if read_only:
                return Pin()
            pin = await _pin_session(connection, talk, edit)
            if remembers:
                pin = replace(pin, memories=await memories.of(connection, tenant, talk.user_id))
            kept = asdict(replace(pin, state={}) if talk.session_id else pin)
            await connection.execute(pins.insert().values(tenant=tenant, execution_id=execution_id, pin=kept))
            return pin

    @whole
    async def delete(self, tenant: str, session_id: str) -> Deletion | None:
        async with self._db.write() as connection:
            if await _locked(connection, tenant, session_id) is None:
                return None
            of_session = (executions.c.tenant == tenant, executions.c.session_id == session_id)
            rows = (
                await connection.execute(sa.select(executions.c.execution_id, executions.c.status).where(*of_session))
            ).all()
            if live := [row.execution_id for row in rows if row.status not in _ENDED]:
                return Deletion(0, live)
            produced = sa.select(executions.c.execution_id).where(*of_session)
            for table in metadata.tables.values():
                if table is not executions and {"tenant", "execution_id"} <= set(table.c.keys()):
                    await connection.execute(
                        table.delete().where(table.c.tenant == tenant, table.c.execution_id.in_(produced))
                    )
            for table in (session_messages, session_changes, session_agents, executions, sessions):
                await connection.execute(
                    table.delete().where(table.c.tenant == tenant, table.c.session_id == session_id)
                )
            return Deletion(len(rows))


def begun(execution: Execution) -> Mapping[str, Mapping[str, Any]]:
    """Rows for the session of an execution that is being accepted; the first of them makes it."""
    if not execution.session_id:
        return {}
    of = {"tenant": execution.tenant, "session_id": execution.session_id}
    session = {
        **of,
        "user_id": execution.user_id,
        "summary": "",
        "state": {},
        "state_version": 0,
        "metadata": {},
        "message_count": 0,
        "revision": 0,
        "create_time": execution.create_time,
        "update_time": execution.create_time,
    }
    if execution.target_kind is not TargetKind.AGENT:
        return {"sessions": session}
    return {"sessions": session, "session_agents": {**of, "agent_id": execution.target_id}}


async def keep(connection: AsyncConnection, tenant: str, execution_id: str, kept: Kept) -> None:
    """What a run leaves, committed with its terminal event."""
    await memories.change(connection, tenant, kept.user_id, execution_id, learnt=kept.learnt, forgotten=kept.forgotten)
    session = await _locked(connection, tenant, kept.session_id) if kept.session_id else None
    if session is None:
        return
    now = datetime.now(UTC)
    rows = [
        {
            "tenant": tenant,
            "session_id": session.session_id,
            "position": session.message_count + number,
            "execution_id": execution_id,
            "message": dict(message),
            "create_time": now,
        }
        for number, message in enumerate(kept.messages, 1)
    ]
    if rows:
        await connection.execute(session_messages.insert(), rows)
    values: dict[str, Any] = {"message_count": session.message_count + len(rows), "update_time": now}
    if kept.summary is not None:
        values |= {"summary": kept.summary, "revision": session.revision + 1}
    await connection.execute(_update(session).values(**values))


async def _pinned(connection: AsyncConnection, talk: Talk, kept: Mapping[str, Any]) -> Pin:
    pin = Pin(**{**kept, "memories": tuple(Memory(**memory) for memory in kept["memories"])})
    if not talk.session_id:
        return pin
    return replace(pin, state=await states.state_of(connection, talk.tenant, talk.session_id, pin.state_version))


async def _pin_session(connection: AsyncConnection, talk: Talk, edit: Callable[[State, int], State]) -> Pin:
    session = await _locked(connection, talk.tenant, talk.session_id) if talk.session_id else None
    if session is None:
        state = edit({}, 0)
        return Pin(state=dict(state), state_version=1 if state else 0, state_set=bool(state))
    edited = replace(session, state=edit(session.state, session.state_version))
    made = await _put(connection, session, edited, Author("", talk.execution_id, talk.agent_id))
    return Pin(
        message_count=made.message_count,
        summary=made.summary,
        state=made.state,
        state_version=made.state_version,
        state_set=made.state_version != session.state_version,
    )


async def _put(connection: AsyncConnection, before: Session, after: Session, by: Author) -> Session:
    if after == before:
        return before
    version = before.state_version
    if after.state != before.state:
        version += 1
        await states.record(connection, before.tenant, before.session_id, version, before.state, after.state, by)
    made = replace(after, state_version=version, revision=before.revision + 1, update_time=datetime.now(UTC))
    await connection.execute(
        _update(before).values(
            state=dict(made.state),
            state_version=version,
            summary=made.summary,
            metadata=dict(made.metadata),
            revision=made.revision,
            update_time=made.update_time,
        )
    )
    return made


async def _locked(connection: AsyncConnection, tenant: str, session_id: str) -> Session | None:
    row = (await connection.execute(_one(tenant, session_id).with_for_update())).first()
    return (await _with_agents(connection, tenant, [row]))[0] if row else None


async def _with_agents(connection: AsyncConnection, tenant: str, rows: Sequence[Any]) -> list[Session]:
    query = sa.select(session_agents).where(
        session_agents.c.tenant == tenant, session_agents.c.session_id.in_([row.session_id for row in rows])
    )
    agents: dict[str, list[str]] = {}
    for found in await connection.execute(query.order_by(session_agents.c.agent_id)):
        agents.setdefault(found.session_id, []).append(found.agent_id)
    return [_session(row, agents.get(row.session_id, [])) for row in rows]


def _one(tenant: str, session_id: str) -> sa.Select[Any]:
    return sa.select(sessions).where(sessions.c.tenant == tenant, sessions.c.session_id == session_id)


def _messages(tenant: str, session_id: str, *columns: Any) -> sa.Select[Any]:
    return sa.select(*(columns or (session_messages,))).where(
        session_messages.c.tenant == tenant, session_messages.c.session_id == session_id
    )


def _update(session: Session) -> sa.Update:
    return sessions.update().where(sessions.c.tenant == session.tenant, sessions.c.session_id == session.session_id)


def _session(row: Any, agent_ids: Sequence[str]) -> Session:
    return Session(
        tenant=row.tenant,
        session_id=row.session_id,
        create_time=aware(row.create_time),
        update_time=aware(row.update_time),
        user_id=row.user_id,
        agent_ids=tuple(agent_ids),
        summary=row.summary,
        state=getattr(row, "state", {}),
        state_version=row.state_version,
        metadata=row._mapping["metadata"],
        message_count=row.message_count,
        revision=row.revision,
    )
