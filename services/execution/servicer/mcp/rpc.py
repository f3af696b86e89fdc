"""MCP as Google's gRPC service `model_context_protocol.Mcp`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import grpc
from google.protobuf.json_format import MessageToDict
from mcp_grpc_transport_proto import mcp_messages_pb2 as messages

from libs import errors, identity
from services.execution.model.tools import Tool
from services.execution.service.offers import Offer, Offers, Said
from services.execution.service.sources import TOOL_ID, depth_of
from services.execution.servicer.mcp import words
from services.execution.servicer.translation import to_data

Context = grpc.aio.ServicerContext[Any, Any]
NAME: Final = "model_context_protocol.Mcp"
_CODE: Final = "mcp-error-code"
"""Trailing metadata by which Google's clients know an error of MCP."""


class McpServicer:
    """Tools alone. There are no pages and no progress in this service."""

    def __init__(self, offers: Offers) -> None:
        self._offers = offers

    async def ListTools(self, request: messages.ListToolsRequest, context: Context) -> messages.ListToolsResponse:
        with _coded(context):
            offers = await self._offers.whole(identity.current())
        return messages.ListToolsResponse(
            common=_COMPLETE,
            tools=map(_tool, offers),
            ttl=timedelta(milliseconds=words.TTL),
            cache_scope=messages.CACHE_SCOPE_PRIVATE,
        )

    async def CallTool(self, request: messages.CallToolRequest, context: Context) -> messages.CallToolResponse:
        with _coded(context):
            arguments = to_data(request.request.arguments, "request.arguments")
            depth = depth_of(MessageToDict(request.common.metadata))
            said = await self._offers.call(identity.current(), request.request.name, arguments, depth, None)
        return _response(said)

    async def ListResources(
        self, request: messages.ListResourcesRequest, context: Context
    ) -> messages.ListResourcesResponse:
        return messages.ListResourcesResponse(common=_COMPLETE)

    async def ListResourceTemplates(
        self, request: messages.ListResourceTemplatesRequest, context: Context
    ) -> messages.ListResourceTemplatesResponse:
        return messages.ListResourceTemplatesResponse(common=_COMPLETE)

    async def ReadResource(
        self, request: messages.ReadResourceRequest, context: Context
    ) -> messages.ReadResourceResponse:
        with _coded(context):
            raise errors.NotFound("resource", request.uri)

    async def ListPrompts(self, request: messages.ListPromptsRequest, context: Context) -> messages.ListPromptsResponse:
        return messages.ListPromptsResponse(common=_COMPLETE)

    async def GetPrompt(self, request: messages.GetPromptRequest, context: Context) -> messages.GetPromptResponse:
        with _coded(context):
            raise errors.NotFound("prompt", request.name)

    async def Complete(self, request: messages.CompletionRequest, context: Context) -> messages.CompletionResponse:
        return messages.CompletionResponse(common=_COMPLETE)


_COMPLETE: Final = messages.ResponseFields(result_type=messages.RESULT_TYPE_COMPLETE)


@contextmanager
def _coded(context: Context) -> Iterator[None]:
    try:
        yield
    except errors.Error as error:
        context.set_trailing_metadata(((_CODE, str(words.code_of(error))),))
        raise


def _tool(offer: Offer) -> messages.Tool:
    tool: Tool = offer.tool
    return messages.Tool(
        name=offer.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.input_schema,
        output_schema=tool.output_schema,
        annotations=messages.ToolAnnotations(
            title=tool.title,
            read_only_hint=tool.read_only,
            destructive_hint=tool.destructive,
            idempotent_hint=tool.idempotent,
            open_world_hint=tool.open_world,
        ),
        metadata={TOOL_ID: tool.tool_id},
    )


def _response(said: Said) -> messages.CallToolResponse:
    text = messages.CallToolResponse.Content(text=messages.TextContent(text=said.text))
    common = messages.ResponseFields(result_type=messages.RESULT_TYPE_COMPLETE, metadata=words.meta(said))
    return messages.CallToolResponse(
        common=common, content=[text], structured_content=said.data, is_error=said.is_error
    )
