"""model_context_protocol.Mcp, Google's gRPC service of the Model Context Protocol."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from mcp_grpc_transport_proto import mcp_messages_pb2 as mcp_pb2
from mcp_grpc_transport_proto import mcp_pb2_grpc
from mcp_types import CallToolResult
from mcp_types import Tool as McpTool
from pydantic import ValidationError

from services.execution.gateways.described import MOST_TOOLS
from services.execution.gateways.mcp.translation import to_output, to_tools
from services.execution.gateways.providers.dialect import Listing, Metadata, Senseless, seconds
from services.execution.gateways.providers.targets import Target
from services.execution.model.sessions import whole
from services.execution.service.sources import ToolError, idempotency_key

_KEY: Final = "dynamicagents.dev/idempotency-key"
_TOOL: Final = "mcp_tool"
"""By this header proxies see which tool is called."""


class GoogleMcp:
    version = "model_context_protocol.Mcp"

    def __init__(self, target: Target) -> None:
        self._target = target

    async def tools(self, channel: grpc.aio.Channel, metadata: Metadata) -> Listing:
        answer = await mcp_pb2_grpc.McpStub(channel).ListTools(mcp_pb2.ListToolsRequest(), metadata=metadata)
        try:
            found = [_tool(tool) for tool in answer.tools[:MOST_TOOLS]]
        except (ValueError, ValidationError):
            raise Senseless("its tools are not what the protocol says") from None
        tools, said = to_tools(self._target, found)
        return Listing(tools, seconds(answer.ttl), said)

    async def call(
        self,
        channel: grpc.aio.Channel,
        name: str,
        arguments: Mapping[str, Any],
        metadata: Metadata,
        timeout: float | None,
    ) -> str:
        request = mcp_pb2.CallToolRequest(request=mcp_pb2.CallToolRequest.Request(name=name))
        request.request.arguments.update(arguments)
        if key := idempotency_key():
            request.common.metadata.update({_KEY: key})
        answer = await mcp_pb2_grpc.McpStub(channel).CallTool(
            request, metadata=(*metadata, (_TOOL, name)), timeout=timeout
        )
        if answer.common.input_requests or answer.common.result_type == mcp_pb2.RESULT_TYPE_INPUT_REQUIRED:
            raise ToolError("the tool asks for input, which this version cannot give")
        try:
            result = CallToolResult.model_validate(_result(answer))
        except (ValueError, ValidationError):
            raise ToolError("the MCP server's answer is not what the protocol says") from None
        return to_output(result)


def _tool(tool: mcp_pb2.Tool) -> McpTool:
    hints = {field.name: value for field, value in tool.annotations.ListFields()}
    if hints:
        # Unset and false are one in this contract: what is not said to be destructive, or open, is not.
        hints |= {"destructive_hint": tool.annotations.destructive_hint}
        hints |= {"open_world_hint": tool.annotations.open_world_hint}
    return McpTool.model_validate(
        {
            "name": tool.name,
            "title": tool.title or None,
            "description": tool.description or None,
            "input_schema": _data(tool.input_schema) or {"type": "object"},
            "output_schema": _data(tool.output_schema) if tool.HasField("output_schema") else None,
            "annotations": hints or None,
        }
    )


def _result(answer: mcp_pb2.CallToolResponse) -> dict[str, Any]:
    has_data = answer.HasField("structured_content")
    return {
        "content": [_content(part) for part in answer.content],
        "structured_content": _data(answer.structured_content) if has_data else None,
        "is_error": answer.is_error,
    }


def _content(part: mcp_pb2.CallToolResponse.Content) -> dict[str, Any]:
    """Exactly one field is set, says the contract, which has no oneof of them."""
    for field, value in part.ListFields():
        match field.name:
            case "text":
                return {"type": "text", "text": value.text}
            case "image" | "audio":
                data = base64.b64encode(value.data).decode()
                return {"type": field.name, "data": data, "mime_type": value.mime_type}
            case "resource_link":
                return {"type": "resource_link", "name": value.name, "uri": value.uri}
            case "embedded_resource":
                return {"type": "resource", "resource": _resource(value.contents)}
    raise ValueError("content without any")


def _resource(contents: mcp_pb2.ResourceContents) -> dict[str, Any]:
    common = {"uri": contents.uri, "mime_type": contents.mime_type or None}
    if contents.blob:
        return {**common, "blob": base64.b64encode(contents.blob).decode()}
    return {**common, "text": contents.text}


def _data(struct: Message) -> dict[str, Any]:
    return dict(whole(MessageToDict(struct)))
