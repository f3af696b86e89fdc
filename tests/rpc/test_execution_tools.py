from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from dynamicagents.tools.v1 import tool_service_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from google.rpc import error_details_pb2

from tests import harness

Bench = Callable[..., Any]


async def call(at: Any, tool_id: str, **arguments: Any) -> tool_service_pb2.CallToolResponse:
    given = Struct()
    given.update(arguments)
    asked = tool_service_pb2.CallToolRequest(tool_id=tool_id, arguments=given)
    answer: tool_service_pb2.CallToolResponse = await at.tools.CallTool(asked)
    return answer


BUILTIN = [
    "builtin/aggregate_scores",
    "builtin/ask_user",
    "builtin/calculate_lead_score",
    "builtin/calculator",
    "builtin/current_time",
    "builtin/format_chart_config",
    "builtin/format_table",
    "builtin/generate_recommendations",
    "builtin/http_fetch",
    "builtin/response_format_guide",
    "builtin/sql_query",
    "builtin/web_search",
]
OFF = {"builtin/http_fetch", "builtin/sql_query", "builtin/web_search"}


async def test_listing(bench: Bench) -> None:
    at = await bench()
    listed = await at.tools.ListTools(tool_service_pb2.ListToolsRequest())
    assert [tool.tool_id for tool in listed.tools] == BUILTIN
    assert listed.next_page_token == ""
    assert {tool.tool_id for tool in listed.tools if tool.unusable} == OFF
    assert all("setting" in tool.warning for tool in listed.tools if tool.unusable)
    calculator = listed.tools[BUILTIN.index("builtin/calculator")]
    assert (calculator.function_name, calculator.source) == ("calculator", "builtin")
    assert calculator.annotations.read_only
    assert calculator.annotations.idempotent
    assert calculator.version
    assert not calculator.HasField("output_schema")
    assert MessageToDict(calculator.input_schema)["required"] == ["expression"]


async def test_pages(bench: Bench) -> None:
    at = await bench()
    first = await at.tools.ListTools(tool_service_pb2.ListToolsRequest(page_size=7))
    second = await at.tools.ListTools(tool_service_pb2.ListToolsRequest(page_size=7, page_token=first.next_page_token))
    assert [tool.tool_id for tool in (*first.tools, *second.tools)] == BUILTIN
    assert second.next_page_token == ""


async def test_bad_pages(bench: Bench) -> None:
    at = await bench()
    for fields in ({"page_size": 1001}, {"page_size": -1}, {"page_token": "?"}):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await at.tools.ListTools(tool_service_pb2.ListToolsRequest(**fields))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert harness.fields_of(caught.value) == list(fields)


async def test_calling(bench: Bench) -> None:
    at = await bench()
    good = await call(at, "builtin/calculator", expression="17 * 23")
    assert (good.output, good.is_error) == ("391", False)
    assert good.duration.ToNanoseconds() > 0
    assert (await call(at, "builtin/current_time")).output.endswith("+00:00")
    failed = await call(at, "builtin/calculator", expression="1 / 0")
    assert failed.is_error


async def test_bad_arguments(bench: Bench) -> None:
    at = await bench()
    bad: list[tuple[str, dict[str, Any]]] = [
        ("arguments", {}),
        ("arguments.expression", {"expression": 1}),
        ("arguments", {"expression": "1", "x": 1}),
        ("arguments.expression", {"expression": "1" * 1001}),
    ]
    for field, arguments in bad:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(at, "builtin/calculator", **arguments)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert harness.fields_of(caught.value) == [field]


async def test_unknown_tool(bench: Bench) -> None:
    at = await bench()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(at, "builtin/gone")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    resource = harness.detail(harness.status_of(caught.value), error_details_pb2.ResourceInfo)
    assert (resource.resource_type, resource.resource_name) == ("tool", "builtin/gone")


async def test_what_is_off_cannot_be_called(bench: Bench) -> None:
    at = await bench()
    for tool_id, arguments in (("http_fetch", {"url": "http://a"}), ("web_search", {"query": "a"}), ("sql_query", {})):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(at, f"builtin/{tool_id}", **arguments)
        assert (caught.value.code(), harness.reason_of(caught.value)) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "TOOL_UNUSABLE",
        )
