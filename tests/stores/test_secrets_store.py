"""The vault and its store, on each database."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from libs import database, errors
from libs.config import StartError
from libs.database import Database
from services.secrets import rotation
from services.secrets.app import MIGRATIONS, app
from services.secrets.config import SecretsSettings
from services.secrets.keys import MasterKey
from services.secrets.model import Draft, Owner, Secret, Value
from services.secrets.store import tables
from services.secrets.store.vault import SqlVaultStore
from services.secrets.vault import Vault

CANARY = "sk-canary-of-the-store"
ACME, OTHER = Owner("acme"), Owner("other")


@pytest.fixture
async def db(database_settings: dict[str, Any]) -> AsyncIterator[Database]:
    settings = SecretsSettings.load(**database_settings)
    await database.migrate(settings, MIGRATIONS)
    async with database.opened(settings, MIGRATIONS) as opened:
        yield opened


@pytest.fixture
async def vault(db: Database) -> Vault:
    made = Vault(SqlVaultStore(db), MasterKey(os.urandom(32)))
    await made.unlock()
    return made


def draft(provider: str = "openai", **values: str) -> Draft:
    kept = {name: Value(text) for name, text in (values or {"api_key": CANARY}).items()}
    return Draft(provider, "Key", {"team": "crm"}, kept)


async def change(db: Database, statement: sa.Executable) -> None:
    async with db.write() as connection:
        await connection.execute(statement)


async def count(db: Database, table: sa.Table) -> int:
    async with db.read() as connection:
        return int((await connection.execute(sa.select(sa.func.count()).select_from(table))).scalar_one())


async def test_kept_secret_comes_back(vault: Vault) -> None:
    made = await vault.create(ACME, draft(api_key="ünï\0cøde", org_id="org"), "")
    assert (made.version, made.fields, made.labels) == (1, ("api_key", "org_id"), {"team": "crm"})
    read = await vault.values(ACME, made.secret_id)
    assert (read.version, read.values) == (1, {"api_key": Value("ünï\0cøde"), "org_id": Value("org")})
    assert await vault.page(ACME, "", after="", limit=10) == [made]


async def test_tenants_are_apart(vault: Vault) -> None:
    made = await vault.create(ACME, draft(), "request")
    with pytest.raises(errors.NotFound):
        await vault.values(OTHER, made.secret_id)
    assert await vault.page(OTHER, "", after="", limit=10) == []
    assert await vault.inventory(OTHER, "openai") == []
    assert (await vault.create(OTHER, draft(api_key="another"), "request")).secret_id != made.secret_id


async def test_pages_by_id(vault: Vault) -> None:
    made = [await vault.create(ACME, draft(provider), "") for provider in ("openai", "groq", "openai")]
    ids = sorted(secret.secret_id for secret in made)
    first = await vault.page(ACME, "", after="", limit=2)
    rest = await vault.page(ACME, "", after=first[-1].secret_id, limit=2)
    assert [secret.secret_id for secret in (*first, *rest)] == ids
    assert [secret.provider for secret in await vault.page(ACME, "groq", after="", limit=9)] == ["groq"]


async def test_candidates_are_newest_first(vault: Vault) -> None:
    made = [await vault.create(ACME, draft(), "") for _ in range(3)]
    await vault.create(ACME, draft("groq"), "")
    found = sorted(await vault.inventory(ACME, "openai"), key=lambda secret: secret.rank({}), reverse=True)
    assert [secret.secret_id for secret in found] == [secret.secret_id for secret in reversed(made)]


async def test_repeated_request(vault: Vault, db: Database) -> None:
    made = await vault.create(ACME, draft(), "once")
    assert await vault.create(ACME, draft(), "once") == made
    with pytest.raises(errors.InvalidArgument) as caught:
        await vault.create(ACME, draft(api_key="another"), "once")
    assert caught.value.reason_code == "REQUEST_ID_REUSED"
    assert await count(db, tables.secrets) == 1


async def test_simultaneous_requests_keep_one_secret(vault: Vault, db: Database) -> None:
    made = await asyncio.gather(*(vault.create(ACME, draft(), "once") for _ in range(8)))
    assert len({secret.secret_id for secret in made}) == 1
    assert await count(db, tables.secrets) == await count(db, tables.versions) == 1


async def damage(db: Database, secret: Secret) -> None:
    here = tables.versions.c.secret_id == secret.secret_id
    await change(db, tables.versions.update().where(here).values(ciphertext=b"damaged"))


async def move(db: Database, secret: Secret) -> None:
    """The row of one tenant put in the place of another's."""
    for table in (tables.secrets, tables.versions):
        await change(db, table.update().where(table.c.secret_id == secret.secret_id).values(tenant="other"))


async def relabel(db: Database, secret: Secret) -> None:
    here = tables.secrets.c.secret_id == secret.secret_id
    await change(db, tables.secrets.update().where(here).values(provider="mallory"))


@pytest.mark.parametrize(("harm", "tenant"), [(damage, "acme"), (move, "other"), (relabel, "acme")])
async def test_harmed_secret_fails_alone(
    vault: Vault, db: Database, harm: Callable[[Database, Secret], Awaitable[None]], tenant: str
) -> None:
    harmed, sound = await vault.create(ACME, draft(), ""), await vault.create(ACME, draft(), "")
    await harm(db, harmed)
    with pytest.raises(errors.Internal) as caught:
        await vault.values(Owner(tenant), harmed.secret_id)
    assert caught.value.metadata == {"secret_id": harmed.secret_id}
    assert (await vault.values(ACME, sound.secret_id)).values == {"api_key": Value(CANARY)}


