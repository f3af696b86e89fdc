"""`dynamic-agents up`: the four services on this machine, with embedded defaults."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import grpc
import typer
from dynamicagents.execution.v1 import execution_service_pb2
from dynamicagents.registry.v1 import (
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    router_config_pb2,
    router_config_service_pb2,
    router_config_service_pb2_grpc,
)
from google.protobuf.field_mask_pb2 import FieldMask
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cli import run
from cli.agents import read_agent
from cli.connection import OFFSETS, PORT_BASE, PortBase
from cli.operations import settings_of
from cli.output import Failure, Json, console, print_json
from libs.config import PREFIX, SERVICES, StartError
from libs.supervisor import Child, Supervisor

DATA_DIR: Final = Path(".dynamic-agents")
_ORDER: Final = ("registry", "secrets", "router", "execution")
_SLOW: Final = {"router": "LiteLLM is being imported", "execution": "Agno is being imported"}
_REMIND: Final = 3.0
_START_TIMEOUT: Final = 120.0
_DEMO_MODEL: Final = "openai/gpt-4o-mini"

Say = Callable[..., None]


def up(
    port_base: PortBase = PORT_BASE,
    data_dir: Annotated[Path, typer.Option(help="Folder of databases, keys and logs.")] = DATA_DIR,
    metrics_base: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65000,
            help="Port of Registry's metrics; Router's, Secrets' and Execution's follow, one a worker.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Starts all four services on loopback; Ctrl-C stops them."""
    asyncio.run(_up(port_base, data_dir, _speaker(as_json), metrics_base))


async def _up(port_base: int, data_dir: Path, say: Say, metrics_base: int | None) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with started(port_base, data_dir, say, stopping, metrics_base) as supervisor:
        if stopping.is_set():
            return
        say(
            "ready",
            _where(port_base, data_dir, metrics_base) + "\nCtrl-C stops the suite.",
            addresses=_addresses(port_base),
        )
        waits: set[asyncio.Future[Any]] = {
            asyncio.ensure_future(stopping.wait()),
            asyncio.ensure_future(supervisor.failed),
        }
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if supervisor.failed.done():
            raise _refused(supervisor.failed.result(), data_dir)


@asynccontextmanager
async def started(
    port_base: int, data_dir: Path, say: Say, stopping: asyncio.Event, metrics_base: int | None = None
) -> AsyncIterator[Supervisor]:
    """The suite, SERVING; drained on the way out."""
    logs = _prepare(data_dir)
    with _locked(data_dir):
        for service in _ORDER:
            _require_free(service, port_base + OFFSETS[service])
        metrics = _metrics_ports(metrics_base)
        children = [_child(service, port_base, data_dir, logs, metrics) for service in _ORDER]
        supervisor = Supervisor(children, lambda line: say("died", line))
        await supervisor.start()
        try:
            await _until_serving(supervisor, port_base, data_dir, say, stopping)
            yield supervisor
        finally:
            say("stopping", "stopping: runs in flight may end")
            await supervisor.stop()
            say("stopped", "stopped")


def _prepare(data_dir: Path) -> Path:
    logs = data_dir / "logs"
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        logs.mkdir(exist_ok=True)
        (data_dir / ".lock").touch()
    except OSError as error:
        raise StartError(f"cannot write to data_dir {data_dir}: {error.strerror}") from None
    return logs


@contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    with (data_dir / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartError(f"data_dir {data_dir} is in use by another running suite") from None
        yield


def _require_free(service: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StartError(f"{service} cannot listen on 127.0.0.1:{port}: {error.strerror}") from None


def _metrics_ports(base: int | None) -> dict[str, range]:
    """Of each service, one for each of its workers; none without a base."""
    ports: dict[str, range] = {}
    for service in OFFSETS if base else ():
        assert base is not None
        ports[service] = range(base, base := base + settings_of(service).load().workers)
    return ports


def _child(service: str, port_base: int, data_dir: Path, logs: Path, metrics: Mapping[str, range]) -> Child:
    env = {f"{PREFIX}{name.upper()}_ADDRESS": address for name, address in _addresses(port_base).items()}
    env |= {
        f"{PREFIX}{service.upper()}_PORT": str(port_base + OFFSETS[service]),
        f"{PREFIX}DATA_DIR": str(data_dir),
        "PYTHONUNBUFFERED": "1",
    }
    if service in metrics:
        env[f"{PREFIX}{service.upper()}_METRICS_PORT"] = str(metrics[service][0])
    return Child(service, (sys.executable, "-m", f"services.{service}"), env, logs / f"{service}.log")


def _addresses(port_base: int) -> dict[str, str]:
    return {service: f"127.0.0.1:{port_base + OFFSETS[service]}" for service in SERVICES}


async def _until_serving(
    supervisor: Supervisor, port_base: int, data_dir: Path, say: Say, stopping: asyncio.Event
) -> None:
    began = time.monotonic()
    addresses = _addresses(port_base)
    waiting: dict[asyncio.Task[None], str] = {asyncio.create_task(_serving(addresses[name])): name for name in _ORDER}
    end = asyncio.create_task(_first(stopping, supervisor))
    try:
        while waiting:
            done, _ = await asyncio.wait({*waiting, end}, timeout=_REMIND, return_when=asyncio.FIRST_COMPLETED)
            if stopping.is_set():
                return
            if supervisor.failed.done():
                raise _refused(supervisor.failed.result(), data_dir)
            took = time.monotonic() - began
            for task in done & set(waiting):
                name = waiting.pop(task)
                text = f"{name:<10} SERVING at {addresses[name]} after {took:.1f} s"
                say("serving", text, service=name, seconds=took)
            if waiting and not done:
                why = "; ".join(f"{name} ({_SLOW.get(name, 'starting')})" for name in waiting.values())
                say("waiting", f"waiting for {why}", services=sorted(waiting.values()))
            if took > _START_TIMEOUT:
                raise StartError(f"not SERVING after {took:.0f} s: {', '.join(waiting.values())}; see {data_dir}/logs")
    finally:
        for task in (*waiting, end):
            task.cancel()


async def _first(stopping: asyncio.Event, supervisor: Supervisor) -> None:
    """Returns when somebody wants the suite stopped, or a service refuses to start."""
    waits: set[asyncio.Future[Any]] = {asyncio.ensure_future(stopping.wait()), asyncio.shield(supervisor.failed)}
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for future in waits:
            future.cancel()


async def _serving(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=2, wait_for_ready=True)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            await asyncio.sleep(0.1)


def _refused(service: str, data_dir: Path) -> StartError:
    """The line with which a service refused to start."""
    lines = (data_dir / "logs" / f"{service}.log").read_text(errors="replace").splitlines()
    said = [line.removeprefix("dynamic-agents: ") for line in lines if line.startswith("dynamic-agents: ")]
    return StartError(said[-1] if said else f"{service} refused to start: see {data_dir}/logs/{service}.log")


def _where(port_base: int, data_dir: Path, metrics_base: int | None = None) -> str:
    width = max(map(len, SERVICES))
    places = {**_addresses(port_base), "data": data_dir, "logs": data_dir / "logs"}
    if ports := [port for some in _metrics_ports(metrics_base).values() for port in some]:
        places["metrics"] = f"http://127.0.0.1:{ports[0]}/metrics, and so on to {ports[-1]}"
    return "\n".join(["the suite is up:", *(f"  {name:<{width}}  {place}" for name, place in places.items())])


def _speaker(as_json: bool) -> Say:
    def say(event: str, text: str, **fields: Any) -> None:
        if as_json:
            print_json({"event": event, "text": text, **fields})
        else:
            console.print(text, markup=False)

    return say


def demo(
    file: Annotated[Path, typer.Option("--file", "-f")] = Path("examples/calculator-agent.yaml"),
    data_dir: Annotated[Path, typer.Option()] = DATA_DIR / "demo",
    text: Annotated[str, typer.Option("--input")] = "What is 17 * 23?",
) -> None:
    """Starts the suite, creates an agent, runs it, and stops."""
    asyncio.run(_demo(file, data_dir, text, _speaker(False)))


async def _demo(file: Path, data_dir: Path, text: str, say: Say) -> None:
    agent = read_agent(file, as_json=False)
    port_base = _free_ports()
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stopping.set)
    async with started(port_base, data_dir, say, stopping):
        if stopping.is_set():
            raise typer.Exit(130)
        addresses = _addresses(port_base)
        async with (
            grpc.aio.insecure_channel(addresses["registry"]) as registry,
            grpc.aio.insecure_channel(addresses["execution"]) as execution,
        ):
            try:
                agent.spec.model.model = await _demo_model(registry, say)
                made = await _put(registry, agent)
                say(
                    "agent",
                    f"\nagent {made.agent_id}, revision {made.revision}, model {made.spec.model.model}\n> {text}\n",
                )
                request = execution_service_pb2.ExecuteRequest(agent_id=made.agent_id, input=text)
                last = await run.stream(execution, request, {"metadata": (), "timeout": 120}, as_json=False)
            except grpc.aio.AioRpcError as error:
                raise Failure(f"{error.code().name}: {error.details()}") from None
        say("where", "\n" + _where(port_base, data_dir))
    run.conclude(last, as_json=False)
    say("next", "\nnext: `.venv/bin/dynamic-agents up`, then the tour in README.md")


async def _demo_model(channel: grpc.aio.Channel, say: Say) -> str:
    """The offline model, or OpenAI's when there is a key for it."""
    if not os.environ.get("OPENAI_API_KEY"):
        say("model", "model: offline (the suite's own; set OPENAI_API_KEY to use OpenAI's)")
        return "offline"
    model = os.environ.get(f"{PREFIX}DEMO_MODEL", _DEMO_MODEL)
    say("model", f"model: {model}, with the key in OPENAI_API_KEY")
    deployment = router_config_pb2.Deployment(
        deployment_id="demo",
        model_group="demo",
        model=model,
        api_base=os.environ.get(f"{PREFIX}DEMO_API_BASE", ""),
        api_key_reference="os.environ/OPENAI_API_KEY",
    )
    stub: router_config_service_pb2_grpc.RouterConfigServiceAsyncStub
    stub = router_config_service_pb2_grpc.RouterConfigServiceStub(channel)
    with contextlib.suppress(grpc.aio.AioRpcError):
        await stub.RemoveDeployment(router_config_service_pb2.RemoveDeploymentRequest(deployment_id="demo"))
    await stub.AddDeployment(router_config_service_pb2.AddDeploymentRequest(deployment=deployment))
    return "demo"


async def _put(channel: grpc.aio.Channel, agent: agent_pb2.Agent) -> agent_pb2.Agent:
    stub: agent_service_pb2_grpc.AgentServiceAsyncStub = agent_service_pb2_grpc.AgentServiceStub(channel)
    try:
        return (await stub.CreateAgent(agent_service_pb2.CreateAgentRequest(agent=agent))).agent
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
            raise
    mask = FieldMask(paths=["display_name", "description", "spec"])
    return (await stub.UpdateAgent(agent_service_pb2.UpdateAgentRequest(agent=agent, update_mask=mask))).agent


def _free_ports() -> int:
    """The first of as many free ports in a row as there are services."""
    for base in range(PORT_BASE, 60000, 10):
        with contextlib.suppress(StartError):
            for service in SERVICES:
                _require_free(service, base + OFFSETS[service])
            return base
    raise StartError("no four free ports in a row")
