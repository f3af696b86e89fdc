"""`dynamic-agents run` asks at the terminal."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import grpc
import pytest
import yaml
from dynamicagents.execution.v1 import execution_service_pb2, execution_service_pb2_grpc

from tests.suite_process import COMMAND, Suite


@pytest.fixture(scope="module")
def agents(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> None:
    calculator = {"tools": [{"tool_id": "builtin/calculator", "requires_confirmation": True}]}
    asking = {"tools": [{"tool_id": "builtin/ask_user"}], "tool_choice": "builtin/ask_user"}
    for agent_id, spec in {"careful": calculator, "asking": asking}.items():
        _create(suite, tmp_path_factory.mktemp("agents") / "agent.yaml", agent_id, spec)


def _create(suite: Suite, file: Path, agent_id: str, spec: dict[str, object]) -> None:
    file.write_text(yaml.safe_dump({"agent_id": agent_id, "spec": {"model": {"model": "offline"}, **spec}}))
    made = suite.run("agent", "create", "-f", str(file))
    assert made.returncode == 0, made.stderr


def run(suite: Suite, agent_id: str, typed: str, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "run", agent_id, "What is 17 * 23?", *more],
        env={**os.environ, "DYNAMIC_AGENTS_PORT_BASE": str(suite.port_base)},
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.usefixtures("agents")
def test_call_is_allowed_or_not(suite: Suite) -> None:
    allowed, refused = run(suite, "careful", "y\n"), run(suite, "careful", "\n")
    assert (allowed.returncode, refused.returncode) == (0, 0), allowed.stderr + refused.stderr
    assert 'Allow builtin/calculator {"expression":"17 * 23"}? [y/N]' in allowed.stdout
    assert "→ 391" in allowed.stdout
    assert "the call was refused" in refused.stdout


@pytest.mark.usefixtures("agents")
def test_question_is_answered(suite: Suite) -> None:
    done = run(suite, "asking", "the blue one\n")
    assert done.returncode == 0, done.stderr
    assert "The result is the blue one." in done.stdout


@pytest.mark.usefixtures("agents")
def test_nobody_is_there_to_answer(suite: Suite) -> None:
    done = run(suite, "careful", "")
    assert done.returncode == 1
    assert "nobody is here to answer" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("agents")
def test_scripts_get_the_event_and_answer_themselves(suite: Suite) -> None:
    command = [*COMMAND, "run", "careful", "What is 17 * 23?", "--json"]
    env = {**os.environ, "DYNAMIC_AGENTS_PORT_BASE": str(suite.port_base)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        events = (json.loads(line) for line in process.stdout)
        asked = next(event for event in events if "input_required" in event)
        (question,) = asked["input_required"]["requests"]
        assert question["approval"]["tool_id"] == "builtin/calculator"
        with grpc.insecure_channel(suite.address("execution")) as channel:
            stub = execution_service_pb2_grpc.ExecutionServiceStub(channel)
            request = execution_service_pb2.ContinueExecutionRequest(execution_id=asked["execution_id"])
            request.answers.add(input_id=question["input_id"]).approval.approved = True
            stub.ContinueExecution(request, timeout=30)
        assert "391" in list(events)[-1]["execution_completed"]["output"]
    assert process.returncode == 0
