from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import grpc
from dynamicagents.tools.v1 import tool_call_pb2, tool_pb2, tool_service_pb2, tool_service_pb2_grpc

from libs import identity
from services.execution.model.tool_calls import CallQuery, CallRecord, Outcome
from services.execution.model.tools import SourceState, SourceStatus, Tool
from services.execution.service.catalogue import (
    Catalogue,
    Item,
    Query,
    Quiet,
    SnapshotComplete,
    SourceRemoved,
    ToolRemoved,
)
from services.execution.service.checks import Checks, ToolCheck
from services.execution.service.compatibility import Change
from services.execution.service.tool_calls import ToolCalls
from services.execution.service.tools import Tools
from services.execution.servicer.hosts import HostStreams
from services.execution.servicer.translation import to_data

Context = grpc.aio.ServicerContext[Any, Any]


class ToolServicer(tool_service_pb2_grpc.ToolServiceServicer):
    def __init__(
        self, tools: Tools, catalogue: Catalogue, checks: Checks, calls: ToolCalls, hosts: HostStreams
    ) -> None:
        self._tools, self._catalogue, self._checks = tools, catalogue, checks
        self._calls, self._hosts = calls, hosts

    async def ListTools(
        self, request: tool_service_pb2.ListToolsRequest, context: Context
    ) -> tool_service_pb2.ListToolsResponse:
        query = Query(request.source, request.agent_id, request.query)
        page = await self._catalogue.list(identity.current(), query, request.page_size, request.page_token)
        return tool_service_pb2.ListToolsResponse(
            tools=map(_tool, page.tools), next_page_token=page.next_token, sources=map(_status, page.sources)
        )

    async def WatchTools(
        self, request: tool_service_pb2.WatchToolsRequest, context: Context
    ) -> AsyncIterator[tool_service_pb2.WatchToolsResponse]:
        async with aclosing(self._catalogue.watch(identity.current(), request.source)) as items:
            async for item in items:
                yield _response(item)

    async def CallTool(
        self, request: tool_service_pb2.CallToolRequest, context: Context
    ) -> tool_service_pb2.CallToolResponse:
        result = await self._tools.call_directly(request.tool_id, to_data(request.arguments, "arguments"))
        return tool_service_pb2.CallToolResponse(
            output=result.output,
            is_error=result.is_error,
            duration=timedelta(seconds=result.duration),
            cached=result.cached,
        )

    async def CheckToolProvider(
        self, request: tool_service_pb2.CheckToolProviderRequest, context: Context
    ) -> tool_service_pb2.CheckToolProviderResponse:
        checks = await self._checks.check(
            identity.current(),
            request.tool_provider_id,
            address=request.candidate_address,
            other_id=request.candidate_tool_provider_id,
        )
        return tool_service_pb2.CheckToolProviderResponse(tools=map(_check, checks))

    def HostTools(self, request_iterator: Any, context: Context) -> Any:
        """It writes itself: a host that takes nothing must not hold the stream."""
        return self._hosts.serve(request_iterator, context)

    async def ListToolCalls(
        self, request: tool_service_pb2.ListToolCallsRequest, context: Context
    ) -> tool_service_pb2.ListToolCallsResponse:
        query = CallQuery(
            request.execution_id,
            request.tool_id,
            request.subject,
            _time(request, "from_time"),
            _time(request, "before_time"),
        )
        page, token = await self._calls.list(identity.current(), query, request.page_size, request.page_token)
        return tool_service_pb2.ListToolCallsResponse(tool_calls=map(_record, page), next_page_token=token)


_OUTCOME: Final = {
    Outcome.COMPLETED: tool_call_pb2.TOOL_CALL_OUTCOME_COMPLETED,
    Outcome.FAILED: tool_call_pb2.TOOL_CALL_OUTCOME_FAILED,
    Outcome.REFUSED: tool_call_pb2.TOOL_CALL_OUTCOME_REFUSED,
}


def _time(
    request: tool_service_pb2.ListToolCallsRequest, field: Literal["from_time", "before_time"]
) -> datetime | None:
    return getattr(request, field).ToDatetime(UTC) if request.HasField(field) else None


def _record(record: CallRecord) -> tool_call_pb2.ToolCallRecord:
    decision = record.decision
    return tool_call_pb2.ToolCallRecord(
        record_id=record.record_id,
        execution_id=record.execution_id,
        step=record.step,
        call_id=record.call_id,
        subject=record.subject,
        tool_id=record.tool_id,
        tool_version=record.tool_version,
        arguments_digest=record.arguments_digest,
        outcome=_OUTCOME[record.outcome],
        cached=record.cached,
        duration=timedelta(seconds=record.duration),
        time=record.time,
        decision=tool_call_pb2.ToolCallDecision(
            approved=decision.approved, subject=decision.subject, time=decision.time
        )
        if decision
        else None,
    )


_CHANGE: Final = {
    Change.UNCHANGED: tool_service_pb2.TOOL_CHANGE_UNCHANGED,
    Change.ADDED: tool_service_pb2.TOOL_CHANGE_ADDED,
    Change.COMPATIBLE: tool_service_pb2.TOOL_CHANGE_COMPATIBLE,
    Change.BREAKING: tool_service_pb2.TOOL_CHANGE_BREAKING,
    Change.REMOVED: tool_service_pb2.TOOL_CHANGE_REMOVED,
}
_STATE: Final = {
    SourceState.PENDING: tool_pb2.TOOL_SOURCE_STATE_PENDING,
    SourceState.READY: tool_pb2.TOOL_SOURCE_STATE_READY,
    SourceState.IDLE: tool_pb2.TOOL_SOURCE_STATE_IDLE,
    SourceState.FAILED: tool_pb2.TOOL_SOURCE_STATE_FAILED,
}


def _response(item: Item) -> tool_service_pb2.WatchToolsResponse:
    response = tool_service_pb2.WatchToolsResponse()
    match item:
        case Tool():
            response.tool_upserted.CopyFrom(_tool(item))
        case ToolRemoved(tool_id):
            response.tool_removed.tool_id = tool_id
        case SourceStatus():
            response.source_changed.CopyFrom(_status(item))
        case SourceRemoved(source_id):
            response.source_removed.source_id = source_id
        case SnapshotComplete():
            response.snapshot_complete.SetInParent()
        case Quiet():
            response.heartbeat.SetInParent()
    return response


def _check(check: ToolCheck) -> tool_service_pb2.ToolCheck:
    differences = [
        tool_service_pb2.ToolDifference(path=one.path, description=one.description, breaking=one.breaking)
        for one in check.differences
    ]
    return tool_service_pb2.ToolCheck(
        tool_id=check.tool_id, change=_CHANGE[check.change], differences=differences, agent_ids=check.agent_ids
    )


def _status(status: SourceStatus) -> tool_pb2.ToolSourceStatus:
    return tool_pb2.ToolSourceStatus(
        source_id=status.source_id,
        state=_STATE[status.state],
        message=status.message,
        tool_count=status.tool_count,
        protocol_version=status.protocol_version,
    )


def _tool(tool: Tool) -> tool_pb2.Tool:
    return tool_pb2.Tool(
        tool_id=tool.tool_id,
        function_name=tool.function_name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.input_schema,
        output_schema=tool.output_schema,
        annotations=tool_pb2.ToolAnnotations(
            read_only=tool.read_only,
            idempotent=tool.idempotent,
            destructive=tool.destructive,
            open_world=tool.open_world,
        ),
        source=tool.source,
        version=tool.version,
        examples=tool.examples,
        warning=tool.warning,
        unusable=tool.unusable,
    )
