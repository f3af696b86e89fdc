from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from dynamicagents.execution.v1 import event_pb2
from dynamicagents.registry.v1 import (
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    team_pb2,
    team_service_pb2,
    team_service_pb2_grpc,
    workflow_pb2,
    workflow_service_pb2,
    workflow_service_pb2_grpc,
)
from google.protobuf.json_format import ParseDict

from libs import database
from services.execution.app import MIGRATIONS
from services.execution.config import ExecutionSettings
from services.registry.config import RegistrySettings
from tests import harness
from tests.conftest import INTEROP
from tests.drill import (
    CREW,
    LEASE,
    DrillRouter,
    Outcome,
    Process,
    check_parts,
    crew_client,
    drill,
    flow_client,
    processes,
    python_client,
)
from tests.suite.test_registry_process import free_port

KILLS = int(os.environ.get("DYNAMIC_AGENTS_TEST_KILLS", "30"))
AT_ONCE = 6 if KILLS <= 30 else 12
GO = Path(__file__).parents[1] / "interop" / "go"


def _count(step_id: str, n: str = "1") -> dict[str, Any]:
    return {"step_id": step_id, "function": {"tool_id": "test/count", "arguments": {"n": n}}}


FLOW = {
    "steps": [
        _count("first"),
        {"step_id": "agent", "agent": {"agent_id": "helper"}},
        {"step_id": "both", "parallel": {"branches": [{"steps": [_count("left")]}, {"steps": [_count("right")]}]}},
        {"step_id": "ok", "approval": {"question": "'Go on?'"}},
        _count("approved"),
        {"step_id": "rest", "wait": {"delay": "0.4s"}},
        {"step_id": "go", "wait": {"signal": "go"}},
        {"step_id": "rounds", "loop": {"body": {"steps": [_count("round", "iteration")]}, "max_iterations": 3}},
        {"step_id": "check", "condition": {"condition": "has(steps.round)", "then": {"steps": [_count("then")]}}},
        _count("last"),
    ],
    "output": "[steps.first, steps.agent, steps.both, steps.last]",
}
"""Ten steps, with an approval and two waits in the middle."""


@pytest.fixture
async def servers(
    request: pytest.FixtureRequest, database_settings: dict[str, Any], tmp_path: Path
) -> AsyncIterator[list[Process]]:
    (tmp_path / "effects").mkdir()
    (tmp_path / "effects" / "attempts").touch()
    settings = ExecutionSettings.load(**database_settings)
    await database.migrate(settings, MIGRATIONS)
    registry_settings = RegistrySettings.load(port=0, data_dir=tmp_path / "registry")
    async with harness.registry(registry_settings) as (registry, channel), DrillRouter().serving() as router:
        spec = agent_pb2.AgentSpec(model={"model": "any"}, tools=[{"tool_id": "test/count"}])
        stub: Any = agent_service_pb2_grpc.AgentServiceStub(channel)
        for agent_id in ("helper", *CREW):
            agent = agent_pb2.Agent(agent_id=agent_id, spec=spec)
            await stub.CreateAgent(agent_service_pb2.CreateAgentRequest(agent=agent))
        lead = team_pb2.TeamSpec(model={"model": "leader"}, members=[{"agent_id": one} for one in CREW])
        crew = team_pb2.Team(team_id="crew", spec=lead)
        teams: Any = team_service_pb2_grpc.TeamServiceStub(channel)
        await teams.CreateTeam(team_service_pb2.CreateTeamRequest(team=crew))
        flows: Any = workflow_service_pb2_grpc.WorkflowServiceStub(channel)
        flow = ParseDict({"workflow_id": "flow", "spec": FLOW}, workflow_pb2.Workflow())
        await flows.CreateWorkflow(workflow_service_pb2.CreateWorkflowRequest(workflow=flow))
        addresses = {"registry_address": registry.address, "router_address": router}
        shared = {**addresses, "database_url": settings.database, "database_pool_size": "4", "wait_held": "0"}
        shared |= getattr(request, "param", {"lease": str(LEASE)})
        async with processes([free_port(), free_port()], tmp_path / "effects", shared) as started:
            yield started


@pytest.fixture
def client(tmp_path: Path) -> Any:
    """A backend in Go where there is Go, else one in Python."""
    if not os.environ.get(INTEROP):
        return python_client
    binary = tmp_path / "drill"
    subprocess.run(["go", "build", "-o", str(binary), "./drill"], cwd=GO, check=True, timeout=600)

    async def go_client(addresses: Sequence[str], name: str, at_once: int) -> list[Outcome]:
        arguments = ("-addresses", ",".join(addresses), "-name", name, "-runs", str(at_once))
        process = await asyncio.create_subprocess_exec(
            binary, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return [_outcome(json.loads(line)) for line in out.splitlines()]

    return go_client


def _outcome(read: dict[str, Any]) -> Outcome:
    events = [event_pb2.ExecuteEvent.FromString(base64.b64decode(event)) for event in read["events"]]
    return Outcome(events, read["breaks"], read["waited"])


@harness.only_postgres
@pytest.mark.timeout(300 + 3 * KILLS)
async def test_killed_processes_lose_nothing_and_repeat_nothing(
    servers: list[Process], client: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = await drill(servers, client, KILLS, AT_ONCE, tmp_path / "effects")
    with capsys.disabled():
        print(f"\n{figures}")
    assert figures.interrupted >= KILLS


@harness.only_postgres
@pytest.mark.timeout(300 + 12 * KILLS)
async def test_workflows_lose_nothing_and_repeat_nothing(
    servers: list[Process], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = await drill(servers, flow_client, min(KILLS, 10), 4, tmp_path / "effects", check=check_parts)
    with capsys.disabled():
        print(f"\nworkflows: {figures}")
    assert figures.interrupted >= min(KILLS, 10)


@harness.only_postgres
@pytest.mark.timeout(300 + 12 * KILLS)
async def test_teams_lose_nothing_and_repeat_nothing(
    servers: list[Process], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Members that work side by side: each scope has its own order, the whole has one without gaps."""
    figures = await drill(servers, crew_client, min(KILLS, 10), 3, tmp_path / "effects", check=check_parts)
    with capsys.disabled():
        print(f"\nteams: {figures}")
    assert figures.interrupted >= min(KILLS, 10)


@harness.only_postgres
@pytest.mark.parametrize("servers", [{"lease": "600", "drain_grace": "0.6"}], indirect=True)
@pytest.mark.timeout(300)
async def test_restarted_processes_hand_their_runs_over(servers: list[Process], client: Any, tmp_path: Path) -> None:
    figures = await drill(servers, client, 10, 10, tmp_path / "effects", signal.SIGTERM)
    assert figures.interrupted >= 10


@pytest.mark.parametrize("database_settings", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("servers", "how"),
    [({"lease": "1.5"}, signal.SIGKILL), ({"lease": "600", "drain_grace": "0.6"}, signal.SIGTERM)],
    indirect=["servers"],
    ids=["killed", "stopped"],
)
@pytest.mark.timeout(300)
async def test_embedded_process_takes_up_the_runs_of_the_one_before(
    servers: list[Process], how: int, tmp_path: Path
) -> None:
    await servers[1].end(signal.SIGTERM)
    figures = await drill([servers[0], servers[0]], python_client, 4, 4, tmp_path / "effects", how)
    assert figures.interrupted >= 4
