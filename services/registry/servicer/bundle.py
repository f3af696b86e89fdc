from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from dynamicagents.registry.v1 import bundle_service_pb2, bundle_service_pb2_grpc, snapshot_pb2

from libs import errors, identity
from services.registry.model import Draft, Kind
from services.registry.model.router_config import NAME
from services.registry.service.bundles import Action, Applied, Bundles, Entry
from services.registry.servicer import translation
from services.registry.servicer.translation import (
    KIND_NUMBERS,
    KINDS,
    SET_BY_SERVER,
    TRANSLATORS,
    Context,
    fill,
    to_spec,
)

_ACTIONS: Final[Mapping[Action, Any]] = {
    action: bundle_service_pb2.BundleAction.Value(f"BUNDLE_ACTION_{action.name}") for action in Action
}
_PART_BYTES: Final = 2 * 1024 * 1024
"""A client takes messages of 4 MiB, and one resource has at most a third of it."""


class BundleServicer(bundle_service_pb2_grpc.BundleServiceServicer):
    def __init__(self, bundles: Bundles, *, most_bytes: int) -> None:
        self._bundles, self._most_bytes = bundles, most_bytes

    async def ApplyBundle(
        self, request: bundle_service_pb2.ApplyBundleRequest, context: Context
    ) -> bundle_service_pb2.ApplyBundleResponse:
        entries = [_entry(index, resource) for index, resource in enumerate(request.resources)]
        applied = await self._bundles.apply(
            identity.current(), entries, dict(request.prune_labels), dry_run=request.dry_run
        )
        response = bundle_service_pb2.ApplyBundleResponse()
        room = self._most_bytes // 2
        for made in applied:
            change = _change(made)
            room -= change.ByteSize()
            if room < 0:
                change.ClearField("differences")
                change.differences_omitted = bool(made.differences)
            response.changes.append(change)
        return response

    async def ExportBundle(
        self, request: bundle_service_pb2.ExportBundleRequest, context: Context
    ) -> AsyncIterator[bundle_service_pb2.ExportBundleResponse]:
        kinds = [KINDS[kind] for kind in request.kinds]
        async for resources in self._bundles.export(identity.current(), kinds, dict(request.labels)):
            response = bundle_service_pb2.ExportBundleResponse()
            for resource in resources:
                snapshot = snapshot_pb2.ResourceSnapshot()
                fill(snapshot, resource)
                if response.resources and response.ByteSize() + snapshot.ByteSize() > _PART_BYTES:
                    yield response
                    response = bundle_service_pb2.ExportBundleResponse()
                response.resources.append(snapshot)
            yield response


def _entry(index: int, snapshot: snapshot_pb2.ResourceSnapshot) -> Entry:
    which: Any = snapshot.WhichOneof("resource")
    if which is None:
        raise errors.invalid(f"resources[{index}].resource", "is required")
    kind = Kind(which)
    message = getattr(snapshot, which)
    if kind is not Kind.ROUTER_CONFIG:
        return Entry(index, kind, TRANSLATORS[kind].draft(message, f"resources[{index}].{kind}"))
    spec = to_spec(message, f"resources[{index}].router_config")
    return Entry(index, kind, Draft(NAME, spec={k: v for k, v in spec.items() if k not in SET_BY_SERVER}))


def _change(applied: Applied) -> bundle_service_pb2.BundleChange:
    return bundle_service_pb2.BundleChange(
        kind=KIND_NUMBERS[applied.resource.kind],
        resource_id=applied.resource.resource_id,
        action=_ACTIONS[applied.action],
        revision=applied.resource.revision,
        differences=map(translation.difference, applied.differences),
    )
