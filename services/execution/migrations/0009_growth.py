"""Indexes of what is asked for by session, by user and by time, so that what else is kept costs nothing."""

import sqlalchemy as sa
from alembic import op

revision = "execution_0009"
down_revision = "execution_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _partial("executions_unfinished", "executions", ["tenant", "session_id", "execution_id"], "end_time IS NULL")
    _partial("executions_of_user", "executions", ["tenant", "user_id", "execution_id"], "user_id != ''")
    _partial("sessions_of_user", "sessions", ["tenant", "user_id", "update_time", "session_id"], "user_id != ''")
    op.create_index("session_changes_made", "session_changes", ["tenant", "create_time", "session_id", "version"])
    op.drop_index("tool_calls_execution", "tool_calls")
    op.create_index("tool_calls_execution", "tool_calls", ["tenant", "execution_id", "record_id"])


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
