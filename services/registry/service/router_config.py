"""The one router configuration of a tenant."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from weakref import WeakValueDictionary

from libs import errors
from libs.errors import Violation
from libs.identity import Caller
from libs.ids import new_id
from services.registry import model
from services.registry.model import Draft, Kind, Request, Resource
from services.registry.model.changes import equal
from services.registry.model.router_config import NAME, check_deployment, check_router_config
from services.registry.model.rules import check_draft
from services.registry.service.resources import Announcer, Resources, ResourceStore, Revision, stale

_ATTEMPTS: Final = 20
Deployment = dict[str, Any]


class DryRun(Protocol):
    async def violations(self, spec: model.Spec) -> Sequence[Violation]:
        """What would not work."""


class RouterConfigs:
    def __init__(self, store: ResourceStore, announcer: Announcer, dry_run: DryRun | None = None) -> None:
        self._store, self._announcer, self._dry_run = store, announcer, dry_run
        self._resources = Resources(store, announcer, Kind.ROUTER_CONFIG)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def get(self, caller: Caller) -> Resource:
        found = await self._store.get(caller.tenant, Kind.ROUTER_CONFIG, NAME)
        if found:
            return found
        never = datetime.fromtimestamp(0, UTC)
        empty = Resource(Kind.ROUTER_CONFIG, NAME, "", "", {}, {}, 0, "", "", never, never)
        return replace(empty, etag=model.fingerprint(empty))

    async def update(self, caller: Caller, spec: model.Spec, paths: Sequence[str], etag: str) -> Resource:
        spec = {**spec, "deployments": [_with_id(dict(d)) for d in spec.get("deployments", ())]}

        def change(current: Resource) -> model.Spec:
            if etag and etag != current.etag:
                raise stale(current)
            prefixed = [f"spec.{path}" for path in paths]
            return model.patched(current.draft(), Draft(spec=spec), prefixed).spec or {}

        return await self._change(caller, change)

    async def add_deployment(
        self, caller: Caller, deployment: Deployment, request_id: str = ""
    ) -> tuple[Deployment, Resource]:
        added = _with_id(deployment)
        if violations := check_deployment(added, "deployment"):
            raise errors.InvalidArgument(violations)

        def change(current: Resource) -> model.Spec:
            present = list(current.spec.get("deployments", ()))
            if any(d["deployment_id"] == added["deployment_id"] for d in present):
                raise errors.AlreadyExists("deployment", added["deployment_id"])
            return {**current.spec, "deployments": [*present, added]}

        made = await self._change(caller, change, _request(request_id, "add", deployment))
        return made.spec["deployments"][-1], made

    async def remove_deployment(self, caller: Caller, deployment_id: str, request_id: str = "") -> Resource:
        def change(current: Resource) -> model.Spec:
            present = list(current.spec.get("deployments", ()))
            left = [d for d in present if d["deployment_id"] != deployment_id]
            if len(left) == len(present):
                raise errors.NotFound("deployment", deployment_id)
            return {**current.spec, "deployments": left}

        return await self._change(caller, change, _request(request_id, "remove", deployment_id))

    async def revisions(self, caller: Caller, page_size: int, page_token: str) -> tuple[Sequence[Revision], str]:
        if not (await self.get(caller)).revision:
            return [], ""
        return await self._resources.revisions(caller, NAME, page_size, page_token)

    async def rollback(self, caller: Caller, revision: int, etag: str) -> Resource:
        await self._try_out((await self._resources.get(caller, NAME, revision)).spec)
        return await self._resources.rollback(caller, NAME, revision, etag)

    async def _try_out(self, spec: model.Spec) -> None:
        if self._dry_run and (violations := await self._dry_run.violations(spec)):
            raise errors.InvalidArgument(violations)

    async def _change(
        self, caller: Caller, change: Callable[[Resource], model.Spec], request: Request | None = None
    ) -> Resource:
        """Applies `change` to the current revision, again if another process committed a change meanwhile. A request
        that came before gets the revision that it made then."""
        lock = self._locks.setdefault(caller.tenant, asyncio.Lock())
        async with lock:
            return await self._changed(caller, change, request)

    async def _changed(
        self, caller: Caller, change: Callable[[Resource], model.Spec], request: Request | None
    ) -> Resource:
        for attempt in range(_ATTEMPTS):
            if request and (earlier := await self._made_by(caller, request)):
                return earlier
            current = await self.get(caller)
            spec = change(current)
            if equal(spec, current.spec):
                return current
            draft = Draft(NAME, spec=spec)
            if violations := [*check_draft(Kind.ROUTER_CONFIG, draft), *check_router_config(spec)]:
                raise errors.InvalidArgument(violations)
            await self._try_out(spec)
            made = (
                current.next(draft, caller.subject)
                if current.revision
                else model.first(Kind.ROUTER_CONFIG, draft, caller.subject)
            )
            if await self._store.put(caller.tenant, made, request=request):
                self._announcer.announce(caller.tenant)
                return made
            # Two processes in step would let the same one lose each time.
            await asyncio.sleep(random.uniform(0, 0.01 * (attempt + 1)))  # noqa: S311
        raise stale(current)

    async def _made_by(self, caller: Caller, request: Request) -> Resource | None:
        earlier = await self._store.created_by(caller.tenant, Kind.ROUTER_CONFIG, request.request_id)
        if earlier and earlier[0].digest != request.digest:
            raise errors.invalid("request_id", "came before with another request", reason="REQUEST_ID_REUSED")
        return earlier[1] if earlier else None


def _request(request_id: str, method: str, asked: Deployment | str) -> Request | None:
    return Request(request_id, model.digest([method, asked])) if request_id else None


def _with_id(deployment: Deployment) -> Deployment:
    return {**deployment, "deployment_id": deployment.get("deployment_id") or new_id()}
