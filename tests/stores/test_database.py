"""Opening, migrating and losing a database."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.ext.asyncio import create_async_engine

from libs import database, errors
from libs.config import StartError
from services.registry import store
from services.registry.app import MIGRATIONS
from services.registry.config import RegistrySettings
from services.registry.model import Kind
from services.registry.store import SqlResourceStore
from tests import harness


@pytest.fixture
def settings(database_settings: dict[str, Any]) -> RegistrySettings:
    return RegistrySettings.load(**database_settings)


async def start_error(settings: RegistrySettings) -> str:
    with pytest.raises(StartError) as caught:
        async with database.opened(settings, MIGRATIONS):
            pass
    text = str(caught.value)
    assert "\n" not in text
    assert "hunter2" not in text
    return text


async def test_migrated_schema_is_the_stores(settings: RegistrySettings) -> None:
    await database.migrate(settings, MIGRATIONS)

    def differences(connection: sa.Connection) -> list[Any]:
        options = {"compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), store.metadata))

    async with database.opened(settings, MIGRATIONS) as db, db.read() as connection:
        assert await connection.run_sync(differences) == []


async def test_migrate_again_and_at_once(settings: RegistrySettings) -> None:
    await asyncio.gather(*(database.migrate(settings, MIGRATIONS) for _ in range(4)))
    await database.migrate(settings, MIGRATIONS)
    async with database.opened(settings, MIGRATIONS) as db:
        assert await SqlResourceStore(db).positions(["acme"]) == {}


@harness.only_postgres
async def test_database_that_is_not_migrated(settings: RegistrySettings) -> None:
    assert "dynamic-agents migrate" in await start_error(settings)


async def test_database_of_a_newer_version(settings: RegistrySettings) -> None:
    await database.migrate(settings, MIGRATIONS)
    async with database.opened(settings, MIGRATIONS) as db, db.write() as connection:
        await connection.execute(sa.text("UPDATE alembic_version SET version_num = 'registry_9999'"))
    assert "registry_9999" in await start_error(settings)


@harness.only_postgres
async def test_each_service_has_its_own_schema(settings: RegistrySettings) -> None:
    await database.migrate(settings, MIGRATIONS)
    engine = create_async_engine(settings.database)
    async with engine.connect() as connection:
        query = "SELECT DISTINCT table_schema FROM information_schema.tables WHERE table_name = 'revisions'"
        assert list((await connection.execute(sa.text(query))).scalars()) == ["registry"]
    await engine.dispose()


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "database_url"),
        ("", "database_url"),
        ("postgresql+asyncpg://me:hunter2@host:port/x", "database_url"),
        ("mysql+aiomysql://me:hunter2@127.0.0.1/x", "mysql+aiomysql"),
        ("postgresql://me:hunter2@127.0.0.1/x", "postgresql"),
        ("sqlite+aiosqlite://", "database_url"),
        ("sqlite+aiosqlite:///:memory:", "database_url"),
        ("sqlite+aiosqlite:////nowhere/at/all.db", "database"),
        pytest.param(f"postgresql+asyncpg://me:hunter2@127.0.0.1:{closed_port()}/x", "database", id="nobody-listens"),
        ("postgresql+asyncpg://me:hunter2@does-not-exist.invalid/x", "database"),
        ("postgresql+asyncpg://me:hunter2@127.0.0.1:1/x?nonsense=1", "database"),
    ],
)
async def test_bad_urls(tmp_path: Path, url: str, says: str) -> None:
    settings = RegistrySettings.load(data_dir=tmp_path, database_url=url)
    assert says in await start_error(settings)
    with pytest.raises(StartError):
        await database.migrate(settings, MIGRATIONS)


@harness.only_postgres
@pytest.mark.parametrize("change", [{"username": "nobody-here"}, {"database": "nothing-here"}])
async def test_server_that_refuses(database_settings: dict[str, Any], change: dict[str, str]) -> None:
    url = sa.make_url(database_settings["database_url"]).set(**change, password="hunter2")  # type: ignore[arg-type]
    settings = RegistrySettings.load(**{**database_settings, "database_url": url.render_as_string(hide_password=False)})
    assert next(iter(change.values())) in await start_error(settings)


async def test_data_dir_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = RegistrySettings.load(data_dir=tmp_path / "file" / "x")
    assert "data_dir" in await start_error(settings)


async def test_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "registry.db").write_bytes(b"nonsense" * 1000)
    assert "registry" in await start_error(RegistrySettings.load(data_dir=tmp_path))


async def test_data_dir_is_private(tmp_path: Path) -> None:
    settings = RegistrySettings.load(data_dir=tmp_path / "new" / "data")
    async with database.opened(settings, MIGRATIONS):
        assert settings.data_dir.stat().st_mode & 0o077 == 0


@harness.only_postgres
async def test_connections_that_were_cut_are_replaced(settings: RegistrySettings) -> None:
    await database.migrate(settings, MIGRATIONS)
    async with database.opened(settings, MIGRATIONS) as db:
        resources = SqlResourceStore(db)
        assert await resources.positions(["acme"]) == {}
        engine = create_async_engine(settings.database)
        async with engine.connect() as admin:
            cut = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> "
            )
            await admin.execute(sa.text(f"{cut} pg_backend_pid()"))
        await engine.dispose()
        assert await resources.positions(["acme"]) == {}


@harness.only_postgres
async def test_connections_beside_the_pool(settings: RegistrySettings) -> None:
    await database.migrate(settings, MIGRATIONS)
    async with database.opened(settings, MIGRATIONS) as db:
        asked = (db.fetch("SELECT pg_backend_pid(), pg_sleep(0.1)") for _ in range(6))
        used = {rows[0][0] for rows in await asyncio.gather(*asked)}
        assert 1 < len(used) < 6
        engine = create_async_engine(settings.database)
        async with engine.connect() as admin:
            await admin.execute(
                sa.text("SELECT pg_terminate_backend(pid) FROM unnest(CAST(:used AS int[])) AS pid"), {"used": [*used]}
            )
        await engine.dispose()
        found: list[int] = []
        for _ in range(len(used) + 1):
            with suppress(errors.Unavailable):  # one that was cut a moment ago looks whole
                found = [row[0] for row in await db.fetch("SELECT pg_backend_pid()")]
        assert found
        assert not used & {*found}


@harness.only_postgres
async def test_database_that_went_away(settings: RegistrySettings) -> None:
    await database.migrate(settings, MIGRATIONS)
    async with database.opened(settings, MIGRATIONS) as db:
        url = db.engine.url
        admin = create_async_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
        async with admin.connect() as connection:
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
            await connection.execute(sa.text(ended), {"name": url.database})
            await connection.execute(sa.text(f'ALTER DATABASE "{url.database}" RENAME TO "{url.database}_away"'))
        for _ in range(2):
            with pytest.raises(errors.Unavailable) as caught:
                await SqlResourceStore(db).get("acme", Kind.AGENT, "helper")
            assert caught.value.reason_code == "DATABASE_UNAVAILABLE"
        async with admin.connect() as connection:
            await connection.execute(sa.text(f'ALTER DATABASE "{url.database}_away" RENAME TO "{url.database}"'))
        await admin.dispose()
        assert await SqlResourceStore(db).get("acme", Kind.AGENT, "helper") is None
