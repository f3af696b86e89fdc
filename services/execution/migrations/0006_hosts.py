"""Hosts of tools, and the processes to which they are connected."""

import sqlalchemy as sa
from alembic import op

revision = "execution_0006"
down_revision = "execution_0005"
branch_labels = None
depends_on = None

_time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "hosts",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("host_id", sa.Text, primary_key=True),
        sa.Column("registration_id", sa.Text, nullable=False, unique=True),
        sa.Column("stream_id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("tools", sa.Text, nullable=False),
        sa.Column("max_concurrency", sa.Integer, nullable=False),
        sa.Column("register_time", _time, nullable=False),
        sa.Column("lease_time", _time, nullable=False),
    )
    op.create_index("hosts_owner", "hosts", ["owner"])
