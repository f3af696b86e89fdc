"""What the tests share: settings in a temporary folder, a service running in this process, a channel to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

import grpc
import pytest
from dynamicagents.execution.v1 import event_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.sdk.trace import TracerProvider

from libs import database, status
from libs.config import Settings
from libs.server import Server

M = TypeVar("M", bound=Message)
only_postgres = pytest.mark.parametrize(
    "database_settings", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)


@asynccontextmanager
async def running(
    app: Callable[[Any, Any], AbstractAsyncContextManager[Server]],
    settings: Settings,
    provider: TracerProvider | None = None,
) -> AsyncIterator[tuple[Server, grpc.aio.Channel]]:
    """The service on a real server and a plain channel to it."""
    async with app(settings, provider) as server, grpc.aio.insecure_channel(server.address) as channel:
        yield server, channel


@asynccontextmanager
async def registry(settings: Settings) -> AsyncIterator[tuple[Server, grpc.aio.Channel]]:
    """A Registry on a database of whatever kind, which is migrated first."""
    from services.registry.app import MIGRATIONS, app

    await database.migrate(settings, MIGRATIONS)
    async with running(app, settings) as started:
        yield started


def status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    for key, value in error.trailing_metadata() or ():
        if key == status.DETAILS_KEY:
            return status_pb2.Status.FromString(value)  # type: ignore[arg-type]
    raise AssertionError(f"no google.rpc.Status in {error!r}")


def detail(found: status_pb2.Status, kind: type[M]) -> M:
    for packed in found.details:
        if packed.Is(kind.DESCRIPTOR):
            message = kind()
            packed.Unpack(message)
            return message
    raise AssertionError(f"no {kind.DESCRIPTOR.name} in {found}")


def reason_of(error: grpc.aio.AioRpcError) -> str:
    return detail(status_of(error), error_details_pb2.ErrorInfo).reason


def fields_of(error: grpc.aio.AioRpcError) -> list[str]:
    """The fields that an INVALID_ARGUMENT names."""
    return [v.field for v in detail(status_of(error), error_details_pb2.BadRequest).field_violations]


def detail_of_event(event: event_pb2.ExecuteEvent) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo of an execution_failed."""
    assert event.HasField("execution_failed"), event
    return detail(event.execution_failed.error, error_details_pb2.ErrorInfo)
