"""Methods of any gRPC service as tools, and tools of Google's Mcp, on real servers."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from google.protobuf.json_format import MessageToDict

from tests import crm_service, google_mcp_server
from tests.provider_bench import (
    LEADS,
    LOST,
    MCP,
    Bench,
    Code,
    change,
    completed,
    fails,
    listed,
    register,
    status,
    until_listed,
    use,
    with_crm,
)
from tests.rpc.conftest import kinds
from tests.scripted_router import call, calls, text

FILES = crm_service.compiled(comments=False)


async def test_googles_mcp(bench: Bench) -> None:
    async with google_mcp_server.running() as address:
        at = await bench()
        await register(at, address, protocol=MCP)
        await until_listed(at, "grpc/crm/add")
        found = await listed(at)
        add = found["grpc/crm/add"]
        assert (add.title, add.description, MessageToDict(add.annotations)) == (
            "Addition",
            "Adds two numbers.",
            {"readOnly": True},
        )
        assert (await status(at, "READY")).protocol_version == "model_context_protocol.Mcp"
        assert orjson.loads((await use(at, "add", a=40, b=2)).output) == {"sum": 42}
        assert await fails(at, "add", a="x", b=2) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
        assert (await use(at, "picture")).output == "[image/png, 7 bytes, not shown]\na picture"
        failed = await use(at, "fail")
        assert (failed.output, failed.is_error) == ("it went wrong", True)
        assert (await use(at, "told")).output == "told {}"
        asks = await use(at, "ask")
        assert asks.is_error
        assert "input" in asks.output
        at.router.turns = [calls(call("told", "{}")), text("done")]
        await at.create(tools=[{"tool_id": "grpc/crm/told"}])
        events = await at.run()
        told = next(e.tool_call_completed.output for e in events if e.HasField("tool_call_completed"))
        assert f"'dynamicagents.dev/idempotency-key': '{events[0].execution_id}/" in told


@pytest.mark.parametrize("versions", [("grpc.reflection.v1",), ("grpc.reflection.v1alpha",)])
async def test_any_service_by_reflection(bench: Bench, versions: tuple[str]) -> None:
    async with with_crm(bench, files=crm_service.compiled(), versions=versions) as (at, crm):
        await until_listed(at, f"{LEADS}/CountLeads")
        found = await listed(at)
        names = ["CountLeads", "CreateLead", "Echo", "Fail", "Reset", "Say"]
        assert list(found) == [f"{LEADS}/{name}" for name in names]
        source = await status(at, "READY")
        assert source.protocol_version == versions[0]
        assert source.message == f"left out, for they stream: {LEADS[9:]}/WatchLeads, {LEADS[9:]}/Import"
        count = found[f"{LEADS}/CountLeads"]
        assert (count.title, count.description) == ("CountLeads", "Counts the leads of a status.")
        assert (count.function_name, count.annotations.read_only) == ("CountLeads", True)
        assert found[f"{LEADS}/Echo"].annotations.idempotent
        assert found[f"{LEADS}/CreateLead"].annotations.destructive
        counted = await use(at, f"{LEADS}/CountLeads", status="STATUS_NEW")
        assert orjson.loads(counted.output) == {"count": str(2**60)}
        made = await use(at, f"{LEADS}/CreateLead", name="Ada", email="a@b.c", status="STATUS_WON")
        assert orjson.loads(made.output) == {"name": "Ada", "status": "STATUS_WON"}
        assert await fails(at, f"{LEADS}/CreateLead", name="Ada") == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
        assert orjson.loads((await use(at, f"{LEADS}/Say", value="hello")).output) == "hello"
        assert orjson.loads((await use(at, f"{LEADS}/Reset")).output) == {}
        failed = await use(at, f"{LEADS}/Fail")
        assert (failed.output, failed.is_error) == ("FAILED_PRECONDITION: with no token", True)
        assert [name for name, _, _ in crm.calls] == ["CountLeads", "CreateLead", "Say", "Reset", "Fail"]


async def test_an_agent_uses_methods(bench: Bench) -> None:
    async with with_crm(bench, token="") as (at, _):
        await until_listed(at, f"{LEADS}/CountLeads")
        at.router.turns = [
            calls(call("CountLeads", "{}", "c1"), call("CreateLead", '{"name": "A", "email": "a@b.c"}', "c2")),
            calls(call("CreateLead", '{"name": "", "email": "a"}', "c3"), call("Echo", '{"timestamp": "?"}', "c4")),
            text("done"),
        ]
        await at.create(tools=[{"tool_id": "grpc/crm/crm.v1.LeadService/C*"}, {"tool_id": f"{LEADS}/Echo"}])
        events = await at.run()
        assert kinds(events)[-1] == "execution_completed"
        done = completed(events)
        assert orjson.loads(done["c1"].output) == {"count": str(2**60)}
        assert orjson.loads(done["c2"].output) == {"name": "A"}
        assert "arguments.name" in done["c3"].output
        assert done["c4"].is_error


async def test_messages_that_have_no_json(bench: Bench) -> None:
    async with with_crm(bench) as (at, crm):
        await until_listed(at, f"{LEADS}/Echo")
        lead = {"@type": "type.googleapis.com/crm.v1.Lead", "name": "Ada"}
        assert orjson.loads((await use(at, f"{LEADS}/Echo", any=lead)).output) == {"any": lead}
        unknown = await use(at, f"{LEADS}/Echo", any={"@type": "type.googleapis.com/of.Others"})
        assert unknown.is_error
        assert "no crm.v1.Everything" in unknown.output
        assert (await use(at, f"{LEADS}/Echo", timestamp="yesterday")).is_error
        assert [name for name, _, _ in crm.calls] == ["Echo"]


async def test_methods_that_are_offered(bench: Bench) -> None:
    named = ("crm.v1.LeadService/Cou*", "crm.v1.LeadService/Say")
    async with with_crm(bench, named) as (at, _):
        await until_listed(at, f"{LEADS}/CountLeads")
        assert list(await listed(at)) == [f"{LEADS}/CountLeads", f"{LEADS}/Say"]
        assert await fails(at, f"{LEADS}/Reset") == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
        await change(at, methods=["crm.v1.LeadService/Reset"])
        await until_listed(at, f"{LEADS}/Reset")
        assert list(await listed(at)) == [f"{LEADS}/Reset"]
        await change(at, methods=["crm.v2.*"])
        await until_listed(at, f"{LEADS}/Reset", there=False)
        assert (await status(at, "READY")).message == "no method is one that `methods` names"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"mute": True}, "does not list its tools"),
        ({"versions": ()}, "it has no server reflection"),
        ({"files": {}}, "reflection of 'crm.v1.LeadService' failed: 'no crm.proto'"),
        ({"files": {**FILES, "crm.proto": b"\xff\xff"}}, "its descriptors are none"),
        ({"files": {"crm.proto": FILES["crm.proto"]}}, "reflection of 'buf/validate/validate.proto' failed"),
        ({"files": {**FILES, "crm.proto": FILES["crm.proto"].replace(b"Tree", b"Lead")}}, "its descriptors make no"),
        ({"files": {**FILES, "buf/validate/validate.proto": bytes(9_000_000)}}, "RESOURCE_EXHAUSTED"),
        ({"services": [f"crm.v1.S{n}" for n in range(300)]}, "it has 300 services"),
    ],
)
async def test_hostile_reflection(bench: Bench, how: dict[str, Any], message: str) -> None:
    async with with_crm(bench, settings={"grpc_patience": 3.0}, **how) as (at, _):
        assert (await status(at, "FAILED")).message.startswith(message)
        assert await fails(at, f"{LEADS}/Say", value="x") == LOST
