"""The tables of Secrets."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

metadata = sa.MetaData()
_json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_time = sa.DateTime(timezone=True)

# The whole vault's, not a tenant's: what the master key of this database opens.
vault = sa.Table(
    "vault",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("wrapped_key", sa.LargeBinary, nullable=False),
    sa.Column("ciphertext", sa.LargeBinary, nullable=False),
)
tenants = sa.Table(
    "tenants",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
)
secrets = sa.Table(
    "secrets",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("secret_id", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("labels", _json, nullable=False),
    sa.Column("fields", _json, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("etag", sa.Text, nullable=False),
    sa.Column("deleted", sa.Boolean, nullable=False),
    sa.Column("value_time", _time, nullable=True),
    sa.Column("create_time", _time, nullable=False),
    sa.Column("update_time", _time, nullable=False),
)
versions = sa.Table(
    "versions",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("secret_id", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("wrapped_key", sa.LargeBinary, nullable=False),
    sa.Column("ciphertext", sa.LargeBinary, nullable=False),
    sa.Column("create_time", _time, nullable=False),
)
requests = sa.Table(
    "requests",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("secret_id", sa.Text, nullable=False),
    sa.Column("create_time", _time, nullable=False),
)
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("record_id", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("time", _time, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("field", sa.Text, nullable=False),
    sa.Column("secret_id", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("service", sa.Text, nullable=False),
)
leases = sa.Table(
    "leases",
    metadata,
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
wraps = sa.Table(
    "wraps",
    metadata,
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


def insert(connection: AsyncConnection, table: sa.Table) -> Any:
    """An insert that may say what to do on a conflict."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


async def advance(connection: AsyncConnection, tenant: str) -> None:
    """Moves the tenant's position, by which other processes see that something changed."""
    moved = {"position": tenants.c.position + 1}
    upsert = insert(connection, tenants).values(tenant=tenant, position=1)
    await connection.execute(upsert.on_conflict_do_update(index_elements=[tenants.c.tenant], set_=moved))
