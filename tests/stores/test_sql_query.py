"""sql_query on real databases: it reads, within bounds, and nothing else."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from libs import identity
from libs.identity import Caller
from services.execution.gateways.sql_query import Limits, SqlQuery
from services.execution.service.sources import ToolError

LIMITS = Limits(seconds=5.0, rows=100, most_bytes=20_000)
ENDLESS = "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x) SELECT count(*) AS n FROM x"


class Values:
    async def resolved(self, values: Mapping[str, str], *, refresh: bool = False) -> dict[str, str]:
        return {name: value.removeprefix("secret:") for name, value in values.items()}


@pytest.fixture
async def url(database_settings: dict[str, Any], tmp_path: Path) -> str:
    """Of a database with a table of 200 leads."""
    found = database_settings.get("database_url", f"sqlite+aiosqlite:///{tmp_path}/leads.db")
    engine = create_async_engine(found)
    async with engine.begin() as connection:
        await connection.execute(sa.text("CREATE TABLE leads (id integer PRIMARY KEY, name text, score float)"))
        rows = [{"id": n, "name": f"n:{n}", "score": n / 2} for n in range(200)]
        await connection.execute(sa.text("INSERT INTO leads VALUES (:id, :name, :score)"), rows)
    await engine.dispose()
    return str(found)


async def asked(url: str, query: str, limits: Limits = LIMITS, **arguments: Any) -> dict[str, Any]:
    async with SqlQuery({"crm": url}, {}, Values(), limits) as tool:
        return dict(orjson.loads(await tool.query(query, **arguments)))


async def refused(url: str, query: str, limits: Limits = LIMITS) -> str:
    with pytest.raises(ToolError) as caught:
        await asked(url, query, limits)
    return str(caught.value)


async def test_rows(url: str) -> None:
    found = await asked(url, "SELECT id, name, score FROM leads WHERE name <> 'a;b:c' ORDER BY id DESC LIMIT 2;")
    assert found == {
        "columns": ["id", "name", "score"],
        "rows": [[199, "n:199", 99.5], [198, "n:198", 99.0]],
        "truncated": False,
    }
    assert (await asked(url, "SELECT name FROM leads WHERE 1 = 0"))["columns"] == ["name"]
    assert (await asked(url, "SELECT count(*) AS n, NULL AS none FROM leads"))["rows"] == [[200, None]]


async def test_as_many_rows_as_there_may_be(url: str) -> None:
    found = await asked(url, "SELECT * FROM leads")
    assert (len(found["rows"]), found["truncated"]) == (100, True)
    found = await asked(url, "SELECT * FROM leads", max_rows=3)
    assert (len(found["rows"]), found["truncated"]) == (3, True)
    found = await asked(url, "SELECT * FROM leads", Limits(5.0, 100, 500))
    assert 0 < len(found["rows"]) < 50
    assert found["truncated"]


async def test_row_that_is_too_long(url: str) -> None:
    long = "replace(replace(replace('aaaaaaaaaa', 'a', 'bbbbbbbbbb'), 'b', 'cccccccccc'), 'c', 'dddddddddd')"
    query = f"SELECT replace({long}, 'd', 'eeeeeeeeee') AS x"
    await refused(url, query, Limits(5.0, 100, 50_000))


async def test_endless_query(url: str) -> None:
    assert "takes more than" in await refused(url, ENDLESS, Limits(0.3, 100, 20_000))
    many = "SELECT count(*) AS n FROM leads a, leads b, leads c, leads d, leads e"
    assert "takes more than" in await refused(url, many, Limits(0.3, 100, 20_000))


async def test_bad_queries(url: str) -> None:
    for query in ("SELECT nothing FROM leads", "SELECT * FROM nowhere", "SELECT abs('a', 'b') FROM leads"):
        await refused(url, query)


async def test_nothing_is_written_even_if_the_parser_were_fooled(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is asked in a way that lets it refuse."""
    monkeypatch.setattr("services.execution.service.builtin.sql.checked", lambda query, _: query)
    for query in (
        "DELETE FROM leads",
        "DROP TABLE leads",
        "WITH x AS (DELETE FROM leads RETURNING *) SELECT * FROM x",
        "SELECT 1; DELETE FROM leads",
        "SELECT 1) AS x; DELETE FROM leads; SELECT (1",
        "COMMIT; DELETE FROM leads",
        "SELECT id INTO other FROM leads",
        "PRAGMA writable_schema = 1",
        "ATTACH 'other.db' AS other",
        "SELECT set_config('transaction_read_only', 'off', false) AS x, nextval('s') AS y",
    ):
        with pytest.raises((ToolError, sqlite3.Warning)):
            await asked(url, query)
    monkeypatch.undo()
    assert (await asked(url, "SELECT count(*) AS n FROM leads"))["rows"] == [[200]]


async def test_many_at_once(url: str) -> None:
    async with SqlQuery({"crm": f"secret:{url}"}, {}, Values(), LIMITS) as tool:
        found = await asyncio.gather(*(tool.query(f"SELECT {n} AS n") for n in range(20)))
    assert [orjson.loads(one)["rows"] for one in found] == [[[n]] for n in range(20)]


async def test_database_of_other_tenants(url: str) -> None:
    async with SqlQuery({"crm": url}, {"crm": ["acme"]}, Values(), LIMITS) as tool:
        identity.enter(Caller("other", "bob", frozenset()))
        with pytest.raises(ToolError, match="none of yours"):
            await tool.query("SELECT 1 AS x")
        identity.enter(Caller("acme", "ann", frozenset()))
        assert "[[1]]" in await tool.query("SELECT 1 AS x")


async def test_database_that_is_not_there(tmp_path: Path) -> None:
    assert "refuses" in await refused(f"sqlite:///{tmp_path}/none.db", "SELECT 1")
    assert not (tmp_path / "none.db").exists()
    assert "not reached" in await refused("postgresql://nobody@127.0.0.1:1/none", "SELECT 1")


async def test_columns_of_the_same_name_are_refused_where_they_would_be_lost(
    url: str,
) -> None:
    query = "SELECT a.id, b.id FROM leads a JOIN leads b ON a.id = b.id LIMIT 1"
    if url.startswith("sqlite"):
        assert (await asked(url, query))["rows"] == [[0, 0]]
    else:
        assert "AS" in await refused(url, query)
