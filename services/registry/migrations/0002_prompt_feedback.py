"""How the uses of prompts went."""

import sqlalchemy as sa
from alembic import op

revision = "registry_0002"
down_revision = "registry_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "prompt_metrics",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("prompt_id", sa.Text, primary_key=True),
        sa.Column("revision", sa.BigInteger, primary_key=True),
        sa.Column("uses", sa.BigInteger, nullable=False),
        sa.Column("success_rate", sa.Double, nullable=False),
        sa.Column("latency", sa.Double, nullable=False),
        sa.Column("tokens", sa.Double, nullable=False),
        sa.Column("cost_usd", sa.Double, nullable=False),
    )
    op.create_table(
        "prompt_failures",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("prompt_id", sa.Text, primary_key=True),
        sa.Column("revision", sa.BigInteger, primary_key=True),
        sa.Column("pattern", sa.Text, primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
    )
