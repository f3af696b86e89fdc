"""What is remembered of users."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from libs import ids
from services.execution.model.sessions import MOST_MEMORIES, Memory
from services.execution.store.session_tables import memories


async def of(connection: AsyncConnection, tenant: str, user_id: str) -> tuple[Memory, ...]:
    """Of a user, oldest first."""
    query = sa.select(memories).where(memories.c.tenant == tenant, memories.c.user_id == user_id)
    rows = await connection.execute(query.order_by(memories.c.memory_id))
    return tuple(Memory(row.memory_id, row.text) for row in rows)


async def change(
    connection: AsyncConnection,
    tenant: str,
    user_id: str,
    execution_id: str,
    *,
    learnt: Sequence[str],
    forgotten: Collection[str],
) -> None:
    of_user = (memories.c.tenant == tenant, memories.c.user_id == user_id)
    if forgotten:
        await connection.execute(memories.delete().where(*of_user, memories.c.memory_id.in_(forgotten)))
    if not learnt:
        return
    now = datetime.now(UTC)
    common = {"tenant": tenant, "user_id": user_id, "execution_id": execution_id, "create_time": now}
    await connection.execute(
        memories.insert(), [{**common, "memory_id": ids.new_id(), "text": text} for text in learnt]
    )
    newest = sa.select(memories.c.memory_id).where(*of_user).order_by(memories.c.memory_id.desc()).limit(MOST_MEMORIES)
    kept = (await connection.scalars(newest)).all()
    await connection.execute(memories.delete().where(*of_user, memories.c.memory_id.not_in(kept)))
