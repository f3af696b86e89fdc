"""`dynamic-agents session` and `dynamic-agents execution`, as a user types them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.suite_process import Suite

AGENT = """\
agent_id: talker
spec:
  model: {model: offline}
  tools: [{tool_id: builtin/calculator}]
  history: {num_runs: 3}
  session: {summaries: true, initial_state: {visits: 1}}
"""


def lines(suite: Suite, *arguments: str) -> list[Any]:
    done = suite.run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def talked(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Executions of two runs of one session."""
    file = tmp_path_factory.mktemp("agent") / "agent.yaml"
    file.write_text(AGENT)
    assert suite.run("agent", "create", "-f", str(file)).returncode == 0
    first, second = (lines(suite, "run", "talker", text, "--session", "talk")[0] for text in ("6*7?", "Thanks!"))
    return first["execution_id"], second["execution_id"]


def test_sessions_are_listed(suite: Suite, talked: tuple[str, str]) -> None:
    (session,) = lines(suite, "session", "list")
    assert (session["session_id"], session["agent_ids"], session["message_count"]) == ("talk", ["talker"], 6)
    assert lines(suite, "session", "list", "--user", "nobody") == []
    assert "talker" in suite.run("session", "list").stdout
    assert "no sessions" in suite.run("session", "list", "--agent", "nobody").stdout


def test_session_is_shown(suite: Suite, talked: tuple[str, str]) -> None:
    (found,) = lines(suite, "session", "get", "talk", "--messages", "2")
    assert [one["message"]["role"] for one in found["messages"]] == ["ROLE_USER", "ROLE_ASSISTANT"]
    assert found["session"]["state"] == {"visits": 1}
    shown = suite.run("session", "get", "talk").stdout
    for part in ("user 6*7?", "⚙ calculator", "tool 42", "summary", "visits"):
        assert part in shown


def test_executions_are_listed_and_shown(suite: Suite, talked: tuple[str, str]) -> None:
    first, second = talked
    found = lines(suite, "execution", "list", "--session", "talk", "--status", "completed")
    assert [one["execution_id"] for one in found] == [second, first]
    assert lines(suite, "execution", "list", "--status", "failed", "--agent", "talker") == []
    (execution,) = lines(suite, "execution", "get", first)
    assert [step.get("tool_id", step.get("model")) for step in execution["steps"]][:2] == [
        "offline",
        "builtin/calculator",
    ]
    shown = suite.run("execution", "get", first).stdout
    for part in ("completed", "input   6*7?", "builtin/calculator done"):
        assert part in shown
    assert first in suite.run("execution", "list").stdout


def test_events_are_shown_again(suite: Suite, talked: tuple[str, str]) -> None:
    events = lines(suite, "execution", "watch", talked[0], "--after", "2")
    assert int(events[0]["sequence"]) == 3
    assert "execution_completed" in events[-1]
    assert "The result is 42." in suite.run("execution", "watch", talked[0]).stdout


def test_calls_of_tools_are_listed(suite: Suite, talked: tuple[str, str]) -> None:
    (record,) = lines(suite, "tools", "calls", "--execution", talked[0])
    assert (record["tool_id"], record["outcome"]) == ("builtin/calculator", "TOOL_CALL_OUTCOME_COMPLETED")
    assert lines(suite, "tools", "calls", "--tool", "mcp/*") == []
    assert "builtin/cal" in suite.run("tools", "calls").stdout
    assert "no calls" in suite.run("tools", "calls", "--subject", "nobody").stdout


def test_an_ended_execution_stays_as_it_is(suite: Suite, talked: tuple[str, str]) -> None:
    assert "completed" in suite.run("execution", "cancel", talked[0], "--reason", "late").stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("session", "get", "nothing"), "NOT_FOUND"),
        (("session", "delete", "nothing"), "NOT_FOUND"),
        (("execution", "get", "nothing"), "NOT_FOUND"),
        (("execution", "list", "--status", "asleep"), "--status"),
    ],
)
def test_what_does_not_exist(suite: Suite, arguments: tuple[str, ...], says: str) -> None:
    done = suite.run(*arguments)
    assert done.returncode == 1
    assert says in done.stderr


def test_sessions_are_deleted(suite: Suite, talked: tuple[str, str]) -> None:
    assert lines(suite, "run", "talker", "hello", "--session", "gone")
    assert lines(suite, "session", "delete", "gone") == [{"session_id": "gone", "deleted_executions": 1}]
    assert suite.run("session", "get", "gone").returncode == 1
