"""The ten methods of a kind beyond create, get, list, update and delete; and those five of every other kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.registry import model
from services.registry.config import RegistrySettings
from services.registry.model import Kind
from tests import harness
from tests.registry_client import (
    FIVE,
    OFFLINE,
    SECRET,
    SPECS,
    TEN,
    Code,
    Registry,
    id_field,
    invalid,
    missing,
    plain,
    refused,
    resource,
    stale,
    token,
)
from tests.rpc.test_registry_router_config import deployment

Make = Callable[..., Any]
AGENT = Kind.AGENT
ten = pytest.mark.parametrize("kind", TEN)
every = pytest.mark.parametrize("kind", TEN + FIVE)


@pytest.fixture
def settings(make_settings: Make, database_settings: dict[str, Any]) -> RegistrySettings:
    made: RegistrySettings = make_settings(RegistrySettings, **database_settings)
    return made


@pytest.fixture
async def registry(settings: RegistrySettings) -> AsyncIterator[Registry]:
    async with harness.registry(settings) as (_, channel):
        yield Registry(channel)


@pytest.fixture
async def embedded(make_settings: Make) -> AsyncIterator[Registry]:
    """One on SQLite, for what does not depend on the database."""
    async with harness.registry(make_settings(RegistrySettings)) as (_, channel):
        yield Registry(channel)


def model_of(temperature: float | None = None, **fields: Any) -> dict[str, Any]:
    return {"model": {**OFFLINE, **({} if temperature is None else {"temperature": temperature}), **fields}}


# Every kind with ten methods


@ten
async def test_the_whole_life_of_a_kind(registry: Registry, kind: Kind) -> None:
    await registry.member()
    one = await registry.create(kind, display_name="One", labels={"a": "1"})
    two = await registry.update(kind, display_name="Two", labels={})
    assert (one.revision, two.revision) == (1, 2)
    assert await registry.get(kind) == two
    assert await registry.get(kind, "x", 1) == one
    assert await registry.list(kind, filter=f'{id_field(kind)} = "x"') == [two]
    ids = {f"{id_field(kind)}s": ["none", "x", "x", "other"]}
    batch = await registry.call(f"BatchGet{type(one).__name__}s", **ids)
    assert list(getattr(batch, f"{kind}s")) == [two, two]
    assert list(getattr(batch, f"missing_{id_field(kind)}s")) == ["none", "other"]
    assert await registry.diff(kind, 1) == {"display_name": ("One", "Two"), "labels.a": ("1", ...)}
    merged = getattr(await registry.merge(kind, 1, display_name="One", labels={"a": "1", "b": "2"}), kind)
    assert (merged.revision, merged.display_name, dict(merged.labels)) == (3, "Two", {"b": "2"})
    back = await registry.rollback(kind, 1, merged.etag)
    assert (back.revision, back.display_name, dict(back.labels), back.spec) == (4, "One", {"a": "1"}, one.spec)
    await registry.delete(kind, etag=back.etag)
    await missing(registry.get(kind))
    history = (await registry.revisions(kind)).revisions
    assert [(r.revision, r.deleted, r.author) for r in history] == [
        (5, True, "local"),
        *((n, False, "local") for n in (4, 3, 2, 1)),
    ]


@ten
async def test_of_nobody(embedded: Registry, kind: Kind) -> None:
    await missing(embedded.revisions(kind))
    await missing(embedded.diff(kind, 1))
    await missing(embedded.merge(kind, 1))
    await missing(embedded.rollback(kind, 1))


@every
async def test_create_is_safe_to_repeat(embedded: Registry, kind: Kind) -> None:
    await embedded.member()
    made = await asyncio.gather(*(embedded.create(kind, "", request_id="r") for _ in range(5)))
    assert all(one == made[0] for one in made)
    assert [one for one in await embedded.list(kind) if getattr(one, id_field(kind)) != "member"] == [made[0]]
    error = await refused(embedded.create(kind, "other", request_id="r"), Code.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
    assert harness.fields_of(error) == ["request_id"]


@pytest.mark.parametrize("kind", FIVE)
async def test_the_five_methods(registry: Registry, kind: Kind) -> None:
    await registry.member()
    one = await registry.create(kind, display_name="One", labels={"a": "1"})
    assert one == await registry.get(kind)
    await refused(registry.create(kind), Code.ALREADY_EXISTS, "RESOURCE_EXISTS")
    two = await registry.update(kind, display_name="Two", etag=one.etag)
    await stale(registry.update(kind, display_name="Three", etag=one.etag))
    assert (two.revision, two.spec, dict(two.labels)) == (2, one.spec, {"a": "1"})
    assert await registry.get(kind, "x", 1) == one
    assert await registry.list(kind, filter='labels.a = "1"', order_by="display_name desc") == [two]
    await stale(registry.delete(kind, etag=one.etag))
    await registry.delete(kind, etag=two.etag)
    await missing(registry.get(kind))
    assert await registry.list(kind) == []
    assert (await registry.create(kind)).revision == 4


@pytest.mark.parametrize("kind", [kind for kind in TEN + FIVE if kind is not AGENT])
async def test_a_spec_is_required(embedded: Registry, kind: Kind) -> None:
    fields = await invalid(embedded.create(kind, spec={}))
    assert fields
    assert all(field.startswith(f"{kind}.spec.") for field in fields), fields


# Batch get


async def test_batch_get_keeps_the_order(registry: Registry) -> None:
    names = [f"agent-{n}" for n in range(20)]
    for name in reversed(names):
        await registry.create(AGENT, name)
    await registry.delete(AGENT, "agent-3")
    asked = ["agent-7", "agent-3", "agent-1", "zz", "agent-7", "agent-0", "zz"]
    found = await registry.call("BatchGetAgents", agent_ids=asked)
    assert [one.agent_id for one in found.agents] == ["agent-7", "agent-1", "agent-7", "agent-0"]
    assert list(found.missing_agent_ids) == ["agent-3", "zz", "zz"]


async def test_batch_get_has_limits(embedded: Registry) -> None:
    for ids in ([], ["a"] * 1001):
        assert await invalid(embedded.call("BatchGetAgents", agent_ids=ids)) == ["agent_ids"]
    assert await invalid(embedded.call("BatchGetAgents", agent_ids=["ok", "Bad Id"])) == ["agent_ids[1]"]
    found = await embedded.call("BatchGetAgents", agent_ids=[f"a{n}" for n in range(1000)])
    assert len(found.missing_agent_ids) == 1000


# Revisions


async def test_who_changed_what_and_when(settings: RegistrySettings) -> None:
    async with harness.registry(settings.model_copy(update={"jwt_secret": secret()})) as (_, channel):
        ann, bob = (Registry(channel, token(subject=name, scope="x")) for name in ("ann", "bob é"))
        await ann.create(AGENT, display_name="One", spec=model_of(0.5))
        await bob.update(AGENT, mask="spec.model.temperature,labels", spec=model_of(1), labels={"a": "1"})
        await ann.update(AGENT, mask="spec.model.temperature", spec=model_of())
        await bob.delete(AGENT)
        await ann.create(AGENT, display_name="Again", spec=model_of(0.5))
        found = (await ann.revisions(AGENT)).revisions
        current = await ann.get(AGENT)
    assert [(r.revision, r.author, r.deleted, list(r.changed_fields)) for r in found] == [
        (5, "ann", False, ["display_name", "labels.a", "spec.model.temperature"]),
        (4, "bob é", True, []),
        (3, "ann", False, ["spec.model.temperature"]),
        (2, "bob é", False, ["labels.a", "spec.model.temperature"]),
        (1, "ann", False, ["description", "display_name", "labels", "spec"]),
    ]
    times = [r.create_time.ToNanoseconds() for r in found]
    assert times == sorted(times, reverse=True)
    assert (found[0].etag, found[0].create_time) == (current.etag, current.update_time)
    assert len({r.etag for r in found}) == 5


def secret() -> Any:
    from pydantic import SecretStr

    return SecretStr(SECRET)


async def test_pages_of_revisions(registry: Registry) -> None:
    await registry.create(AGENT, display_name="1")
    for number in range(2, 8):
        await registry.update(AGENT, display_name=str(number))
    found: list[tuple[int, list[str]]] = []
    page = ""
    for size in (3, 3, 1):
        reply = await registry.revisions(AGENT, page_size=size, page_token=page)
        found += [(r.revision, list(r.changed_fields)) for r in reply.revisions]
        page = reply.next_page_token
        assert bool(page) == (len(found) < 7)
    assert [revision for revision, _ in found] == [7, 6, 5, 4, 3, 2, 1]
    assert all(changed == ["display_name"] for _, changed in found[:-1])
    await registry.create(AGENT, "y")
    first = await registry.revisions(AGENT, page_size=3)
    for bad in ("nonsense", first.next_page_token[:-4] + "AAAA"):
        assert await invalid(registry.revisions(AGENT, page_token=bad)) == ["page_token"]
    assert await invalid(registry.revisions(AGENT, "y", page_token=first.next_page_token)) == ["page_token"]
    assert await invalid(registry.revisions(AGENT, page_size=1001)) == ["page_size"]


async def test_a_clock_that_goes_back(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Order is by revision, whatever the clock says."""
    at = datetime.now(UTC)

    class Backwards(datetime):
        @classmethod
        def now(cls, _zone: Any = None) -> Any:
            nonlocal at
            at -= timedelta(hours=1)
            return at

    monkeypatch.setattr(model, "datetime", Backwards)
    watch = registry.watch(snapshot=True)
    assert (await watch.read()).HasField("snapshot_complete")
    await registry.create(AGENT)
    for number in range(3):
        await registry.update(AGENT, display_name=str(number))
    await registry.delete(AGENT)
    changes = [(await watch.read()).change for _ in range(5)]
    watch.cancel()
    assert [change.revision for change in changes] == [1, 2, 3, 4, 5]
    found = (await registry.revisions(AGENT)).revisions
    assert [r.revision for r in found] == [5, 4, 3, 2, 1]
    times = [r.create_time.ToNanoseconds() for r in found]
    assert times == sorted(times)
    assert [entry.position for entry in await registry.audit()] == [5, 4, 3, 2, 1]
    assert await registry.verified()


