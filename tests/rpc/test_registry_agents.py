from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import pytest
from dynamicagents.registry.v1 import agent_pb2, agent_service_pb2_grpc
from dynamicagents.registry.v1.agent_service_pb2 import (
    CreateAgentRequest,
    DeleteAgentRequest,
    GetAgentRequest,
    ListAgentsRequest,
    UpdateAgentRequest,
)
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import ParseDict
from google.rpc import error_details_pb2

from services.registry.app import app
from services.registry.config import RegistrySettings
from tests import harness

Stub: TypeAlias = "agent_service_pb2_grpc.AgentServiceAsyncStub"
Code = grpc.StatusCode


@pytest.fixture
async def agents(make_settings: Callable[..., Any]) -> AsyncIterator[Stub]:
    async with harness.running(app, make_settings(RegistrySettings)) as (_, channel):
        yield agent_service_pb2_grpc.AgentServiceStub(channel)


def agent(agent_id: str = "", /, **fields: Any) -> agent_pb2.Agent:
    """An agent; what is no field of Agent is one of its spec."""
    outer = {name: fields.pop(name) for name in list(fields) if name in agent_pb2.Agent.DESCRIPTOR.fields_by_name}
    spec = ParseDict({"model": {"model": "offline"}, **fields}, agent_pb2.AgentSpec())
    return agent_pb2.Agent(agent_id=agent_id, spec=spec, **outer)


async def created(agents: Stub, agent_id: str = "helper", /, **fields: Any) -> agent_pb2.Agent:
    return (await agents.CreateAgent(CreateAgentRequest(agent=agent(agent_id, **fields)))).agent


def update(changed: agent_pb2.Agent, *paths: str) -> UpdateAgentRequest:
    return UpdateAgentRequest(agent=changed, update_mask=FieldMask(paths=paths))


async def failure(call: Awaitable[Any], code: grpc.StatusCode, reason: str) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert (caught.value.code(), harness.reason_of(caught.value)) == (code, reason)
    return caught.value


async def invalid_fields(call: Awaitable[Any]) -> list[str]:
    return harness.fields_of(await failure(call, Code.INVALID_ARGUMENT, "INVALID_FIELD"))


