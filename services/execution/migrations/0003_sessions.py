"""Sessions with their messages and states, what is remembered of users, and what each run began with."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "execution_0003"
down_revision = "execution_0002"
branch_labels = None
depends_on = None

_json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "sessions",
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
    )
    op.create_index("sessions_used", "sessions", ["tenant", "update_time", "session_id"])
    op.create_table(
        "session_agents",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("session_id", sa.Text, primary_key=True),
        sa.Column("agent_id", sa.Text, primary_key=True),
    )
    op.create_table(
        "session_messages",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("session_id", sa.Text, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("execution_id", sa.Text, nullable=False),
        sa.Column("message", _json, nullable=False),
        sa.Column("create_time", _time, nullable=False),
    )
    op.create_table(
        "session_changes",
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
    )
    op.create_table(
        "pins",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("execution_id", sa.Text, primary_key=True),
        sa.Column("pin", _json, nullable=False),
    )
    op.create_table(
        "memories",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("user_id", sa.Text, primary_key=True),
        sa.Column("memory_id", sa.Text, primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("execution_id", sa.Text, nullable=False),
        sa.Column("create_time", _time, nullable=False),
    )
    op.add_column("executions", sa.Column("followups", _json))
    op.create_index("executions_of_session", "executions", ["tenant", "session_id", "execution_id"])
    op.create_index("executions_of_agent", "executions", ["tenant", "agent_id", "execution_id"])
    _begin_sessions()


def _begin_sessions() -> None:
    """Sessions of the runs that are there: without messages, which nobody had kept."""
    op.execute(
        "INSERT INTO session_agents (tenant, session_id, agent_id) "
        "SELECT DISTINCT tenant, session_id, agent_id FROM executions WHERE session_id <> ''"
    )
    found = (
        "INSERT INTO sessions (tenant, session_id, user_id, summary, state, state_version, metadata, message_count, "
        "revision, create_time, update_time) SELECT tenant, session_id, min(user_id), '', EMPTY, 0, EMPTY, 0, 0, "
        "min(create_time), max(create_time) FROM executions WHERE session_id <> '' GROUP BY tenant, session_id"
    )
    op.execute(found.replace("EMPTY", "'{}'::jsonb" if op.get_bind().dialect.name == "postgresql" else "'{}'"))