# Differences


async def test_diff_names_each_field_with_both_values(registry: Registry) -> None:
    await registry.create(AGENT, display_name="One", labels={"a": "1"}, spec={**model_of(0.5), "instructions": ["x"]})
    spec = {**model_of(1, seed="9007199254740993"), "instructions": ["x", "y"], "output_schema": {"type": "object"}}
    await registry.update(AGENT, display_name="One", labels={"a": "1", "b.c": "2"}, description="What", spec=spec)
    forth = {
        "description": ("", "What"),
        "labels.b.c": (..., "2"),
        "spec.instructions": (["x"], ["x", "y"]),
        "spec.model.seed": (..., "9007199254740993"),
        "spec.model.temperature": (0.5, 1.0),
        "spec.output_schema": (..., {"type": "object"}),
    }
    assert await registry.diff(AGENT, 1) == forth
    assert await registry.diff(AGENT, 2, 1) == {path: (two, one) for path, (one, two) in forth.items()}
    assert await registry.diff(AGENT, 1, 1) == await registry.diff(AGENT, 2) == {}
    await missing(registry.diff(AGENT, 1, 3))
    await missing(registry.diff(AGENT, 9))
    assert await invalid(registry.diff(AGENT, 0)) == ["base_revision"]


async def test_true_is_not_one(registry: Registry) -> None:
    """Python takes them for equal; JSON does not."""

    def spec(value: Any) -> dict[str, Any]:
        return {**model_of(), "output_schema": {"type": "object", "const": value, "enum": [value]}}

    await registry.create(AGENT, spec=spec(1))
    changed = await registry.update(AGENT, spec=spec(True))
    assert changed.revision == 2
    assert await registry.diff(AGENT, 1) == {
        "spec.output_schema.const": (1.0, True),
        "spec.output_schema.enum": ([1.0], [True]),
    }


