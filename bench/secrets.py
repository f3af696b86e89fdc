"""What a cached key costs: ResolveReferences next to a bare grpc.aio echo, and how often A8N Identity is asked.

The service runs on A8N (a server of the tests) and on the vault, and the echo, each in a process of its own. The echo
(bench/echo.py) has the same method and answers with the same message. The rounds alternate, so that what else the
machine does troubles all alike.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
from dynamicagents.secrets.v1 import secret_pb2, secrets_service_pb2, secrets_service_pb2_grpc

from bench import echo
from bench.report import Report
from tests import a8n

CALLS: Final = 10_000
ROUNDS: Final = 10
CONCURRENCY: Final = 32
KEY: Final = "sk-" + "k" * 48
ECHO: Final = "bare grpc.aio echo"
REFERENCE: Final = "secret:openai:api_key"
METHOD: Final = "dynamicagents.secrets.v1.SecretsService/ResolveReferences"
MODULE: Final = "dynamicagents.secrets.v1.secrets_service_pb2"


@asynccontextmanager
async def process(*arguments: str, **env: str) -> AsyncIterator[grpc.aio.Channel]:
    """Its log goes to a file, as it does under `dynamic-agents up`."""
    with tempfile.TemporaryFile() as log:
        child = await asyncio.create_subprocess_exec(sys.executable, "-m", *arguments, env=env, stderr=log)
        try:
            async with asyncio.timeout(30):
                while not (found := re.search(rb"127\.0\.0\.1:\d+", os.pread(log.fileno(), 4096, 0))):
                    assert child.returncode is None, "it did not start"
                    await asyncio.sleep(0.05)
            async with grpc.aio.insecure_channel(found[0].decode()) as channel:
                yield channel
        finally:
            child.terminate()
            await child.wait()


async def rate(call: Callable[[], Awaitable[Any]], calls: int) -> float:
    left = iter(range(calls))

    async def caller() -> None:
        for _ in left:
            await call()

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CONCURRENCY)))
    return calls / (time.perf_counter() - began)


async def run(report: Report, *, quick: bool) -> None:
    rounds = 4 if quick else ROUNDS
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        identity = await stack.enter_async_context(a8n.serving())
        identity.add("one", "openai", {"api_key": KEY})
        common = {"DYNAMIC_AGENTS_SECRETS_PORT": "0", "DYNAMIC_AGENTS_LOG_LEVEL": "info"}
        proxy = await stack.enter_async_context(
            process(
                "services.secrets",
                **common,
                DYNAMIC_AGENTS_DATA_DIR=f"{folder}/proxy",
                DYNAMIC_AGENTS_A8N_URL=identity.url,
                DYNAMIC_AGENTS_A8N_TOKEN=a8n.TOKEN,
            )
        )
        vault = await stack.enter_async_context(
            process("services.secrets", **common, DYNAMIC_AGENTS_DATA_DIR=f"{folder}/vault")
        )
        request = secrets_service_pb2.ResolveReferencesRequest(references=[REFERENCE])
        stubs = [secrets_service_pb2_grpc.SecretsServiceStub(channel) for channel in (proxy, vault)]
        kept = secret_pb2.Secret(provider="openai")
        await stubs[1].CreateSecret(secrets_service_pb2.CreateSecretRequest(secret=kept, values={"api_key": KEY}))
        answer = await stubs[0].ResolveReferences(request)
        assert answer.results[0].value == KEY
        echo.replies(Path(folder, "echo"), MODULE, {METHOD: answer})
        address = await stack.enter_async_context(echo.started(Path(folder, "echo")))
        bare = await stack.enter_async_context(grpc.aio.insecure_channel(address))
        echoing = secrets_service_pb2_grpc.SecretsServiceStub(bare)
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            ECHO: lambda: echoing.ResolveReferences(request),
            "cached, A8N Identity": lambda: stubs[0].ResolveReferences(request),
            "cached, vault": lambda: stubs[1].ResolveReferences(request),
        }
        rates: dict[str, list[float]] = {name: [] for name in calls}
        for call in calls.values():
            await rate(call, 500)
        identity.calls.clear()
        for _ in range(rounds):
            for name, call in calls.items():
                rates[name].append(await rate(call, CALLS // rounds))
        upstream = len(identity.calls)

    echoes = rates.pop(ECHO)
    for name, found in rates.items():
        report.note("secrets", f"ResolveReferences, {name}", "calls/s", found, against=ECHO, baseline=echoes, least=0.5)
    report.note("secrets", f"calls to A8N Identity per {CALLS} resolutions from the cache", "", upstream, most=0)