async def missing_name(call: Awaitable[Any]) -> str:
    error = await failure(call, Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
    info = harness.detail(harness.status_of(error), error_details_pb2.ResourceInfo)
    assert info.resource_type == "agent"
    return info.resource_name


async def test_created_agent_can_be_read(agents: Stub) -> None:
    given = agent(
        "helper",
        display_name="Helper",
        description="Helps",
        labels={"team": "crm"},
        instructions=["be brief"],
        model={"model": "offline", "temperature": 0.0, "seed": "9007199254740993", "stop": ["x"]},
        tools=[{"tool_id": "builtin/calculator", "timeout": "1.5s"}],
        output_schema={"type": "object", "properties": {"n": {"type": "number", "maximum": 1e300}}},
    )
    made = (await agents.CreateAgent(CreateAgentRequest(agent=given))).agent
    assert made == (await agents.GetAgent(GetAgentRequest(agent_id="helper"))).agent
    assert (made.revision, made.agent_id) == (1, "helper")
    assert made.etag
    assert made.create_time == made.update_time
    assert (made.spec, made.labels, made.description) == (given.spec, given.labels, given.description)
    assert made.spec.model.HasField("temperature")


async def test_server_chooses_an_id(agents: Stub) -> None:
    one, two = await created(agents, ""), await created(agents, "")
    assert one.agent_id < two.agent_id
    assert (await agents.GetAgent(GetAgentRequest(agent_id=one.agent_id))).agent == one


async def test_taken_id(agents: Stub) -> None:
    await created(agents)
    error = await failure(created(agents), Code.ALREADY_EXISTS, "RESOURCE_EXISTS")
    assert harness.detail(harness.status_of(error), error_details_pb2.ResourceInfo).resource_name == "helper"


async def test_repeated_request(agents: Stub) -> None:
    request = CreateAgentRequest(agent=agent(""), request_id="r-1")
    made = [reply.agent for reply in await asyncio.gather(*(agents.CreateAgent(request) for _ in range(10)))]
    assert all(one == made[0] for one in made)
    named = CreateAgentRequest(agent=agent("named"), request_id="r-2")
    one = (await agents.CreateAgent(named)).agent
    changed = agent("named", display_name="Changed")
    await agents.UpdateAgent(update(changed, "display_name"))
    assert (await agents.CreateAgent(named)).agent == one
    assert len((await agents.ListAgents(ListAgentsRequest())).agents) == 2


async def test_request_id_of_another_request(agents: Stub) -> None:
    await agents.CreateAgent(CreateAgentRequest(agent=agent("a"), request_id="r"))
    error = await failure(
        agents.CreateAgent(CreateAgentRequest(agent=agent("b"), request_id="r")),
        Code.INVALID_ARGUMENT,
        "REQUEST_ID_REUSED",
    )
    assert harness.fields_of(error) == ["request_id"]


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (agent("Bad Id"), "agent.agent_id"),
        (agent("a" * 64), "agent.agent_id"),
        (agent("ok", model={}), "agent.spec.model.model"),
        (agent_pb2.Agent(agent_id="ok"), "agent.spec.model.model"),
        (agent("ok", labels={"": "x"}), "agent.labels['']"),
        (agent("ok", labels={"x" * 64: "x"}), f"agent.labels['{'x' * 64}']"),
        (agent("ok", labels={"x": "y" * 256}), "agent.labels['x']"),
        (agent("ok", labels={str(n): "" for n in range(65)}), "agent.labels"),
        (agent("ok", display_name="x" * 201), "agent.display_name"),
        (agent("ok", display_name="a\0b"), "agent.display_name"),
        (agent("ok", model={"model": "m", "temperature": 2.5}), "agent.spec.model.temperature"),
        (agent("ok", model={"model": "m", "temperature": "NaN"}), "agent.spec.model.temperature"),
        (agent("ok", tools=[{"tool_id": "x"}]), "agent.spec.tools[0].tool_id"),
        (agent("ok", tools=[{"tool_id": "a/b"}, {"tool_id": "a/b"}]), "agent.spec.tools[1].tool_id"),
        (agent("ok", tools=[{"tool_id": "a/b", "timeout": "0s"}]), "agent.spec.tools[0].timeout"),
        (agent("ok", output_schema={"type": "array"}), "agent.spec.output_schema"),
        (agent("ok", output_schema={"$schema": [], "type": "object"}), "agent.spec.output_schema"),
        (agent("ok", timezone="Mars"), "agent.spec.timezone"),
        (agent("ok", instructions=["x" * 20000] * 60), "agent"),
    ],
)
async def test_bad_agents(agents: Stub, bad: agent_pb2.Agent, field: str) -> None:
    assert await invalid_fields(agents.CreateAgent(CreateAgentRequest(agent=bad))) == [field]
    assert not (await agents.ListAgents(ListAgentsRequest())).agents


async def test_numbers_that_json_does_not_know(agents: Stub) -> None:
    bad = agent("ok")
    bad.spec.output_schema.update({"type": "object", "maximum": 1})
    bad.spec.output_schema.fields["maximum"].number_value = float("inf")
    assert await invalid_fields(agents.CreateAgent(CreateAgentRequest(agent=bad))) == ["agent.spec"]


async def test_no_agent_at_all(agents: Stub) -> None:
    assert await invalid_fields(agents.CreateAgent(CreateAgentRequest())) == ["agent"]


async def test_an_error_with_very_many_fields_arrives(agents: Stub) -> None:
    tools = [{"tool_id": f"a/{'b' * 200}"}] * 250
    fields = await invalid_fields(agents.CreateAgent(CreateAgentRequest(agent=agent("ok", tools=tools))))
    assert fields[0] == "agent.spec.tools[1].tool_id"
    long = agent("ok", labels={"k" * 100_000: "v"})
    assert len(await invalid_fields(agents.CreateAgent(CreateAgentRequest(agent=long)))) == 1


async def test_revisions(agents: Stub) -> None:
    one = await created(agents, display_name="One")
    two = (await agents.UpdateAgent(update(agent("helper", display_name="Two"), "display_name"))).agent
    assert (two.revision, two.display_name) == (2, "Two")
    assert (await agents.GetAgent(GetAgentRequest(agent_id="helper"))).agent == two
    assert (await agents.GetAgent(GetAgentRequest(agent_id="helper", revision=1))).agent == one
    assert await missing_name(agents.GetAgent(GetAgentRequest(agent_id="helper", revision=3))) == "helper@3"
    assert await invalid_fields(agents.GetAgent(GetAgentRequest(agent_id="helper", revision=-1))) == ["revision"]