async def test_numbers_stay_what_they_are(registry: Registry) -> None:
    for place, number in enumerate((1e20, 1e18, 1e300, -0.0, 5e-324, 0.1, 1.0, -1.5e-7)):
        name, spec = f"n{place}", {**model_of(), "output_schema": {"type": "object", "maximum": number}}
        made = await registry.create(AGENT, name, spec=spec)
        found = await registry.get(AGENT, name)
        assert (found.etag, found.spec.output_schema["maximum"]) == (made.etag, number)
        assert (await registry.update(AGENT, name, spec=spec)).revision == 1
        assert (await registry.update(AGENT, name, display_name="Two")).revision == 2
        assert list((await registry.revisions(AGENT, name)).revisions[0].changed_fields) == ["display_name"]
    assert await registry.verified()


# Merge


async def test_merge_takes_both_sides(registry: Registry) -> None:
    mine = {"display_name": "One", "labels": {"a": "1"}, "spec": {**model_of(0.5), "instructions": ["x"]}}
    await registry.create(AGENT, **mine)
    await registry.update(AGENT, labels={"a": "1", "theirs": "2"}, description="Theirs")
    current = await registry.update(AGENT, mask="spec.model", spec=model_of(0.5, top_p=0.5))
    mine["spec"] = {**model_of(1), "instructions": ["x", "y"], "markdown": True}
    merged = (await registry.merge(AGENT, 1, etag=current.etag, **mine)).agent
    assert (merged.revision, merged.description, dict(merged.labels)) == (4, "Theirs", {"a": "1", "theirs": "2"})
    settings = merged.spec.model
    assert (settings.temperature, settings.top_p, merged.spec.markdown) == (1, 0.5, True)
    assert list(merged.spec.instructions) == ["x", "y"]
    assert await registry.get(AGENT) == merged


