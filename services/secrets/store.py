"""The vault in SQL: metadata in the clear, values sealed. Nothing here can open them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from libs.database import Database
from services.secrets.model import Request, Sealed, Secret

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
secrets = sa.Table(
    "secrets",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("secret_id", sa.Text, primary_key=True),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("labels", _json, nullable=False),
    sa.Column("fields", _json, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
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

_CHECK: Final = "check"
_current = sa.and_(
    versions.c.tenant == secrets.c.tenant,
    versions.c.secret_id == secrets.c.secret_id,
    versions.c.version == secrets.c.version,
)


class SqlVaultStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def check(self) -> Sealed | None:
        async with self._db.read() as connection:
            row = (await connection.execute(sa.select(vault).where(vault.c.name == _CHECK))).first()
        return _sealed(row) if row else None

    async def put_check(self, check: Sealed) -> None:
        insert: Any = (sqlite if self._db.is_sqlite else postgresql).insert(vault)
        async with self._db.write() as connection:
            await connection.execute(insert.values(name=_CHECK, **_parts(check)).on_conflict_do_nothing())

    async def get(self, tenant: str, secret_id: str) -> Secret | None:
        async with self._db.read() as connection:
            row = (await connection.execute(_of(tenant).where(secrets.c.secret_id == secret_id))).first()
        return _secret(row) if row else None

    async def page(self, tenant: str, provider: str, *, after: str, limit: int) -> Sequence[Secret]:
        query = _of(tenant).where(secrets.c.secret_id > after).order_by(secrets.c.secret_id).limit(limit)
        if provider:
            query = query.where(secrets.c.provider == provider)
        return await self._all(query)

    async def newest(self, tenant: str, provider: str) -> Sequence[Secret]:
        order = secrets.c.update_time.desc(), secrets.c.secret_id.desc()
        return await self._all(_of(tenant).where(secrets.c.provider == provider).order_by(*order))

    async def _all(self, query: sa.Select[Any]) -> Sequence[Secret]:
        async with self._db.read() as connection:
            return [_secret(row) for row in await connection.execute(query)]

    async def sealed(self, tenant: str, secret_id: str) -> tuple[Secret, Sealed] | None:
        query = _of(tenant).where(secrets.c.secret_id == secret_id).join(versions, _current)
        query = query.add_columns(versions.c.key_id, versions.c.wrapped_key, versions.c.ciphertext)
        async with self._db.read() as connection:
            row = (await connection.execute(query)).first()
        return (_secret(row), _sealed(row)) if row else None

    async def put(self, tenant: str, secret: Secret, sealed: Sealed, *, request: Request | None = None) -> bool:
        key = {"tenant": tenant, "secret_id": secret.secret_id}
        version = {"version": secret.version, "create_time": secret.update_time}
        try:
            async with self._db.write() as connection:
                await connection.execute(secrets.insert().values(**key, **_columns(secret)))
                await connection.execute(versions.insert().values(**key, **version, **_parts(sealed)))
                if request:
                    await connection.execute(
                        requests.insert().values(
                            **key,
                            request_id=request.request_id,
                            digest=request.digest,
                            create_time=secret.create_time,
                        )
                    )
        except IntegrityError:
            return False
        return True

    async def created_by(self, tenant: str, request_id: str) -> tuple[Request, Secret] | None:
        query = sa.select(requests).where(requests.c.tenant == tenant, requests.c.request_id == request_id)
        async with self._db.read() as connection:
            row = (await connection.execute(query)).first()
        secret = await self.get(tenant, row.secret_id) if row else None
        return (Request(row.request_id, row.digest), secret) if row and secret else None


def _of(tenant: str) -> sa.Select[Any]:
    """Every query of secrets begins here, within one tenant."""
    return sa.select(secrets).where(secrets.c.tenant == tenant)


def _columns(secret: Secret) -> dict[str, Any]:
    return {
        "provider": secret.provider,
        "display_name": secret.display_name,
        "labels": dict(secret.labels),
        "fields": list(secret.fields),
        "version": secret.version,
        "create_time": secret.create_time,
        "update_time": secret.update_time,
    }


def _parts(sealed: Sealed) -> dict[str, Any]:
    return {"key_id": sealed.key_id, "wrapped_key": sealed.wrapped_key, "ciphertext": sealed.ciphertext}


def _secret(row: Any) -> Secret:
    return Secret(
        secret_id=row.secret_id,
        provider=row.provider,
        display_name=row.display_name,
        labels=row.labels,
        fields=tuple(row.fields),
        version=row.version,
        create_time=_aware(row.create_time),
        update_time=_aware(row.update_time),
    )


def _sealed(row: Any) -> Sealed:
    return Sealed(row.key_id, row.wrapped_key, row.ciphertext)


def _aware(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)  # SQLite keeps no zone
