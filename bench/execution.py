"""What a stream of an execution costs, with its events kept and without, side by side with AgentOS, in one run.

It is measured on SQLite, and on PostgreSQL where DYNAMIC_AGENTS_TEST_POSTGRES names one.
Execution, Registry, Router, AgentOS, the provider and the load are processes of
their own. In the rows "provider" both ask the same one over OpenAI's API, and our Router counts with Execution; in the
others the model is a stub: of the Router for us, each piece a message of its own, and in process for AgentOS. It sends
all at once, or "paced" a piece each 20 ms, so that nothing can be coalesced; "background" is what AgentOS can resume.
A chunk is a piece of text as the provider sends it; "events" are those of a stream that brought text; the CPU is that
of what is measured, not of the load. The rounds of what is compared alternate.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import sqlalchemy as sa
import uvloop
from dynamicagents.execution.v1 import execution_service_pb2, execution_service_pb2_grpc
from dynamicagents.registry.v1 import (
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    router_config_pb2,
    router_config_service_pb2,
    router_config_service_pb2_grpc,
)
from dynamicagents.router.v1 import chat_pb2, router_service_pb2, router_service_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy.ext.asyncio import create_async_engine

from bench import agentos, comparison, provider
from bench.report import Report
from bench.serving import serve
from bench.streams import CHUNKS, IDLE, INPUT, PACE, PIECES, Target, free_port, process
from libs import database

POSTGRES: Final = "DYNAMIC_AGENTS_TEST_POSTGRES"
STREAMS: Final = (1, 16, 100)
OURS, OFF, OURS_PG = "SQLite", "nothing kept", "PostgreSQL"
OURS_ALL, OFF_ALL = "SQLite, provider", "nothing kept, provider"
THEIRS, THEIRS_OFF = "AgentOS, SQLite", "AgentOS, no database"
THEIRS_RESUMABLE, THEIRS_ALL = "AgentOS, SQLite, background", "AgentOS, SQLite, provider"
OURS_PACED, OFF_PACED, THEIRS_PACED = f"{OURS}, paced", f"{OFF}, paced", f"{THEIRS}, paced"
FASTER: Final = ((OURS_ALL, THEIRS_ALL), (OURS, THEIRS), (OURS, THEIRS_RESUMABLE), (OURS_PACED, THEIRS_PACED))
KEPT: Final = ((OURS_ALL, OFF_ALL), (OURS, OFF), (OURS_PACED, OFF_PACED))


class Router(router_service_pb2_grpc.RouterServiceServicer):
    """200 pieces at once, for the model "paced" at a reader's pace, for "idle" silence."""

    async def ChatStream(  # noqa: N802
        self, request: router_service_pb2.ChatStreamRequest, context: Any
    ) -> AsyncIterator[router_service_pb2.ChatStreamResponse]:
        if request.model == "idle":
            await asyncio.sleep(3600)
        for piece in PIECES:
            if request.model == "paced":
                await asyncio.sleep(PACE)
            yield router_service_pb2.ChatStreamResponse(chunk=chat_pb2.ChatChunk(text=piece))
        last = chat_pb2.ChatChunk(finish_reason=chat_pb2.FINISH_REASON_STOP, usage=chat_pb2.Usage(output_tokens=CHUNKS))
        yield router_service_pb2.ChatStreamResponse(chunk=last)


async def serve_router(port: int) -> None:
    await serve(router_service_pb2_grpc.add_RouterServiceServicer_to_server, Router(), port)  # type: ignore[abstract]


def serve_execution(*, keeping: bool) -> int:
    from libs.process import main
    from services.execution.app import app
    from services.execution.config import ExecutionSettings
    from services.execution.store import SqlExecutionStore as Store

    if not keeping:
        for name, answer in _FORGETTING.items():
            setattr(Store, name, _answering(answer))
    return main(ExecutionSettings, app)


_FORGETTING: Final[Mapping[str, Callable[..., Any]]] = {
    "accept": lambda *_: True,
    "append": lambda *_: set(),
    "renew": lambda _, owner, execution_ids, lease: dict.fromkeys(execution_ids),
    "claim": lambda *_, **__: [],
    "touch": lambda *_: None,
}


