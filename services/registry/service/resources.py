"""Create, read, change and delete resources of one kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from libs import errors, pagination
from libs.identity import Caller
from libs.ids import new_id
from services.registry import model
from services.registry.model import Draft, Kind, Request, Resource
from services.registry.service.filters import Condition, Order, parse_filter, parse_order


class ResourceStore(Protocol):
    async def get(self, tenant: str, kind: Kind, resource_id: str, revision: int = 0) -> Resource | None:
        """The revision, or the current one; the current one of a deleted resource has `deleted` set."""

    async def page(
        self, tenant: str, kind: Kind, where: Sequence[Condition], order: Order, *, after: str, limit: int
    ) -> Sequence[Resource]:
        """Current revisions that follow the resource `after` in the order; "" begins."""

    async def put(self, tenant: str, resource: Resource, *, request: Request | None = None) -> bool:
        """Commits the revision after the current one; False if another was committed first."""

    async def created_by(self, tenant: str, kind: Kind, request_id: str) -> tuple[Request, Resource] | None: ...


class Announcer(Protocol):
    def announce(self, tenant: str) -> None:
        """Something was committed for `tenant`."""


class Resources:
    kind: Kind

    def __init__(self, store: ResourceStore, announcer: Announcer) -> None:
        self._store, self._announcer = store, announcer

    async def create(self, caller: Caller, draft: Draft, request_id: str) -> Resource:
        request = Request(request_id, model.digest([draft.resource_id, draft.content()])) if request_id else None
        if request and (earlier := await self._store.created_by(caller.tenant, self.kind, request_id)):
            if earlier[0].digest != request.digest:
                raise errors.invalid("request_id", "came before with another request", reason="REQUEST_ID_REUSED")
            return earlier[1]
        self._check(draft)
        resource_id = draft.resource_id or new_id()
        named = Draft(resource_id, draft.display_name, draft.description, draft.labels, draft.spec)
        resource = model.first(self.kind, named, caller.subject)
        current = await self._store.get(caller.tenant, self.kind, resource_id)
        if current and not current.deleted:
            raise errors.AlreadyExists(self.kind, resource_id)
        if current:
            resource = model.recreated(current, named, caller.subject)
        if not await self._store.put(caller.tenant, resource, request=request):
            if request and await self._store.created_by(caller.tenant, self.kind, request_id):
                return await self.create(caller, draft, request_id)
            raise errors.AlreadyExists(self.kind, resource_id)
        self._announcer.announce(caller.tenant)
        return resource

    async def get(self, caller: Caller, resource_id: str, revision: int = 0) -> Resource:
        resource = await self._store.get(caller.tenant, self.kind, resource_id, revision)
        if resource is None or resource.deleted:
            name = f"{resource_id}@{revision}" if revision else resource_id
            raise errors.NotFound(self.kind, name)
        return resource

    async def list(
        self, caller: Caller, page_size: int, page_token: str, filter_: str, order_by: str
    ) -> tuple[Sequence[Resource], str]:
        where, order = parse_filter(filter_, self.kind), parse_order(order_by, self.kind)
        query = {"kind": self.kind, "tenant": caller.tenant, "filter": filter_, "order_by": order_by}
        after = pagination.from_token(page_token, query)
        size = pagination.page_size(page_size)
        found = await self._store.page(caller.tenant, self.kind, where, order, after=after, limit=size + 1)
        more = len(found) > size
        return found[:size], pagination.to_token(found[size - 1].resource_id, query) if more else ""

    async def update(self, caller: Caller, patch: Draft, paths: Sequence[str], etag: str) -> Resource:
        if not patch.resource_id:
            raise errors.invalid(f"{self.kind}.{self.kind}_id", "is required")
        current = await self.get(caller, patch.resource_id)
        _require_etag(current, etag)
        draft = model.patched(current.draft(), patch, list(paths))
        if draft.content() == current.draft().content():
            return current
        self._check(draft)
        return await self._commit(caller, current.next(draft, caller.subject))

    async def delete(self, caller: Caller, resource_id: str, etag: str) -> None:
        current = await self.get(caller, resource_id)
        _require_etag(current, etag)
        await self._commit(caller, current.next(current.draft(), caller.subject, deleted=True))

    async def _commit(self, caller: Caller, resource: Resource) -> Resource:
        if not await self._store.put(caller.tenant, resource):
            latest = await self.get(caller, resource.resource_id)
            raise stale(latest)
        self._announcer.announce(caller.tenant)
        return resource

    def _check(self, draft: Draft) -> None:
        if violations := [*model.check_draft(self.kind, draft), *model.CHECKS[self.kind](draft.spec or {})]:
            raise errors.InvalidArgument(violations)


class Agents(Resources):
    kind = Kind.AGENT


def _require_etag(current: Resource, etag: str) -> None:
    if etag and etag != current.etag:
        raise stale(current)


def stale(current: Resource) -> errors.Aborted:
    return errors.Aborted(
        f"{current.kind.replace('_', ' ')} {current.resource_id!r} has changed meanwhile: read it again",
        metadata={"current_etag": current.etag},
    )
