"""What one tenant has is not there for another: by no method, token, etag, request id or watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from services.registry.config import RegistrySettings
from services.registry.model import Kind
from tests.registry_client import (
    FIVE,
    METHODS,
    SECRET,
    TEN,
    Registry,
    as_tenants,
    id_field,
    invalid,
    missing,
    noun,
    resource,
    stale,
)

AGENT = Kind.AGENT
DEPLOYMENT = {"deployment_id": "d", "model_group": "gpt", "model": "openai/x"}
OWN = (*TEN, *FIVE, Kind.PROMPT, Kind.AGENT_TEMPLATE)
Both = tuple[Registry, Registry]


@pytest.fixture
async def both(make_settings: Callable[..., Any], database_settings: dict[str, Any]) -> AsyncIterator[Both]:
    """Acme, which has one resource of each kind, all of the id "x", and globex, which has none."""
    settings = make_settings(RegistrySettings, **database_settings, jwt_secret=SECRET, watch_poll=0.05)
    async with as_tenants(settings) as (acme, globex):
        await acme.member()
        everything = [{kind.value: resource(kind, "x", labels={"of": "acme"})} for kind in OWN]
        await acme.apply(*everything, {"router_config": {"deployments": [DEPLOYMENT]}})
        yield acme, globex


def by_id(kind: Kind) -> list[tuple[str, dict[str, Any]]]:
    """Calls that speak of a resource by its id."""
    of, name = {id_field(kind): "x"}, noun(kind)
    changed = {kind.value: {**resource(kind, "x"), "display_name": "Stolen"}}
    calls = [
        (f"Get{name}", of),
        (f"Get{name}", {**of, "revision": 1}),
        (f"Update{name}", {**changed, "update_mask": "displayName"}),
        (f"Delete{name}", of),
        (f"List{name}Revisions", of),
        (f"Diff{name}", {**of, "base_revision": 1, "target_revision": 1}),
        (f"Merge{name}", {**changed, "base_revision": 1}),
        (f"Rollback{name}", {**of, "revision": 1}),
        (f"Get{name}Closure", of),
        (f"Render{name}", of),
        (f"RecordFeedback{name}", of),
        (f"Compare{name}", {**of, "base_revision": 1, "target_revision": 1}),
    ]
    return [(method, fields) for method, fields in calls if method in METHODS]


async def test_by_id(both: Both) -> None:
    acme, globex = both
    for kind in OWN:
        for method, fields in by_id(kind):
            await missing(globex.call(method, **fields))
        assert (await acme.get(kind)).revision == 1
    await missing(globex.call("RecordFeedback", prompt_id="x", success=True))
    await missing(globex.call("CreateAgentFromTemplate", template_id="x"))
    assert (await globex.call("BatchGetAgents", agent_ids=["x"])).missing_agent_ids == ["x"]


async def test_in_lists(both: Both) -> None:
    acme, globex = both
    for kind in OWN:
        where = {"filter": 'labels.of = "acme"'}
        assert len(await acme.list(kind, **where)) == 1
        assert await globex.list(kind, **where) == []
    assert await globex.export() == []
    assert await globex.audit() == []
    assert (await globex.call("VerifyAudit")).entries == 0
    assert (await globex.call("GetRouterConfig")).router_config.revision == 0
    assert (await globex.call("ListRouterConfigRevisions")).revisions == []
    await missing(globex.call("RemoveDeployment", deployment_id="d"))


async def test_what_one_deletes_by_label_is_its_own(both: Both) -> None:
    acme, globex = both
    await globex.create(AGENT, "gone", labels={"of": "acme"})
    done = await globex.apply({"agent": resource(AGENT, "new")}, prune_labels={"of": "acme"})
    assert sorted(done) == [("gone", "DELETED"), ("new", "CREATED")]
    assert (await acme.get(AGENT)).revision == 1


async def test_ids_etags_and_request_ids_are_the_tenants_own(both: Both) -> None:
    acme, globex = both
    mine = await acme.create(AGENT, "same", request_id="r", display_name="Acme")
    theirs = await globex.create(AGENT, "same", request_id="r", display_name="Globex")
    assert (mine.display_name, theirs.display_name, theirs.revision) == ("Acme", "Globex", 1)
    await stale(globex.update(AGENT, "same", description="x", etag=mine.etag))
    for one, of in ((acme, mine), (globex, theirs)):
        assert await one.create(AGENT, "same", request_id="r", display_name=of.display_name) == of
    added = [await one.call("AddDeployment", deployment=DEPLOYMENT, request_id="r") for one in (globex, globex)]
    assert added[0] == added[1]


async def test_page_tokens_are_the_tenants_own(both: Both) -> None:
    acme, globex = both
    for registry in both:
        for number in range(3):
            await registry.create(AGENT, f"a{number}", display_name="One")
            await registry.update(AGENT, f"a{number}", display_name="Two")
    for method, fields in (
        ("ListAgents", {}),
        ("ListAgentTemplates", {}),
        ("ListAgentRevisions", {"agent_id": "a0"}),
        ("ListAuditEntries", {}),
    ):
        token = (await acme.call(method, page_size=1, **fields)).next_page_token
        assert token
        assert await invalid(globex.call(method, page_size=1, page_token=token, **fields)) == ["page_token"]
        await acme.call(method, page_size=1, page_token=token, **fields)


async def test_watches(both: Both) -> None:
    acme, globex = both
    call, anew = globex.watch(), globex.watch(snapshot=True)
    assert (await call.read()).HasField("heartbeat")
    assert (await anew.read()).HasField("snapshot_complete")
    await acme.create(AGENT, "secret")
    await globex.create(AGENT, "own")
    for each in (call, anew):
        async with asyncio.timeout(20):
            while not (message := await each.read()).HasField("change"):
                pass
        assert message.change.resource_id == "own"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await globex.watch(resume_token="p9").read()
    assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE


async def test_every_method_asks_who_calls(both: Both) -> None:
    nobody = Registry(both[0].channel)
    for method in METHODS:
        call = nobody.call(method)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (call.read() if METHODS[method][0].server_streaming else call)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, method
