"""Leases, wrapping tokens, and the service that speaks in the audit trail."""

import sqlalchemy as sa
from alembic import op

revision = "secrets_0003"
down_revision = "secrets_0002"
branch_labels = None
depends_on = None

_time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("audit", sa.Column("service", sa.Text, nullable=False, server_default=""))
    op.create_table(
        "leases",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("lease_id", sa.Text, primary_key=True),
        sa.Column("parent_id", sa.Text, nullable=False),
        sa.Column("holder_service", sa.Text, nullable=False),
        sa.Column("holder_subject", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("secret_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("renew_time", _time, nullable=False),
        sa.Column("expire_time", _time, nullable=False),
        sa.Column("max_expire_time", _time, nullable=False),
    )
    op.create_index("leases_parent", "leases", ["tenant", "parent_id"])
    op.create_index("leases_expire_time", "leases", ["expire_time"])
    op.create_table(
        "wraps",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("maker_service", sa.Text, nullable=False),
        sa.Column("maker_subject", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("secret_id", sa.Text, nullable=False),
        sa.Column("spent", sa.Boolean, nullable=False),
        sa.Column("create_time", _time, nullable=False),
        sa.Column("expire_time", _time, nullable=False),
    )
    op.create_index("wraps_expire_time", "wraps", ["expire_time"])
