"""Proto <-> model for Health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import structlog
from dynamicagents.router.v1 import health_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from libs import errors, identity
from libs.validation import validate
from services.router.model.health import Circuit, DeploymentHealth, GroupHealth, HealthState
from services.router.service.health import Change, Health, Item, Snapshot, Watch

log = structlog.get_logger()
Context = grpc.aio.ServicerContext[Any, Any]

_SLOW: Final = 60.0
"""Seconds after which a watcher that takes nothing is told to come back."""
_STATES: Final = {
    HealthState.UNKNOWN: health_pb2.HEALTH_STATE_UNSPECIFIED,
    HealthState.HEALTHY: health_pb2.HEALTH_STATE_HEALTHY,
    HealthState.DEGRADED: health_pb2.HEALTH_STATE_DEGRADED,
    HealthState.COOLING_DOWN: health_pb2.HEALTH_STATE_COOLING_DOWN,
    HealthState.UNHEALTHY: health_pb2.HEALTH_STATE_UNHEALTHY,
}
_CIRCUITS: Final = {
    Circuit.CLOSED: health_pb2.CIRCUIT_STATE_CLOSED,
    Circuit.OPEN: health_pb2.CIRCUIT_STATE_OPEN,
    Circuit.HALF_OPEN: health_pb2.CIRCUIT_STATE_HALF_OPEN,
}


class HealthMethods:
    _health: Health

    def Health(self, request_iterator: Any, context: Context) -> Any:
        """It writes itself, since a message goes to many."""
        return self._watch(request_iterator, context)

    async def _watch(self, requests: AsyncIterator[health_pb2.HealthRequest], context: Context) -> None:
        caller = identity.current()
        with self._health.watching(caller, await self._health.table(caller)) as watch:
            listening = asyncio.create_task(_listen(requests, watch))
            try:
                async for item in watch.items():
                    await _write(context, item)
            finally:
                listening.cancel()


async def _listen(requests: AsyncIterator[health_pb2.HealthRequest], watch: Watch) -> None:
    """A client that has no more to say may still listen."""
    begun = False
    try:
        async for request in requests:
            validate(request)
            if not begun and request.WhichOneof("request") != "watch":
                raise errors.invalid("watch", "is required of the first message")
            begun = True
            _hear(request, watch)
        if not begun:
            raise errors.invalid("watch", "is required")
    except errors.Error as error:
        watch.fail(error)
    except Exception:
        log.exception("a watcher's messages cannot be read")
        watch.fail(errors.Internal("internal error"))


def _hear(request: health_pb2.HealthRequest, watch: Watch) -> None:
    match request.WhichOneof("request"):
        case "watch":
            said = request.watch
            interval = said.heartbeat_interval.ToNanoseconds() / 1e9 if said.HasField("heartbeat_interval") else None
            watch.watch(said.model_groups, said.deployment_ids, interval)
        case "probe":
            watch.probe(request.probe.deployment_ids)
        case "report":
            watch.report(request.report.deployment_id, failed=request.report.failed)


async def _write(context: Context, item: Item) -> None:
    """The bytes of a message are made once for all who get it."""
    if isinstance(item, Snapshot | Change):
        item.message = item.message or _response(item).SerializeToString()
        message = item.message
    else:
        message = _response(item).SerializeToString()
    try:
        async with asyncio.timeout(_SLOW):
            await context.write(message)
    except TimeoutError:
        log.warning("a watcher takes nothing", tenant=identity.current().tenant)
        raise errors.Aborted(f"nothing was taken for {_SLOW:g} s: watch again", reason="WATCHER_TOO_SLOW") from None


def _response(item: Item) -> health_pb2.HealthResponse:
    match item:
        case Snapshot():
            snapshot = health_pb2.HealthSnapshot(
                deployments=map(_deployment, item.deployments),
                groups=map(_group, item.groups),
                shared=item.shared,
                config_fresh=item.config_fresh,
            )
            return health_pb2.HealthResponse(snapshot=snapshot)
        case Change():
            return health_pb2.HealthResponse(change=_deployment(item.health))
    heartbeat = health_pb2.HealthHeartbeat(shared=item.shared, config_fresh=item.config_fresh)
    return health_pb2.HealthResponse(heartbeat=heartbeat)


def _deployment(health: DeploymentHealth) -> health_pb2.DeploymentHealth:
    return health_pb2.DeploymentHealth(
        deployment_id=health.deployment_id,
        model_group=health.model_group,
        state=_STATES[health.state],
        circuit=_CIRCUITS[health.circuit],
        cooldown_until=_time(health.cooldown_until),
        last_error=health.last_error,
        latency_p50=_seconds(health.latency_p50),
        latency_p95=_seconds(health.latency_p95),
        first_token_p50=_seconds(health.first_token_p50),
        in_flight=health.in_flight,
        requests=health.requests,
        failures=health.failures,
        reported_failures=health.reported_failures,
        removed=health.removed,
        since=_time(health.since),
    )


def _group(health: GroupHealth) -> health_pb2.GroupHealth:
    return health_pb2.GroupHealth(
        model_group=health.model_group,
        state=_STATES[health.state],
        available=health.available,
        total=health.total,
    )


def _time(at: float | None) -> Timestamp | None:
    return None if at is None else Timestamp(seconds=int(at), nanos=int(at % 1 * 1e9))


def _seconds(duration: float | None) -> Duration | None:
    return None if duration is None else Duration(seconds=int(duration), nanos=int(duration % 1 * 1e9))
