"""Hosts of other processes, called through the processes to which they are connected."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import AsyncExitStack
from typing import Any, Final, Self

import grpc
import structlog
from dynamicagents.tools.v1 import host_pb2, host_relay_service_pb2, host_relay_service_pb2_grpc
from google.protobuf.json_format import MessageToDict
from opentelemetry.sdk.trace import TracerProvider

from libs import client, deadline, errors, status
from libs.config import Settings
from services.execution.model.hosts import Errand, HostAnswer
from services.execution.model.sessions import whole
from services.execution.model.tools import Progress
from services.execution.service.hosts.stream import Full, Lost, output_of
from services.execution.service.sources import on_progress

log = structlog.get_logger()

_PATIENCE: Final = 1.0
"""Seconds to reach another process; in them, nothing was sent."""
_MOST_CHANNELS: Final = 64
_REFUSALS: Final = (errors.Unauthenticated, errors.PermissionDenied, errors.InvalidArgument)


class HostRelay:
    def __init__(self, settings: Settings, provider: TracerProvider | None) -> None:
        self._settings, self._provider = settings, provider
        self._channels: OrderedDict[str, tuple[AsyncExitStack, grpc.aio.Channel]] = OrderedDict()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for stack, _channel in self._channels.values():
            await stack.aclose()

    async def call(self, address: str, stream_id: str, errand: Errand) -> str:
        channel = await self._reached(address)
        stub: Any = host_relay_service_pb2_grpc.HostRelayServiceStub(channel)
        request = host_relay_service_pb2.RelayCallRequest(
            stream_id=stream_id,
            tool=errand.tool,
            arguments=errand.arguments,
            idempotency_key=errand.idempotency_key,
            execution_id=errand.execution_id,
            user_id=errand.user_id,
        )
        told = on_progress()
        try:
            async for response in stub.RelayCall(request):
                if response.WhichOneof("message") == "result":
                    return output_of(_answer(response.result))
                if told:
                    said = response.progress
                    told(Progress(said.progress, said.total, said.message))
        except grpc.aio.AioRpcError as error:
            raise _meant(error, address) from None
        raise Lost(begun=True)

    async def _reached(self, address: str) -> grpc.aio.Channel:
        channel = await self._channel(address)
        try:
            async with asyncio.timeout(deadline.narrowed(_PATIENCE)):
                await channel.channel_ready()
        except TimeoutError:
            raise Lost(begun=False) from None
        return channel

    async def _channel(self, address: str) -> grpc.aio.Channel:
        if address not in self._channels:
            stack = AsyncExitStack()
            opened = await stack.enter_async_context(client.channel(address, self._settings, self._provider))
            self._channels[address] = (stack, opened)
        self._channels.move_to_end(address)
        if len(self._channels) > _MOST_CHANNELS:  # processes come and go, each with an address of its own
            _, (old, _channel) = self._channels.popitem(last=False)
            await old.aclose()
        return self._channels[address][1]


def _answer(result: host_pb2.HostCallResult) -> HostAnswer:
    has_data = result.HasField("structured_output")
    data = whole(MessageToDict(result.structured_output)) if has_data else None
    return HostAnswer(result.output, result.is_error, data, has_data)


def _meant(error: grpc.aio.AioRpcError, address: str) -> Exception:
    if status.described_by(error) is None:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return TimeoutError()
        return Lost(begun=True)  # the process is gone, and nobody knows what it had done
    said = status.from_rpc_error(error, "execution")
    if isinstance(said, errors.ResourceExhausted):
        return Full()
    if isinstance(said, errors.Unavailable) and said.reason_code == "TOOL_SOURCE_UNAVAILABLE":
        return Lost(begun=said.metadata.get("begun") != "false")
    if isinstance(said, errors.DeadlineExceeded):
        return TimeoutError()
    log.warning("another process does not relay calls", address=address, reason=said.reason_code)
    return Lost(begun=not isinstance(said, _REFUSALS))
