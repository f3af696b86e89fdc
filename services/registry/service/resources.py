"""What can be done with resources of any kind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeVar
from weakref import WeakValueDictionary

from libs import errors, pagination
from libs.errors import Violation
from libs.identity import Caller
from libs.ids import new_id
from services.registry import model
from services.registry.model import Draft, Kind, Request, Resource, id_field
from services.registry.model.changes import Conflict, Difference, differences, equal, merge
from services.registry.model.rules import CHECKS, check_draft
from services.registry.service.filters import Condition, Order, parse_filter, parse_order
from services.registry.service.room import STEP, Room, page
from services.registry.service.verification import Verify, View, Written, still_referenced, verify

T = TypeVar("T")
FORCE: Final = "registry.force"
_ATTEMPTS: Final = 20
_LONGEST_CHANGES: Final = 1024 * 1024
"""Characters of the changed fields that a page of revisions names, about."""


class ResourceStore(Protocol):
    async def get(self, tenant: str, kind: Kind, resource_id: str, revision: int = 0) -> Resource | None:
        """The revision, or the current one; the current one of a deleted resource has `deleted` set."""

    async def many(self, tenant: str, kind: Kind, ids: Sequence[str]) -> Mapping[str, Resource]:
        """The current revisions of those that exist."""

    async def page(
        self, tenant: str, kind: Kind, where: Sequence[Condition], order: Order, *, after: str, limit: int
    ) -> Sequence[Resource]:
        """Current revisions that follow the order's mark `after`; "" begins."""

    async def history(
        self, tenant: str, kind: Kind, resource_id: str, *, before: int, limit: int
    ) -> Sequence[Resource]:
        """Revisions below `before`, newest first; 0 begins with the newest."""

    async def put(
        self, tenant: str, resource: Resource, *, request: Request | None = None, verify: Verify | None = None
    ) -> bool:
        """Commits the revision after the current one, unless `verify` raises; False if another was committed first."""

    async def created_by(self, tenant: str, kind: Kind, request_id: str) -> tuple[Request, Resource] | None: ...


class Announcer(Protocol):
    def announce(self, tenant: str) -> None:
        """Something was committed for `tenant`."""


@dataclass(frozen=True, slots=True)
class Revision:
    resource: Resource
    """Without its spec, for there may be a thousand."""
    changed_fields: Sequence[str]

    @property
    def weight(self) -> int:
        return sum(map(len, self.changed_fields))


