from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

metadata = sa.MetaData()
_json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_time = sa.DateTime(timezone=True)

tenants = sa.Table(
    "tenants",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("audit_hash", sa.Text, nullable=False),
    sa.Column("history_start", sa.BigInteger, nullable=False, server_default="0"),
)
resources = sa.Table(
    "resources",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("resource_id", sa.Text, primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("deleted", sa.Boolean, nullable=False),
)
revisions = sa.Table(
    "revisions",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("resource_id", sa.Text, primary_key=True),
    sa.Column("revision", sa.BigInteger, primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("labels", _json, nullable=False),
    sa.Column("spec", _json, nullable=False),
    sa.Column("etag", sa.Text, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("create_time", _time, nullable=False),
    sa.Column("update_time", _time, nullable=False),
    sa.Column("deleted", sa.Boolean, nullable=False),
    sa.UniqueConstraint("tenant", "position", name="revisions_position"),
)
requests = sa.Table(
    "requests",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("resource_id", sa.Text, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("create_time", _time, nullable=False),
    sa.Index("requests_create_time", "create_time"),
)
upkeep = sa.Table(
    "upkeep",
    metadata,
    sa.Column("task", sa.Text, primary_key=True),
    sa.Column("time", _time, nullable=False),
)

references = sa.Table(
    "resource_references",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("resource_id", sa.Text, primary_key=True),
    sa.Column("to_kind", sa.Text, primary_key=True),
    sa.Column("to_id", sa.Text, primary_key=True),
    sa.Index("resource_references_to", "tenant", "to_kind", "to_id"),
)
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("position", sa.BigInteger, primary_key=True),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("time", _time, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("resource_id", sa.Text, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("deleted", sa.Boolean, nullable=False),
    sa.Column("before_digest", sa.Text, nullable=False),
    sa.Column("after_digest", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Index("audit_resource", "tenant", "kind", "resource_id"),
)
prompt_metrics = sa.Table(
    "prompt_metrics",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("prompt_id", sa.Text, primary_key=True),
    sa.Column("revision", sa.BigInteger, primary_key=True),
    sa.Column("uses", sa.BigInteger, nullable=False),
    sa.Column("success_rate", sa.Double, nullable=False),
    sa.Column("latency", sa.Double, nullable=False),
    sa.Column("tokens", sa.Double, nullable=False),
    sa.Column("cost_usd", sa.Double, nullable=False),
)
prompt_failures = sa.Table(
    "prompt_failures",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("prompt_id", sa.Text, primary_key=True),
    sa.Column("revision", sa.BigInteger, primary_key=True),
    sa.Column("pattern", sa.Text, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
)
