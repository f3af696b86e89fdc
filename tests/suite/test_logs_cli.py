"""`dynamic-agents logs`, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.suite_process import Suite

AGENT = """\
agent_id: talker
spec:
  model: {model: offline}
  tools: [{tool_id: builtin/calculator}]
"""
ASKED = "What is 17 * 23?"


@pytest.fixture(scope="module")
def execution_id(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("agent") / "agent.yaml"
    file.write_text(AGENT)
    assert suite.run("agent", "create", "-f", str(file)).returncode == 0
    done = suite.run("run", "talker", ASKED, "--json")
    suite.run("run", "talker", "another", "--json")
    return str(json.loads(done.stdout.splitlines()[0])["execution_id"])


def logs(suite: Suite, execution_id: str, *more: str) -> list[dict[str, Any]]:
    done = suite.run("logs", execution_id, "--data-dir", str(suite.data_dir), "--json", *more)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_story_of_a_run(suite: Suite, execution_id: str) -> None:
    lines = logs(suite, execution_id)
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    said = {(line["source"], line["what"]) for line in lines}
    for expected in [
        ("run", "accepted"),
        ("registry", "GetAgent OK"),
        ("router", "ChatStream OK"),
        ("execution", "ExecuteStream OK"),
        ("execution", "execution ended"),
        ("step", "1 begun"),
        ("step", "2 done"),
        ("event", "execution_started"),
        ("event", "tool_call_completed"),
        ("event", "execution_completed"),
    ]:
        assert expected in said, (expected, said)
    assert [line["what"] for line in lines].count("ChatStream OK") == 2


def test_what_was_said_is_told_where_it_is_asked_for(suite: Suite, execution_id: str) -> None:
    lines = logs(suite, execution_id, "--payloads")
    (answer,) = [line["output"] for line in lines if line["what"] == "execution_completed"]
    assert "391" in answer
    assert ASKED in json.dumps(lines)
    bare = json.dumps(logs(suite, execution_id))
    for said in (answer, ASKED, "17 * 23"):
        assert said not in bare


def test_for_people(suite: Suite, execution_id: str) -> None:
    shown = suite.run("logs", execution_id, "--data-dir", str(suite.data_dir)).stdout
    assert "GetAgent OK" in shown
    assert "tool_call_started sequence=" in shown.replace("  ", " ")


def test_without_the_suite_the_logs_alone(suite: Suite, execution_id: str) -> None:
    gone = {"DYNAMIC_AGENTS_EXECUTION_ADDRESS": "127.0.0.1:1"}
    done = suite.run("logs", execution_id, "--data-dir", str(suite.data_dir), **gone)
    assert done.returncode == 0
    assert "only what the logs say" in done.stderr
    assert "execution ended" in done.stdout


def test_nobody_knows_it(suite: Suite, tmp_path: Path) -> None:
    done = suite.run("logs", "01900000-0000-7000-8000-000000000000", "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert "NOT_FOUND" in done.stderr
