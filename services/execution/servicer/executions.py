from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from dynamicagents.execution.v1 import event_pb2, execution_service_pb2

from libs import correlation, identity, telemetry
from services.execution.service.executions import Executions
from services.execution.service.listing import Listing
from services.execution.service.replay import Replays
from services.execution.service.sessions import Sessions
from services.execution.service.signals import Signals
from services.execution.servicer.inputs import to_answers
from services.execution.servicer.sessions import SessionMethods
from services.execution.servicer.translation import to_event, to_execution, to_request, to_value

Context = grpc.aio.ServicerContext[Any, Any]


class ExecutionServicer(SessionMethods):
    def __init__(
        self, executions: Executions, signals: Signals, replays: Replays, sessions: Sessions, listing: Listing
    ) -> None:
        self._executions, self._signals, self._replays = executions, signals, replays
        self._sessions, self._listing = sessions, listing

    async def Execute(
        self, request: execution_service_pb2.ExecuteRequest, context: Context
    ) -> execution_service_pb2.ExecuteResponse:
        ended = await self._executions.execute(identity.current(), to_request(request))
        correlation.enter(ended.execution_id)
        return execution_service_pb2.ExecuteResponse(execution=to_execution(ended))

    async def ExecuteStream(
        self, request: execution_service_pb2.ExecuteRequest, context: Context
    ) -> AsyncIterator[event_pb2.ExecuteEvent]:
        caller = identity.current()
        execution_id = await self._executions.start(caller, to_request(request))
        correlation.enter(execution_id)
        async with aclosing(self._executions.watch(caller, execution_id, 0)) as events:
            async for event in events:
                yield to_event(execution_id, event)

    async def WatchExecution(
        self, request: execution_service_pb2.WatchExecutionRequest, context: Context
    ) -> AsyncIterator[execution_service_pb2.WatchExecutionResponse]:
        caller = identity.current()
        if telemetry.records():
            telemetry.link(await self._executions.origin(caller, request.execution_id))
        watch = self._executions.watch(caller, request.execution_id, request.after_sequence)
        async with aclosing(watch) as events:
            async for event in events:
                yield execution_service_pb2.WatchExecutionResponse(event=to_event(request.execution_id, event))

    async def GetExecution(
        self, request: execution_service_pb2.GetExecutionRequest, context: Context
    ) -> execution_service_pb2.GetExecutionResponse:
        found, steps = await self._executions.describe(identity.current(), request.execution_id)
        return execution_service_pb2.GetExecutionResponse(execution=to_execution(found, steps))

    async def ContinueExecution(
        self, request: execution_service_pb2.ContinueExecutionRequest, context: Context
    ) -> execution_service_pb2.ContinueExecutionResponse:
        answers = to_answers(request)
        found = await self._executions.answer(identity.current(), request.execution_id, answers, request.request_id)
        return execution_service_pb2.ContinueExecutionResponse(execution=to_execution(found))

    async def SignalExecution(
        self, request: execution_service_pb2.SignalExecutionRequest, context: Context
    ) -> execution_service_pb2.SignalExecutionResponse:
        found = await self._signals.send(
            identity.current(),
            request.execution_id,
            request.name,
            to_value(request.payload, "payload"),
            request.request_id,
        )
        return execution_service_pb2.SignalExecutionResponse(execution=to_execution(found))

    async def ReplayExecution(
        self, request: execution_service_pb2.ReplayExecutionRequest, context: Context
    ) -> AsyncIterator[execution_service_pb2.ReplayExecutionResponse]:
        async with aclosing(self._replays.replay(identity.current(), request.execution_id)) as events:
            async for event in events:
                yield execution_service_pb2.ReplayExecutionResponse(event=to_event(request.execution_id, event))

    async def CancelExecution(
        self, request: execution_service_pb2.CancelExecutionRequest, context: Context
    ) -> execution_service_pb2.CancelExecutionResponse:
        ended = await self._executions.cancel(identity.current(), request.execution_id, request.reason)
        return execution_service_pb2.CancelExecutionResponse(execution=to_execution(ended))