class Resources:
    """The ten methods of a kind."""

    def __init__(self, store: ResourceStore, announcer: Announcer, kind: Kind) -> None:
        self._store, self._announcer, self.kind = store, announcer, kind
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def create(
        self, caller: Caller, draft: Draft, request_id: str, *, validate_only: bool = False, digest: str = ""
    ) -> Resource:
        """`digest` is of what was asked for, where that is not the draft itself."""
        digest = digest or model.digest([draft.resource_id, draft.content()])
        request = Request(request_id, digest) if request_id else None
        if request and (earlier := await self._store.created_by(caller.tenant, self.kind, request_id)):
            if earlier[0].digest != request.digest:
                raise errors.invalid("request_id", "came before with another request", reason="REQUEST_ID_REUSED")
            return earlier[1]
        await self._check(draft)
        resource_id = draft.resource_id or new_id()
        named = Draft(resource_id, draft.display_name, draft.description, draft.labels, draft.spec)
        resource = model.first(self.kind, named, caller.subject)
        current = await self._store.get(caller.tenant, self.kind, resource_id)
        if current and not current.deleted:
            raise errors.AlreadyExists(self.kind, resource_id)
        if current:
            resource = model.recreated(current, named, caller.subject)
        if await self._put(caller, Written(resource), request=request, validate_only=validate_only):
            return resource
        if request and await self._store.created_by(caller.tenant, self.kind, request_id):
            return await self.create(caller, draft, request_id, digest=digest)
        raise errors.AlreadyExists(self.kind, resource_id)

    async def get(self, caller: Caller, resource_id: str, revision: int = 0) -> Resource:
        resource = await self._store.get(caller.tenant, self.kind, resource_id, revision)
        if resource is None or resource.deleted:
            name = f"{resource_id}@{revision}" if revision else resource_id
            raise errors.NotFound(self.kind, name)
        return resource

    async def batch_get(self, caller: Caller, ids: Sequence[str], room: Room) -> Sequence[str]:
        """Puts those that exist into the room in the order of `ids`; gives the ids of those that do not."""
        missing: list[str] = []
        for start in range(0, len(ids), STEP):
            part = ids[start : start + STEP]
            there = await self._store.many(caller.tenant, self.kind, list(dict.fromkeys(part)))
            missing += (name for name in part if name not in there)
            for name in part:
                if name in there:
                    room.require(there[name])
        return missing

    async def list(
        self, caller: Caller, page_size: int, page_token: str, filter_: str, order_by: str, room: Room
    ) -> tuple[Sequence[Resource], str]:
        where, order = parse_filter(filter_, self.kind), parse_order(order_by, self.kind)
        query = {"kind": self.kind, "tenant": caller.tenant, "filter": filter_, "order_by": order_by}
        after = pagination.from_token(page_token, query)
        if after and not order.knows(after):
            raise errors.invalid("page_token", "is not a token of this service")

        async def read(after: str, limit: int) -> Sequence[Resource]:
            return await self._store.page(caller.tenant, self.kind, where, order, after=after, limit=limit)

        found, more = await page(read, after, pagination.page_size(page_size), room, order.mark)
        return found, pagination.to_token(order.mark(found[-1]), query) if more else ""

    async def update(
        self, caller: Caller, patch: Draft, paths: Sequence[str], etag: str, *, validate_only: bool = False
    ) -> Resource:
        async def change() -> Resource:
            current = await self._at(caller, patch.resource_id, etag)
            draft = model.patched(current.draft(), patch, [*paths])
            return await self._change(caller, current, draft, validate_only=validate_only)

        return await self._repeated(caller, patch.resource_id, etag, change)

    async def delete(self, caller: Caller, resource_id: str, etag: str, *, force: bool = False) -> None:
        if force:
            caller.require(FORCE)

        async def change() -> None:
            current = await self._at(caller, resource_id, etag)

            async def unreferenced(view: View) -> None:
                if not force:
                    await still_referenced(view, current)

            gone = current.next(current.draft(), caller.subject, deleted=True)
            await self._commit(caller, gone, unreferenced)

        await self._repeated(caller, resource_id, etag, change)

    async def revisions(
        self, caller: Caller, resource_id: str, page_size: int, page_token: str
    ) -> tuple[Sequence[Revision], str]:
        query = {"kind": self.kind, "tenant": caller.tenant, "id": resource_id}
        before = int(pagination.from_token(page_token, query) or "0")
        size = pagination.page_size(page_size)
        made: list[Revision] = []
        async for one, older in self._history(caller, resource_id, before, size):
            made.append(_revision(one, older))
            if older and (len(made) == size or sum(each.weight for each in made) > _LONGEST_CHANGES):
                return made, pagination.to_token(str(one.revision), query)
        if not made and not before:
            raise errors.NotFound(self.kind, resource_id)
        return made, ""

    async def _history(
        self, caller: Caller, resource_id: str, before: int, size: int
    ) -> AsyncIterator[tuple[Resource, Resource | None]]:
        """Revisions, newest first, each with the one before it."""
        newer: Resource | None = None
        limit = min(STEP, size + 1)
        while found := await self._store.history(caller.tenant, self.kind, resource_id, before=before, limit=limit):
            for one in found:
                if newer:
                    yield newer, one
                newer = one
            before = found[-1].revision
            if before == 1:
                break
        if newer:
            yield newer, None

    async def diff(self, caller: Caller, resource_id: str, base: int, target: int) -> Sequence[Difference]:
        one, other = await self.get(caller, resource_id, base), await self.get(caller, resource_id, target)
        return list(differences(one.draft().content(), other.draft().content()))

    async def merge(
        self, caller: Caller, mine: Draft, base_revision: int, etag: str
    ) -> tuple[Resource | None, Sequence[Conflict]]:
        """The merged resource, or the conflicts, with which nothing is stored."""

        async def change() -> tuple[Resource | None, Sequence[Conflict]]:
            current = await self._at(caller, mine.resource_id, etag)
            base = await self.get(caller, mine.resource_id, base_revision)
            content, conflicts = merge(base.draft().content(), mine.content(), current.draft().content())
            if conflicts:
                return None, conflicts
            return await self._change(caller, current, Draft(mine.resource_id, **content)), []

        return await self._repeated(caller, mine.resource_id, etag, change)

    async def rollback(self, caller: Caller, resource_id: str, revision: int, etag: str) -> Resource:
        async def change() -> Resource:
            current = await self._at(caller, resource_id, etag)
            old = await self.get(caller, resource_id, revision)
            return await self._change(caller, current, old.draft(), always=True)

        return await self._repeated(caller, resource_id, etag, change)

    async def _repeated(self, caller: Caller, resource_id: str, etag: str, change: Callable[[], Awaitable[T]]) -> T:
        """Makes a change that names no etag again, where another one was committed meanwhile."""
        if etag:
            return await change()
        lock = self._locks.setdefault((caller.tenant, resource_id), asyncio.Lock())
        async with lock:
            for attempt in range(_ATTEMPTS - 1):
                try:
                    return await change()
                except errors.Aborted:
                    # Two processes in step would let the same one lose each time.
                    await asyncio.sleep(random.uniform(0, 0.01 * (attempt + 1)))  # noqa: S311
            return await change()

    async def _at(self, caller: Caller, resource_id: str, etag: str) -> Resource:
        if not resource_id:
            raise errors.invalid(f"{self.kind}.{id_field(self.kind)}", "is required")
        current = await self.get(caller, resource_id)
        if etag and etag != current.etag:
            raise stale(current)
        return current

    async def _change(
        self, caller: Caller, current: Resource, draft: Draft, *, validate_only: bool = False, always: bool = False
    ) -> Resource:
        """Commits the next revision; a change to the same content makes none, unless `always`."""
        if equal(draft.content(), current.draft().content()) and not always:
            return current
        await self._check(draft)
        made = current.next(draft, caller.subject)
        if not await self._put(caller, Written(made, current), validate_only=validate_only):
            raise stale(await self.get(caller, made.resource_id))
        return made

    async def _commit(self, caller: Caller, resource: Resource, verify: Verify) -> None:
        if not await self._store.put(caller.tenant, resource, verify=verify):
            raise stale(await self.get(caller, resource.resource_id))
        self._announcer.announce(caller.tenant)

    async def _put(
        self, caller: Caller, written: Written, *, request: Request | None = None, validate_only: bool = False
    ) -> bool:
        async def fits(view: View) -> None:
            await verify(view, written)
            if validate_only:
                raise _ValidOnly

        try:
            stored = await self._store.put(caller.tenant, written.resource, request=request, verify=fits)
        except _ValidOnly:
            return True
        if stored:
            self._announcer.announce(caller.tenant)
        return stored

    async def _check(self, draft: Draft) -> None:
        """In a thread, for the largest specs that are allowed take seconds."""
        if violations := await asyncio.to_thread(problems, self.kind, draft):
            raise errors.InvalidArgument(violations)


def problems(kind: Kind, draft: Draft) -> list[Violation]:
    return [*check_draft(kind, draft), *CHECKS[kind](draft.spec or {})]


class _ValidOnly(Exception):
    """Takes a transaction back in which everything would have been right."""


def _revision(resource: Resource, before: Resource | None) -> Revision:
    was = before.draft().content() if before else {}
    return Revision(
        replace(resource, spec={}), [difference.path for difference in differences(was, resource.draft().content())]
    )


def stale(current: Resource) -> errors.Aborted:
    return errors.Aborted(
        f"{current.kind.replace('_', ' ')} {current.resource_id!r} has changed meanwhile: read it again",
        metadata={"current_etag": current.etag},
    )