async def test_another_key_is_refused(vault: Vault, db: Database) -> None:
    made = await vault.create(ACME, draft(), "")
    with pytest.raises(StartError, match="another key"):
        await Vault(SqlVaultStore(db), MasterKey(os.urandom(32))).unlock()
    assert (await vault.values(ACME, made.secret_id)).values == {"api_key": Value(CANARY)}


async def test_of_two_first_keys_one_wins(db: Database) -> None:
    vaults = [Vault(SqlVaultStore(db), MasterKey(os.urandom(32))) for _ in range(2)]
    outcomes = await asyncio.gather(*(vault.unlock() for vault in vaults), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NoneType", "StartError"]


@asynccontextmanager
async def started(settings: SecretsSettings) -> AsyncIterator[None]:
    async with app(settings, None):
        yield


async def test_key_file_lives_in_the_data_folder(database_settings: dict[str, Any]) -> None:
    settings = SecretsSettings.load(port=0, drain_grace=0, **database_settings)
    await database.migrate(settings, MIGRATIONS)
    async with started(settings):
        assert (settings.data_dir / "vault.key").exists()
    async with started(settings):
        pass
    (settings.data_dir / "vault.key").unlink()
    with pytest.raises(StartError, match="missing"):
        async with started(settings):
            pass
    assert not (settings.data_dir / "vault.key").exists()


async def test_no_table_holds_a_value(vault: Vault, db: Database) -> None:
    await vault.create(ACME, draft(), "once")
    async with db.read() as connection:
        for table in tables.metadata.sorted_tables:
            rows = (await connection.execute(sa.select(table))).all()
            assert rows or table in (tables.audit, tables.leases, tables.wraps)
            assert CANARY not in repr(rows)
            assert CANARY.encode() not in b"".join(c for row in rows for c in row if isinstance(c, bytes))


async def test_versions_are_kept_and_dropped(db: Database) -> None:
    vault = Vault(SqlVaultStore(db), MasterKey(os.urandom(32)), keep=2)
    await vault.unlock()
    secret = await vault.create(ACME, draft(), "")
    for number in (2, 3):
        values = {"api_key": Value(f"sk-{number}")}
        secret = await vault.update(ACME, secret, "Key", {}, values)
    assert (await vault.values(ACME, secret.secret_id, 2)).values == {"api_key": Value("sk-2")}
    with pytest.raises(errors.NotFound):
        await vault.values(ACME, secret.secret_id, 1)
    await vault.delete(ACME, secret)
    assert await count(db, tables.versions) == 0


async def test_of_two_changes_one_is_late(vault: Vault) -> None:
    secret = await vault.create(ACME, draft(), "")
    outcomes = await asyncio.gather(
        *(vault.update(ACME, secret, name, {}, {"api_key": Value(name)}) for name in "ab"), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Aborted", "Secret"]


async def test_another_master_key(vault: Vault, db: Database) -> None:
    made = await vault.create(ACME, draft(), "")
    mine = await vault.create(Owner("acme", "ann"), draft(api_key="sk-ann"), "")
    await vault.update(ACME, made, "Key", {}, {"api_key": Value("sk-2")})
    old, new = vault.key, MasterKey(os.urandom(32))
    async with db.read() as connection:
        before = (await connection.execute(sa.select(tables.versions.c.ciphertext))).all()
    assert await vault.rotate(new) == 3
    async with db.read() as connection:
        assert (await connection.execute(sa.select(tables.versions.c.ciphertext))).all() == before
        assert {row[0] for row in await connection.execute(sa.select(tables.versions.c.key_id))} == {new.key_id}
    again = Vault(SqlVaultStore(db), new)
    await again.unlock()
    assert (await again.values(ACME, made.secret_id, 1)).values == {"api_key": Value(CANARY)}
    assert (await again.values(Owner("acme", "ann"), mine.secret_id)).values == {"api_key": Value("sk-ann")}
    with pytest.raises(StartError, match="another key"):
        await Vault(SqlVaultStore(db), old).unlock()


async def test_running_process_takes_the_new_key(vault: Vault, db: Database) -> None:
    made, new = await vault.create(ACME, draft(), ""), MasterKey(os.urandom(32))
    running = Vault(SqlVaultStore(db), vault.key, reload=lambda: new)
    await vault.rotate(new)
    late = await running.create(ACME, draft(api_key="late"), "")
    assert (await vault.values(ACME, late.secret_id)).values == {"api_key": Value("late")}
    other = Vault(SqlVaultStore(db), MasterKey(os.urandom(32)), reload=lambda: new)
    assert (await other.values(ACME, made.secret_id)).values == {"api_key": Value(CANARY)}


async def test_damage_stops_the_rotation(vault: Vault, db: Database) -> None:
    harmed, sound = await vault.create(ACME, draft(), ""), await vault.create(ACME, draft(), "")
    await damage(db, harmed)
    with pytest.raises(StartError, match=harmed.secret_id):
        await vault.rotate(MasterKey(os.urandom(32)))
    assert (await vault.values(ACME, sound.secret_id)).values == {"api_key": Value(CANARY)}


async def test_rotation_of_the_key_file(database_settings: dict[str, Any]) -> None:
    settings = SecretsSettings.load(port=0, drain_grace=0, **database_settings)
    await database.migrate(settings, MIGRATIONS)
    path = settings.data_dir / "vault.key"
    async with started(settings):
        before = path.read_bytes()
    assert await rotation.rotate(settings, None)
    after = path.read_bytes()
    assert after != before
    async with started(settings):
        pass
    # A crash after the database had the new key, and before the file was in its place.
    path.write_bytes(before)
    path.with_name("vault.key.new").write_bytes(after)
    path.with_name("vault.key.new").chmod(0o600)
    async with started(settings):
        pass
    assert path.read_bytes() == after
    assert not path.with_name("vault.key.new").exists()
