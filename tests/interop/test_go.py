from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.suite_process import Suite

pytestmark = pytest.mark.interop
SOURCE = Path(__file__).parent / "go"


@pytest.fixture(scope="session")
def crm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("go") / "crm"
    subprocess.run(["go", "build", "-o", str(binary), "."], cwd=SOURCE, check=True, timeout=600)
    return binary


@pytest.mark.timeout(700)
def test_go_backend(suite: Suite, crm: Path) -> None:
    done = subprocess.run(
        [crm, "-registry", suite.address("registry"), "-execution", suite.address("execution")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    steps = dict(part.strip().split("\n", 1) for part in done.stdout.split("== ")[1:-1])
    assert steps["create"] == "agent crm-assistant revision 1"
    streamed = steps["stream"].splitlines()
    assert [line.split()[0] for line in streamed] == [str(n) for n in range(1, len(streamed) + 1)]
    assert "tool builtin/calculator" in steps["stream"]
    assert "tool answered 391" in steps["stream"]
    assert "offline=true" in steps["stream"]
    assert "completed" in streamed[-1]
    assert "391" in streamed[-1]
    assert "status EXECUTION_STATUS_CANCELLED" in steps["cancel"]
    assert "cancelled the lead hung up" in steps["cancel"].splitlines()[-1]
    assert steps["resume"] == "whole true"
    assert steps["error"].splitlines() == [
        "NotFound dynamic-agents RESOURCE_NOT_FOUND",
        "resource agent nobody",
        "InvalidArgument dynamic-agents INVALID_FIELD",
        "field input",
    ]
    assert steps["team"].splitlines() == ["crm-desk completed", "  crm-assistant completed"]
    assert steps["workflow"].splitlines() == [
        "asked Send it?",
        "output delivered by truck",
        "crm-flow completed",
        "  both completed",
        "    left completed",
        "      crm-assistant completed",
        "    right completed",
        "      crm-assistant completed",
        "  ok completed",
        "  delivery completed",
    ]
