"""What a change does to those that contain the changed resource."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from libs.errors import Violation
from services.registry.model import Kind, Resource, Spec
from services.registry.model.references import DEEPEST, references

_ALL = 10_000


class Neighbours(Protocol):
    async def specs(self, kind: Kind, ids: Collection[str]) -> Mapping[str, Spec]: ...

    async def referrers(self, kind: Kind, resource_id: str, limit: int) -> Sequence[tuple[Kind, str]]: ...


async def problem_above(view: Neighbours, resource: Resource) -> Violation | None:
    """The longest way through a resource without cycles, where it is too long."""
    kind, own = resource.kind, resource.resource_id
    fields = {r.resource_id: r.field for r in references(kind, resource.spec) if r.kind is kind}
    if kind not in (Kind.TEAM, Kind.WORKFLOW) or not fields:
        return None

    async def up(edge: Collection[str]) -> Mapping[str, Iterable[str]]:
        found = {each: await view.referrers(kind, each, _ALL) for each in edge}
        return {each: [name for other, name in by if other is kind] for each, by in found.items()}

    async def down(edge: Collection[str]) -> Mapping[str, Iterable[str]]:
        specs = {**await view.specs(kind, sorted(edge)), **({own: resource.spec} if own in edge else {})}
        return {each: [r.resource_id for r in references(kind, spec) if r.kind is kind] for each, spec in specs.items()}

    above, below = await _longest(own, up), await _longest(own, down)
    path = [*above, *reversed(below[:-1])]
    if len(path) <= DEEPEST:
        return None
    names = ", ".join(f"{kind} {name}" for name in path[: DEEPEST + 1])
    return Violation(fields[below[-2]], f"leads deeper than {DEEPEST}: {names}")


async def _longest(
    start: str, further: Callable[[Collection[str]], Awaitable[Mapping[str, Iterable[str]]]]
) -> list[str]:
    """The longest way from `start`, or the first that is too long; `start` comes last."""
    levels: list[dict[str, str]] = [{start: ""}]
    while levels[-1] and len(levels) <= DEEPEST + 1:
        levels.append({to: each for each, others in (await further(levels[-1])).items() for to in others})
    levels = [level for level in levels if level]
    path = [min(levels[-1])]
    for level in reversed(levels[1:]):
        path.append(level[path[-1]])
    return path
