"""Registry's methods by name, with requests as JSON, so that one test can speak of every kind."""

from __future__ import annotations

import pkgutil
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any, Final

import dynamicagents.registry.v1 as contracts
import grpc
import jwt
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass

from services.registry.model import Kind
from tests import harness

Code = grpc.StatusCode
SECRET: Final = "a-secret-of-tests-with-32-characters"
TEN: Final = (Kind.AGENT, Kind.TEAM, Kind.WORKFLOW)
"""Kinds with all ten methods."""
FIVE: Final = (Kind.TOOL_DEFINITION, Kind.MCP_SERVER, Kind.TOOL_PROVIDER, Kind.EVENT_RULE)
OFFLINE: Final = {"model": "offline"}
SPECS: Final[dict[Kind, dict[str, Any]]] = {
    Kind.AGENT: {"model": OFFLINE},
    Kind.TEAM: {"model": OFFLINE, "members": [{"agent_id": "member"}]},
    Kind.WORKFLOW: {"steps": [{"step_id": "one", "agent": {"agent_id": "member"}}]},
    Kind.AGENT_TEMPLATE: {"agent": {"model": OFFLINE}},
    Kind.PROMPT: {"template": "Be brief."},
    Kind.TOOL_DEFINITION: {"input_schema": {"type": "object"}},
    Kind.MCP_SERVER: {"http": {"url": "https://mcp.example.com/v1"}},
    Kind.TOOL_PROVIDER: {"address": "tools:50060"},
    Kind.EVENT_RULE: {"agent_id": "member"},
}
"""The least of each kind; those that refer to somebody refer to the agent `member`."""


def _methods() -> Iterator[tuple[str, tuple[Any, str, Any, Any]]]:
    for module in pkgutil.iter_modules(contracts.__path__):
        if not module.name.endswith("_service_pb2"):
            continue
        for service in import_module(f"{contracts.__name__}.{module.name}").DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                types = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
                yield method.name, (method, f"/{service.full_name}/{method.name}", *types)


METHODS: Final = dict(_methods())


def noun(kind: Kind) -> str:
    return kind.title().replace("_", "")


def id_field(kind: Kind) -> str:
    return "template_id" if kind is Kind.AGENT_TEMPLATE else f"{kind}_id"


def resource(kind: Kind, resource_id: str, /, **fields: Any) -> dict[str, Any]:
    return {id_field(kind): resource_id, "spec": SPECS[kind], **fields}


def of_size(size: int) -> dict[str, Any]:
    """Spec of an agent, so many bytes long and a few more."""
    return {"model": OFFLINE, "output_schema": {"type": "object", "title": "x" * size}}


def team(*members: str, agents: Sequence[str] = ("member",)) -> dict[str, Any]:
    """Spec of a team of teams, and of agents."""
    of_agents = [{"agent_id": name} for name in agents]
    return {"model": OFFLINE, "members": [*of_agents, *({"team_id": name} for name in members)]}


