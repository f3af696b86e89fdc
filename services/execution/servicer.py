"""Proto <-> model for the services on Execution's port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from datetime import timedelta
from typing import Any, Final

import grpc
from dynamicagents.execution.v1 import event_pb2, execution_pb2, execution_service_pb2, execution_service_pb2_grpc
from dynamicagents.tools.v1 import tool_pb2, tool_service_pb2, tool_service_pb2_grpc
from google.protobuf.json_format import MessageToDict

from libs import errors, identity, status
from services.execution.model import ExecuteRequest, Execution, LoggedEvent, OnDisconnect, Status, Tool
from services.execution.service.executions import Executions
from services.execution.service.tools import Tools

Context = grpc.aio.ServicerContext[Any, Any]

_ON_DISCONNECT: Final = {
    execution_service_pb2.ON_DISCONNECT_UNSPECIFIED: OnDisconnect.GRACE,
    execution_service_pb2.ON_DISCONNECT_CANCEL: OnDisconnect.CANCEL,
    execution_service_pb2.ON_DISCONNECT_CONTINUE: OnDisconnect.CONTINUE,
}
_STATUS: Final = {
    Status.RUNNING: execution_pb2.EXECUTION_STATUS_RUNNING,
    Status.COMPLETED: execution_pb2.EXECUTION_STATUS_COMPLETED,
    Status.FAILED: execution_pb2.EXECUTION_STATUS_FAILED,
    Status.CANCELLED: execution_pb2.EXECUTION_STATUS_CANCELLED,
}


class ExecutionServicer(execution_service_pb2_grpc.ExecutionServiceServicer):
    def __init__(self, executions: Executions) -> None:
        self._executions = executions

    async def Execute(
        self, request: execution_service_pb2.ExecuteRequest, context: Context
    ) -> execution_service_pb2.ExecuteResponse:
        ended = await self._executions.execute(identity.current(), _request(request))
        return execution_service_pb2.ExecuteResponse(execution=_execution(ended))

    async def ExecuteStream(
        self, request: execution_service_pb2.ExecuteRequest, context: Context
    ) -> AsyncIterator[event_pb2.ExecuteEvent]:
        caller = identity.current()
        execution_id = await self._executions.start(caller, _request(request))
        async with aclosing(self._executions.watch(caller, execution_id, 0)) as events:
            async for event in events:
                yield _event(execution_id, event)

    async def WatchExecution(
        self, request: execution_service_pb2.WatchExecutionRequest, context: Context
    ) -> AsyncIterator[execution_service_pb2.WatchExecutionResponse]:
        watch = self._executions.watch(identity.current(), request.execution_id, request.after_sequence)
        async with aclosing(watch) as events:
            async for event in events:
                yield execution_service_pb2.WatchExecutionResponse(event=_event(request.execution_id, event))

    async def GetExecution(
        self, request: execution_service_pb2.GetExecutionRequest, context: Context
    ) -> execution_service_pb2.GetExecutionResponse:
        found = await self._executions.get(identity.current(), request.execution_id)
        return execution_service_pb2.GetExecutionResponse(execution=_execution(found))

    async def CancelExecution(
        self, request: execution_service_pb2.CancelExecutionRequest, context: Context
    ) -> execution_service_pb2.CancelExecutionResponse:
        ended = await self._executions.cancel(identity.current(), request.execution_id, request.reason)
        return execution_service_pb2.CancelExecutionResponse(execution=_execution(ended))


class ToolServicer(tool_service_pb2_grpc.ToolServiceServicer):
    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def ListTools(
        self, request: tool_service_pb2.ListToolsRequest, context: Context
    ) -> tool_service_pb2.ListToolsResponse:
        found, token = self._tools.list(request.page_size, request.page_token)
        return tool_service_pb2.ListToolsResponse(tools=map(_tool, found), next_page_token=token)

    async def CallTool(
        self, request: tool_service_pb2.CallToolRequest, context: Context
    ) -> tool_service_pb2.CallToolResponse:
        result = await self._tools.call_directly(request.tool_id, MessageToDict(request.arguments))
        return tool_service_pb2.CallToolResponse(
            output=result.output, is_error=result.is_error, duration=timedelta(seconds=result.duration)
        )


def _request(request: execution_service_pb2.ExecuteRequest) -> ExecuteRequest:
    return ExecuteRequest(
        agent_id=request.agent_id,
        input=request.input,
        revision=request.revision,
        session_id=request.session_id,
        user_id=request.user_id,
        metadata=dict(request.metadata),
        request_id=request.request_id,
        timeout=request.timeout.ToTimedelta().total_seconds() if request.HasField("timeout") else None,
        on_disconnect=_ON_DISCONNECT[request.on_disconnect],
    )


def _event(execution_id: str, logged: LoggedEvent) -> event_pb2.ExecuteEvent:
    message = event_pb2.ExecuteEvent(execution_id=execution_id, sequence=logged.sequence, time=logged.time)
    message.source.path.extend(logged.path)
    fields = logged.event.to_dict()
    if "usage" in fields:
        fields["usage"] = _usage(fields["usage"])
    if "error" in fields:
        fields["error"] = status.to_status(errors.from_dict(fields["error"]))
    if "duration" in fields:
        fields["duration"] = timedelta(seconds=fields["duration"])
    part = getattr(message, logged.event.kind)
    part.SetInParent()
    part.MergeFrom(type(part)(**fields))
    return message


def _usage(usage: Mapping[str, Any]) -> execution_pb2.ExecutionUsage:
    total = usage.get("input_tokens", 0) + usage.get("output_tokens", 0)
    return execution_pb2.ExecutionUsage(total_tokens=total, **usage)


def _execution(execution: Execution) -> execution_pb2.Execution:
    message = execution_pb2.Execution(
        execution_id=execution.execution_id,
        agent_id=execution.agent_id,
        revision=execution.revision,
        status=_STATUS[execution.status],
        input=execution.input,
        output=execution.output,
        structured_output=execution.structured_output,
        usage=_usage(execution.usage),
        session_id=execution.session_id,
        user_id=execution.user_id,
        metadata=execution.metadata,
        last_sequence=execution.last_sequence,
        create_time=execution.create_time,
        end_time=execution.end_time,
    )
    if execution.error:
        message.error.CopyFrom(status.to_status(errors.from_dict(execution.error)))
    return message


def _tool(tool: Tool) -> tool_pb2.Tool:
    return tool_pb2.Tool(
        tool_id=tool.tool_id,
        function_name=tool.function_name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.input_schema,
        output_schema=tool.output_schema,
        annotations=tool_pb2.ToolAnnotations(read_only=tool.read_only, idempotent=tool.idempotent),
        source=tool.source,
        version=tool.version,
    )
