"""From where on a tenant's changes are told again, and who does the upkeep."""

import sqlalchemy as sa
from alembic import op

revision = "registry_0003"
down_revision = "registry_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tenants", sa.Column("history_start", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index("requests_create_time", "requests", ["create_time"])
    op.create_table(
        "upkeep",
        sa.Column("task", sa.Text, primary_key=True),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
    )