async def test_the_same_change_twice_is_none(registry: Registry) -> None:
    await registry.create(AGENT, display_name="One")
    two = await registry.update(AGENT, display_name="Two")
    merged = await registry.merge(AGENT, 1, display_name="Two")
    assert (merged.agent, len(merged.conflicts)) == (two, 0)
    assert len(await registry.audit()) == 2


async def test_conflicts_are_named_and_nothing_is_stored(registry: Registry) -> None:
    await registry.create(AGENT, display_name="One", description="Was", spec={**model_of(0.5), "instructions": ["x"]})
    spec = {**model_of(0.1, top_p=0.5), "instructions": ["theirs"]}
    theirs = await registry.update(AGENT, display_name="Theirs", spec=spec)
    spec = {**model_of(0.9, top_p=0.6), "instructions": ["mine"], "markdown": True}
    reply = await registry.merge(AGENT, 1, display_name="One", description="Mine", spec=spec)
    assert not reply.HasField("agent")
    found = {c.path: tuple(plain(c, f"{side}_value") for side in ("base", "mine", "current")) for c in reply.conflicts}
    assert found == {
        "spec.instructions": (["x"], ["mine"], ["theirs"]),
        "spec.model.temperature": (0.5, 0.9, 0.1),
        "spec.model.top_p": (..., 0.6, 0.5),
    }
    assert await registry.get(AGENT) == theirs
    assert len(await registry.audit()) == 2


async def test_a_field_that_they_removed_and_i_changed_is_a_conflict(embedded: Registry) -> None:
    await embedded.create(AGENT, spec=model_of(0.5))
    await embedded.update(AGENT, spec=model_of())
    reply = await embedded.merge(AGENT, 1, spec=model_of(0.7))
    assert [(c.path, plain(c, "current_value")) for c in reply.conflicts] == [("spec.model.temperature", ...)]


async def test_merge_that_is_refused(registry: Registry) -> None:
    one = await registry.create(AGENT)
    await registry.update(AGENT, display_name="Two")
    await stale(registry.merge(AGENT, 1, etag=one.etag, description="Mine"))
    await missing(registry.merge(AGENT, 7, description="Mine"))
    assert await invalid(registry.merge(AGENT, 0)) == ["base_revision"]
    assert await invalid(registry.merge(AGENT, 1, spec=model_of(model=""))) == ["agent.spec.model.model"]
    gone = {"spec": {**model_of(), "mcp_server_ids": ["none"]}}
    assert await invalid(registry.merge(AGENT, 1, **gone)) == ["agent.spec.mcp_server_ids[0]"]
    assert (await registry.get(AGENT)).revision == 2


# Rollback


