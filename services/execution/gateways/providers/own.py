"""dynamicagents.tools.v1.ToolProviderService."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import grpc
import orjson
from dynamicagents.tools.v1 import tool_provider_service_pb2 as provider_pb2
from dynamicagents.tools.v1 import tool_provider_service_pb2_grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from libs import identity
from services.execution.gateways.described import MOST_TOOLS, Description, to_tools
from services.execution.gateways.providers.dialect import Listing, Metadata, Senseless, seconds
from services.execution.gateways.providers.targets import Target
from services.execution.model.sessions import whole
from services.execution.service.sources import ToolError, idempotency_key

_MOST_PAGES: Final = 100


class ToolProviders:
    version = "dynamicagents.tools.v1.ToolProviderService"

    def __init__(self, target: Target) -> None:
        self._target = target

    async def tools(self, channel: grpc.aio.Channel, metadata: Metadata) -> Listing:
        stub = _stub(channel)
        request = provider_pb2.ToolProviderServiceListToolsRequest(tenant=identity.current().tenant)
        found: list[provider_pb2.ProvidedTool] = []
        ttl = None
        for _ in range(_MOST_PAGES):
            page = await stub.ListTools(request, metadata=metadata)
            found += page.tools
            ttl = seconds(page.ttl) or ttl
            request.page_token = page.next_page_token
            if not request.page_token or len(found) >= MOST_TOOLS:
                break
        try:
            tools, said = to_tools(self._target.source_id, map(self._description, found[:MOST_TOOLS]))
        except ValueError:  # numbers that are none
            raise Senseless("its tools have schemas that are not JSON") from None
        return Listing(tools, ttl, said)

    def _description(self, tool: provider_pb2.ProvidedTool) -> Description:
        hints = tool.annotations
        return Description(
            name=tool.name,
            function_name=tool.name,
            title=tool.title or tool.name,
            description=tool.description,
            input_schema=_data(tool.input_schema) or {"type": "object"},
            output_schema=_data(tool.output_schema) if tool.HasField("output_schema") else None,
            read_only=hints.read_only,
            idempotent=hints.idempotent,
            takes_key=tool.takes_idempotency_key,
            destructive=hints.destructive and not hints.read_only,
            open_world=hints.open_world,
            examples=[_data(example) for example in tool.examples],
            timeout=self._timeout(tool),
        )

    def _timeout(self, tool: provider_pb2.ProvidedTool) -> float | None:
        return min((one for one in (seconds(tool.timeout), self._target.timeout) if one is not None), default=None)

    async def call(
        self,
        channel: grpc.aio.Channel,
        name: str,
        arguments: Mapping[str, Any],
        metadata: Metadata,
        timeout: float | None,
    ) -> str:
        caller, key, given = identity.current(), idempotency_key(), Struct()
        given.update(arguments)
        request = provider_pb2.ExecuteToolRequest(
            tool_name=name,
            arguments=given,
            idempotency_key=key,
            execution_id=key.partition("/")[0],
            tenant=caller.tenant,
            subject=caller.subject,
        )
        return _output(await _stub(channel).ExecuteTool(request, metadata=metadata, timeout=timeout))


def _output(response: provider_pb2.ExecuteToolResponse) -> str:
    output = response.text
    if response.WhichOneof("result") == "structured":
        try:
            output = orjson.dumps(whole(MessageToDict(response.structured))).decode()
        except (ValueError, TypeError, RecursionError):
            raise ToolError("the tool's result is not JSON") from None
    if not response.is_error:
        return output
    again = seconds(response.retry_after)
    hint = f" (another try may do better in {again:.3g} s)" if again else ""
    raise ToolError(f"{output or 'the tool failed and does not say why'}{hint}")


def _data(struct: Struct) -> dict[str, Any]:
    return dict(whole(MessageToDict(struct)))


def _stub(channel: grpc.aio.Channel) -> tool_provider_service_pb2_grpc.ToolProviderServiceAsyncStub:
    return tool_provider_service_pb2_grpc.ToolProviderServiceStub(channel)
