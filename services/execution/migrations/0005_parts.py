"""Runs of teams and workflows: what runs, and the parts within which things happen."""

import orjson
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "execution_0005"
down_revision = "execution_0004"
branch_labels = None
depends_on = None

_json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.drop_index("executions_of_agent", "executions")
    op.alter_column("executions", "agent_id", new_column_name="target_id")
    op.add_column("executions", sa.Column("target_kind", sa.Text, nullable=False, server_default="agent"))
    op.create_index("executions_of_target", "executions", ["tenant", "target_id", "execution_id"])
    op.add_column("events", sa.Column("scope", sa.Text, nullable=False, server_default=""))
    _widen_journal()
    op.alter_column("jobs", "agent", new_column_name="pinned")
    _rewrite_jobs()


def _widen_journal() -> None:
    """SQLite cannot change a primary key: a table of the new shape takes the old one's place."""
    op.rename_table("journal", "journal_before")
    op.create_table(
        "journal",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("execution_id", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False, server_default=""),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("call_id", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("result", _json),
        sa.Column("is_error", sa.Boolean, nullable=False),
        sa.Column("start_time", _time, nullable=False),
        sa.Column("end_time", _time),
        sa.Column("end_sequence", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "execution_id", "scope", "step", name="journal_key"),
    )
    kept = (
        "tenant, execution_id, step, kind, name, call_id, digest, result, is_error, start_time, end_time, end_sequence"
    )
    op.execute(f"INSERT INTO journal ({kept}) SELECT {kept} FROM journal_before")  # noqa: S608
    op.drop_table("journal_before")


def _rewrite_jobs() -> None:
    """What was one agent is the target and its parts; what was asked names its target."""
    jobs = sa.table("jobs", *(sa.column(name) for name in ("tenant", "execution_id", "request", "pinned")))
    bind = op.get_bind()
    for row in bind.execute(sa.select(jobs)).all():
        request, agent = orjson.loads(row.request), orjson.loads(row.pinned)
        key = f"agent/{agent['agent_id']}"
        request = {"target_id": request.pop("agent_id"), "target_kind": "agent", **request}
        bind.execute(
            jobs.update()
            .where(jobs.c.tenant == row.tenant, jobs.c.execution_id == row.execution_id)
            .values(
                request=orjson.dumps(request).decode(),
                pinned=orjson.dumps({"target": key, "parts": {key: agent}}).decode(),
            )
        )