async def test_rollback(registry: Registry) -> None:
    one = await registry.create(AGENT, display_name="One", labels={"a": "1"}, spec=model_of(0.5))
    two = await registry.update(AGENT, display_name="Two", labels={}, spec=model_of(1))
    await stale(registry.rollback(AGENT, 1, one.etag))
    back = await registry.rollback(AGENT, 1, two.etag)
    assert (back.revision, back.display_name, back.labels, back.spec) == (3, "One", one.labels, one.spec)
    assert back.create_time == one.create_time
    assert len({one.etag, two.etag, back.etag}) == 3
    assert await registry.diff(AGENT, 1, 3) == {}
    assert (await registry.rollback(AGENT, 3)).revision == 4  # to what it is already: a revision all the same
    await missing(registry.rollback(AGENT, 9))
    assert await invalid(registry.rollback(AGENT, 0)) == ["revision"]


async def test_rollback_of_a_deleted_one(registry: Registry) -> None:
    await registry.create(AGENT)
    await registry.delete(AGENT)
    await missing(registry.rollback(AGENT, 1))
    await registry.create(AGENT)
    await missing(registry.rollback(AGENT, 2))  # the delete itself
    assert (await registry.rollback(AGENT, 1)).revision == 4


async def test_rollback_to_what_is_no_longer_there(registry: Registry) -> None:
    await registry.create(Kind.MCP_SERVER, "crm")
    await registry.create(AGENT, spec={**model_of(), "mcp_server_ids": ["crm"]})
    await registry.update(AGENT, spec=model_of())
    await registry.delete(Kind.MCP_SERVER, "crm")
    assert await invalid(registry.rollback(AGENT, 1)) == ["agent.spec.mcp_server_ids[0]"]
    assert (await registry.get(AGENT)).revision == 2


# Checks without storing


@every
async def test_validate_only_stores_nothing(embedded: Registry, kind: Kind) -> None:
    await embedded.member()
    watch = embedded.watch()
    await watch.read()
    made = await embedded.create(kind, validate_only=True, request_id="r")
    assert (made.revision, bool(made.etag)) == (1, True)
    await missing(embedded.get(kind))
    one = await embedded.create(kind, request_id="r")
    would = await embedded.update(kind, display_name="Two", validate_only=True)
    assert (would.revision, would.display_name) == (2, "Two")
    assert await embedded.get(kind) == one
    await missing(embedded.get(kind, "x", 2))
    assert len(await embedded.audit()) == 2
    await embedded.update(kind, display_name="Three")
    seen = [(await watch.read()).change for _ in range(2)]
    assert [(change.resource_id, change.revision) for change in seen] == [("x", 1), ("x", 2)]
    watch.cancel()


async def test_validate_only_reports_what_is_wrong(registry: Registry) -> None:
    bad = {**model_of(), "mcp_server_ids": ["none"]}
    field = ["agent.spec.mcp_server_ids[0]"]
    assert await invalid(registry.create(AGENT, spec=bad, validate_only=True)) == field
    one = await registry.create(AGENT)
    assert await invalid(registry.update(AGENT, spec=bad, validate_only=True)) == field
    await refused(registry.create(AGENT, validate_only=True), Code.ALREADY_EXISTS, "RESOURCE_EXISTS")
    await registry.update(AGENT, display_name="Two")
    await stale(registry.update(AGENT, display_name="Three", etag=one.etag, validate_only=True))
    await missing(registry.update(AGENT, "none", display_name="Three", validate_only=True))


# Scopes and etags


@every
async def test_force_needs_its_scope(make_settings: Make, kind: Kind) -> None:
    async with harness.registry(make_settings(RegistrySettings, jwt_secret=SECRET)) as (_, channel):
        ann, operator = Registry(channel, token()), Registry(channel, token(scope="registry.force", subject="op"))
        await ann.member()
        await ann.create(kind)
        error = await refused(ann.delete(kind, force=True), Code.PERMISSION_DENIED, "SCOPE_MISSING")
        assert "registry.force" in str(error.details())
        await operator.delete(kind, force=True)
        await missing(ann.get(kind))


