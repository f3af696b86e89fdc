from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import aclosing
from typing import Final

import structlog
from dynamicagents.registry.v1 import watch_service_pb2, watch_service_pb2_grpc

from libs import errors, identity
from services.registry.model import Change
from services.registry.service.watch import UNKNOWN, Heartbeat, SnapshotComplete, Watches, to_token
from services.registry.servicer.translation import KINDS, Context, fill

log = structlog.get_logger()
_KEPT: Final = 32
"""Newest changes whose messages are kept, since every watcher of a tenant gets the same ones."""


class WatchServicer(watch_service_pb2_grpc.WatchServiceServicer):
    def __init__(self, watches: Watches, *, slow: float) -> None:
        self._watches, self._slow = watches, slow
        self._made: OrderedDict[tuple[str, int], watch_service_pb2.WatchResponse] = OrderedDict()

    async def Watch(  # type: ignore[override]  # it writes by itself, to see how long that takes
        self, request: watch_service_pb2.WatchRequest, context: Context
    ) -> None:
        kinds = [KINDS[kind] for kind in request.kinds]
        caller = identity.current()
        watch = self._watches.watch(
            caller, kinds, dict(request.labels), request.resume_token, snapshot=request.snapshot
        )
        async with aclosing(watch) as items:
            async for item in items:
                await self._write(context, self._response(caller.tenant, item))

    async def _write(self, context: Context, response: watch_service_pb2.WatchResponse) -> None:
        """A message waits until there is room for it, which a client that reads nothing does not make."""
        try:
            async with asyncio.timeout(self._slow):
                await context.write(response)
        except TimeoutError:
            # Told here, for the end of the call waits with its status until the client reads or goes.
            log.warning("a watcher takes nothing", tenant=identity.current().tenant)
            raise errors.Aborted(
                f"nothing was taken for {self._slow:g} s: watch again, with a snapshot if need be",
                reason="WATCHER_TOO_SLOW",
            ) from None

    def _response(self, tenant: str, item: Change | SnapshotComplete | Heartbeat) -> watch_service_pb2.WatchResponse:
        if not isinstance(item, Change) or item.position == UNKNOWN:
            return _response(item)
        key = (tenant, item.position)
        if key not in self._made:
            self._made[key] = _response(item)
            while len(self._made) > _KEPT:
                self._made.popitem(last=False)
        return self._made[key]


def _response(item: Change | SnapshotComplete | Heartbeat) -> watch_service_pb2.WatchResponse:
    response = watch_service_pb2.WatchResponse(resume_token=to_token(item.position))
    match item:
        case SnapshotComplete():
            response.snapshot_complete.SetInParent()
        case Heartbeat():
            response.heartbeat.SetInParent()
        case Change(resource=resource):
            response.change.deleted = resource.deleted
            fill(response.change, resource)
    return response
