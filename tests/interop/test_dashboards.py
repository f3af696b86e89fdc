"""Dashboards and alerts, read by the code of Grafana and Prometheus."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.rpc.test_metrics import DEPLOY, expressions

SOURCE = Path(__file__).parent / "go_rules"


@pytest.mark.parametrize("path", sorted((DEPLOY / "dashboards").glob("*.json")), ids=lambda path: path.name)
def test_grafana_knows_all_that_a_dashboard_says(path: Path) -> None:
    register_default_plugins()
    said = json.loads(path.read_text())
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(said)))
    assert list(_lost(said, read, "")) == []
    assert len({panel["id"] for panel in said["panels"]}) == len(said["panels"])


def _lost(said: Any, read: Any, where: str) -> Any:
    """What is not there, or not the same, once Grafana's types have read it."""
    if isinstance(said, dict) and isinstance(read, dict):
        for key, value in said.items():
            yield from _lost(value, read[key], f"{where}.{key}") if key in read else [f"{where}.{key}"]
    elif isinstance(said, list) and isinstance(read, list) and len(said) == len(read):
        for index, value in enumerate(said):
            yield from _lost(value, read[index], f"{where}[{index}]")
    elif said != read:
        yield where


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("go") / "rules"
    subprocess.run(["go", "build", "-o", str(binary), "."], cwd=SOURCE, check=True, timeout=900)
    return binary


def check(checker: Path, *files: Path, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([checker, *files], input=text, capture_output=True, text=True, timeout=60)


@pytest.mark.interop
@pytest.mark.timeout(960)
def test_prometheus_takes_the_alerts_and_every_expression(checker: Path, tmp_path: Path) -> None:
    files = sorted((DEPLOY / "alerts").glob("*.yaml"))
    done = check(checker, *files, text="\n".join(expressions()))
    assert (done.returncode, done.stderr) == (0, "")
    bad = tmp_path / "bad.yaml"
    bad.write_text("groups: [{name: g, rules: [{alert: A, expr: 'sum by ('}]}]")
    assert check(checker, bad).returncode == 1
    assert check(checker, text="rate(a[5m)").returncode == 1
