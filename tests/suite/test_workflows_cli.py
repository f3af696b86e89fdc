"""The example workflows, as a user runs them on the offline model."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.suite_process import COMMAND, Suite

EXAMPLES = Path(__file__).parents[2] / "examples" / "workflows"


@pytest.fixture(scope="module")
def applied(suite: Suite) -> Suite:
    done = suite.run("apply", "-f", str(EXAMPLES))
    assert done.returncode == 0, done.stderr
    return suite


def run(suite: Suite, workflow: str, text: str, *more: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "run", "--workflow", workflow, text, *more],
        env={**os.environ, "DYNAMIC_AGENTS_PORT_BASE": str(suite.port_base)},
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("workflow", "text", "shown"),
    [
        ("flow-sequential", "the sea", ["flow-sequential", "draft", "flow-writer", "revise", "completed"]),
        ("flow-parallel", "17 * 23", ["views", "essay", "doubts", '"failed":[]', '"391"']),
        ("flow-loop", "1", ["rounds", "number", "round 7", "reached 128"]),
        ("flow-saga", "17 * 23", ["book", "shipped: 391"]),
    ],
)
def test_examples(applied: Suite, workflow: str, text: str, shown: list[str]) -> None:
    done = run(applied, workflow, text)
    assert done.returncode == 0, done.stdout + done.stderr
    for word in shown:
        assert word in done.stdout, done.stdout


def test_saga_that_fails_is_undone(applied: Suite) -> None:
    done = run(applied, "flow-saga", "1 / 0", "--json")
    assert done.returncode == 1
    ended = [json.loads(line).get("step_completed") for line in done.stdout.splitlines() if "step_completed" in line]
    outcomes = [(one["step_id"], one["outcome"].removeprefix("STEP_OUTCOME_")) for one in ended if one]
    assert outcomes == [
        ("book", "COMPLETED"),
        ("pay", "COMPLETED"),
        ("ship", "FAILED"),
        ("refund", "COMPLETED"),
        ("pay", "COMPENSATED"),
        ("unbook", "COMPLETED"),
        ("book", "COMPENSATED"),
    ]


def test_question_is_asked_at_the_terminal_and_the_signal_comes_from_elsewhere(applied: Suite) -> None:
    process = subprocess.Popen(
        [*COMMAND, "run", "--workflow", "flow-approval", "an offer", "--json"],
        env={**os.environ, "DYNAMIC_AGENTS_PORT_BASE": str(applied.port_base)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    refused = run(applied, "flow-approval", "an offer", typed="\n")
    assert "Send this?" in refused.stdout, refused.stdout + refused.stderr
    assert "refused" in refused.stdout
    for line in process.stdout:
        event = json.loads(line)
        if "input_required" in event:
            break
    sent = applied.run("execution", "signal", event["execution_id"], "delivered", '{"by": "truck"}')
    assert sent.returncode == 0, sent.stderr
    bad = applied.run("execution", "signal", event["execution_id"], "delivered", "{")
    assert bad.returncode == 1
    process.terminate()
    process.wait()
    process.stdout.close()


def test_graph(applied: Suite) -> None:
    done = applied.run("graph", "flow-approval")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "flowchart TD"
    assert '  s_decided -->|"yes"| s_delivery' in lines
    assert '  s_decided -->|"no"| s_refused' in lines
    assert applied.run("graph", "nobody").returncode == 1


@pytest.mark.parametrize("words", [["--workflow", "a", "--team", "b", "x"], ["--workflow", "a", "x", "y"], ["x"]])
def test_bad_words(applied: Suite, words: list[str]) -> None:
    assert applied.run("run", *words).returncode == 2
