"""Tools of a Go backend: by ToolProviderService, and by nothing but reflection, of a service that knows no agents."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.provider_bench import (
    REFLECTION,
    listed,
    register,
    status,
    until_listed,
    use,
    with_token,
)
from tests.rpc.conftest import ExecutionBench, kinds
from tests.scripted_router import call, calls, text

pytestmark = pytest.mark.interop
SOURCE = Path(__file__).parent / "go_provider"
COUNT = "grpc/leads/crm.v1.LeadService/CountLeads"


@pytest.fixture(scope="session")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("go") / "provider"
    subprocess.run(["go", "build", "-o", str(binary), "."], cwd=SOURCE, check=True, timeout=600)
    return binary


@asynccontextmanager
async def running(binary: Path, *arguments: str) -> AsyncIterator[dict[str, str]]:
    """What it serves, and where."""
    child = await asyncio.create_subprocess_exec(binary, *arguments, stdout=asyncio.subprocess.PIPE)
    try:
        assert child.stdout is not None
        lines = [await asyncio.wait_for(child.stdout.readline(), 30) for _ in range(2)]
        yield dict(line.decode().split() for line in lines)
    finally:
        child.kill()
        await child.wait()


def outputs(events: list[Any]) -> dict[str, Any]:
    done = [event.tool_call_completed for event in events if event.HasField("tool_call_completed")]
    return {one.call_id: orjson.loads(one.output) for one in done}


@pytest.mark.timeout(700)
async def test_an_agent_uses_tools_of_a_go_backend(
    bench: Callable[..., Any], make_settings: Callable[..., Any], tmp_path: Path, provider: Path
) -> None:
    async with with_token(make_settings, tmp_path) as (secrets, _), running(provider, "-token", "first-token") as at_go:
        at: ExecutionBench = await bench(secrets_address=secrets)
        await register(at, at_go["tools"], token_reference="secret:crm:token")
        await register(at, at_go["leads"], "leads", protocol=REFLECTION, methods=["crm.v1.*"])
        await until_listed(at, "grpc/crm/get_leads_count")
        await until_listed(at, COUNT)
        assert sorted(await listed(at)) == ["grpc/crm/create_lead", "grpc/crm/get_leads_count", COUNT]
        source = await status(at, "READY", "leads")
        assert source.message == "left out, for they stream: crm.v1.LeadService/WatchLeads"
        assert source.protocol_version == "grpc.reflection.v1"
        assert orjson.loads((await use(at, COUNT, status="STATUS_WON")).output) == {"count": "3"}
        await at.create(tools=[{"tool_id": "grpc/crm/*"}, {"tool_id": "grpc/leads/*"}])
        at.router.turns = [
            calls(call("get_leads_count", '{"status": "NEW"}', "c1"), call("CountLeads", "{}", "c2")),
            calls(call("create_lead", '{"status": "NEW"}', "c3")),
            text("done"),
        ]
        events = await at.run()
        assert kinds(events)[-1] == "execution_completed"
        assert outputs(events) == {"c1": {"count": 7}, "c2": {"count": "10"}, "c3": {"count": 8}}
