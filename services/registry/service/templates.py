"""Agent templates: those of the suite, the tenant's own, which go before them, and the agents made from them."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import resources as packaged
from typing import Any, Final, Protocol

import yaml

from libs import errors, pagination
from libs.identity import Caller
from services.registry import model
from services.registry.model import Draft, Kind, Resource, Spec
from services.registry.model.references import references
from services.registry.service.filters import Condition, Order, parse_filter, parse_order
from services.registry.service.room import Room

TEMPLATE_LABEL: Final = "template"
REVISION_LABEL: Final = "template-revision"
_LARGEST_PAGE: Final = 1000
_NEVER: Final = datetime.fromtimestamp(0, UTC)
_OPERATORS: Final = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Resources(Protocol):
    async def create(
        self, caller: Caller, draft: Draft, request_id: str, *, validate_only: bool = False, digest: str = ""
    ) -> Resource: ...

    async def get(self, caller: Caller, resource_id: str, revision: int = 0) -> Resource: ...

    async def list(
        self, caller: Caller, page_size: int, page_token: str, filter_: str, order_by: str, room: Room
    ) -> tuple[Sequence[Resource], str]: ...

    async def update(
        self, caller: Caller, patch: Draft, paths: Sequence[str], etag: str, *, validate_only: bool = False
    ) -> Resource: ...

    async def delete(self, caller: Caller, resource_id: str, etag: str, *, force: bool = False) -> None: ...


class Tools(Protocol):
    async def tool_exists(self, caller: Caller, tool_id: str) -> bool: ...


class Many(Protocol):
    async def many(self, tenant: str, kind: Kind, ids: Sequence[str]) -> Mapping[str, Resource]:
        """The current revisions of those that exist."""


class TenantTools:
    """A tool exists if the tenant has the definition, server or provider that its id names. One of `builtin/` and
    `host/` always does: the first comes with the suite, the second with the caller of a run."""

    def __init__(self, store: Many) -> None:
        self._store = store

    async def tool_exists(self, caller: Caller, tool_id: str) -> bool:
        for named in references(Kind.AGENT, {"tools": [{"tool_id": tool_id}]}):
            if named.resource_id not in await self._store.many(caller.tenant, named.kind, [named.resource_id]):
                return False
        return True


class Templates:
    """A template of the suite has revision 0; whether it came with the suite or not, it is read in the same way."""

    kind: Final = Kind.AGENT_TEMPLATE

    def __init__(self, resources: Resources, agents: Resources, tools: Tools) -> None:
        self._resources, self._agents, self._tools = resources, agents, tools

    async def create(self, caller: Caller, draft: Draft, request_id: str, *, validate_only: bool = False) -> Resource:
        return await self._resources.create(caller, draft, request_id, validate_only=validate_only)

    async def get(self, caller: Caller, template_id: str, revision: int = 0) -> Resource:
        try:
            return await self._resources.get(caller, template_id, revision)
        except errors.NotFound:
            if revision or template_id not in built_in():
                raise
        return built_in()[template_id]

    async def list(
        self, caller: Caller, page_size: int, page_token: str, filter_: str, order_by: str, room: Room
    ) -> tuple[Sequence[Resource], str]:
        where, order = parse_filter(filter_, self.kind), parse_order(order_by, self.kind)
        query = {"kind": self.kind, "tenant": caller.tenant, "filter": filter_, "order_by": order_by}
        last, _, last_id = pagination.from_token(page_token, query).partition("\0")
        size = pagination.page_size(page_size)

        def follows(key: tuple[str, str]) -> bool:
            return not page_token or (key < (last, last_id) if order.descending else key > (last, last_id))

        # A tenant has tens of templates, hardly more: all are read, so that one order and one filter hold for both.
        everything = {**built_in(), **{own.resource_id: own for own in await self._own(caller)}}
        found = {_key(each, order): each for each in everything.values() if _matches_all(each, where)}
        keys = [key for key in sorted(found, reverse=order.descending) if follows(key)]
        fitting = list(room.first([found[key] for key in keys[:size]]))
        token = pagination.to_token("\0".join(keys[len(fitting) - 1]), query) if len(keys) > len(fitting) else ""
        return fitting, token

    async def update(
        self, caller: Caller, patch: Draft, paths: Sequence[str], etag: str, *, validate_only: bool = False
    ) -> Resource:
        try:
            return await self._resources.update(caller, patch, paths, etag, validate_only=validate_only)
        except errors.NotFound:
            _refuse_built_in(patch.resource_id)
            raise

    async def delete(self, caller: Caller, template_id: str, etag: str, *, force: bool = False) -> None:
        try:
            await self._resources.delete(caller, template_id, etag, force=force)
        except errors.NotFound:
            _refuse_built_in(template_id)
            raise

    async def create_agent(
        self,
        caller: Caller,
        template_id: str,
        overrides: Draft,
        request_id: str,
        *,
        validate_only: bool = False,
    ) -> Resource:
        template = await self.get(caller, template_id)
        asked = overrides.spec or {}
        spec = agent_spec(template.spec, asked)
        if "tools" not in asked and (tool_ids := await self._tool_ids(caller, template.spec)):
            spec["tools"] = [{"tool_id": tool_id} for tool_id in tool_ids]
        origin = {TEMPLATE_LABEL: template_id, REVISION_LABEL: str(template.revision)}
        draft = Draft(
            overrides.resource_id,
            overrides.display_name or template.display_name,
            overrides.description or template.description,
            {**(overrides.labels or {}), **origin},
            spec,
        )
        asked_for = model.digest([template_id, overrides.resource_id, overrides.content()])
        return await self._agents.create(caller, draft, request_id, validate_only=validate_only, digest=asked_for)

    async def _tool_ids(self, caller: Caller, template: Spec) -> Sequence[str]:
        """All required ones, though a missing one is refused on create: without it the agent cannot do its work."""
        optional = template.get("optional_tools", ())
        there = [tool_id for tool_id in optional if await self._tools.tool_exists(caller, tool_id)]
        return list(dict.fromkeys([*template.get("required_tools", ()), *there]))

    async def _own(self, caller: Caller) -> Sequence[Resource]:
        everything = Room(1, lambda _: 0)
        found, token = await self._resources.list(caller, _LARGEST_PAGE, "", "", "", everything)
        own = [*found]
        while token:
            found, token = await self._resources.list(caller, _LARGEST_PAGE, token, "", "", everything)
            own += found
        return own


def agent_spec(template: Spec, overrides: Spec) -> dict[str, Any]:
    """The template's agent with the fields that `overrides` sets: each as a whole, those of the model one by one."""
    spec = {**template.get("agent", {}), **overrides}
    if models := {**template.get("agent", {}).get("model", {}), **overrides.get("model", {})}:
        spec["model"] = models
    if template.get("retrieval_strategy") and "memory" not in overrides:
        spec["memory"] = {"retrieval_strategy": template["retrieval_strategy"], **spec.get("memory", {})}
    return spec


