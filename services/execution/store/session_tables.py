from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from services.execution.store.tables import executions, metadata

_json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_time = sa.DateTime(timezone=True)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("session_id", sa.Text, primary_key=True),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("summary", sa.Text, nullable=False),
    sa.Column("state", _json, nullable=False),
    sa.Column("state_version", sa.BigInteger, nullable=False),
    sa.Column("metadata", _json, nullable=False),
    sa.Column("message_count", sa.Integer, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("create_time", _time, nullable=False),
    sa.Column("update_time", _time, nullable=False),
    sa.Index("sessions_used", "tenant", "update_time", "session_id"),
)


def names_somebody(table: sa.Table) -> sa.ColumnElement[bool]:
    """Indexes of users are of the rows alone that name one: a query that asks for one has to say so."""
    return table.c.user_id != sa.literal_column("''")


session_agents = sa.Table(
    "session_agents",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("session_id", sa.Text, primary_key=True),
    sa.Column("agent_id", sa.Text, primary_key=True),
)
session_messages = sa.Table(
    "session_messages",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("session_id", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("execution_id", sa.Text, nullable=False),
    sa.Column("message", _json, nullable=False),
    sa.Column("create_time", _time, nullable=False),
)
session_changes = sa.Table(
    "session_changes",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("session_id", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),
    sa.Column("set", _json, nullable=False),
    sa.Column("removed", _json, nullable=False),
    sa.Column("snapshot", _json),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("agent_id", sa.Text, nullable=False),
    sa.Column("execution_id", sa.Text),
    sa.Column("call_id", sa.Text),
    sa.Column("create_time", _time, nullable=False),
    sa.UniqueConstraint("tenant", "session_id", "execution_id", "call_id", name="session_changes_call"),
    sa.Index("session_changes_made", "tenant", "create_time", "session_id", "version"),
)
pins = sa.Table(
    "pins",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("execution_id", sa.Text, primary_key=True),
    sa.Column("pin", _json, nullable=False),
)
memories = sa.Table(
    "memories",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("user_id", sa.Text, primary_key=True),
    sa.Column("memory_id", sa.Text, primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("execution_id", sa.Text, nullable=False),
    sa.Column("create_time", _time, nullable=False),
)
sa.Index(
    "sessions_of_user",
    sessions.c.tenant,
    sessions.c.user_id,
    sessions.c.update_time,
    sessions.c.session_id,
    sqlite_where=names_somebody(sessions),
    postgresql_where=names_somebody(sessions),
)
sa.Index(
    "executions_of_user",
    executions.c.tenant,
    executions.c.user_id,
    executions.c.execution_id,
    sqlite_where=names_somebody(executions),
    postgresql_where=names_somebody(executions),
)
sa.Index("executions_of_session", executions.c.tenant, executions.c.session_id, executions.c.execution_id)
sa.Index("executions_of_target", executions.c.tenant, executions.c.target_id, executions.c.execution_id)
