"""Many resources at once: all of a bundle or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from libs import errors
from libs.errors import Violation
from libs.identity import Caller
from services.registry import model
from services.registry.model import Change, Draft, Kind, Resource, id_field
from services.registry.model.changes import Difference, differences
from services.registry.service.resources import Announcer, problems
from services.registry.service.verification import View, Written, still_referenced, verify

ORDER: Final = (
    Kind.TOOL_DEFINITION,
    Kind.MCP_SERVER,
    Kind.TOOL_PROVIDER,
    Kind.PROMPT,
    Kind.ROUTER_CONFIG,
    Kind.AGENT_TEMPLATE,
    Kind.AGENT,
    Kind.TEAM,
    Kind.WORKFLOW,
    Kind.EVENT_RULE,
)
"""What others refer to comes first."""
_BATCH: Final = 200


class Action(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Applied:
    action: Action
    resource: Resource
    differences: Sequence[Difference] = ()
    before: Resource | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A resource of a bundle, and its place there."""

    index: int
    kind: Kind
    draft: Draft


class Transaction(View, Protocol):
    """A tenant's resources, to be read and changed with nobody between."""

    async def current(self, kind: Kind, resource_id: str) -> Resource | None: ...

    async def labelled(self, labels: Mapping[str, str]) -> Sequence[Resource]: ...

    async def put(self, resource: Resource) -> None: ...


class BundleStore(Protocol):
    async def transact(self, tenant: str, work: Callable[[Transaction], Awaitable[None]]) -> None:
        """Commits what `work` puts, unless it raises."""

    async def positions(self, tenants: Sequence[str]) -> dict[str, int]: ...

    async def state(
        self, tenant: str, kinds: Sequence[Kind], *, position: int, after: tuple[str, str], limit: int
    ) -> Sequence[Change]: ...


class Bundles:
    def __init__(self, store: BundleStore, announcer: Announcer) -> None:
        self._store, self._announcer = store, announcer

    async def apply(
        self, caller: Caller, entries: Sequence[Entry], prune: Mapping[str, str], *, dry_run: bool
    ) -> Sequence[Applied]:
        await asyncio.to_thread(_check, entries)
        applied: list[Applied] = []

        async def work(transaction: Transaction) -> None:
            applied.clear()
            applied.extend(await _apply(transaction, caller, entries, prune))
            if dry_run:
                raise _DryRun

        try:
            await self._store.transact(caller.tenant, work)
        except _DryRun:
            return applied
        self._announcer.announce(caller.tenant)
        return applied

    async def export(
        self, caller: Caller, kinds: Sequence[Kind], labels: Mapping[str, str]
    ) -> AsyncIterator[Sequence[Resource]]:
        position = (await self._store.positions([caller.tenant])).get(caller.tenant, 0)
        after = ("", "")
        while found := await self._store.state(
            caller.tenant, kinds or list(Kind), position=position, after=after, limit=_BATCH
        ):
            last = found[-1].resource
            after = (last.kind, last.resource_id)
            yield [change.resource for change in found if labels.items() <= change.resource.labels.items()]


class _DryRun(Exception):
    """Takes back a transaction in which everything would have been right."""


def _check(entries: Sequence[Entry]) -> None:
    violations: list[Violation] = []
    seen: set[tuple[Kind, str]] = set()
    for entry in entries:
        field = f"resources[{entry.index}]"
        key = (entry.kind, entry.draft.resource_id)
        if not entry.draft.resource_id:
            violations.append(Violation(f"{field}.{entry.kind}.{id_field(entry.kind)}", "is required in a bundle"))
        elif key in seen:
            violations.append(Violation(field, f"{entry.kind.replace('_', ' ')} {key[1]!r} is in the bundle twice"))
        seen.add(key)
        found = _without_id(entry) or problems(entry.kind, entry.draft)
        violations += [Violation(f"{field}.{v.field}", v.description) for v in found]
    if violations:
        raise errors.InvalidArgument(violations)


def _without_id(entry: Entry) -> list[Violation]:
    """A deployment that were given a new id each time would make every bundle a change."""
    if entry.kind is not Kind.ROUTER_CONFIG:
        return []
    deployments = (entry.draft.spec or {}).get("deployments", ())
    fields = [f"router_config.deployments[{i}]" for i, d in enumerate(deployments) if not d.get("deployment_id")]
    return [Violation(f"{field}.deployment_id", "is required in a bundle") for field in fields]


async def _apply(
    transaction: Transaction, caller: Caller, entries: Sequence[Entry], prune: Mapping[str, str]
) -> list[Applied]:
    applied: list[Applied] = []
    ordered = sorted(entries, key=lambda entry: (ORDER.index(entry.kind), entry.draft.resource_id))
    for entry in ordered:
        made = await _apply_one(transaction, caller, entry)
        applied.append(made)
        if made.action is not Action.UNCHANGED:
            await transaction.put(made.resource)
    pruned = await _prune(transaction, caller, {(e.kind, e.draft.resource_id) for e in entries}, prune)
    written = [
        Written(made.resource, made.before, f"resources[{entry.index}].")
        for made, entry in zip(applied, ordered, strict=True)
        if made.action is not Action.UNCHANGED
    ]
    await verify(transaction, *written)
    for made in pruned:
        await still_referenced(transaction, made.resource)
    return [*applied, *pruned]


async def _apply_one(transaction: Transaction, caller: Caller, entry: Entry) -> Applied:
    current = await transaction.current(entry.kind, entry.draft.resource_id)
    if current is None:
        return Applied(Action.CREATED, model.first(entry.kind, entry.draft, caller.subject))
    if current.deleted:
        return Applied(Action.CREATED, model.recreated(current, entry.draft, caller.subject))
    found = list(differences(current.draft().content(), entry.draft.content()))
    if not found:
        return Applied(Action.UNCHANGED, current)
    return Applied(Action.UPDATED, current.next(entry.draft, caller.subject), found, current)


async def _prune(
    transaction: Transaction, caller: Caller, kept: set[tuple[Kind, str]], labels: Mapping[str, str]
) -> list[Applied]:
    pruned: list[Applied] = []
    for resource in await transaction.labelled(labels) if labels else ():
        if (resource.kind, resource.resource_id) not in kept:
            gone = resource.next(resource.draft(), caller.subject, deleted=True)
            await transaction.put(gone)
            pruned.append(Applied(Action.DELETED, gone))
    return pruned
