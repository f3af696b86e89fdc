"""Resources: named, labelled, versioned data. A kind adds the rules of its spec and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import orjson

Spec = Mapping[str, Any]
"""A spec as the JSON form of its proto message, with proto field names."""


class Kind(StrEnum):
    """A kind is also the name of its field in requests, and with `_id` that of its ids."""

    AGENT = "agent"
    ROUTER_CONFIG = "router_config"
    TEAM = "team"
    WORKFLOW = "workflow"
    AGENT_TEMPLATE = "agent_template"
    PROMPT = "prompt"
    TOOL_DEFINITION = "tool_definition"
    MCP_SERVER = "mcp_server"
    TOOL_PROVIDER = "tool_provider"
    EVENT_RULE = "event_rule"


def id_field(kind: Kind) -> str:
    return "template_id" if kind is Kind.AGENT_TEMPLATE else f"{kind}_id"


@dataclass(frozen=True, slots=True)
class Draft:
    """What a caller may say of a resource."""

    resource_id: str = ""
    display_name: str = ""
    description: str = ""
    labels: Mapping[str, str] | None = None
    spec: Spec | None = None

    def content(self) -> dict[str, Any]:
        return {
            "display_name": self.display_name,
            "description": self.description,
            "labels": dict(self.labels or {}),
            "spec": dict(self.spec or {}),
        }


@dataclass(frozen=True, slots=True)
class Resource:
    kind: Kind
    resource_id: str
    display_name: str
    description: str
    labels: Mapping[str, str]
    spec: Spec
    revision: int
    etag: str
    author: str
    create_time: datetime
    update_time: datetime
    deleted: bool = False

    def draft(self) -> Draft:
        return Draft(self.resource_id, self.display_name, self.description, self.labels, self.spec)

    def next(self, draft: Draft, author: str, *, deleted: bool = False) -> Resource:
        """The revision after this one."""
        made = replace(
            self,
            display_name=draft.display_name,
            description=draft.description,
            labels=dict(draft.labels or {}),
            spec=dict(draft.spec or {}),
            revision=self.revision + 1,
            author=author,
            update_time=datetime.now(UTC),
            deleted=deleted,
        )
        return replace(made, etag=fingerprint(made))


@dataclass(frozen=True, slots=True)
class Change:
    """A committed revision; `position` counts the commits of its tenant."""

    position: int
    resource: Resource


@dataclass(frozen=True, slots=True)
class Request:
    """A create that may be repeated: its key, and the digest of what it asked for."""

    request_id: str
    digest: str


def first(kind: Kind, draft: Draft, author: str) -> Resource:
    now = datetime.now(UTC)
    made = Resource(
        kind=kind,
        resource_id=draft.resource_id,
        display_name=draft.display_name,
        description=draft.description,
        labels=dict(draft.labels or {}),
        spec=dict(draft.spec or {}),
        revision=1,
        etag="",
        author=author,
        create_time=now,
        update_time=now,
    )
    return replace(made, etag=fingerprint(made))


def recreated(deleted: Resource, draft: Draft, author: str) -> Resource:
    """A new resource under the id of a deleted one goes on counting its revisions."""
    made = deleted.next(draft, author)
    return replace(made, create_time=made.update_time)


def fingerprint(resource: Resource) -> str:
    return digest([resource.kind, resource.resource_id, resource.revision, resource.draft().content()])[:24]


def digest(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(_normal(value), option=orjson.OPT_SORT_KEYS)).hexdigest()


def _normal(value: Any) -> Any:
    """The value with one form for each number: a database may give 1e20 back as an integer."""
    match value:
        case bool():
            return value
        case int() | float():
            return float(value) + 0.0  # PostgreSQL knows no -0.0
        case Mapping():
            return {key: _normal(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_normal(inner) for inner in value]
        case _:
            return value


def patched(current: Draft, patch: Draft, paths: list[str]) -> Draft:
    """`current` with the fields of `paths` taken from `patch`; a field that the patch lacks is cleared."""
    content, source = current.content(), patch.content()
    for path in paths:
        *parents, leaf = path.split(".")
        into: dict[str, Any] = content
        value: Any = source
        for name in parents:
            into[name] = dict(into.get(name) or {})
            into = into[name]
            value = (value or {}).get(name)
        value = (value or {}).get(leaf)
        if value is None:
            into.pop(leaf, None)
        else:
            into[leaf] = value
    return Draft(
        current.resource_id,
        content.get("display_name", ""),
        content.get("description", ""),
        content.get("labels", {}),
        content.get("spec", {}),
    )
