"""Who runs next, what a run may take, and what it waits for."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "execution_0004"
down_revision = "execution_0003"
branch_labels = None
depends_on = None

_json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("executions", sa.Column("priority", sa.Integer, nullable=False, server_default="0"))
    op.add_column("executions", sa.Column("budget", _json))
    op.add_column("executions", sa.Column("session_held", sa.Text))
    op.add_column("executions", sa.Column("waiting", _json))
    op.create_index("executions_session_held", "executions", ["tenant", "session_held"], unique=True)
    op.create_table(
        "answers",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("execution_id", sa.Text, primary_key=True),
        sa.Column("input_id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("answer", _json, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("create_time", _time, nullable=False),
    )
