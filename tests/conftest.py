from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from libs.config import Settings

POSTGRES = "DYNAMIC_AGENTS_TEST_POSTGRES"
"""URL of a PostgreSQL server with the right to create databases: postgresql+asyncpg://user@host:port/postgres"""
REDIS = "DYNAMIC_AGENTS_TEST_REDIS"
"""URL of a Redis server: redis://host:port/0. Tests keep to keys with a prefix of their own."""
INTEROP = "DYNAMIC_AGENTS_TEST_INTEROP"
"""Set to 1 where Go is installed."""

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("AGNO_TELEMETRY", "false")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that need what is not here are left out, except in CI, where they must run."""
    needs = {"postgres": POSTGRES, "redis": REDIS, "interop": INTEROP}
    missing = {marker for marker, name in needs.items() if not os.environ.get(name)}
    if missing and os.environ.get("CI"):
        raise pytest.UsageError(f"CI must run the tests marked {', '.join(sorted(missing))}")
    left_out = [item for item in items if missing & {mark.name for mark in item.iter_markers()}]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("DYNAMIC_AGENTS_") and not name.startswith("DYNAMIC_AGENTS_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def database_settings(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    """Settings of an empty database, on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        yield {"data_dir": tmp_path / "data"}
        return
    async for settings in _postgres_database(tmp_path):
        yield settings


async def _postgres_database(tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    admin = create_async_engine(os.environ[POSTGRES], isolation_level="AUTOCOMMIT")
    name = f"test_{uuid.uuid4().hex}"
    async with admin.connect() as connection:
        await connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
    url = admin.url.set(database=name).render_as_string(hide_password=False)
    try:
        yield {"data_dir": tmp_path / "data", "database_url": url, "database_pool_size": 4}
    finally:
        async with admin.connect() as connection:
            await connection.execute(sa.text(f'DROP DATABASE "{name}" WITH (FORCE)'))
        await admin.dispose()


@pytest.fixture(params=[pytest.param("redis", marks=pytest.mark.redis)])
def redis_url() -> str:
    """A Redis that others use too."""
    return os.environ[REDIS]


@pytest.fixture
def make_settings(tmp_path: Path) -> Callable[..., Any]:
    """Settings of a service on a free port, its data in this test's folder."""

    def make(kind: type[Settings], **overrides: Any) -> Settings:
        return kind.load(**{"port": 0, "data_dir": tmp_path / "data", "drain_grace": 1.0, **overrides})

    return make
