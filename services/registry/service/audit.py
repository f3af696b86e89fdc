"""Who changed what, in a chain of hashes for each tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol

from libs import pagination
from libs.identity import Caller
from services.registry import model
from services.registry.model import Kind, Resource

_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class AuditEntry:
    position: int
    author: str
    time: datetime
    kind: Kind
    resource_id: str
    revision: int
    deleted: bool
    before_digest: str
    after_digest: str
    hash: str = ""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    kind: Kind | None = None
    resource_id: str = ""
    start_time: datetime | None = None
    end_time: datetime | None = None

    def query(self, tenant: str) -> dict[str, str]:
        return {
            "tenant": tenant,
            "kind": self.kind or "",
            "id": self.resource_id,
            "from": str(self.start_time),
            "to": str(self.end_time),
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    entries: int
    broken_position: int = 0
    reason: str = ""


class AuditStore(Protocol):
    async def entries(self, tenant: str, where: AuditFilter, *, before: int, limit: int) -> Sequence[AuditEntry]:
        """Entries below `before`, newest first; 0 begins with the newest."""

    async def chain(self, tenant: str, *, after: int, limit: int) -> Sequence[tuple[AuditEntry, Resource | None]]:
        """Entries after `after` in order, each with the revision that it speaks of."""

    async def head(self, tenant: str) -> tuple[int, str]:
        """Position and hash of the newest entry."""


def entry_for(position: int, resource: Resource, before_digest: str, previous_hash: str) -> AuditEntry:
    entry = AuditEntry(
        position=position,
        author=resource.author,
        time=resource.update_time,
        kind=resource.kind,
        resource_id=resource.resource_id,
        revision=resource.revision,
        deleted=resource.deleted,
        before_digest=before_digest,
        after_digest=content_digest(resource),
    )
    return replace(entry, hash=chained(entry, previous_hash))


def chained(entry: AuditEntry, previous_hash: str) -> str:
    return model.digest(
        [
            previous_hash,
            entry.position,
            entry.author,
            int(entry.time.timestamp() * 1_000_000),
            entry.kind,
            entry.resource_id,
            entry.revision,
            entry.deleted,
            entry.before_digest,
            entry.after_digest,
        ]
    )


def content_digest(resource: Resource) -> str:
    return model.digest(resource.draft().content())


class Audit:
    def __init__(self, store: AuditStore) -> None:
        self._store = store

    async def list(
        self, caller: Caller, where: AuditFilter, page_size: int, page_token: str
    ) -> tuple[Sequence[AuditEntry], str]:
        query = where.query(caller.tenant)
        before = int(pagination.from_token(page_token, query) or "0")
        size = pagination.page_size(page_size)
        found = await self._store.entries(caller.tenant, where, before=before, limit=size + 1)
        more = len(found) > size
        return found[:size], pagination.to_token(str(found[size - 1].position), query) if more else ""

    async def verify(self, caller: Caller) -> Verdict:
        position, newest = await self._store.head(caller.tenant)
        seen, previous = 0, ""
        async for entry, revision in self._chain(caller.tenant, position):
            seen += 1
            if reason := _fault(entry, revision, seen, previous):
                return Verdict(seen, seen, reason)
            previous = entry.hash
        if seen != position or previous != newest:
            return Verdict(seen, seen + 1, "entries are missing at the end")
        return Verdict(seen)

    async def _chain(self, tenant: str, until: int) -> AsyncIterator[tuple[AuditEntry, Resource | None]]:
        after = 0
        while batch := await self._store.chain(tenant, after=after, limit=_BATCH):
            for entry, revision in batch:
                if entry.position > until:
                    return
                after = entry.position
                yield entry, revision


def _fault(entry: AuditEntry, revision: Resource | None, expected: int, previous: str) -> str:
    if entry.position != expected:
        return "the entry is missing"
    if chained(entry, previous) != entry.hash:
        return "the entry was changed, or one before it"
    if revision is None:
        return "the revision is missing"
    if entry_for(entry.position, revision, entry.before_digest, previous).hash != entry.hash:
        return "the revision was changed"
    return ""