@ten
async def test_etag_of_another_resource(embedded: Registry, kind: Kind) -> None:
    await embedded.member()
    await embedded.create(kind)
    other = await embedded.create(kind, "other")
    await stale(embedded.update(kind, display_name="Two", etag=other.etag))
    await stale(embedded.delete(kind, etag=other.etag))
    await stale(embedded.rollback(kind, 1, other.etag))
    await stale(embedded.merge(kind, 1, etag=other.etag, display_name="Two"))
    assert (await embedded.get(kind)).revision == 1


# Members of a oneof


async def test_one_member_of_a_oneof_takes_the_others_place(registry: Registry) -> None:
    await registry.member()
    await registry.create(Kind.TEAM, "crew")
    await registry.create(Kind.EVENT_RULE)
    changed = await registry.update(Kind.EVENT_RULE, mask="spec.teamId", spec={"team_id": "crew"})
    assert (changed.spec.WhichOneof("target"), changed.revision) == ("team_id", 2)
    await registry.create(Kind.MCP_SERVER)
    changed = await registry.update(Kind.MCP_SERVER, mask="spec.stdio", spec={"stdio": {"command": "mcp"}})
    assert changed.spec.WhichOneof("transport") == "stdio"
    changed = await registry.update(Kind.MCP_SERVER, mask="spec.sse.url", spec={"sse": {"url": "https://x.example"}})
    assert changed.spec.sse.url == "https://x.example"
    assert await registry.list(Kind.MCP_SERVER) == [changed]
    await registry.update(Kind.EVENT_RULE, mask="spec.agentId", spec={})  # clears what is not there
    assert (await registry.get(Kind.EVENT_RULE)).spec.team_id == "crew"


# Router configuration


async def test_revisions_of_the_router_config(registry: Registry) -> None:
    assert not (await registry.call("ListRouterConfigRevisions")).revisions
    await missing(registry.call("RollbackRouterConfig", revision=1))
    for name in ("a", "b"):
        await registry.call("AddDeployment", deployment=_json(deployment(name)))
    config = await registry.call("UpdateRouterConfig", router_config={"num_retries": 5}, update_mask="numRetries")
    found = await registry.call("ListRouterConfigRevisions", page_size=2)
    assert [(r.revision, list(r.changed_fields), r.author) for r in found.revisions] == [
        (3, ["spec.num_retries"], "local"),
        (2, ["spec.deployments"], "local"),
    ]
    rest = await registry.call("ListRouterConfigRevisions", page_size=2, page_token=found.next_page_token)
    assert ([r.revision for r in rest.revisions], rest.next_page_token) == ([1], "")
    etag = found.revisions[1].etag
    await stale(registry.call("RollbackRouterConfig", revision=1, etag=etag))
    back = await registry.call("RollbackRouterConfig", revision=1, etag=config.router_config.etag)
    back = back.router_config
    assert ([d.deployment_id for d in back.deployments], back.revision) == (["a"], 4)
    assert not back.HasField("num_retries")
    assert (await registry.call("GetRouterConfig")).router_config == back
    await missing(registry.call("RollbackRouterConfig", revision=9))
    assert await invalid(registry.call("RollbackRouterConfig", revision=0)) == ["revision"]
    assert await registry.verified()


def _json(message: Any) -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message, preserving_proto_field_name=True)


# Bad input


