"""Resources of one kind, followed by Registry's Watch, one stream for each tenant that asks for them."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import grpc
import structlog
from dynamicagents.registry.v1 import snapshot_pb2, watch_service_pb2, watch_service_pb2_grpc

from libs import deadline, errors, identity, status
from libs.identity import Caller

T = TypeVar("T")
Listener = Callable[[str, Mapping[str, T]], None]
"""Told of a tenant's resources; of none when the tenant is no longer followed."""

log = structlog.get_logger()

_PATIENCE: Final = 10.0
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """What is followed, and what is made of each resource."""

    kind: snapshot_pb2.ResourceKind
    to_target: Callable[[watch_service_pb2.ResourceChange], T]


class Following(Generic[T]):
    def __init__(
        self, stub: watch_service_pb2_grpc.WatchServiceAsyncStub, kind: Kind[T], *, limit: int, told: Listener[T]
    ) -> None:
        self._stub, self._kind, self._limit, self._told = stub, kind, limit, told
        self._followers: OrderedDict[str, _Follower[T]] = OrderedDict()
        # Followers run in the context of the start: not in the trace, nor the deadline, of the call that began them.
        self._context = contextvars.copy_context()

    async def close(self) -> None:
        for follower in self._followers.values():
            follower.stop()
        await asyncio.gather(*(one.task for one in self._followers.values()), return_exceptions=True)

    async def get(self, caller: Caller) -> Mapping[str, T]:
        """The tenant's resources by id; raises Unavailable while they have never been known."""
        follower = self._followers.get(caller.tenant)
        if follower is None:
            follower = _Follower(self._stub, self._kind, caller, self._context.copy(), self._told)
            self._followers[caller.tenant] = follower
            if len(self._followers) > self._limit:
                tenant, forgotten = self._followers.popitem(last=False)
                forgotten.stop()
                self._told(tenant, {})
        self._followers.move_to_end(caller.tenant)
        follower.caller = caller
        return await follower.targets()


class _Follower(Generic[T]):
    def __init__(
        self,
        stub: watch_service_pb2_grpc.WatchServiceAsyncStub,
        kind: Kind[T],
        caller: Caller,
        context: contextvars.Context,
        told: Listener[T],
    ) -> None:
        self.caller = caller
        self._stub, self._kind, self._told = stub, kind, told
        self._targets: Mapping[str, T] | None = None
        self._token = ""
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pause = _FIRST_PAUSE
        self.task = asyncio.create_task(self._run(), context=context)

    @property
    def _name(self) -> str:
        return snapshot_pb2.ResourceKind.Name(self._kind.kind)

    def stop(self) -> None:
        self.task.cancel()
        self._fail(_silent())

    async def targets(self) -> Mapping[str, T]:
        if self._targets is None:
            try:
                async with asyncio.timeout(deadline.narrowed(_PATIENCE)):
                    await asyncio.shield(self._first)
            except TimeoutError:
                raise _silent() from None
        assert self._targets is not None
        return self._targets

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except grpc.aio.AioRpcError as error:
                self._lost(status.from_rpc_error(error, "registry"))
            except Exception:
                log.exception("watch of resources failed", kind=self._name, tenant=self.caller.tenant)
                self._lost(_silent())
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))  # noqa: S311
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    async def _follow(self) -> None:
        identity.enter(self.caller)
        request = watch_service_pb2.WatchRequest(
            kinds=[self._kind.kind], resume_token=self._token, snapshot=not self._token
        )
        seen = dict(self._targets or {}) if self._token else {}
        async for response in self._stub.Watch(request):
            if response.WhichOneof("event") == "change":
                change = response.change
                seen.pop(change.resource_id, None)
                if not change.deleted:
                    seen[change.resource_id] = self._kind.to_target(change)
            self._token = response.resume_token
            if self._token:  # a snapshot is only whole at its end
                self._take(dict(seen))

    def _take(self, targets: Mapping[str, T]) -> None:
        self._pause = _FIRST_PAUSE
        if targets != self._targets:
            self._targets = targets
            self._told(self.caller.tenant, targets)
        if not self._first.done():
            self._first.set_result(None)

    def _lost(self, error: errors.Error) -> None:
        log.warning("watch of resources lost", kind=self._name, tenant=self.caller.tenant, reason=error.reason_code)
        if not isinstance(error, errors.Unavailable):
            self._token = ""  # whatever it was about the token, a snapshot mends it
        if self._targets is None:
            self._fail(error)

    def _fail(self, error: errors.Error) -> None:
        """Tells those who wait; who comes later waits for the next outcome."""
        if not self._first.done():
            self._first.set_exception(error)
            self._first.exception()
            self._first = asyncio.get_running_loop().create_future()


def _silent() -> errors.Error:
    return errors.Unavailable("service registry does not answer", metadata={"service": "registry"}, retry_after=1.0)
