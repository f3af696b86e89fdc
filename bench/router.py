"""What a call through the Router costs, side by side with other ways to the same provider, in one run.

The provider answers at once, on loopback. Every way is measured in a
process of its own: the libraries in that which calls, the gateways (LiteLLM's proxy and ours) in the server. The proxy
is installed once, into an environment of its own under .cache; where that cannot be done it is left out.
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
import orjson
import uvloop
from dynamicagents.registry.v1 import router_config_pb2, router_config_service_pb2, router_config_service_pb2_grpc
from dynamicagents.router.v1 import chat_pb2, health_pb2, router_service_pb2, router_service_pb2_grpc
from grpc_health.v1 import health_pb2 as grpc_health
from grpc_health.v1 import health_pb2_grpc

from bench import provider
from bench.registry import registry
from bench.report import Report
from libs import database
from services.registry.app import MIGRATIONS
from services.registry.config import RegistrySettings

KEY: Final = "sk-bench-0123456789"
OURS, RAW, LIBRARY, PROXY_NAME = "dynamic-agents", "raw aiohttp", "litellm.Router", "LiteLLM proxy"
PROXY: Final = "litellm[proxy]==1.106.2"
_ROOT: Final = Path(__file__).parent.parent
_VENV: Final = _ROOT / ".cache" / "litellm-proxy" / "venv"
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_WARM_UP: Final = 0.5
WATCHERS: Final = 1000
_SERVICE: Final = "/dynamicagents.router.v1.RouterService"
MODEL: Final = "gpt-4o"


@dataclass(frozen=True)
class Load:
    """`chunks` 0 is a whole answer."""

    chunks: int
    concurrency: int

    def __str__(self) -> str:
        what = f"stream of {self.chunks}" if self.chunks else "unary"
        return f"{what}, {self.concurrency} in flight"


LOADS: Final = [Load(0, 1), Load(0, 32), Load(0, 128), Load(50, 1), Load(50, 32), Load(500, 1), Load(500, 32)]


@dataclass
class Measured:
    calls: int
    seconds: float
    p50: float
    p99: float
    cpu: float
    """Seconds of the process that is measured."""
    resident: int
    """Bytes."""

    @property
    def per_call(self) -> float:
        return self.cpu / self.calls


# The worker: one way of calling, in a process of its own.

Call = Callable[[int], Awaitable[None]]


@asynccontextmanager
async def _raw(url: str, key: str = KEY) -> AsyncIterator[Call]:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def call(chunks: int) -> None:
            body = orjson.dumps(_body(chunks))
            async with session.post(f"{url}/chat/completions", data=body, headers=headers) as response:
                assert response.status == 200, await response.text()
                if not chunks:
                    orjson.loads(await response.read())
                    return
                seen = 0
                async for line in response.content:
                    if line.startswith(b"data: {"):
                        orjson.loads(line[6:])
                        seen += 1
                assert seen >= chunks

        yield call


@asynccontextmanager
async def _openai(url: str) -> AsyncIterator[Call]:
    import openai

    async with openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
        yield lambda chunks: _asked(client.chat.completions.create, chunks)


@asynccontextmanager
async def _litellm(url: str) -> AsyncIterator[Call]:
    os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"}
    import litellm

    router = litellm.Router(model_list=[_deployment(url)], num_retries=0, timeout=60)
    yield lambda chunks: _asked(router.acompletion, chunks)


async def _asked(create: Any, chunks: int) -> None:
    answer = await create(**_body(chunks))
    if chunks:
        seen = sum([1 async for _ in answer])
        assert seen >= chunks


@asynccontextmanager
async def _grpc(address: str) -> AsyncIterator[Call]:
    """Bytes in and bytes out: the load costs as little as it can."""
    async with grpc.aio.insecure_channel(address) as channel:
        whole: Any = channel.unary_unary(f"{_SERVICE}/Chat")
        streamed: Any = channel.unary_stream(f"{_SERVICE}/ChatStream")
        requests = {n: _request(n).SerializeToString() for n in _SIZES}

        async def call(chunks: int) -> None:
            if not chunks:
                await whole(requests[0])
                return
            async for _ in streamed(requests[chunks]):
                pass

        yield call


_SIZES: Final = sorted({load.chunks for load in LOADS})
_WAYS: Final[dict[str, Any]] = {"raw": _raw, "openai": _openai, "litellm": _litellm, "grpc": _grpc}


def _body(chunks: int) -> dict[str, Any]:
    body: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": _text(chunks)}]}
    return body | ({"stream": True, "stream_options": {"include_usage": True}} if chunks else {})


def _request(chunks: int) -> router_service_pb2.ChatRequest:
    said = chat_pb2.ChatMessage(role=chat_pb2.ROLE_USER, content=_text(chunks))
    return router_service_pb2.ChatRequest(model=MODEL, messages=[said])


def _text(chunks: int) -> str:
    return f"What is the answer to everything? chunks-{chunks}"


def _deployment(url: str) -> dict[str, Any]:
    """As LiteLLM wants it."""
    return {
        "model_name": MODEL,
        "litellm_params": {"model": f"openai/{MODEL}", "api_base": url, "api_key": KEY},
    }


async def _work(way: str, address: str) -> None:
    """Takes loads from standard input, one in a line, and writes what it measured."""
    loop = asyncio.get_running_loop()
    async with _WAYS[way](address) as call:
        await call(0)
        print("ready", flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            chunks, concurrency, seconds = orjson.loads(line)
            took: list[float] = []
            began, cpu = time.perf_counter(), time.process_time()
            end = began + seconds

            async def caller(chunks: int, end: float, took: list[float]) -> None:
                while (at := time.perf_counter()) < end:
                    await call(chunks)
                    took.append(time.perf_counter() - at)

            await asyncio.gather(*(caller(chunks, end, took) for _ in range(concurrency)))
            spent = [time.perf_counter() - began, time.process_time() - cpu]
            print(orjson.dumps({"took": took, "seconds": spent[0], "cpu": spent[1]}).decode(), flush=True)


# The run.


class Way:
    """A worker, and the process that is measured: the worker itself where it calls in process."""

    def __init__(self, name: str, child: asyncio.subprocess.Process, server: int | None) -> None:
        self.name, self._child, self._server = name, child, server

    async def ready(self) -> None:
        assert self._child.stdout
        async with asyncio.timeout(120):
            line = await self._child.stdout.readline()
        assert line == b"ready\n", (self.name, line)

    async def measure(self, load: Load, seconds: float) -> Measured:
        await self._run(load, _WARM_UP)
        before = _cpu(self._server) if self._server else 0.0
        found = await self._run(load, seconds)
        cpu = _cpu(self._server) - before if self._server else found["cpu"]
        took = sorted(found["took"])
        p99 = took[min(len(took) - 1, int(len(took) * 0.99))]
        resident = _resident(self._server or self._child.pid)
        return Measured(len(took), found["seconds"], statistics.median(took), p99, cpu, resident)

    async def _run(self, load: Load, seconds: float) -> dict[str, Any]:
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.write(orjson.dumps([load.chunks, load.concurrency, seconds]) + b"\n")
        async with asyncio.timeout(seconds + 120):
            line = await self._child.stdout.readline()
        assert line, f"{self.name} died"
        found: dict[str, Any] = orjson.loads(line)
        return found


@asynccontextmanager
async def _way(name: str, way: str, address: str, server: int | None = None) -> AsyncIterator[Way]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.router", "--worker", way, address),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=64 * 1024 * 1024,
    )
    try:
        made = Way(name, child, server)
        await made.ready()
        yield made
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


@asynccontextmanager
async def _ours(url: str, folder: Path) -> AsyncIterator[tuple[str, int]]:
    settings = RegistrySettings.load(data_dir=folder / "data")
    await database.migrate(settings, MIGRATIONS)
    async with registry(settings, folder / "registry.log") as configurations:
        async with grpc.aio.insecure_channel(configurations) as channel:
            configs = router_config_service_pb2_grpc.RouterConfigServiceStub(channel)
            deployment = router_config_pb2.Deployment(
                deployment_id="bench", model_group=MODEL, model=f"openai/{MODEL}", api_base=url
            )
            await configs.AddDeployment(router_config_service_pb2.AddDeploymentRequest(deployment=deployment))
        port = _free_port()
        env = {
            **os.environ,
            "DYNAMIC_AGENTS_ROUTER_PORT": str(port),
            "DYNAMIC_AGENTS_REGISTRY_ADDRESS": configurations,
            "DYNAMIC_AGENTS_DATA_DIR": str(folder / "data"),
        }
        command = (sys.executable, "-m", "services.router")
        async with _process(command, env, folder / "router.log") as pid:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                await _serving(health_pb2_grpc.HealthStub(channel))
            yield f"127.0.0.1:{port}", pid


async def _serving(health: Any) -> None:
    async with asyncio.timeout(120):
        while True:
            try:
                answer = await health.Check(grpc_health.HealthCheckRequest())
                if answer.status == grpc_health.HealthCheckResponse.SERVING:
                    return
            except grpc.aio.AioRpcError:
                pass
            await asyncio.sleep(0.1)


@asynccontextmanager
async def _proxy(url: str, folder: Path) -> AsyncIterator[tuple[str, int]]:
    await _install_proxy()
    config = folder / "proxy.yaml"
    config.write_bytes(orjson.dumps({"model_list": [_deployment(url)], "general_settings": {"master_key": KEY}}))
    port = _free_port()
    env = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    options = ("--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1")
    async with _process((str(_VENV / "bin" / "litellm"), *options), env, folder / "proxy.log") as pid:
        async with aiohttp.ClientSession() as session, asyncio.timeout(240):
            while not await _lives(session, f"http://127.0.0.1:{port}/health/liveliness"):  # noqa: ASYNC110
                await asyncio.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1", pid


async def _lives(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def _install_proxy() -> None:
    if (_VENV / "bin" / "litellm").exists():
        return
    print("installing LiteLLM's proxy into .cache (once)")
    script = f'uv=$(tools/uv.sh) && "$uv" venv -q "{_VENV}" && "$uv" pip install -q --compile-bytecode --python'
    script += f' "{_VENV}/bin/python" "{PROXY}"'
    child = await asyncio.create_subprocess_exec("bash", "-c", script, cwd=_ROOT)
    if await child.wait() != 0:
        raise RuntimeError("LiteLLM's proxy cannot be installed")


@asynccontextmanager
async def _process(command: Sequence[str], env: dict[str, str], log: Path) -> AsyncIterator[int]:
    with log.open("wb") as output:
        child = await asyncio.create_subprocess_exec(*command, env=env, stdout=output, stderr=output)
    try:
        yield child.pid
    finally:
        if child.returncode is None:
            child.terminate()
        await child.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _cpu(pid: int) -> float:
    """Seconds of a process and of those that it has started."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / _TICKS
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(_cpu(int(child)) for child in children)


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(_resident(int(child)) for child in children)


