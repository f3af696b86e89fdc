"""One host's stream, and who is chosen of several, without any server."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

import pytest

from libs import deadline, errors, identity, ids
from libs.identity import Caller
from services.execution.model.hosts import Beat, Call, Cancel, Errand, HostAnswer, Message, Presence, Registration
from services.execution.model.tools import Tool
from services.execution.service.hosts.offers import listed, taken
from services.execution.service.hosts.source import Hosts
from services.execution.service.hosts.stream import Full, HostStream, Lost
from services.execution.service.sources import ToolError

ANN = Caller("one", "ann", frozenset())
SAY = Tool("host/say", "say", "Say", "", {"type": "object"}, "v1", read_only=True)


def registration(*tools: Tool, host_id: str = "crm", room: int = 2) -> Registration:
    named = {tool.tool_id.partition("/")[2]: tool for tool in tools or (SAY,)}
    return Registration(host_id, ids.new_id(), named, room, datetime.now(UTC))


def stream(room: int = 2) -> HostStream:
    made = HostStream("one", 60)
    made.offered = registration(room=room)
    return made


async def said(of: HostStream, number: int = 1) -> list[Message]:
    outgoing = of.outgoing()
    async with asyncio.timeout(10):
        return [await anext(outgoing) for _ in range(number)]


def called(message: Message) -> Call:
    assert isinstance(message, Call)
    return message


async def test_a_call_has_what_is_left_of_its_time() -> None:
    of = stream()
    with deadline.within(5):
        calling = asyncio.create_task(of.call(Errand("say", {"a": 1}, "key", "run", "ann")))
    (message,) = await said(of)
    call = called(message)
    assert 4 < call.seconds <= 5
    assert (call.errand.arguments, call.errand.idempotency_key) == ({"a": 1}, "key")
    of.answer(call.call_id, HostAnswer(data={"b": 1}, has_data=True))
    assert await calling == '{"b":1}'


async def test_a_call_that_was_not_sent_is_taken_back() -> None:
    of = stream()
    calling = asyncio.create_task(of.call(Errand("say", {})))
    await asyncio.sleep(0)
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
    of.say(Beat())
    assert isinstance((await said(of))[0], Beat)
    assert of.in_flight == 0


async def test_a_call_that_was_sent_is_cancelled() -> None:
    of = stream()
    calling = asyncio.create_task(of.call(Errand("say", {})))
    (message,) = await said(of)
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
    assert await said(of) == [Cancel(called(message).call_id, "nobody waits for it any more")]
    of.answer(called(message).call_id, HostAnswer("late"))
    assert of.strays == 0
    of.answer(called(message).call_id, HostAnswer("late again"))
    assert of.strays == 1


async def test_room_is_kept_to() -> None:
    of = stream(room=1)
    calling = asyncio.create_task(of.call(Errand("say", {})))
    (message,) = await said(of)
    assert (of.is_free, of.load) == (False, 1.0)
    with pytest.raises(Full):
        await of.call(Errand("say", {}))
    of.answer(called(message).call_id, HostAnswer("no", is_error=True))
    with pytest.raises(ToolError, match="no"):
        await calling
    assert of.is_free


@pytest.mark.parametrize("begun", [True, False])
async def test_the_end_of_the_stream_is_told_to_its_calls(begun: bool) -> None:
    of = stream()
    calling = asyncio.create_task(of.call(Errand("say", {})))
    await asyncio.sleep(0)
    if begun:
        await said(of)
    of.end()
    with pytest.raises(Lost) as caught:
        await calling
    assert caught.value.begun is begun
    assert [message async for message in of.outgoing()] == []


async def test_an_error_ends_what_is_said() -> None:
    of = stream()
    of.end(errors.invalid("result", "is bad"))
    with pytest.raises(errors.InvalidArgument):
        await said(of)


async def test_a_host_that_drains_is_done_when_its_calls_are() -> None:
    of = stream()
    calling = asyncio.create_task(of.call(Errand("say", {})))
    (message,) = await said(of)
    of.drain()
    assert not of.is_free
    assert not of.over
    of.answer(called(message).call_id, HostAnswer("last"))
    assert await calling == "last"
    assert of.over


def test_offers() -> None:
    def tool(name: str, schema: dict[str, object], text: str = "") -> tuple[str, Tool]:
        return name, Tool(f"host/{name}", name, name, text, schema, "")

    found, rejected = taken(
        [
            tool("a", {"type": "object"}),
            tool("a", {"type": "object"}),
            tool("b", {"type": 1}),
            tool("c\0", {"type": "object"}),
        ]
    )
    assert list(found) == ["a", "c\0"]
    assert "\0" not in found["c\0"].tool_id
    assert [one.field for one in rejected] == ["register.tools[1].name", "register.tools[2].input_schema"]
    again, _ = taken([tool("a", {"type": "object"})])
    other, _ = taken([tool("a", {"type": "object"}, "changed")])
    assert again["a"].version == found["a"].version != other["a"].version


def test_of_two_descriptions_the_newer_is_listed() -> None:
    old = Tool("host/say", "say", "Old", "", {"type": "object"}, "v1")
    new = Tool("host/say", "say", "New", "", {"type": "object"}, "v2")
    found = listed([("b", {"say": new}), ("a", {"say": old}), ("c", {"say": new})])
    assert (found["host/say"].title, found["host/say"].warning) == (
        "New",
        "older hosts describe it differently: a",
    )
    assert listed([("a", {"say": old}), ("b", {"say": old})])["host/say"].warning == ""


class Elsewhere:
    """A database and the processes behind it."""

    def __init__(self, *presences: Presence) -> None:
        self.there = {one.registration.registration_id: one for one in presences}
        self.calls: list[str] = []
        self.outcomes: dict[str, list[Exception | str]] = {}

    async def others(self, owner: str, tenants: Sequence[str]) -> Mapping[str, str]:
        return {key: one.tenant for key, one in self.there.items() if one.tenant in tenants}

    async def read(self, registration_ids: Collection[str]) -> Sequence[Presence]:
        return [one for key, one in self.there.items() if key in registration_ids]

    async def put(self, presence: Presence, lease: float) -> None: ...

    async def keep(self, presence: Presence, lease: float) -> bool:
        return True

    async def renew(self, owner: str, lease: float) -> Collection[str]:
        return ()

    async def drop(self, tenant: str, stream_id: str) -> None: ...

    async def call(self, address: str, stream_id: str, errand: Errand) -> str:
        self.calls.append(address)
        outcomes = self.outcomes.get(address, [])
        outcome = outcomes.pop(0) if outcomes else address
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def presence(address: str, *tools: Tool, tenant: str = "one") -> Presence:
    return Presence(tenant, ids.new_id(), "p2", address, registration(*tools, host_id=address))


def hosts(elsewhere: Elsewhere, patience: float = 10) -> Hosts:
    identity.enter(ANN)
    return Hosts(elsewhere, elsewhere, owner="p1", heartbeat=60, lease=60, patience=patience)


async def test_hosts_of_other_tenants_are_not_there() -> None:
    source = hosts(Elsewhere(presence("a", tenant="two")), patience=0.01)
    assert await source.find(ANN, "host/*") == []
    with pytest.raises(errors.Unavailable):
        await source.call(SAY, {})


async def test_one_without_room_is_asked_again() -> None:
    elsewhere = Elsewhere(presence("a"))
    elsewhere.outcomes["a"] = [Full(), Full()]
    assert await hosts(elsewhere).call(SAY, {}) == "a"
    assert elsewhere.calls == ["a"] * 3


async def test_one_that_never_has_room_is_not_asked_for_ever() -> None:
    elsewhere = Elsewhere(presence("a"))
    elsewhere.outcomes["a"] = [Full() for _ in range(100)]
    with pytest.raises(errors.ResourceExhausted) as caught:
        await hosts(elsewhere, patience=0.35).call(SAY, {})
    assert caught.value.reason_code == "TOOL_SOURCE_BUSY"
    assert len(elsewhere.calls) < 10


async def test_lost_calls_go_to_others_while_that_does_no_harm() -> None:
    elsewhere = Elsewhere(presence("a"), presence("b"))
    elsewhere.outcomes = {"a": [Lost(begun=True)], "b": [Lost(begun=True)]}
    source = hosts(elsewhere, patience=0.05)
    with pytest.raises(errors.Unavailable):
        await source.call(SAY, {})
    assert sorted(elsewhere.calls) == ["a", "b"]

    once = Tool("host/say", "say", "Say", "", {"type": "object"}, "v1")
    elsewhere = Elsewhere(presence("a", once), presence("b", once))
    elsewhere.outcomes = {at: [Lost(begun=False), Lost(begun=True)] for at in "ab"}
    with pytest.raises(errors.Unavailable, match="not known"):
        await hosts(elsewhere).call(once, {})
    assert len(elsewhere.calls) == 3


async def test_another_version_has_its_own_schema() -> None:
    strict = Tool("host/say", "say", "Say", "", {"type": "object", "required": ["text"]}, "v2")
    source = hosts(Elsewhere(presence("a", strict)))
    with pytest.raises(ToolError, match="no longer what it was"):
        await source.call(SAY, {})
    assert await source.call(SAY, {"text": "a"}) == "a"
