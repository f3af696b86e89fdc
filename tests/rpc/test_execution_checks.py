"""Which agents a changed tool provider would break."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from dynamicagents.tools.v1 import tool_service_pb2

from tests import crm_service, harness, tool_provider
from tests.provider_bench import LEADS, LOST, REFLECTION, register, until_listed
from tests.rpc.conftest import ExecutionBench

Bench = Callable[..., Any]
Code = grpc.StatusCode
CHANGED = (
    ("  int32 score = 3 ", "  string score = 3 "),
    ("(buf.validate.field).int32 = {\n    gte: 0\n    lte: 100\n  }", "deprecated = true"),
    ("  STATUS_WON = 2;", "  STATUS_WON = 2;\n  STATUS_LOST = 3;"),
    ("  rpc Say(google.protobuf.StringValue) returns (google.protobuf.StringValue);\n", ""),
    ("  rpc Reset(", "  rpc Renew(google.protobuf.Empty) returns (google.protobuf.Empty);\n  rpc Reset("),
)


async def check(at: ExecutionBench, **asked: Any) -> dict[str, tool_service_pb2.ToolCheck]:
    request = tool_service_pb2.CheckToolProviderRequest(**{"tool_provider_id": "crm", **asked})
    answer = await at.tools.CheckToolProvider(request, timeout=30, metadata=at.metadata)
    return {one.tool_id: one for one in answer.tools}


def changes(found: dict[str, tool_service_pb2.ToolCheck], prefix: str) -> dict[str, str]:
    name = tool_service_pb2.ToolChange.Name
    return {tool_id.removeprefix(prefix): name(one.change)[12:] for tool_id, one in found.items()}


async def fails(at: ExecutionBench, **asked: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check(at, **asked)
    return caught.value.code(), harness.reason_of(caught.value)


async def test_a_candidate(bench: Bench) -> None:
    async with (
        crm_service.serving() as now,
        crm_service.serving(crm_service.compiled(comments=False, changed=CHANGED)) as candidate,
    ):
        at = await bench()
        spec: Any = {"protocol": REFLECTION, "methods": ["crm.v1.*"]}
        await register(at, now.address, **spec)
        await register(at, candidate.address, "crm-next", **spec)
        await until_listed(at, f"{LEADS}/Say")
        await at.create("by-id", tools=[{"tool_id": f"{LEADS}/CreateLead"}])
        await at.create("by-pattern", tools=[{"tool_id": "grpc/crm/*"}])
        await at.create("wide", tools=[{"tool_id": "grpc/*"}])
        await at.create("other", tools=[{"tool_id": "builtin/calculator"}])
        found = await check(at, candidate_address=candidate.address)
        assert changes(found, f"{LEADS}/") == {
            "CountLeads": "COMPATIBLE",
            "CreateLead": "BREAKING",
            "Echo": "COMPATIBLE",
            "Fail": "COMPATIBLE",
            "Renew": "ADDED",
            "Reset": "UNCHANGED",
            "Say": "REMOVED",
        }
        made = found[f"{LEADS}/CreateLead"]
        assert list(made.agent_ids) == ["by-id", "by-pattern", "wide"]
        assert [one.path for one in made.differences if one.breaking] == ["input.score"]
        assert list(found[f"{LEADS}/Say"].agent_ids) == ["by-pattern", "wide"]
        assert await check(at, candidate_tool_provider_id="crm-next") == found
        assert set(changes(await check(at), "").values()) == {"UNCHANGED"}


async def test_the_last_change(bench: Bench) -> None:
    async with tool_provider.serving(tools={"say": {}, "gone": {}}) as provider:
        at = await bench()
        await register(at, provider.address)
        await until_listed(at, "grpc/crm/say")
        await at.create(tools=[{"tool_id": "grpc/crm/gone"}, {"tool_id": "grpc/crm/never-was"}])
        schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
        provider.tools = {"say": {"input_schema": schema}, "new": {}}
        found = await check(at)
        expected = {"gone": "REMOVED", "never-was": "REMOVED", "new": "ADDED", "say": "BREAKING"}
        assert changes(found, "grpc/crm/") == expected
        assert list(found["grpc/crm/gone"].agent_ids) == ["helper"]
        assert changes(await check(at), "grpc/crm/") == expected


async def test_a_candidate_is_not_told_the_token(bench: Bench) -> None:
    async with tool_provider.serving() as provider, tool_provider.serving(token="any") as candidate:
        at = await bench()
        await register(at, provider.address)
        await until_listed(at, "grpc/crm/say")
        assert await fails(at, candidate_address=candidate.address) == LOST
        assert candidate.listings == 0


async def test_bad_input(bench: Bench) -> None:
    at = await bench()
    assert await fails(at) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
    assert await fails(at, tool_provider_id="") == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert await fails(at, candidate_address="nowhere") == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    async with tool_provider.serving() as provider:
        await register(at, provider.address)
        await until_listed(at, "grpc/crm/say")
        assert await fails(at, candidate_tool_provider_id="none") == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
        assert await fails(at, candidate_address="8.8.8.8:50051") == LOST
        assert await fails(at, candidate_address="127.0.0.1:9") == LOST