class Registry:
    def __init__(self, channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self.channel, self.metadata = channel, metadata

    def call(self, name: str, request: Any = None, /, **fields: Any) -> Any:
        """The call of any method; what it needs, as JSON or as a message."""
        method, path, asks, answers = METHODS[name]
        make = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        stub: Any = make(path, asks.SerializeToString, answers.FromString)
        return stub(request or ParseDict(fields, asks()), metadata=self.metadata, timeout=60)

    async def create(self, kind: Kind, resource_id: str = "x", /, **fields: Any) -> Any:
        outer = {name: fields.pop(name) for name in ("request_id", "validate_only") if name in fields}
        made = resource(kind, resource_id, **fields)
        return getattr(await self.call(f"Create{noun(kind)}", **{kind: made}, **outer), kind)

    async def member(self) -> None:
        await self.create(Kind.AGENT, "member")

    async def get(self, kind: Kind, resource_id: str = "x", revision: int = 0) -> Any:
        asked = {id_field(kind): resource_id, "revision": revision}
        return getattr(await self.call(f"Get{noun(kind)}", **asked), kind)

    async def list(self, kind: Kind, **fields: Any) -> list[Any]:
        return list(getattr(await self.call(f"List{noun(kind)}s", **fields), f"{kind}s"))

    async def update(self, kind: Kind, resource_id: str = "x", /, *, mask: str = "", **fields: Any) -> Any:
        outer = {"validate_only": True} if fields.pop("validate_only", False) else {}
        patch = {id_field(kind): resource_id, **fields}
        paths = mask or ",".join(_camel(name) for name in fields if name != "etag")
        return getattr(await self.call(f"Update{noun(kind)}", **{kind: patch}, update_mask=paths, **outer), kind)

    async def delete(self, kind: Kind, resource_id: str = "x", /, **fields: Any) -> None:
        await self.call(f"Delete{noun(kind)}", **{id_field(kind): resource_id}, **fields)

    async def revisions(self, kind: Kind, resource_id: str = "x", /, **fields: Any) -> Any:
        return await self.call(f"List{noun(kind)}Revisions", **{id_field(kind): resource_id}, **fields)

    async def diff(self, kind: Kind, base: int, target: int = 0) -> dict[str, tuple[Any, Any]]:
        asked = {id_field(kind): "x", "base_revision": base, "target_revision": target}
        found = (await self.call(f"Diff{noun(kind)}", **asked)).differences
        return {d.path: (plain(d, "base_value"), plain(d, "target_value")) for d in found}

    async def merge(self, kind: Kind, base: int, /, **fields: Any) -> Any:
        return await self.call(f"Merge{noun(kind)}", **{kind: resource(kind, "x", **fields)}, base_revision=base)

    async def rollback(self, kind: Kind, revision: int, etag: str = "") -> Any:
        asked = {id_field(kind): "x", "revision": revision, "etag": etag}
        return getattr(await self.call(f"Rollback{noun(kind)}", **asked), kind)

    async def apply(self, *resources: dict[str, Any], **fields: Any) -> list[tuple[str, str]]:
        """What was done with each: (id, action)."""
        reply = await self.call("ApplyBundle", resources=resources, **fields)
        return [(change.resource_id, action(change)) for change in reply.changes]

    async def export(self, **fields: Any) -> list[Any]:
        return [one async for part in self.call("ExportBundle", **fields) for one in part.resources]

    async def audit(self, **fields: Any) -> list[Any]:
        return list((await self.call("ListAuditEntries", **{"page_size": 1000, **fields})).entries)

    async def verified(self) -> bool:
        return bool((await self.call("VerifyAudit")).valid)

    def watch(self, **fields: Any) -> Any:
        return self.call("Watch", **fields)


def action(change: Any) -> str:
    named = change.DESCRIPTOR.fields_by_name["action"].enum_type.values_by_number[change.action].name
    return str(named.removeprefix("BUNDLE_ACTION_"))


def plain(message: Any, field: str) -> Any:
    """The value of a google.protobuf.Value as Python; ... where there is none."""
    if not message.HasField(field):
        return ...
    return _plain(getattr(message, field))


def _plain(value: Any) -> Any:
    match value.WhichOneof("kind"):
        case "struct_value":
            return {key: _plain(inner) for key, inner in value.struct_value.fields.items()}
        case "list_value":
            return [_plain(inner) for inner in value.list_value.values]
        case "null_value":
            return None
        case which:
            return getattr(value, which)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))


def token(tenant: str = "acme", scope: str = "", subject: str = "ann") -> tuple[tuple[str, str], ...]:
    """Metadata with the token of a caller."""
    claims = {"sub": subject, "tenant": tenant, "scope": scope, "exp": time.time() + 600}
    return (("authorization", f"Bearer {jwt.encode(claims, SECRET, 'HS256')}"),)


async def refused(call: Awaitable[Any], code: grpc.StatusCode, reason: str) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert (caught.value.code(), harness.reason_of(caught.value)) == (code, reason), caught.value.details()
    return caught.value


async def invalid(call: Awaitable[Any]) -> list[str]:
    """The fields that are named by the INVALID_ARGUMENT with which the call ends."""
    return harness.fields_of(await refused(call, Code.INVALID_ARGUMENT, "INVALID_FIELD"))


async def stale(call: Awaitable[Any]) -> None:
    await refused(call, Code.ABORTED, "STALE_ETAG")


async def missing(call: Awaitable[Any]) -> None:
    await refused(call, Code.NOT_FOUND, "RESOURCE_NOT_FOUND")


@asynccontextmanager
async def as_tenants(settings: Any) -> AsyncIterator[tuple[Registry, Registry]]:
    """Two tenants, acme and globex, of one Registry that wants tokens."""
    async with harness.registry(settings) as (_, channel):
        yield Registry(channel, token("acme")), Registry(channel, token("globex"))
