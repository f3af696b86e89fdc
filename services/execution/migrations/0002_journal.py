"""What a run was asked, the journal of its steps, and who may write for it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "execution_0002"
down_revision = "execution_0001"
branch_labels = None
depends_on = None

_json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("executions", sa.Column("attempts", sa.Integer, nullable=False, server_default="1"))
    op.add_column("executions", sa.Column("deaths", sa.Integer, nullable=False, server_default="0"))
    op.add_column("executions", sa.Column("oldest_sequence", sa.BigInteger, nullable=False, server_default="1"))
    op.add_column("executions", sa.Column("compacted", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_index("executions_ended", "executions", ["end_time"])
    op.create_table(
        "jobs",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("execution_id", sa.Text, primary_key=True),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("deadline", _time, nullable=False),
    )
    op.create_table(
        "journal",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("execution_id", sa.Text, primary_key=True),
        sa.Column("step", sa.Integer, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("call_id", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("result", _json),
        sa.Column("is_error", sa.Boolean, nullable=False),
        sa.Column("start_time", _time, nullable=False),
        sa.Column("end_time", _time),
        sa.Column("end_sequence", sa.BigInteger, nullable=False),
    )