async def run(report: Report, *, quick: bool) -> None:
    seconds, rounds = (2.0, 3) if quick else (10.0, 5)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = await stack.enter_async_context(provider.started())
        ways = [await stack.enter_async_context(_way(RAW, "raw", url))]
        ways.append(await stack.enter_async_context(_way("AsyncOpenAI", "openai", url)))
        ways.append(await stack.enter_async_context(_way(LIBRARY, "litellm", url)))
        try:
            address, pid = await stack.enter_async_context(_proxy(url, folder))
            ways.append(await stack.enter_async_context(_way(PROXY_NAME, "raw", address, pid)))
        except (RuntimeError, TimeoutError) as error:
            print(f"LiteLLM proxy: left out, {error or 'it does not start'}")
        address, pid = await stack.enter_async_context(_ours(url, folder))
        ways.append(await stack.enter_async_context(_way(OURS, "grpc", address, pid)))
        print(f"{rounds} rounds of {seconds:g} s each; medians. CPU and memory are of the process that is measured.")
        tables = {load: await _table(ways, load, seconds, rounds) for load in LOADS}
        await _watchers(address, pid, ways[-1], seconds)
    for load, table in tables.items():
        _note(report, load, table)


async def _table(ways: Sequence[Way], load: Load, seconds: float, rounds: int) -> dict[str, list[Measured]]:
    """The rounds of what is compared alternate, so that what else the machine does troubles all alike."""
    found: dict[str, list[Measured]] = {way.name: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            found[way.name].append(await way.measure(load, seconds))
    table = {name: sorted(all_, key=lambda m: m.per_call)[len(all_) // 2] for name, all_ in found.items()}
    unit, cost = ("chunks/s", "us CPU/chunk") if load.chunks else ("calls/s", "ms CPU/call")
    print(f"\n{load!s:<26}{unit:>10}{unit + '/core':>15}{'p50 ms':>9}{'p99 ms':>9}{cost:>14}{'MiB':>7}")
    for name, m in table.items():
        many = load.chunks or 1
        each = m.per_call / many * (1e6 if load.chunks else 1e3)
        print(
            f"{name:<26}{m.calls * many / m.seconds:>10.0f}{many / m.per_call:>15.0f}{m.p50 * 1e3:>9.1f}"
            f"{m.p99 * 1e3:>9.1f}{each:>14.2f}{m.resident / 2**20:>7.0f}"
        )
    return found


async def _watchers(address: str, server: int, way: Way, seconds: float) -> None:
    """What open Health streams cost the server, with nothing to tell and under load."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    alone, resident, told = await way.measure(Load(0, 32), seconds), _resident(server), 0

    async def listen(call: Any) -> None:
        nonlocal told
        async for _ in call:
            told += 1

    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(address, options=options)) for _ in range(4)
        ]
        calls = [router_service_pb2_grpc.RouterServiceStub(channels[n % 4]).Health() for n in range(WATCHERS)]
        for call in calls:
            await call.write(health_pb2.HealthRequest(watch=health_pb2.HealthWatch()))
        listening = [asyncio.create_task(listen(call)) for call in calls]
        while told < WATCHERS:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        before = _cpu(server)
        await asyncio.sleep(seconds)
        idle, watched = (_cpu(server) - before) / seconds, _resident(server)
        told = 0
        loaded = await way.measure(Load(0, 32), seconds)
        for task in listening:
            task.cancel()
    print(f"\n{WATCHERS} watchers of health: {(watched - resident) / WATCHERS / 1024:.0f} KiB each, ", end="")
    print(f"{idle:.1%} of a core at rest; under load {told / (seconds + _WARM_UP):.0f} messages/s, ", end="")
    print(f"{loaded.per_call * 1e3:.2f} ms CPU a call ({alone.per_call * 1e3:.2f} without them)")


def _note(report: Report, load: Load, found: dict[str, list[Measured]]) -> None:
    ours = found[OURS]

    def tell(name: str, unit: str, theirs: str, figure: Callable[[Measured], float], **aim: float) -> None:
        one, other = ([figure(each) for each in rounds] for rounds in (ours, found[theirs]))
        report.note("router", f"{load}: {name}", unit, one, against=theirs, baseline=other, **aim)

    per_core = "chunks/s per core" if load.chunks else "calls/s per core"
    for theirs, least in ((PROXY_NAME, 15), (LIBRARY, 5)):
        if theirs in found:
            tell(per_core, "", theirs, lambda one: (load.chunks or 1) / one.per_call, least=least)
    if not load.chunks:
        extra = [(one.per_call - raw.per_call) * 1e3 for one, raw in zip(ours, found[RAW], strict=True)]
        report.note("router", f"{load}: CPU a call over {RAW}", "ms", extra, most=1.2)
    if load == Load(0, 32):
        tell("p99", "ms", RAW, lambda one: one.p99 * 1e3, most=3)


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    uvloop.run(_work(*sys.argv[2:4]))
