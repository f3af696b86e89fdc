"""A real HTTP server in the role of A8N Identity, with faults on demand."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

TOKEN = "a8n-token-of-the-suite"


@dataclass
class Fault:
    """What is answered in place of the truth, `times` times."""

    status: int = 500
    body: str = "{}"
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: bool = False
    """The connection ends in the middle of the body."""


@dataclass
class A8nServer:
    url: str = ""
    bare: bool = False
    entries: list[dict[str, Any]] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    schemas: dict[str, Any] | None = None
    """JSON Schemas by provider; None where the server has no such methods."""
    page_size: int = 0
    """Entries a page, 0 is all; `paging` says how the next one is named."""
    paging: str = "next"
    tokens: dict[str, set[str] | None] = field(default_factory=lambda: {TOKEN: None})
    """Who may come, and for which secrets: None is all without an owner."""
    faults: deque[Fault] = field(default_factory=deque)
    fails: dict[str, Fault] = field(default_factory=dict)
    """Secrets whose values are always answered with a fault."""
    calls: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    versions: set[tuple[int, int]] = field(default_factory=set)
    """Of HTTP, as spoken to it."""

    def add(self, secret_id: str, provider: str, values: dict[str, Any], **more: Any) -> None:
        self.entries.append({"id": secret_id, "name": secret_id, "provider": provider, **more})
        self.values[secret_id] = values

    def fail(self, *, times: int = 1, **fault: Any) -> None:
        self.faults.extend(Fault(**fault) for _ in range(times))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(f"{request.method} {request.path_qs}")
        self.versions.add((request.version.major, request.version.minor))
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        always = self.fails.get(request.match_info.get("secret_id", ""))
        if fault := self.faults.popleft() if self.faults else always:
            return await self._fail(request, fault)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self.tokens:
            return web.json_response({"detail": "who are you"}, status=401)
        secret_id = request.match_info.get("secret_id", "")
        if secret_id and secret_id not in self._visible(token):
            return web.json_response({"detail": "not found"}, status=404)
        match request.method:
            case "POST":
                return await self._create(request)
            case "PATCH":
                return await self._change(request)
            case "DELETE":
                self.remove(secret_id)
                return web.Response(status=204)
        if request.path.endswith("/values"):
            return self._values(request)
        if secret_id:
            return web.json_response(self.entry(secret_id))
        return self._list(request, self._visible(token))

    async def _fail(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.ending.wait(), fault.delay)
        if not fault.cut:
            return web.Response(status=fault.status, text=fault.body, headers=fault.headers)
        response = web.StreamResponse(status=fault.status, headers={"Content-Length": str(len(fault.body) + 1)})
        await response.prepare(request)
        await response.write(fault.body.encode())
        assert request.transport
        request.transport.close()
        return response

    def _visible(self, token: str) -> set[str]:
        theirs = self.tokens[token]
        owned = {secret_id for each in self.tokens.values() for secret_id in each or ()}
        everything = {entry["id"] for entry in self.entries}
        return everything - owned if theirs is None else everything & theirs

    def entry(self, secret_id: str) -> dict[str, Any]:
        return next(entry for entry in self.entries if entry["id"] == secret_id)

    def remove(self, secret_id: str) -> None:
        self.entries.remove(self.entry(secret_id))
        self.values.pop(secret_id, None)

    def rotate(self, secret_id: str, values: dict[str, Any], **more: Any) -> None:
        self.values[secret_id] = values
        self.entry(secret_id).update(more)

    def _list(self, request: web.Request, visible: set[str]) -> web.Response:
        provider = request.query.get("provider")
        found = [e for e in self.entries if provider in (None, e["provider"]) and e["id"] in visible]
        if not self.page_size:
            return web.json_response(found if self.bare else {"items": found, "total": len(found)})
        at = int(request.query.get("page_token") or request.query.get("cursor") or request.query.get("page") or 0)
        body: dict[str, Any] = {"items": found[at : at + self.page_size]}
        if (after := at + self.page_size) < len(found):
            match self.paging:
                case "next":
                    body["next"] = f"https://elsewhere.example/api/v1/secrets?page={after}"
                case "token":
                    body["next_page_token"] = str(after)
                case "cursor":
                    body["next_cursor"] = str(after)
                case "loop":
                    body["next_cursor"] = "0"
        return web.json_response(body)

    async def provider(self, request: web.Request) -> web.Response:
        name = request.match_info.get("name")
        if self.schemas is None or (name and name not in self.schemas):
            return web.json_response({"detail": "not found"}, status=404)
        return web.json_response(
            {"schema": self.schemas[name]} if name else {"items": [{"name": n} for n in self.schemas]}
        )

    async def _change(self, request: web.Request) -> web.Response:
        asked, entry = await request.json(), self.entry(request.match_info["secret_id"])
        entry.update(name=asked["name"], labels=asked["labels"])
        if "values" in asked:
            self.values[entry["id"]] = asked["values"]
            entry["version"] = entry.get("version", 1) + 1
        return web.json_response({"secret": entry})

    def _values(self, request: web.Request) -> web.Response:
        secret_id = request.match_info["secret_id"]
        if secret_id not in self.values:
            return web.json_response({"detail": "not found"}, status=404)
        values = self.values[secret_id]
        return web.json_response(values if self.bare else {"values": values, "audit_id": 7})

    async def _create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        secret_id = f"made-{len(self.entries)}"
        self.add(secret_id, asked["provider"], asked["values"], labels=asked["labels"])
        return web.json_response({"id": secret_id, "name": asked["name"], "provider": asked["provider"]}, status=201)


@asynccontextmanager
async def serving(port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[A8nServer]:
    a8n = A8nServer()
    app = web.Application()
    app.router.add_route("*", "/api/v1/secrets", a8n.handle)
    app.router.add_route("*", "/api/v1/secrets/{secret_id}", a8n.handle)
    app.router.add_get("/api/v1/secrets/{secret_id}/values", a8n.handle)
    app.router.add_get("/api/v1/providers", a8n.provider)
    app.router.add_get("/api/v1/providers/{name}/schema", a8n.provider)
    server = TestServer(app, host="127.0.0.1", port=port, scheme="https" if tls else "http")
    await server.start_server(ssl=tls)
    async with server:
        a8n.url = str(server.make_url("/"))
        try:
            yield a8n
        finally:
            a8n.ending.set()
