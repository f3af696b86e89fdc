"""The contract of Registry's store, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from libs import database, errors
from libs.database import Database
from services.registry import model
from services.registry.app import MIGRATIONS
from services.registry.config import RegistrySettings
from services.registry.model import Draft, Kind, Request, Resource
from services.registry.service.audit import AuditFilter, content_digest
from services.registry.service.filters import Condition, Order, parse_filter
from services.registry.store import SqlAuditStore, SqlResourceStore, metadata
from services.registry.store.transactions import Overtaken
from tests import harness

KINDS = list(Kind)
FIRST = ("", "")


@pytest.fixture
def settings(database_settings: dict[str, Any]) -> RegistrySettings:
    return RegistrySettings.load(**database_settings)


@pytest.fixture
async def opened(settings: RegistrySettings) -> AsyncIterator[Database]:
    await database.migrate(settings, MIGRATIONS)
    async with database.opened(settings, MIGRATIONS) as db:
        yield db


@pytest.fixture
def resources(opened: Database) -> SqlResourceStore:
    return SqlResourceStore(opened)


def first(resource_id: str = "helper", kind: Kind = Kind.AGENT, **fields: Any) -> Resource:
    spec = {"model": {"model": "offline", "temperature": 0.25, "seed": "9007199254740993"}, "instructions": ["é☃"]}
    return model.first(kind, Draft(resource_id, **{"display_name": "Helper", "spec": spec, **fields}), "ann")


def after(resource: Resource, name: str = "Renamed", **fields: Any) -> Resource:
    return resource.next(Draft(resource.resource_id, name, spec=resource.spec), "bob", **fields)


def keys(changes: Sequence[model.Change]) -> list[tuple[int, str, int]]:
    return [(change.position, change.resource.resource_id, change.resource.revision) for change in changes]


async def test_what_is_put_can_be_got(resources: SqlResourceStore) -> None:
    made = first(labels={"team": "crm"}, description="What")
    assert await resources.get("acme", Kind.AGENT, "helper") is None
    assert await resources.put("acme", made)
    assert await resources.get("acme", Kind.AGENT, "helper") == made
    assert await resources.get("acme", Kind.AGENT, "helper", 1) == made
    assert await resources.get("acme", Kind.AGENT, "helper", 2) is None
    assert await resources.get("acme", Kind.ROUTER_CONFIG, "helper") is None


async def test_revisions_stay(resources: SqlResourceStore) -> None:
    one = first()
    two = after(one)
    assert await resources.put("acme", one)
    assert await resources.put("acme", two)
    assert await resources.get("acme", Kind.AGENT, "helper") == two
    assert await resources.get("acme", Kind.AGENT, "helper", 1) == one


@pytest.mark.parametrize("skip", [0, 1, 3])
async def test_only_the_next_revision_is_taken(resources: SqlResourceStore, skip: int) -> None:
    one = first()
    two = after(one)
    for made in (one, two):
        assert await resources.put("acme", made)
    wrong = [one, two, after(two), after(after(two))][skip]
    assert not await resources.put("acme", wrong)
    assert await resources.get("acme", Kind.AGENT, "helper") == two
    assert await resources.positions(["acme"]) == {"acme": 2}


async def test_no_revision_without_a_first(resources: SqlResourceStore) -> None:
    assert not await resources.put("acme", after(first()))
    assert await resources.positions(["acme"]) == {}


async def test_deleted_and_created_again(resources: SqlResourceStore) -> None:
    one = first()
    gone = after(one, deleted=True)
    again = model.recreated(gone, Draft("helper", "Again", spec=one.spec), "ann")
    for made in (one, gone):
        assert await resources.put("acme", made)
    found = await resources.get("acme", Kind.AGENT, "helper")
    assert found is not None
    assert found.deleted
    assert await resources.get("acme", Kind.AGENT, "helper", 1) == one
    assert await resources.page("acme", Kind.AGENT, [], Order(), after="", limit=10) == []
    assert not await resources.put("acme", first())
    assert await resources.put("acme", again)
    assert await resources.get("acme", Kind.AGENT, "helper") == again
    assert again.revision == 3


async def test_one_of_many_writers_wins_each_revision(opened: Database, settings: RegistrySettings) -> None:
    """Twenty writers on two connections pools, as two processes have them."""
    async with database.opened(settings, MIGRATIONS) as other:
        stores = [SqlResourceStore(opened), SqlResourceStore(other)]
        assert await stores[0].put("acme", first())
        wins: list[int] = []

        async def write(number: int) -> None:
            mine = stores[number % 2]
            for _ in range(10):
                current = await mine.get("acme", Kind.AGENT, "helper")
                assert current is not None
                if await mine.put("acme", after(current, f"by {number}")):
                    wins.append(current.revision + 1)

        await asyncio.gather(*map(write, range(20)))
        changes, complete = await stores[0].changes("acme", KINDS, after=0, limit=1000)
    assert sorted(wins) == list(range(2, len(wins) + 2))
    assert keys(changes) == [(n, "helper", n) for n in range(1, len(wins) + 2)]
    assert complete == len(changes)


async def test_positions_follow_commits(opened: Database, settings: RegistrySettings) -> None:
    """Whoever reads up to a position has missed nothing before it, while others write."""
    async with database.opened(settings, MIGRATIONS) as other:
        stores = [SqlResourceStore(opened), SqlResourceStore(other)]
        reader, seen = SqlResourceStore(opened), 0
        writers = [
            asyncio.create_task(stores[n % 2].put("acme", first(f"agent-{n}-{m}"))) for n in range(10) for m in range(6)
        ]
        while seen < len(writers):
            changes, complete = await reader.changes("acme", KINDS, after=seen, limit=7)
            assert [change.position for change in changes] == list(range(seen + 1, complete + 1))
            seen = complete
        assert all(await asyncio.gather(*writers))


async def test_request_ids(resources: SqlResourceStore) -> None:
    request = Request("r-1", "digest")
    made = first()
    assert await resources.created_by("acme", Kind.AGENT, "r-1") is None
    assert await resources.put("acme", made, request=request)
    assert await resources.put("acme", after(made))
    assert await resources.created_by("acme", Kind.AGENT, "r-1") == (request, made)
    assert await resources.created_by("acme", Kind.ROUTER_CONFIG, "r-1") is None
    assert not await resources.put("acme", first("other"), request=request)
    assert await resources.get("acme", Kind.AGENT, "other") is None
    assert await resources.positions(["acme"]) == {"acme": 2}


async def page(resources: SqlResourceStore, after: str = "", limit: int = 10, **labels: str) -> list[str]:
    where = [Condition("labels", (key,), "=", value) for key, value in labels.items()]
    found = await resources.page("acme", Kind.AGENT, where, Order(), after=after, limit=limit)
    return [resource.resource_id for resource in found]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('spec.model.model = "gpt-4o"', ["one"]),
        ("spec.model.temperature > 0.4", ["one"]),
        ("spec.model.temperature <= 0.4", ["two"]),
        ("spec.markdown = true", ["two"]),
        ('agent_id = "t*"', ["three", "two"]),
        ('agent_id != "t*"', ["one"]),
        ('display_name = "O%*"', []),
        ('display_name = "One" AND spec.model.model = "gpt-4o"', ["one"]),
        ('update_time > "2000-01-01T00:00:00Z"', ["one", "three", "two"]),
        ('create_time > "2999-01-01T00:00:00+02:00"', []),
    ],
)
async def test_filters(resources: SqlResourceStore, text: str, names: list[str]) -> None:
    for made in (
        first("one", display_name="One", spec={"model": {"model": "gpt-4o", "temperature": 0.5}}),
        first("two", spec={"model": {"model": "offline", "temperature": 0.1}, "markdown": True}),
        first("three", spec={}),
    ):
        assert await resources.put("acme", made)
    found = await resources.page("acme", Kind.AGENT, parse_filter(text, Kind.AGENT), Order(), after="", limit=10)
    assert [resource.resource_id for resource in found] == names


async def test_pages(resources: SqlResourceStore) -> None:
    for name in ("ab", "a-b", "b", "a1"):
        assert await resources.put("acme", first(name))
    assert await resources.put("acme", first("x", Kind.ROUTER_CONFIG))
    assert await page(resources) == ["a-b", "a1", "ab", "b"]
    assert await page(resources, limit=2) == ["a-b", "a1"]
    assert await page(resources, after="a1", limit=2) == ["ab", "b"]
    assert await page(resources, after="b") == []


async def test_labels(resources: SqlResourceStore) -> None:
    one = first("one", labels={"team": "crm", "env": "prod"})
    for made in (one, first("two", labels={"team": "crm"}), first("three")):
        assert await resources.put("acme", made)
    assert await page(resources, team="crm") == ["one", "two"]
    assert await page(resources, team="crm", env="prod") == ["one"]
    assert await page(resources, team="c") == []
    assert await page(resources, other="crm") == []
    assert await resources.put("acme", after(one))  # has no labels
    assert await page(resources, team="crm") == ["two"]


async def test_a_snapshot_in_parts(resources: SqlResourceStore) -> None:
    """As it was at a position: what was deleted by then, or came later, is no part of it, nor does it end a page."""
    for made in (first("a"), first("b"), first("c"), first("d"), first("p", Kind.PROMPT)):
        assert await resources.put("acme", made)
    for later in (after(first("a"), deleted=True), after(first("b"), deleted=True)):
        assert await resources.put("acme", later)
    assert await resources.put("acme", first("cc"))
    assert await resources.put("acme", after(first("d")))

    async def parts(position: int, limit: int) -> list[tuple[str, int]]:
        found, seen = FIRST, []
        while page := await resources.state("acme", [*KINDS, *KINDS], position=position, after=found, limit=limit):
            assert len(page) <= limit
            seen += [(one.resource.resource_id, one.resource.revision) for one in page]
            found = (page[-1].resource.kind, page[-1].resource.resource_id)
        return seen

    for limit in (1, 2, 3, 10):
        assert await parts(5, limit) == [("a", 1), ("b", 1), ("c", 1), ("d", 1), ("p", 1)]
        assert await parts(7, limit) == [("c", 1), ("d", 1), ("p", 1)]
        assert await parts(9, limit) == [("c", 1), ("cc", 1), ("d", 2), ("p", 1)]


@pytest.mark.parametrize("key", ['a"b', "a.b", "a'b", "0", "$", "a b", "a\\b", "[0]", "é", "a/b~c", "%"])
async def test_any_text_can_be_a_label(resources: SqlResourceStore, key: str) -> None:
    assert await resources.put("acme", first("yes", labels={key: key}))
    assert await resources.put("acme", first("no", labels={"x": key, "a": "b"}))
    assert await page(resources, **{key: key}) == ["yes"]
    assert await page(resources, **{key: "other"}) == []


async def test_changes(resources: SqlResourceStore) -> None:
    one = first()
    config = first("default", Kind.ROUTER_CONFIG)
    for made in (one, config, after(one), after(after(one), deleted=True)):
        assert await resources.put("acme", made)
    changes, complete = await resources.changes("acme", KINDS, after=0, limit=10)
    assert keys(changes) == [(1, "helper", 1), (2, "default", 1), (3, "helper", 2), (4, "helper", 3)]
    assert [change.resource.deleted for change in changes] == [False, False, False, True]
    assert complete == 4
    some, complete = await resources.changes("acme", KINDS, after=1, limit=2)
    assert (keys(some), complete) == ([(2, "default", 1), (3, "helper", 2)], 3)
    configs, complete = await resources.changes("acme", [Kind.ROUTER_CONFIG], after=0, limit=10)
    assert (keys(configs), complete) == ([(2, "default", 1)], 4)
    assert await resources.changes("acme", KINDS, after=4, limit=10) == ([], 4)


async def test_state_at_a_position(resources: SqlResourceStore) -> None:
    one, two = first("one"), first("two")
    gone = after(one, deleted=True)
    again = model.recreated(gone, Draft("one", spec=one.spec), "ann")
    for made in (one, two, first("default", Kind.ROUTER_CONFIG), after(two), gone, again):
        assert await resources.put("acme", made)

    async def state(position: int, after: tuple[str, str] = FIRST, limit: int = 10) -> list[tuple[int, str, int]]:
        return keys(await resources.state("acme", KINDS, position=position, after=after, limit=limit))

    assert await state(0) == []
    assert await state(2) == [(1, "one", 1), (2, "two", 1)]
    assert await state(4) == [(1, "one", 1), (4, "two", 2), (3, "default", 1)]
    assert await state(5) == [(4, "two", 2), (3, "default", 1)]
    assert await state(6) == [(6, "one", 3), (4, "two", 2), (3, "default", 1)]
    assert await state(6, limit=1) == [(6, "one", 3)]
    assert await state(6, after=("agent", "one")) == [(4, "two", 2), (3, "default", 1)]
    assert keys(await resources.state("acme", [Kind.AGENT], position=3, after=FIRST, limit=9)) == [
        (1, "one", 1),
        (2, "two", 1),
    ]


async def test_tenants_are_apart(resources: SqlResourceStore) -> None:
    ours, theirs = first("helper", display_name="ours"), first("helper", display_name="theirs")
    other = first("only-theirs")
    assert await resources.put("acme", ours, request=Request("r", "d"))
    assert await resources.created_by("globex", Kind.AGENT, "r") is None
    assert await resources.get("globex", Kind.AGENT, "helper") is None
    assert await resources.get("globex", Kind.AGENT, "helper", 1) is None
    assert not await resources.put("globex", after(ours))
    assert await resources.put("globex", theirs, request=Request("r", "d"))
    assert await resources.put("globex", other)
    assert await resources.get("acme", Kind.AGENT, "helper") == ours
    assert await page(resources) == ["helper"]
    assert await resources.created_by("acme", Kind.AGENT, "r") == (Request("r", "d"), ours)
    assert await resources.positions(["acme"]) == {"acme": 1}
    assert await resources.positions(["acme", "globex", "none"]) == {"acme": 1, "globex": 2}
    changes, complete = await resources.changes("acme", KINDS, after=0, limit=10)
    assert ([change.resource for change in changes], complete) == ([ours], 1)
    assert [c.resource for c in await resources.state("acme", KINDS, position=9, after=FIRST, limit=9)] == [ours]


def test_every_table_has_its_tenant() -> None:
    """But the one that says when a process last did the upkeep."""
    without = {name for name, table in metadata.tables.items() if "tenant" not in table.primary_key.columns}
    assert without == {"upkeep"}


async def test_writers_that_are_cancelled_leave_nothing_behind(resources: SqlResourceStore) -> None:
    tasks = [asyncio.create_task(resources.put("acme", first(f"agent-{n}"))) for n in range(60)]
    for number, task in enumerate(tasks):
        await asyncio.sleep(0.0003 * (number % 4))
        task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in done} <= {bool, asyncio.CancelledError}
    async with asyncio.timeout(30):
        assert await resources.put("acme", first("last"))
    changes, complete = await resources.changes("acme", KINDS, after=0, limit=100)
    assert [change.position for change in changes] == list(range(1, complete + 1))
    assert len(changes) >= 1 + done.count(True)


@harness.only_postgres
async def test_text_that_cannot_be_stored(settings: RegistrySettings, resources: SqlResourceStore) -> None:
    with pytest.raises(errors.InvalidArgument):
        await resources.created_by("acme", Kind.AGENT, "a\0b")
    with pytest.raises(errors.InvalidArgument):
        await resources.put("acme", first(labels={"a": "\0"}))
    assert await resources.put("acme", first())


# Several at once


def refers_to(name: str, *others: str) -> Resource:
    members = [{"team_id": other} for other in others]
    return model.first(Kind.TEAM, Draft(name, spec={"members": members}), "ann")


async def test_many(resources: SqlResourceStore) -> None:
    one, two, gone = first("one"), first("two"), first("gone")
    for made in (one, two, gone, after(gone, deleted=True), first("one", Kind.PROMPT)):
        assert await resources.put("acme", made)
    changed = after(two)
    assert await resources.put("acme", changed)
    assert await resources.put("globex", first("theirs"))
    found = await resources.many("acme", Kind.AGENT, ["two", "gone", "none", "one", "theirs"])
    assert found == {"one": one, "two": changed}
    assert await resources.many("acme", Kind.AGENT, []) == {}


async def test_history(resources: SqlResourceStore) -> None:
    one = first()
    gone = after(one, deleted=True)
    again = model.recreated(gone, Draft("helper", spec=one.spec), "ann")
    for made in (one, gone, again, first("other")):
        assert await resources.put("acme", made)
    assert await resources.history("acme", Kind.AGENT, "helper", before=0, limit=9) == [again, gone, one]
    assert await resources.history("acme", Kind.AGENT, "helper", before=0, limit=2) == [again, gone]
    assert await resources.history("acme", Kind.AGENT, "helper", before=2, limit=9) == [one]
    assert await resources.history("acme", Kind.AGENT, "helper", before=1, limit=9) == []
    assert await resources.history("acme", Kind.TEAM, "helper", before=0, limit=9) == []
    assert await resources.history("globex", Kind.AGENT, "helper", before=0, limit=9) == []


class _No(Exception):
    pass


async def test_a_transaction_is_whole(opened: Database, resources: SqlResourceStore) -> None:
    audit = SqlAuditStore(opened)
    one, two = first("one"), first("two")

    async def half(transaction: Any) -> None:
        await transaction.put(one)
        assert await transaction.current(Kind.AGENT, "one") == one
        raise _No

    with pytest.raises(_No):
        await resources.transact("acme", half)
    assert await resources.get("acme", Kind.AGENT, "one") is None
    assert await resources.positions(["acme"]) == {}
    assert await audit.head("acme") == (0, "")

    async def whole(transaction: Any) -> None:
        await transaction.put(one)
        await transaction.put(two)
        await transaction.put(after(one))

    await resources.transact("acme", whole)
    changes, complete = await resources.changes("acme", KINDS, after=0, limit=9)
    assert (keys(changes), complete) == ([(1, "one", 1), (2, "two", 1), (3, "one", 2)], 3)
    assert (await audit.head("acme"))[0] == 3


async def test_a_transaction_that_is_overtaken_stores_nothing(resources: SqlResourceStore) -> None:
    assert await resources.put("acme", first("one"))

    async def work(transaction: Any) -> None:
        await transaction.put(first("two"))
        await transaction.put(after(after(first("one"))))

    with pytest.raises(Overtaken):
        await resources.transact("acme", work)
    assert await resources.get("acme", Kind.AGENT, "two") is None
    assert await resources.positions(["acme"]) == {"acme": 1}


async def test_what_a_refused_check_sees(resources: SqlResourceStore) -> None:
    async def no(view: Any) -> None:
        assert await view.specs(Kind.AGENT, ["one", "none"]) == {}
        raise _No

    with pytest.raises(_No):
        await resources.put("acme", first("one"), request=Request("r", "d"), verify=no)
    assert await resources.get("acme", Kind.AGENT, "one") is None
    assert await resources.created_by("acme", Kind.AGENT, "r") is None


async def test_transactions_of_a_tenant_come_one_after_the_other(opened: Database, settings: RegistrySettings) -> None:
    """What a transaction has read is still so when it commits, on two pools of connections."""
    async with database.opened(settings, MIGRATIONS) as other:
        stores = [SqlResourceStore(opened), SqlResourceStore(other)]
        assert await stores[0].put("acme", first("count", display_name="0"))

        async def add(number: int) -> None:
            async def work(transaction: Any) -> None:
                current = await transaction.current(Kind.AGENT, "count")
                await transaction.put(after(current, str(int(current.display_name) + 1)))

            await stores[number % 2].transact("acme", work)

        await asyncio.gather(*map(add, range(40)))
        found = await stores[1].get("acme", Kind.AGENT, "count")
        assert found is not None
        assert (found.display_name, found.revision) == ("40", 41)


async def test_referrers(resources: SqlResourceStore) -> None:
    async def referrers(kind: Kind, name: str, limit: int = 9) -> list[tuple[Kind, str]]:
        found: list[tuple[Kind, str]] = []

        async def look(transaction: Any) -> None:
            found.extend(await transaction.referrers(kind, name, limit))

        await resources.transact("acme", look)
        return found

    ours = refers_to("a", "x", "y")
    for made in (ours, refers_to("b", "x", "x"), refers_to("x", "x")):
        assert await resources.put("acme", made)
    assert await resources.put("globex", refers_to("theirs", "x"))
    assert await referrers(Kind.TEAM, "x") == [(Kind.TEAM, "a"), (Kind.TEAM, "b")]
    assert await referrers(Kind.TEAM, "x", 1) == [(Kind.TEAM, "a")]
    assert await referrers(Kind.AGENT, "x") == []
    less = ours.next(Draft("a", spec={"members": [{"team_id": "y"}]}), "ann")
    assert await resources.put("acme", less)
    assert await referrers(Kind.TEAM, "x") == [(Kind.TEAM, "b")]
    assert await referrers(Kind.TEAM, "y") == [(Kind.TEAM, "a")]
    assert await resources.put("acme", less.next(less.draft(), "ann", deleted=True))
    assert await referrers(Kind.TEAM, "y") == []


async def test_labelled(resources: SqlResourceStore) -> None:
    one, two, gone = (first(name, labels={"a": "1", name: ""}) for name in ("one", "two", "gone"))
    for made in (two, one, gone, gone.next(gone.draft(), "ann", deleted=True), first("none")):
        assert await resources.put("acme", made)
    found: list[Resource] = []

    async def look(transaction: Any) -> None:
        for labels in ({"a": "1"}, {"a": "1", "two": ""}, {"a": "2"}):
            found.extend(await transaction.labelled(labels))

    await resources.transact("acme", look)
    assert found == [one, two, two]


# Audit


async def test_entries_of_the_audit(opened: Database, resources: SqlResourceStore) -> None:
    audit = SqlAuditStore(opened)
    one, config = first(), first("default", Kind.ROUTER_CONFIG)
    two = after(one)
    for made in (one, config, two, after(two, deleted=True)):
        assert await resources.put("acme", made)
    found = await audit.entries("acme", AuditFilter(), before=0, limit=9)
    assert [(e.position, e.resource_id, e.revision, e.deleted) for e in found] == [
        (4, "helper", 3, True),
        (3, "helper", 2, False),
        (2, "default", 1, False),
        (1, "helper", 1, False),
    ]
    assert found[1].before_digest == content_digest(one) != content_digest(two) == found[1].after_digest
    assert (found[1].time, found[1].author) == (two.update_time, "bob")

    async def positions(before: int = 0, limit: int = 9, **where: Any) -> list[int]:
        entries = await audit.entries("acme", AuditFilter(**where), before=before, limit=limit)
        return [entry.position for entry in entries]

    assert await positions(before=4, limit=2) == [3, 2]
    assert await positions(kind=Kind.ROUTER_CONFIG) == [2]
    assert await positions(resource_id="helper") == [4, 3, 1]
    assert await positions(start_time=two.update_time) == [4, 3]
    assert await positions(end_time=two.update_time) == [2, 1]
    assert await audit.entries("globex", AuditFilter(), before=0, limit=9) == []
    assert await audit.head("acme") == (4, found[0].hash)
    chain = await audit.chain("acme", after=0, limit=3)
    assert [entry for entry, _ in chain] == list(found[:0:-1])
    assert [revision for _, revision in chain] == [one, config, two]
    assert [entry.position for entry, _ in await audit.chain("acme", after=3, limit=3)] == [4]


@pytest.mark.parametrize("number", [1e20, 1e300, 12345678901234567000.0, -0.0, 1.0])
async def test_numbers_come_back_as_they_were(opened: Database, resources: SqlResourceStore, number: float) -> None:
    made = first(spec={"maximum": number})
    assert await resources.put("acme", made)
    found = await resources.get("acme", Kind.AGENT, "helper")
    assert found is not None
    assert float(found.spec["maximum"]) == number
    assert content_digest(found) == content_digest(made)
