from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.suite_process import Suite

pytestmark = pytest.mark.interop
GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4"
SCRIPT = Path(__file__).parent / "grpcurl.sh"


@pytest.fixture(scope="session")
def path_with_grpcurl(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("bin")
    subprocess.run(["go", "install", GRPCURL], env={**os.environ, "GOBIN": str(folder)}, check=True, timeout=600)
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.timeout(700)
def test_grpcurl(suite: Suite, path_with_grpcurl: str) -> None:
    done = subprocess.run(
        [SCRIPT, suite.address("registry"), suite.address("execution")],
        env={**os.environ, "PATH": path_with_grpcurl},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    steps = dict(part.split("\n", 1) for part in done.stdout.split("== ")[1:])
    listed = steps["list"].split()
    assert "dynamicagents.registry.v1.AgentService" in listed
    assert "dynamicagents.execution.v1.ExecutionService" in listed
    assert "dynamicagents.tools.v1.ToolService" in listed
    assert "grpc.health.v1.Health" in listed
    assert "returns ( stream .dynamicagents.execution.v1.ExecuteEvent )" in steps["describe"]
    assert "repeated string instructions" in steps["describe"]
    assert steps["health"].count("SERVING") == 2
    assert json.loads(steps["create"])["agent"]["revision"] == "1"
    events = [json.loads(text) for text in re.findall(r"^\{.*?^\}", steps["stream"], re.M | re.S)]
    assert [event["sequence"] for event in events] == [str(n) for n in range(1, len(events) + 1)]
    assert "42" in events[-1]["execution_completed"]["output"]
    assert "Code: NotFound" in steps["error"]
    assert '"reason": "RESOURCE_NOT_FOUND"' in steps["error"]
