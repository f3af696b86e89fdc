"""The vault in SQL: metadata in the clear, values sealed. Nothing here can open them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import Database, aware
from services.secrets.keys import KeyChanged, Rewrap
from services.secrets.model import Owner, Request, Scope, Sealed, Secret
from services.secrets.store.tables import advance, insert, requests, secrets, tenants, vault, versions

_CHECK: Final = "check"


class SqlVaultStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def check(self) -> Sealed | None:
        rows = await self._db.rows(sa.select(vault).where(vault.c.name == _CHECK))
        return _sealed(rows[0]) if rows else None

    async def put_check(self, check: Sealed) -> None:
        async with self._db.write() as connection:
            statement = insert(connection, vault).values(name=_CHECK, **_parts(check))
            await connection.execute(statement.on_conflict_do_nothing())

    async def rewrap(self, rewrap: Rewrap) -> int:
        return await self._db.finished(self._rewrap(rewrap))

    async def _rewrap(self, rewrap: Rewrap) -> int:
        async with self._db.write() as connection:
            row = (await connection.execute(sa.select(vault).where(vault.c.name == _CHECK).with_for_update())).one()
            check = rewrap(Owner(""), None, _sealed(row))
            await connection.execute(vault.update().where(vault.c.name == _CHECK).values(**_parts(check)))
            here = (versions.c.tenant == secrets.c.tenant) & (versions.c.secret_id == secrets.c.secret_id)
            query = sa.select(secrets, *_sealed_columns(), versions.c.version.label("of")).join(versions, here)
            rows = (await connection.execute(query)).all()
            for row in rows:
                new = rewrap(Owner(row.tenant, row.subject), _secret(row, version=row.of), _sealed(row))
                place = (
                    (versions.c.tenant == row.tenant)
                    & (versions.c.secret_id == row.secret_id)
                    & (versions.c.version == row.of)
                )
                await connection.execute(versions.update().where(place).values(**_parts(new)))
            return len(rows)

    async def get(self, owner: Owner, secret_id: str) -> Secret | None:
        rows = await self._db.rows(_of(owner).where(secrets.c.secret_id == secret_id))
        return _secret(rows[0]) if rows else None

    async def page(self, owner: Owner, provider: str, *, after: str, limit: int) -> Sequence[Secret]:
        query = _of(owner).where(secrets.c.secret_id > after).order_by(secrets.c.secret_id).limit(limit)
        return await self._all(query, provider)

    async def inventory(self, owner: Owner, provider: str) -> Sequence[Secret]:
        return await self._all(_of(owner), provider)

    async def _all(self, query: sa.Select[Any], provider: str) -> Sequence[Secret]:
        if provider:
            query = query.where(secrets.c.provider == provider)
        return [_secret(row) for row in await self._db.rows(query)]

    async def sealed(self, owner: Owner, secret_id: str, version: int) -> tuple[Secret, Sealed] | None:
        here = (
            (versions.c.tenant == secrets.c.tenant)
            & (versions.c.secret_id == secrets.c.secret_id)
            & (versions.c.version == (version or secrets.c.version))
        )
        query = _of(owner).where(secrets.c.secret_id == secret_id).join(versions, here)
        rows = await self._db.rows(query.add_columns(*_sealed_columns()))
        return (_secret(rows[0], version=version), _sealed(rows[0])) if rows else None

    async def put(self, owner: Owner, secret: Secret, sealed: Sealed, *, request: Request | None = None) -> bool:
        key = {"tenant": owner.tenant, "secret_id": secret.secret_id}

        async def change(connection: AsyncConnection) -> bool:
            await _require_key(connection, sealed)
            columns = {"subject": owner.subject, "deleted": False, **_columns(secret)}
            await connection.execute(secrets.insert().values(**key, **columns))
            await connection.execute(versions.insert().values(**key, **_version(secret), **_parts(sealed)))
            if request:
                asked = {"request_id": request.request_id, "digest": request.digest}
                await connection.execute(requests.insert().values(**key, **asked, create_time=secret.create_time))
            return True

        return await self._db.finished(self._change(owner, change))

    async def update(self, owner: Owner, secret: Secret, sealed: Sealed | None, *, etag: str, keep: int) -> bool:
        key = {"tenant": owner.tenant, "secret_id": secret.secret_id}

        async def change(connection: AsyncConnection) -> bool:
            if sealed:
                await _require_key(connection, sealed)
            here = _here(owner, secret.secret_id) & (secrets.c.etag == etag)
            if (await connection.execute(secrets.update().where(here).values(**_columns(secret)))).rowcount != 1:
                return False
            if sealed:
                await connection.execute(versions.insert().values(**key, **_version(secret), **_parts(sealed)))
                old = (versions.c.tenant == owner.tenant) & (versions.c.secret_id == secret.secret_id)
                await connection.execute(versions.delete().where(old, versions.c.version <= secret.version - keep))
            return True

        return await self._db.finished(self._change(owner, change))

    async def delete(self, owner: Owner, secret_id: str, *, etag: str) -> bool:
        async def change(connection: AsyncConnection) -> bool:
            here = _here(owner, secret_id) & (secrets.c.etag == etag)
            gone = {"deleted": True, "update_time": datetime.now(UTC)}
            if (await connection.execute(secrets.update().where(here).values(**gone))).rowcount != 1:
                return False
            of = (versions.c.tenant == owner.tenant) & (versions.c.secret_id == secret_id)
            await connection.execute(versions.delete().where(of))
            return True

        return await self._db.finished(self._change(owner, change))

    async def _change(self, owner: Owner, change: Callable[[AsyncConnection], Any]) -> bool:
        try:
            async with self._db.write() as connection:
                done: bool = await change(connection)
                if done:
                    await advance(connection, owner.tenant)
        except IntegrityError:
            return False
        return done

    async def touch(self, tenant: str) -> None:
        async with self._db.write() as connection:
            await advance(connection, tenant)

    async def positions(self, of: Collection[str]) -> dict[str, int]:
        query = sa.select(tenants).where(tenants.c.tenant.in_(of))
        return {row.tenant: row.position for row in await self._db.rows(query)}

    async def created_by(self, owner: Owner, request_id: str) -> tuple[Request, str] | None:
        query = sa.select(requests).where(requests.c.tenant == owner.tenant, requests.c.request_id == request_id)
        rows = await self._db.rows(query)
        return (Request(rows[0].request_id, rows[0].digest), rows[0].secret_id) if rows else None


async def _require_key(connection: AsyncConnection, sealed: Sealed) -> None:
    """A rotation of the master key takes this row for itself: what is sealed with the old one comes too late."""
    query = sa.select(vault.c.key_id).where(vault.c.name == _CHECK).with_for_update(read=True)
    if (await connection.execute(query)).scalar_one_or_none() not in (sealed.key_id, None):
        raise KeyChanged


def _of(owner: Owner) -> sa.Select[Any]:
    """Every query of secrets begins here, within one tenant and subject."""
    return sa.select(secrets).where(
        secrets.c.tenant == owner.tenant, secrets.c.subject == owner.subject, ~secrets.c.deleted
    )


def _here(owner: Owner, secret_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        secrets.c.tenant == owner.tenant,
        secrets.c.subject == owner.subject,
        secrets.c.secret_id == secret_id,
        ~secrets.c.deleted,
    )


def _columns(secret: Secret) -> dict[str, Any]:
    return {
        "provider": secret.provider,
        "display_name": secret.display_name,
        "labels": dict(secret.labels),
        "fields": list(secret.fields),
        "version": secret.version,
        "etag": secret.etag,
        "value_time": secret.value_time,
        "create_time": secret.create_time,
        "update_time": secret.update_time,
    }


def _version(secret: Secret) -> dict[str, Any]:
    return {"version": secret.version, "create_time": secret.update_time}


def _sealed_columns() -> tuple[sa.Column[Any], ...]:
    return versions.c.key_id, versions.c.wrapped_key, versions.c.ciphertext


def _parts(sealed: Sealed) -> dict[str, Any]:
    return {"key_id": sealed.key_id, "wrapped_key": sealed.wrapped_key, "ciphertext": sealed.ciphertext}


def _secret(row: Any, *, version: int = 0) -> Secret:
    return Secret(
        secret_id=row.secret_id,
        provider=row.provider,
        display_name=row.display_name,
        labels=row.labels,
        fields=tuple(row.fields),
        version=version or row.version,
        create_time=aware(row.create_time),
        update_time=aware(row.update_time),
        etag=row.etag,
        scope=Scope.USER if row.subject else Scope.SYSTEM,
        value_time=aware(row.value_time) if row.value_time else None,
    )


def _sealed(row: Any) -> Sealed:
    return Sealed(row.key_id, row.wrapped_key, row.ciphertext)