async def test_a_spec_that_is_too_large(embedded: Registry) -> None:
    large = {**model_of(), "output_schema": {"type": "object", "description": "x" * 1024 * 1024}}
    error = await refused(embedded.create(AGENT, spec=large), Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert harness.fields_of(error) == ["agent"]
    assert str(1024 * 1024) in str(error.details())
    large["output_schema"] = {"type": "object", "description": "x" * 5 * 1024 * 1024}
    with pytest.raises(Exception, match="larger than max"):
        await embedded.create(AGENT, spec=large)
    assert await embedded.list(AGENT) == []


@pytest.mark.parametrize("depth", [10, 20, 28, 30, 31, 32, 33, 34, 45, 90, 200])
@pytest.mark.parametrize("of_lists", [False, True])
async def test_deep_nesting_is_refused_or_readable(embedded: Registry, depth: int, of_lists: bool) -> None:
    """Whatever is taken can be read by every way there is."""
    from dynamicagents.registry.v1.agent_service_pb2 import CreateAgentRequest
    from google.protobuf.struct_pb2 import Value

    request = CreateAgentRequest()
    request.agent.agent_id = "x"
    request.agent.spec.model.model = "offline"
    at: Value = request.agent.spec.output_schema.fields["default"]
    request.agent.spec.output_schema.fields["type"].string_value = "object"
    for _ in range(depth):
        at = at.list_value.values.add() if of_lists else at.struct_value.fields["a"]
    at.number_value = 1
    try:
        made = (await embedded.call("CreateAgent", request)).agent
    except Exception as error:
        assert getattr(error, "code", lambda: None)() is Code.INVALID_ARGUMENT, error  # noqa: PT017
        assert await embedded.list(AGENT) == []
        return
    assert made.spec == request.agent.spec
    assert await embedded.get(AGENT) == made
    assert await embedded.list(AGENT) == [made]
    watch = embedded.watch(snapshot=True)
    assert (await watch.read()).change.agent == made
    watch.cancel()
    assert [one.agent for one in await embedded.export()] == [made]
    assert (await embedded.call("GetAgentClosure", agent_id="x")).agent == made
    await embedded.update(AGENT, spec=model_of())
    assert list(await embedded.diff(AGENT, 1)) == ["spec.output_schema"]


async def test_small_depths_are_taken(embedded: Registry) -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(10):
        schema = {"type": "object", "properties": {"a": schema}}
    await embedded.create(AGENT, spec={**model_of(), "output_schema": schema})


async def test_any_text_is_a_name(registry: Registry) -> None:
    names = ("é☃", "日本語", "🦙", "a\tb\nc", "\x01\x1f\x7f", "\u202eabc", "a\u0301", " ", "'\"\\%_")
    for place, name in enumerate(names):
        spec = {**model_of(), "instructions": [name]}
        made = await registry.create(AGENT, f"n{place}", display_name=name, labels={name: name}, spec=spec)
        assert made.display_name == name
        assert await registry.get(AGENT, f"n{place}") == made
        (exported,) = await registry.export(labels={name: name})
        assert exported.agent == made
    assert [agent.display_name for agent in await registry.list(AGENT)] == list(names)
    assert await registry.verified()


@pytest.mark.parametrize("place", ["display_name", "description"])
async def test_a_nul_is_refused_with_its_place(registry: Registry, place: str) -> None:
    assert await invalid(registry.create(AGENT, **{place: "a\0b"})) == [f"agent.{place}"]
    assert await invalid(registry.create(AGENT, spec={**model_of(), "instructions": ["x", "\0"]})) == [
        "agent.spec.instructions[1]"
    ]


async def test_filter_by_a_value_of_another_type_finds_nothing(registry: Registry) -> None:
    await registry.create(AGENT, spec={**model_of(0.5), "instructions": ["x"], "markdown": True})
    for text in (
        "spec.model.model > 5",
        "spec.model.model = true",
        "spec.instructions = 5",
        "spec.model = 5",
        "spec.model.temperature = true",
        'spec.model.temperature = "x"',
        "spec.markdown > 1",
    ):
        assert await registry.list(AGENT, filter=text) == [], text
    assert len(await registry.list(AGENT, filter="spec.markdown = true AND spec.model.temperature <= 0.5")) == 1


async def test_times_of_a_filter_have_their_zone(registry: Registry) -> None:
    made = await registry.create(AGENT)
    now = made.create_time.ToDatetime(UTC)
    for hours in (-11, 0, 11):
        zone = (now + timedelta(hours=hours)).replace(tzinfo=None)
        sign = f"{'-' if hours < 0 else '+'}{abs(hours):02}:00"
        early, late = ((zone + timedelta(seconds=s)).isoformat() + sign for s in (-60, 60))
        both = f'create_time > "{early}" AND create_time < "{late}"'
        assert await registry.list(AGENT, filter=both) == [made]
        assert await registry.list(AGENT, filter=f'create_time > "{late}"') == []
    for text in ("0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00"):
        assert await invalid(registry.list(AGENT, filter=f'create_time > "{text}"')) == ["filter"]


def test_the_samples_are_of_every_kind() -> None:
    assert {*SPECS} == {*Kind} - {Kind.ROUTER_CONFIG}
    assert resource(AGENT, "x")["agent_id"] == "x"
