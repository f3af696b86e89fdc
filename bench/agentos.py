"""AgentOS, installed once into an environment of its own under .cache, and its streams."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from bench import environments
from bench.streams import INPUT, Target, free_port, process

_ROOT: Final = Path(__file__).parent.parent


class AgentOS(Target):
    """`fields` go with each run."""

    def __init__(self, name: str, server: Server, agent: str = "helper", **fields: str) -> None:
        super().__init__(name, [server.pid], agent)
        self._server, self._fields = server, fields

    async def events(self, agent: str) -> AsyncGenerator[str, None]:
        async for event in self._server.events(f"/agents/{agent}/runs", message=INPUT, stream="true", **self._fields):
            yield event["content"] if event["event"] == "RunContent" else ""

    async def resume(self) -> float:
        """Only a background run can be resumed."""
        run_id, session_id, last = "", str(uuid.uuid4()), 0
        fields = {"message": INPUT, "stream": "true", "background": "true", "session_id": session_id}
        async for event in self._server.events("/agents/helper/runs", **fields):
            run_id, last = event.get("run_id", run_id), event.get("event_index", last)
        started, seen = time.perf_counter(), 0
        path = f"/agents/helper/runs/{run_id}/resume"
        async for _ in self._server.events(path, last_event_index=str(last // 2), session_id=session_id):
            seen += 1
        assert seen >= last // 2, (seen, last)
        return time.perf_counter() - started


class Server:
    def __init__(self, pid: int, url: str, session: aiohttp.ClientSession) -> None:
        self.pid, self._url, self._session = pid, url, session

    async def events(self, path: str, **fields: str) -> AsyncIterator[dict[str, Any]]:
        async with self._session.post(self._url + path, data=fields) as response:
            assert response.status == 200, await response.text()
            rest = b""
            async for data in response.content.iter_any():
                *whole, rest = (rest + data).split(b"\n\n")
                for event in whole:
                    if (at := event.find(b"data: ")) >= 0:
                        yield orjson.loads(event[at + 6 :])

    async def lives(self) -> bool:
        try:
            async with self._session.get(f"{self._url}/health") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False


@asynccontextmanager
async def served(database: str, upstream: str) -> AsyncIterator[Server]:
    port = free_port()
    argv = (str(await environments.agentos()), "-m", "bench.agentos_server", str(port), "1")
    env = {
        "AGNO_TELEMETRY": "false",
        "AGNO_BACKGROUND_MAX_CONCURRENCY": "1000",
        "PYTHONPATH": str(_ROOT),
        "BENCH_DATABASE": database,
        "BENCH_UPSTREAM": upstream,
    }
    async with AsyncExitStack() as stack:
        pid = await stack.enter_async_context(process(*argv, **env))
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        server = Server(pid, f"http://127.0.0.1:{port}", session)
        async with asyncio.timeout(120):
            while not await server.lives():  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        yield server