async def test_unknown_agent(agents: Stub) -> None:
    assert await missing_name(agents.GetAgent(GetAgentRequest(agent_id="nobody"))) == "nobody"
    assert await missing_name(agents.UpdateAgent(update(agent("nobody"), "labels"))) == "nobody"
    assert await missing_name(agents.DeleteAgent(DeleteAgentRequest(agent_id="nobody"))) == "nobody"


@pytest.mark.parametrize("agent_id", ["", "Bad Id", "../x"])
async def test_bad_id(agents: Stub, agent_id: str) -> None:
    assert await invalid_fields(agents.GetAgent(GetAgentRequest(agent_id=agent_id))) == ["agent_id"]
    assert await invalid_fields(agents.DeleteAgent(DeleteAgentRequest(agent_id=agent_id))) == ["agent_id"]
    assert await invalid_fields(agents.UpdateAgent(update(agent(agent_id), "labels"))) == ["agent.agent_id"]


async def test_pages(agents: Stub) -> None:
    names = sorted(f"agent-{n}" for n in range(7))
    for name in reversed(names):
        await created(agents, name, labels={"odd": str(int(name[-1]) % 2)})
    found, token, pages = [], "", 0
    while pages == 0 or token:
        reply = await agents.ListAgents(ListAgentsRequest(page_size=3, page_token=token))
        found += [one.agent_id for one in reply.agents]
        token, pages = reply.next_page_token, pages + 1
    assert (found, pages) == (names, 3)
    odd = await agents.ListAgents(ListAgentsRequest(page_size=3, filter='labels.odd = "1"'))
    assert [one.agent_id for one in odd.agents] == ["agent-1", "agent-3", "agent-5"]
    assert odd.next_page_token == ""
    both = ListAgentsRequest(filter='labels.odd = "1" AND labels.none = ""')
    assert not (await agents.ListAgents(both)).agents


@pytest.mark.parametrize("order_by", ["agent_id desc", "display_name", "create_time desc", "update_time"])
async def test_pages_in_another_order(agents: Stub, order_by: str) -> None:
    for n in range(7):
        await created(agents, f"agent-{n}", display_name=f"Name {n // 3}")
    asked = ListAgentsRequest(page_size=2, order_by=order_by, filter='agent_id = "agent-*"')
    whole = await agents.ListAgents(ListAgentsRequest(order_by=order_by))
    found: list[str] = []
    while not found or asked.page_token:
        reply = await agents.ListAgents(asked)
        found += [one.agent_id for one in reply.agents]
        asked.page_token = reply.next_page_token
    assert found == [one.agent_id for one in whole.agents]
    assert sorted(found) == [f"agent-{n}" for n in range(7)]
    assert (found == sorted(found)) == ("desc" not in order_by)


@pytest.mark.parametrize("text", ["nonsense", "labels.a", 'etag = "x"', 'labels.a = "1" OR labels.b = "2"', "a = "])
async def test_bad_filters(agents: Stub, text: str) -> None:
    assert await invalid_fields(agents.ListAgents(ListAgentsRequest(filter=text))) == ["filter"]
    assert await invalid_fields(agents.ListAgents(ListAgentsRequest(order_by="spec"))) == ["order_by"]


async def test_bad_pages(agents: Stub) -> None:
    for name in "abc":
        await created(agents, name)
    token = (await agents.ListAgents(ListAgentsRequest(page_size=1))).next_page_token
    other = ListAgentsRequest(page_size=1, page_token=token, filter='labels.x = "y"')
    for request in (ListAgentsRequest(page_token="nonsense"), other):
        assert await invalid_fields(agents.ListAgents(request)) == ["page_token"]
    for size in (-1, 1001):
        assert await invalid_fields(agents.ListAgents(ListAgentsRequest(page_size=size))) == ["page_size"]


async def test_mask_says_what_changes(agents: Stub) -> None:
    before = await created(agents, display_name="Name", labels={"a": "1"}, instructions=["x"], markdown=True)
    patch = agent("helper", display_name="ignored", model={"model": "gpt-4o", "temperature": 0.5})
    after = (await agents.UpdateAgent(update(patch, "spec.model.temperature", "spec.markdown", "labels"))).agent
    assert (after.display_name, after.spec.model.model, after.spec.model.temperature) == ("Name", "offline", 0.5)
    assert (after.spec.markdown, dict(after.labels), list(after.spec.instructions)) == (False, {}, ["x"])
    assert after.create_time == before.create_time
    assert after.update_time.ToDatetime() > before.update_time.ToDatetime()
    cleared = (await agents.UpdateAgent(update(agent("helper"), "spec.model.temperature"))).agent
    assert not cleared.spec.model.HasField("temperature")