@cache
def built_in() -> Mapping[str, Resource]:
    """The templates that come with the suite, each a file of its own."""
    files = (packaged.files("services.registry") / "templates").iterdir()
    data = sorted((file for file in files if file.name.endswith(".yaml")), key=lambda file: file.name)
    made = (_built_in(file.name.removesuffix(".yaml"), file.read_text("utf-8")) for file in data)
    return {template.resource_id: template for template in made}


def _built_in(template_id: str, text: str) -> Resource:
    data = yaml.safe_load(text)
    draft = Draft(template_id, data["display_name"], data["description"], data.get("labels", {}), data["spec"])
    return Resource(
        kind=Kind.AGENT_TEMPLATE,
        revision=0,
        etag=model.digest(draft.content())[:24],
        author="",
        create_time=_NEVER,
        update_time=_NEVER,
        resource_id=template_id,
        **draft.content(),
    )


def _refuse_built_in(template_id: str) -> None:
    if template_id in built_in():
        raise errors.FailedPrecondition(
            f"agent template {template_id!r} comes with the suite: create one of your own with the same id, "
            "which then goes before it",
            reason="NOT_SUPPORTED",
        )


def _key(resource: Resource, order: Order) -> tuple[str, str]:
    value = getattr(resource, order.column)
    text = value.isoformat(timespec="microseconds") if isinstance(value, datetime) else value
    return text, resource.resource_id


def _matches_all(resource: Resource, where: Sequence[Condition]) -> bool:
    return all(_matches(resource, condition) for condition in where)


def _matches(resource: Resource, condition: Condition) -> bool:
    """As the store compares: what is not there matches nothing."""
    found: Any = getattr(resource, condition.column)
    for name in condition.path:
        found = found.get(name) if isinstance(found, Mapping) else None
    wanted = condition.value
    if found is None or found is _NEVER or isinstance(found, Mapping | list):
        return False
    if isinstance(wanted, bool) or isinstance(found, bool):
        return isinstance(found, bool) and isinstance(wanted, bool) and _compare(found, condition, wanted)
    if isinstance(wanted, float):
        return _is_number(found) and _compare(float(found), condition, wanted)
    if isinstance(wanted, str) and wanted.endswith("*") and condition.op in ("=", "!="):
        return str(found).startswith(wanted[:-1]) is (condition.op == "=")
    return _compare(found if isinstance(found, datetime) else str(found), condition, wanted)


def _compare(found: Any, condition: Condition, wanted: Any) -> bool:
    return bool(_OPERATORS[condition.op](found, wanted))


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
