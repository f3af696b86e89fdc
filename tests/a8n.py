"""A real HTTP server in the role of A8N Identity, with faults on demand."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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


@dataclass
class A8nServer:
    url: str = ""
    bare: bool = False
    entries: list[dict[str, Any]] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    faults: deque[Fault] = field(default_factory=deque)
    fails: dict[str, Fault] = field(default_factory=dict)
    """Secrets whose values are always answered with a fault."""
    calls: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def add(self, secret_id: str, provider: str, values: dict[str, Any], **more: Any) -> None:
        self.entries.append({"id": secret_id, "name": secret_id, "provider": provider, **more})
        self.values[secret_id] = values

    def fail(self, *, times: int = 1, **fault: Any) -> None:
        self.faults.extend(Fault(**fault) for _ in range(times))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(f"{request.method} {request.path_qs}")
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        always = self.fails.get(request.match_info.get("secret_id", ""))
        if fault := self.faults.popleft() if self.faults else always:
            await asyncio.sleep(fault.delay)
            return web.Response(status=fault.status, text=fault.body, headers=fault.headers)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"detail": "who are you"}, status=401)
        if request.method == "POST":
            return await self._create(request)
        return self._values(request) if "secret_id" in request.match_info else self._list(request)

    def _list(self, request: web.Request) -> web.Response:
        provider = request.query.get("provider")
        found = [entry for entry in self.entries if provider in (None, entry["provider"])]
        return web.json_response(found if self.bare else {"items": found, "total": len(found)})

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
async def serving(port: int = 0) -> AsyncIterator[A8nServer]:
    a8n = A8nServer()
    app = web.Application()
    app.router.add_route("*", "/api/v1/secrets", a8n.handle)
    app.router.add_get("/api/v1/secrets/{secret_id}/values", a8n.handle)
    async with TestServer(app, host="127.0.0.1", port=port) as server:
        a8n.url = str(server.make_url("/"))
        yield a8n
