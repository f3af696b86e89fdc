"""What a write must fit: the rest of its tenant, inside the transaction that is about to change it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from libs import errors
from libs.errors import Violation
from services.registry.model import Kind, Resource, Spec
from services.registry.model.model_groups import known_groups, named_groups, near
from services.registry.model.references import problem_of_nesting, references
from services.registry.model.router_config import NAME
from services.registry.model.tools import function_name
from services.registry.service.nesting import problem_above

_NAMED_REFERRERS: Final = 20


class View(Protocol):
    """The current state of a tenant, with what is being written."""

    async def specs(self, kind: Kind, ids: Collection[str]) -> Mapping[str, Spec]:
        """The specs of those that exist."""

    async def referrers(self, kind: Kind, resource_id: str, limit: int) -> Sequence[tuple[Kind, str]]: ...

    async def function_names(self, names: Collection[str]) -> Sequence[tuple[str, str]]:
        """Tool definitions that models see under one of these names, each with its name, by id."""


Verify = Callable[[View], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Written:
    """A resource as it is about to be, what it was, if it was there, and where the request has it."""

    resource: Resource
    before: Resource | None = None
    prefix: str = ""

    @property
    def spec_before(self) -> Spec:
        return self.before.spec if self.before and not self.before.deleted else {}


async def verify(view: View, *written: Written) -> None:
    violations = [
        Violation(f"{each.prefix}{v.field}", v.description)
        for each in written
        for v in await _problems_of_references(view, each.resource)
    ]
    violations += await _problems_of_groups(view, written)
    violations += await _problems_of_functions(view, written)
    if violations:
        raise errors.InvalidArgument(violations)


async def _problems_of_references(view: View, resource: Resource) -> list[Violation]:
    """What a resource refers to exists, and it does not contain itself."""
    own = (resource.kind, resource.resource_id)
    wanted = [r for r in references(resource.kind, resource.spec) if (r.kind, r.resource_id) != own]
    violations: list[Violation] = []
    for kind in sorted({reference.kind for reference in wanted}):
        there = await view.specs(kind, sorted({r.resource_id for r in wanted if r.kind is kind}))
        violations += [
            Violation(r.field, f"there is no {kind.replace('_', ' ')} {r.resource_id!r}")
            for r in wanted
            if r.kind is kind and r.resource_id not in there
        ]
    if violations:
        return violations
    nesting = await problem_of_nesting(own, resource.spec, view.specs) or await problem_above(view, resource)
    return [nesting] if nesting else []


async def _problems_of_groups(view: View, written: Sequence[Written]) -> list[Violation]:
    """Model groups are there, if they are new to the resource: one that was removed holds no other change up."""
    wanted = [
        (f"{each.prefix}{field}", group)
        for each in written
        for field, group in named_groups(each.resource.kind, each.resource.spec).items()
        if named_groups(each.resource.kind, each.spec_before).get(field) != group
    ]
    if not wanted:
        return []
    known = known_groups((await view.specs(Kind.ROUTER_CONFIG, [NAME])).get(NAME, {}))
    return [
        Violation(field, f"there is no model group {group!r}; there are {', '.join(near(group, known))}")
        for field, group in wanted
        if known and group not in known
    ]


async def _problems_of_functions(view: View, written: Sequence[Written]) -> list[Violation]:
    """A model sees each function of a tenant under a name of its own."""
    wanted = [(each, name) for each in written if (name := _new_function_name(each))]
    if not wanted:
        return []
    taken: dict[str, list[str]] = {}
    for resource_id, name in await view.function_names({name for _, name in wanted}):
        taken.setdefault(name, []).append(resource_id)
    return [
        Violation(
            f"{each.prefix}tool_definition.spec.function_name",
            f"{name} is also the function of tool definition {others[0]!r}",
        )
        for each, name in wanted
        if (others := [other for other in taken.get(name, ()) if other != each.resource.resource_id])
    ]


def _new_function_name(written: Written) -> str:
    """Empty where it stays what it was."""
    resource, before = written.resource, written.before
    if resource.kind is not Kind.TOOL_DEFINITION:
        return ""
    name = function_name(resource.resource_id, resource.spec)
    unchanged = before and not before.deleted and function_name(before.resource_id, before.spec) == name
    return "" if unchanged else name


async def still_referenced(view: View, resource: Resource) -> None:
    """Nothing refers to a resource that is to go."""
    if found := await view.referrers(resource.kind, resource.resource_id, _NAMED_REFERRERS):
        names = ", ".join(f"{kind} {name}" for kind, name in found)
        raise errors.FailedPrecondition(
            f"{resource.kind.replace('_', ' ')} {resource.resource_id!r} is referred to by {names}",
            reason="RESOURCE_REFERENCED",
            metadata={"referrers": names},
        )
