from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Final

from dynamicagents.registry.v1 import watch_service_pb2, watch_service_pb2_grpc

from libs import identity
from services.registry.model import Change
from services.registry.service.watch import UNKNOWN, Heartbeat, SnapshotComplete, Watches, to_token
from services.registry.servicer.translation import KINDS, Context, fill

_KEPT: Final = 32
"""Newest changes whose messages are kept, since every watcher of a tenant gets the same ones."""


class WatchServicer(watch_service_pb2_grpc.WatchServiceServicer):
    def __init__(self, watches: Watches) -> None:
        self._watches = watches
        self._made: OrderedDict[tuple[str, int], watch_service_pb2.WatchResponse] = OrderedDict()

    async def Watch(
        self, request: watch_service_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[watch_service_pb2.WatchResponse]:
        kinds = [KINDS[kind] for kind in request.kinds]
        caller = identity.current()
        watch = self._watches.watch(
            caller, kinds, dict(request.labels), request.resume_token, snapshot=request.snapshot
        )
        async with aclosing(watch) as items:
            async for item in items:
                yield self._response(caller.tenant, item)

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
