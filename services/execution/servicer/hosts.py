"""Proto <-> model of hosts: the streams that they open, and calls that come from other processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import grpc
import structlog
from dynamicagents.tools.v1 import host_pb2, host_relay_service_pb2, host_relay_service_pb2_grpc, tool_service_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from libs import errors, identity
from libs.validation import validate
from services.execution.model.hosts import (
    Beat,
    Call,
    Cancel,
    Draining,
    Errand,
    HostAnswer,
    Message,
    Registered,
)
from services.execution.model.sessions import whole
from services.execution.model.tools import Progress, Tool
from services.execution.service.hosts.source import Hosts
from services.execution.service.hosts.stream import Full, HostStream, Lost
from services.execution.service.names import fitted
from services.execution.service.sources import ToolError, enter_key, progress_told
from services.execution.service.tools import clipped
from services.execution.servicer.translation import to_data

Context = grpc.aio.ServicerContext[Any, Any]
log = structlog.get_logger()

_SLOW: Final = 60.0
"""Seconds after which a host that takes nothing is given up."""
MOST_TOOLS: Final = 1000


class HostStreams:
    """Serves HostTools."""

    def __init__(self, hosts: Hosts, *, heartbeat: float, max_message_bytes: int) -> None:
        self._hosts = hosts
        self._told = {
            "heartbeat_interval": timedelta(seconds=heartbeat),
            "max_message_bytes": max_message_bytes,
        }

    async def serve(self, requests: AsyncIterator[tool_service_pb2.HostToolsRequest], context: Context) -> None:
        async with self._hosts.connected(identity.current()) as stream:
            reading = asyncio.create_task(self._read(requests, stream))
            try:
                async with aclosing(stream.outgoing()) as messages:
                    async for message in messages:
                        await self._write(context, message)
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    async def _write(self, context: Context, message: Message) -> None:
        try:
            async with asyncio.timeout(_SLOW):
                await context.write(_response(message, self._told))
        except TimeoutError:
            raise errors.Aborted(f"nothing was taken for {_SLOW:g} s", reason="WATCHER_TOO_SLOW") from None

    async def _read(self, requests: AsyncIterator[tool_service_pb2.HostToolsRequest], stream: HostStream) -> None:
        """A host that has no more to say cannot answer either."""
        error: errors.Error | None = None
        try:
            async for request in requests:
                await self._hear(request, stream)
            if stream.offered is None:
                error = errors.invalid("register", "is required")
        except errors.Error as bad:
            error = bad
        except DecodeError:
            error = errors.invalid("request", "is not a message of this method")
        except Exception:
            log.exception("a host's messages cannot be read")
            error = errors.Internal("internal error")
        stream.end(error)

    async def _hear(self, request: tool_service_pb2.HostToolsRequest, stream: HostStream) -> None:
        stream.hear()
        if len(request.register.tools) > MOST_TOOLS:  # rather than to look at each
            raise errors.invalid("register.tools", f"has {len(request.register.tools)}, more than {MOST_TOOLS}")
        validate(request)
        kind = request.WhichOneof("message")
        if stream.offered is None and kind != "register":
            raise errors.invalid("register", "is required of the first message")
        match kind:
            case "register":
                said = request.register
                offered = [(tool.name, _tool(index, tool)) for index, tool in enumerate(said.tools)]
                await self._hosts.register(stream, said.host_id, offered, said.max_concurrency)
            case "progress":
                stream.progress(request.progress.call_id, _progress(request.progress))
            case "result":
                stream.answer(request.result.call_id, _answer(request.result))
            case "drain":
                stream.drain()


class HostRelayServicer(host_relay_service_pb2_grpc.HostRelayServiceServicer):
    """Calls of other processes, for hosts that are connected to this one."""

    def __init__(self, hosts: Hosts, *, max_message_bytes: int) -> None:
        self._hosts, self._limit = hosts, max_message_bytes // 2

    async def RelayCall(
        self, request: host_relay_service_pb2.RelayCallRequest, context: Context
    ) -> AsyncIterator[host_relay_service_pb2.RelayCallResponse]:
        caller = identity.current()
        caller.require(identity.SERVICE_SCOPE)
        stream = self._hosts.stream(caller.tenant, request.stream_id)
        told: asyncio.Queue[Progress | None] = asyncio.Queue()
        making = asyncio.create_task(self._made(stream, request, told))
        making.add_done_callback(lambda _: told.put_nowait(None))
        try:
            while (progress := await told.get()) is not None:
                yield host_relay_service_pb2.RelayCallResponse(
                    progress=host_pb2.HostCallProgress(
                        progress=progress.progress, total=progress.total, message=progress.message
                    )
                )
            yield host_relay_service_pb2.RelayCallResponse(result=await making)
        finally:
            making.cancel()

    async def _made(
        self,
        stream: HostStream | None,
        request: host_relay_service_pb2.RelayCallRequest,
        told: asyncio.Queue[Progress | None],
    ) -> host_pb2.HostCallResult:
        enter_key(request.idempotency_key, request.execution_id, request.user_id)
        arguments = to_data(request.arguments, "arguments")
        errand = Errand(request.tool, arguments, request.idempotency_key, request.execution_id, request.user_id)
        try:
            if stream is None or not stream.is_there:
                raise Lost(begun=False)
            with progress_told(told.put_nowait):
                return host_pb2.HostCallResult(output=clipped(await stream.call(errand), self._limit))
        except ToolError as error:
            return host_pb2.HostCallResult(output=clipped(str(error), self._limit), is_error=True)
        except Full:
            raise errors.ResourceExhausted("the host has no room", reason="TOOL_SOURCE_BUSY", retry_after=0.1) from None
        except Lost as lost:
            raise errors.Unavailable(
                f"the host {lost}",
                reason="TOOL_SOURCE_UNAVAILABLE",
                metadata={"source": "host", "begun": str(lost.begun).lower()},
            ) from None


def _tool(index: int, tool: host_pb2.HostedTool) -> Tool:
    field = f"register.tools[{index}]"
    schema = to_data(tool.input_schema, f"{field}.input_schema")
    hints = tool.annotations
    return Tool(
        tool_id=f"{Hosts.name}/{tool.name}",
        function_name=fitted(tool.name),
        title=tool.title or tool.name,
        description=tool.description,
        input_schema=schema or {"type": "object", "properties": {}},
        output_schema=to_data(tool.output_schema, f"{field}.output_schema") if tool.HasField("output_schema") else None,
        version="",
        read_only=hints.read_only,
        idempotent=hints.idempotent,
        destructive=hints.destructive,
        open_world=hints.open_world,
        examples=[to_data(example, f"{field}.examples") for example in tool.examples],
    )


def _progress(said: host_pb2.HostCallProgress) -> Progress:
    return Progress(said.progress, said.total, said.message)


def _answer(result: host_pb2.HostCallResult) -> HostAnswer:
    if not result.HasField("structured_output"):
        return HostAnswer(result.output, result.is_error)
    try:
        data = whole(MessageToDict(result.structured_output))
    except ValueError:
        raise errors.invalid("result.structured_output", "has a number that is not finite, or no value") from None
    return HostAnswer(result.output, result.is_error, data, has_data=True)


def _response(message: Message, told: dict[str, Any]) -> tool_service_pb2.HostToolsResponse:
    response = tool_service_pb2.HostToolsResponse()
    match message:
        case Registered():
            response.registered.CopyFrom(_registered(message, told))
        case Call():
            response.call.CopyFrom(_call(message))
        case Cancel(call_id, reason):
            response.cancel.call_id, response.cancel.reason = call_id, reason
        case Beat():
            response.heartbeat.SetInParent()
        case Draining():
            response.draining.SetInParent()
    return response


def _registered(message: Registered, told: dict[str, Any]) -> host_pb2.HostRegistered:
    return host_pb2.HostRegistered(
        host_id=message.host_id,
        accepted_tools=message.accepted,
        rejected_tools=[
            host_pb2.RejectedTool(name=one.name, field=one.field, reason=one.reason) for one in message.rejected
        ],
        **told,
    )


def _call(message: Call) -> host_pb2.HostCall:
    errand, left = message.errand, timedelta(seconds=message.seconds)
    return host_pb2.HostCall(
        call_id=message.call_id,
        tool=errand.tool,
        arguments=errand.arguments,
        deadline=datetime.now(UTC) + left,
        timeout=left,
        idempotency_key=errand.idempotency_key,
        execution_id=errand.execution_id,
        user_id=errand.user_id,
        **message.trace,
    )