def _answering(answer: Callable[..., Any]) -> Any:
    async def method(*arguments: Any, **named: Any) -> Any:
        return answer(*arguments, **named)

    return method


class Ours(Target):
    def __init__(self, name: str, pids: Sequence[int], channel: grpc.aio.Channel, agent: str = "helper") -> None:
        super().__init__(name, pids, agent)
        self._channel = channel
        self._stub: Any = execution_service_pb2_grpc.ExecutionServiceStub(channel)

    async def events(self, agent: str) -> AsyncGenerator[str, None]:
        call = self._stub.ExecuteStream(_request(agent))
        try:
            async for event in call:
                yield event.content_delta.text
        finally:
            call.cancel()

    def paced(self, name: str) -> Ours:
        return Ours(name, self._pids, self._channel, "paced")

    async def resume(self) -> float:
        ended = (await self._stub.Execute(_request("helper"), timeout=60)).execution
        asked = execution_service_pb2.WatchExecutionRequest(
            execution_id=ended.execution_id, after_sequence=ended.last_sequence // 2
        )
        started = time.perf_counter()
        async for _ in self._stub.WatchExecution(asked, timeout=60):
            pass
        return time.perf_counter() - started


def _request(agent_id: str) -> execution_service_pb2.ExecuteRequest:
    cancelled = execution_service_pb2.ON_DISCONNECT_CANCEL
    return execution_service_pb2.ExecuteRequest(agent_id=agent_id, input=INPUT, on_disconnect=cancelled)


@asynccontextmanager
async def service(*module: str, port: int, **env: str) -> AsyncIterator[int]:
    """A process that serves health on the port; its pid."""
    async with process(sys.executable, "-m", *module, DYNAMIC_AGENTS_LOG_LEVEL="error", **env) as pid:
        async with asyncio.timeout(60), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            while (await health.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True)).status != 1:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        yield pid


@asynccontextmanager
async def postgres() -> AsyncIterator[str]:
    admin = create_async_engine(os.environ[POSTGRES], isolation_level="AUTOCOMMIT")
    name = f"bench_{uuid.uuid4().hex}"
    async with admin.connect() as connection:
        await connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
    try:
        yield admin.url.set(database=name).render_as_string(hide_password=False)
    finally:
        async with admin.connect() as connection:
            await connection.execute(sa.text(f'DROP DATABASE "{name}" WITH (FORCE)'))
        await admin.dispose()


@asynccontextmanager
async def execution(
    name: str, router: int, env: Mapping[str, str], *, url: str = "", besides: Sequence[int] = ()
) -> AsyncIterator[Ours]:
    from services.execution.app import MIGRATIONS
    from services.execution.config import ExecutionSettings

    port = free_port()
    own = {
        "DYNAMIC_AGENTS_EXECUTION_PORT": str(port),
        "DYNAMIC_AGENTS_EXECUTION_MAX_EXECUTIONS": "1000",
        "DYNAMIC_AGENTS_ROUTER_ADDRESS": f"127.0.0.1:{router}",
        "DYNAMIC_AGENTS_DATA_DIR": f"{env['DYNAMIC_AGENTS_DATA_DIR']}/{port}",
    }
    if url:
        own["DYNAMIC_AGENTS_EXECUTION_DATABASE_URL"] = url
        await database.migrate(ExecutionSettings.load(database_url=url), MIGRATIONS)
    mode = "--forgetting" if name in (OFF, OFF_ALL) else "--keeping"
    serving = service("bench.execution", mode, port=port, **{**env, **own})
    async with serving as pid, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Ours(name, [pid, *besides], channel)