@pytest.mark.parametrize("path", ["", "nonsense", "revision", "agent_id", "spec.model.nonsense", "labels.a", "*"])
async def test_bad_mask(agents: Stub, path: str) -> None:
    await created(agents)
    assert await invalid_fields(agents.UpdateAgent(update(agent("helper"), path))) == ["update_mask"]


async def test_no_mask(agents: Stub) -> None:
    await created(agents)
    assert await invalid_fields(agents.UpdateAgent(UpdateAgentRequest(agent=agent("helper")))) == ["update_mask"]
    assert await invalid_fields(agents.UpdateAgent(update(agent("helper")))) == ["update_mask"]


async def test_update_keeps_the_rules(agents: Stub) -> None:
    before = await created(agents)
    patch = agent_pb2.Agent(agent_id="helper")
    assert await invalid_fields(agents.UpdateAgent(update(patch, "spec"))) == ["agent.spec.model.model"]
    assert await invalid_fields(agents.UpdateAgent(update(patch, "spec.model"))) == ["agent.spec.model.model"]
    assert (await agents.GetAgent(GetAgentRequest(agent_id="helper"))).agent == before


async def test_change_to_the_same_makes_no_revision(agents: Stub) -> None:
    before = await created(agents, display_name="Same", labels={"a": "1"})
    paths = ("display_name", "labels", "spec", "spec.model.temperature")
    assert (await agents.UpdateAgent(update(before, *paths))).agent == before


async def test_etags(agents: Stub) -> None:
    one = await created(agents)
    two = (await agents.UpdateAgent(update(agent("helper", etag=one.etag, display_name="2"), "display_name"))).agent
    stale = agent("helper", etag=one.etag, display_name="3")
    for call in (
        agents.UpdateAgent(update(stale, "display_name")),
        agents.DeleteAgent(DeleteAgentRequest(agent_id="helper", etag=one.etag)),
    ):
        error = await failure(call, Code.ABORTED, "STALE_ETAG")
        metadata = harness.detail(harness.status_of(error), error_details_pb2.ErrorInfo).metadata
        assert metadata["current_etag"] == two.etag
    assert (await agents.GetAgent(GetAgentRequest(agent_id="helper"))).agent == two
    await agents.DeleteAgent(DeleteAgentRequest(agent_id="helper", etag=two.etag))


async def test_concurrent_updates_lose_nothing(agents: Stub) -> None:
    before = await created(agents)

    async def write(number: int) -> int:
        patch = agent("helper", etag=before.etag, display_name=str(number))
        try:
            return int((await agents.UpdateAgent(update(patch, "display_name"))).agent.revision)
        except grpc.aio.AioRpcError as error:
            return 0 if harness.reason_of(error) == "STALE_ETAG" else -1

    assert sorted(await asyncio.gather(*map(write, range(10)))) == [0] * 9 + [2]


async def test_deleted_agent(agents: Stub) -> None:
    before = await created(agents)
    await agents.DeleteAgent(DeleteAgentRequest(agent_id="helper"))
    assert await missing_name(agents.GetAgent(GetAgentRequest(agent_id="helper"))) == "helper"
    assert await missing_name(agents.DeleteAgent(DeleteAgentRequest(agent_id="helper"))) == "helper"
    assert await missing_name(agents.UpdateAgent(update(agent("helper"), "labels"))) == "helper"
    assert await missing_name(agents.GetAgent(GetAgentRequest(agent_id="helper", revision=2))) == "helper@2"
    assert (await agents.GetAgent(GetAgentRequest(agent_id="helper", revision=1))).agent == before
    assert not (await agents.ListAgents(ListAgentsRequest())).agents
    again = await created(agents)
    assert again.revision == 3
    assert again.create_time.ToDatetime() > before.create_time.ToDatetime()


async def test_calls_that_are_given_up_do_no_harm(agents: Stub) -> None:
    async def impatient(number: int) -> grpc.StatusCode:
        try:
            request = CreateAgentRequest(agent=agent(f"agent-{number}"))
            await agents.CreateAgent(request, timeout=0.001 * (number % 10))
        except grpc.aio.AioRpcError as error:
            return error.code()
        return Code.OK

    codes = await asyncio.gather(*map(impatient, range(100)))
    assert Code.DEADLINE_EXCEEDED in codes
    assert set(codes) <= {Code.OK, Code.DEADLINE_EXCEEDED}
    async with asyncio.timeout(30):
        await created(agents, "last")
