"""Executions and their events, per tenant."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "execution_0001"
down_revision = None
branch_labels = None
depends_on = None

_json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "executions",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("execution_id", sa.Text, primary_key=True),
        sa.Column("agent_id", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("input", sa.Text, nullable=False),
        sa.Column("output", sa.Text, nullable=False),
        sa.Column("structured_output", _json),
        sa.Column("error", _json),
        sa.Column("usage", _json, nullable=False),
        sa.Column("session_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("metadata", _json, nullable=False),
        sa.Column("request_id", sa.Text),
        sa.Column("request_digest", sa.Text, nullable=False),
        sa.Column("last_sequence", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("lease_time", _time, nullable=False),
        sa.Column("cancel_reason", sa.Text),
        sa.Column("watch_time", _time),
        sa.Column("create_time", _time, nullable=False),
        sa.Column("end_time", _time),
        sa.UniqueConstraint("tenant", "request_id", name="executions_request"),
    )
    op.create_index("executions_running", "executions", ["status", "lease_time"])
    op.create_table(
        "events",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("execution_id", sa.Text, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True),
        sa.Column("time", _time, nullable=False),
        sa.Column("path", _json, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("payload", _json, nullable=False),
    )