async def configure(address: str, upstream: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        agents: Any = agent_service_pb2_grpc.AgentServiceStub(channel)
        for agent_id, model in (("helper", "any"), ("paced", "paced"), ("idle", "idle")):
            agent = agent_pb2.Agent(agent_id=agent_id, spec=agent_pb2.AgentSpec(model={"model": model}))
            await agents.CreateAgent(agent_service_pb2.CreateAgentRequest(agent=agent))
        configs: Any = router_config_service_pb2_grpc.RouterConfigServiceStub(channel)
        deployment = router_config_pb2.Deployment(
            deployment_id="bench", model_group="any", model="openai/gpt-4o", api_base=upstream
        )
        await configs.AddDeployment(router_config_service_pb2.AddDeploymentRequest(deployment=deployment))


async def our_targets(stack: AsyncExitStack, folder: Path, upstream: str) -> list[Target]:
    enter = stack.enter_async_context
    registry, stub, router = free_port(), free_port(), free_port()
    env = {
        "DYNAMIC_AGENTS_DATA_DIR": str(folder),
        "DYNAMIC_AGENTS_REGISTRY_PORT": str(registry),
        "DYNAMIC_AGENTS_ROUTER_PORT": str(router),
        "DYNAMIC_AGENTS_REGISTRY_ADDRESS": f"127.0.0.1:{registry}",
    }
    await enter(service("services.registry", port=registry, **env))
    await configure(f"127.0.0.1:{registry}", upstream)
    await enter(service("bench.execution", "--router", str(stub), port=stub))
    routing = await enter(service("services.router", port=router, **env))
    targets = [await enter(execution(name, stub, env)) for name in (OURS, OFF)]
    targets += [one.paced(f"{one.name}, paced") for one in targets]
    targets += [await enter(execution(name, router, env, besides=[routing])) for name in (OURS_ALL, OFF_ALL)]
    if POSTGRES in os.environ:
        targets.append(await enter(execution(OURS_PG, stub, env, url=await enter(postgres()))))
    return list(targets)


async def their_targets(stack: AsyncExitStack, folder: Path, upstream: str) -> list[Target]:
    kept = await stack.enter_async_context(agentos.served(str(folder / "agentos.db"), upstream))
    plain = await stack.enter_async_context(agentos.served("", upstream))
    return [
        agentos.AgentOS(THEIRS, kept),
        agentos.AgentOS(THEIRS_OFF, plain),
        agentos.AgentOS(THEIRS_RESUMABLE, kept, background="true"),
        agentos.AgentOS(THEIRS_PACED, kept, "paced"),
        agentos.AgentOS(THEIRS_ALL, kept, "upstream"),
    ]


async def run(report: Report, *, quick: bool) -> None:
    rounds = 2 if quick else 5
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream = await stack.enter_async_context(provider.started())
        targets = await our_targets(stack, folder, upstream)
        try:
            targets += await their_targets(stack, folder, upstream)
        except (RuntimeError, TimeoutError) as error:
            print(f"AgentOS: left out, {error or 'it does not start'}")
        for one in targets:
            await one.round(16)
        idle = {one.name: await one.idle() for one in targets if one.name in (OURS, OURS_PG, THEIRS)}
        for streams in STREAMS:
            await alternate(targets, streams, rounds)
        resumed = {one.name: [await one.resume() for _ in range(9)] for one in targets if one.name in idle}
    print(f"{CHUNKS} chunks a stream, {rounds} rounds: median (least-most)")
    comparison.table(targets, STREAMS)
    theirs = idle.get(THEIRS)
    for name, used in idle.items():
        if name == THEIRS:
            continue
        beside = {"against": THEIRS, "baseline": [theirs / 1024]} if theirs else {}
        report.note("execution", f"{name}: an idle stream, {IDLE} open", "KiB", used / 1024, **beside)
        beside = (
            {"against": f"{THEIRS}, background", "baseline": [one * 1e3 for one in resumed[THEIRS]]} if theirs else {}
        )
        report.note("execution", f"{name}: resumes", "ms", [one * 1e3 for one in resumed[name]], **beside)
    comparison.note(report, {one.name: one for one in targets}, STREAMS, FASTER, KEPT)


async def alternate(targets: Sequence[Target], streams: int, rounds: int) -> None:
    for number in range(rounds):
        for one in targets if number % 2 else reversed(targets):
            one.rounds[streams].append(await one.round(streams))


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    match sys.argv[1:]:
        case ["--router", port]:
            uvloop.run(serve_router(int(port)))
        case ["--keeping"]:
            sys.exit(serve_execution(keeping=True))
        case ["--forgetting"]:
            sys.exit(serve_execution(keeping=False))
