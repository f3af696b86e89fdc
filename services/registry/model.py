"""Resources: named, labelled, versioned data. A kind adds the rules of its spec and nothing else."""

from __future__ import annotations

import hashlib
import re
import zoneinfo
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import jsonschema
import orjson
from jsonschema.validators import validator_for

from libs.errors import Violation

Spec = Mapping[str, Any]
"""A spec as the JSON form of its proto message, with proto field names."""

OFFLINE_GROUP: Final = "offline"
MOST_BYTES: Final = 1024 * 1024
MOST_DEPLOYMENTS: Final = 1000
_REFERENCE: Final = re.compile(r"os\.environ/[A-Za-z_][A-Za-z0-9_]*|secret:[a-z0-9][a-z0-9_-]*:[A-Za-z0-9_]+")


class Kind(StrEnum):
    AGENT = "agent"
    ROUTER_CONFIG = "router_config"


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
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


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


def check_draft(kind: Kind, draft: Draft) -> list[Violation]:
    """What holds for every kind: no larger than every client can receive, and no text that PostgreSQL cannot store."""
    content = draft.content()
    if len(orjson.dumps(content)) > MOST_BYTES:
        return [Violation(kind, f"is larger than {MOST_BYTES} bytes as JSON")]
    return [Violation(path, "contains a NUL character") for path in _with_nul(content, kind)]


def _with_nul(value: Any, path: str) -> Iterator[str]:
    match value:
        case str() if "\0" in value:
            yield path
        case Mapping():
            for key, inner in value.items():
                if "\0" in key:
                    yield path
                yield from _with_nul(inner, f"{path}.{key}")
        case list():
            for index, inner in enumerate(value):
                yield from _with_nul(inner, f"{path}[{index}]")


def check_agent(spec: Spec) -> list[Violation]:
    found: list[Violation] = []
    if not spec.get("model", {}).get("model"):
        found.append(Violation("agent.spec.model.model", "is required: the model group that the agent thinks with"))
    tool_ids = [tool["tool_id"] for tool in spec.get("tools", ())]
    for index, tool_id in enumerate(tool_ids):
        if tool_id in tool_ids[:index]:
            found.append(Violation(f"agent.spec.tools[{index}].tool_id", f"{tool_id} is listed twice"))
    choice = spec.get("tool_choice", "auto")
    if choice not in ("auto", "none", "required") and choice not in tool_ids:
        found.append(Violation("agent.spec.tool_choice", "is none of auto, none, required and the agent's tools"))
    if choice == "required" and not tool_ids:
        found.append(Violation("agent.spec.tool_choice", "is required, but the agent has no tools"))
    if "timezone" in spec and not _is_timezone(spec["timezone"]):
        found.append(Violation("agent.spec.timezone", "is not an IANA time zone"))
    if "output_schema" in spec:
        found += _check_output_schema(spec)
    return found


def _is_timezone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _check_output_schema(spec: Spec) -> list[Violation]:
    schema, field = spec["output_schema"], "agent.spec.output_schema"
    if not isinstance(schema.get("$schema", ""), str):
        return [Violation(field, "is not a JSON Schema: $schema is not a text")]
    try:
        validator_for(schema, default=jsonschema.Draft202012Validator).check_schema(schema)
    except jsonschema.SchemaError as error:
        return [Violation(field, f"is not a JSON Schema: {error.message[:200]}")]
    if schema.get("type") != "object":
        return [Violation(field, 'must describe an object ("type": "object")')]
    if spec.get("markdown"):
        return [Violation("agent.spec.markdown", "contradicts output_schema")]
    return []


def check_router_config(spec: Spec) -> list[Violation]:
    found: list[Violation] = []
    seen: set[str] = set()
    if len(spec.get("deployments", ())) > MOST_DEPLOYMENTS:
        return [Violation("router_config.deployments", f"are more than {MOST_DEPLOYMENTS}")]
    for index, deployment in enumerate(spec.get("deployments", ())):
        field = f"router_config.deployments[{index}]"
        if deployment["deployment_id"] in seen:
            found.append(Violation(f"{field}.deployment_id", f"{deployment['deployment_id']} is used twice"))
        seen.add(deployment["deployment_id"])
        found += check_deployment(deployment, field)
    return found


def check_deployment(deployment: Spec, field: str) -> list[Violation]:
    found: list[Violation] = []
    if deployment.get("model_group") == OFFLINE_GROUP:
        found.append(Violation(f"{field}.model_group", "offline is the suite's own model"))
    reference = deployment.get("api_key_reference")
    if reference and not _REFERENCE.fullmatch(reference):
        # The value may be a key: it is not repeated.
        found.append(
            Violation(
                f"{field}.api_key_reference",
                "is neither os.environ/NAME nor secret:provider:field; a key itself is refused",
            )
        )
    if any(mark in deployment.get("api_base", "") for mark in "@?#"):
        found.append(Violation(f"{field}.api_base", "has credentials or a query; a key belongs in api_key_reference"))
    return found


CHECKS: Final[Mapping[Kind, Callable[[Spec], list[Violation]]]] = {
    Kind.AGENT: check_agent,
    Kind.ROUTER_CONFIG: check_router_config,
}
