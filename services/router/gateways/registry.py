"""Router configurations, followed by Registry's Watch, one stream for each tenant that calls."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Self

import grpc
import structlog
from dynamicagents.registry.v1 import snapshot_pb2, watch_service_pb2, watch_service_pb2_grpc

from libs import deadline, errors, identity, status
from libs.identity import Caller
from services.router.gateways import tables
from services.router.model import RoutingTable

Listener = Callable[[str, RoutingTable | None], None]

log = structlog.get_logger()

_PATIENCE: Final = 30.0
"""Seconds that a call without a deadline waits for the first configuration."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0
_UNSET: Final = RoutingTable()


class RegistryGateway:
    def __init__(self, stub: watch_service_pb2_grpc.WatchServiceAsyncStub, *, limit: int) -> None:
        self._stub, self._limit = stub, limit
        self._followers: OrderedDict[str, _Follower] = OrderedDict()
        # Followers run in the context of the start: not in the trace, nor the deadline, of the call that began them.
        self._context = contextvars.copy_context()
        self._listeners: list[Listener] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for follower in self._followers.values():
            follower.stop()
        await asyncio.gather(*(f.task for f in self._followers.values()), return_exceptions=True)

    def listen(self, listener: Listener) -> None:
        """Tells of each new table, and by None of a tenant that is no longer followed."""
        self._listeners.append(listener)

    def is_fresh(self, tenant: str) -> bool:
        """Whether changes of the tenant's configuration arrive."""
        follower = self._followers.get(tenant)
        return follower is not None and follower.fresh

    async def table(self, caller: Caller) -> RoutingTable:
        follower = self._followers.get(caller.tenant)
        if follower is None:
            follower = _Follower(self._stub, caller, self._context.copy(), self._tell)
            self._followers[caller.tenant] = follower
            if len(self._followers) > self._limit:
                tenant, forgotten = self._followers.popitem(last=False)
                forgotten.stop()
                self._tell(tenant, None)
        else:
            self._followers.move_to_end(caller.tenant)
            follower.caller = caller
        return await follower.table()

    def _tell(self, tenant: str, table: RoutingTable | None) -> None:
        for listener in self._listeners:
            listener(tenant, table)


class _Follower:
    """One tenant's table. Before the first one is known a call waits; afterwards the last one serves, come what may."""

    def __init__(
        self,
        stub: watch_service_pb2_grpc.WatchServiceAsyncStub,
        caller: Caller,
        context: contextvars.Context,
        tell: Listener,
    ) -> None:
        self.caller, self.fresh = caller, False
        self._stub, self._tell = stub, tell
        self._table: RoutingTable | None = None
        self._token = ""
        self._outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pause = _FIRST_PAUSE
        self.task = asyncio.create_task(self._run(), context=context)

    def stop(self) -> None:
        self.task.cancel()
        self._fail(errors.Unavailable("the router no longer follows this tenant", retry_after=0.1))

    async def table(self) -> RoutingTable:
        if self._table is None:
            try:
                async with asyncio.timeout(deadline.narrowed(_PATIENCE)):
                    await asyncio.shield(self._outcome)
            except TimeoutError:
                raise _silent() from None
        assert self._table is not None
        return self._table

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except grpc.aio.AioRpcError as error:
                self._lost(status.from_rpc_error(error, "registry"))
            except Exception:
                log.exception("watch failed", tenant=self.caller.tenant)
                self._lost(_silent())
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))  # noqa: S311
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    async def _follow(self) -> None:
        identity.enter(self.caller)
        request = watch_service_pb2.WatchRequest(
            kinds=[snapshot_pb2.RESOURCE_KIND_ROUTER_CONFIG],
            resume_token=self._token,
            snapshot=not self._token,
        )
        seen = self._table if self._token and self._table else _UNSET
        async for response in self._stub.Watch(request):
            if response.WhichOneof("event") == "change":
                seen = _UNSET if response.change.deleted else tables.table(response.change.router_config)
            self._token = response.resume_token
            if self._token:  # a snapshot is only whole at its end
                self._serve(seen)

    def _serve(self, table: RoutingTable) -> None:
        self.fresh, self._pause = True, _FIRST_PAUSE
        if table is not self._table:
            self._table = table
            self._tell(self.caller.tenant, table)
        if not self._outcome.done():
            self._outcome.set_result(None)

    def _lost(self, error: errors.Error) -> None:
        self.fresh = False
        log.warning("watch lost", tenant=self.caller.tenant, reason=error.reason_code)
        if not isinstance(error, errors.Unavailable):
            self._token = ""  # whatever it was about the token, a snapshot mends it
        if self._table is None:
            self._fail(error)

    def _fail(self, error: errors.Error) -> None:
        """Tells those who wait; who comes later waits for the next outcome."""
        if not self._outcome.done():
            self._outcome.set_exception(error)
            self._outcome.exception()
            self._outcome = asyncio.get_running_loop().create_future()


def _silent() -> errors.Error:
    return errors.Unavailable("service registry does not answer", metadata={"service": "registry"}, retry_after=1.0)
