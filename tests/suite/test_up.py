"""`dynamic-agents up` and the other commands, as a user types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from google.rpc import code_pb2

from tests import suite_process
from tests.suite_process import COMMAND, Suite

AGENT = {
    "agent_id": "calculator",
    "display_name": "Calculator",
    "labels": {"team": "sales"},
    "spec": {"model": {"model": "offline"}, "tools": [{"tool_id": "builtin/calculator"}]},
}


def test_up_says_what_is_serving_and_what_it_waits_for(suite: Suite) -> None:
    serving = [line["service"] for line in suite.said if line["event"] == "serving"]
    assert sorted(serving) == ["execution", "registry", "router", "secrets"]
    assert suite.said[-1]["addresses"] == {name: suite.address(name) for name in serving}


@pytest.fixture(scope="module")
def agent(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("agents") / "agent.yaml"
    file.write_text(yaml.safe_dump(AGENT))
    made = suite.run("agent", "create", "-f", str(file), "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["revision"] == "1"
    return "calculator"


def test_run_for_people(suite: Suite, agent: str) -> None:
    done = suite.run("run", agent, "What is 17 * 23?")
    assert done.returncode == 0, done.stderr
    assert 'builtin/calculator {"expression":"17 * 23"}' in done.stdout
    assert "→ 391" in done.stdout
    assert "(offline)" in done.stdout


def test_run_for_scripts(suite: Suite, agent: str) -> None:
    done = suite.run("run", agent, "What is 17 * 23?", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [int(event["sequence"]) for event in events] == list(range(1, len(events) + 1))
    assert "391" in events[-1]["execution_completed"]["output"]


def test_agents_can_be_listed_shown_and_deleted(suite: Suite, agent: str, tmp_path: Path) -> None:
    listed = suite.run("agent", "list", "--label", "team=sales", "--json")
    assert [json.loads(line)["agent_id"] for line in listed.stdout.splitlines()] == [agent]
    assert suite.run("agent", "list", "--label", "team=none").stdout == "no agents\n"
    assert agent in suite.run("agent", "list").stdout
    shown = yaml.safe_load(suite.run("agent", "get", agent).stdout)
    assert shown["spec"] == AGENT["spec"]

    (tmp_path / "other.yaml").write_text(yaml.safe_dump({**AGENT, "agent_id": "other"}))
    assert suite.run("agent", "create", "-f", str(tmp_path / "other.yaml")).returncode == 0
    stale = suite.run("agent", "delete", "other", "--etag", "stale")
    assert (stale.returncode, "STALE_ETAG" in stale.stderr) == (1, True)
    assert suite.run("agent", "delete", "other", "--json").returncode == 0
    gone = suite.run("agent", "get", "other", "--json")
    assert json.loads(gone.stderr)["error"]["reason"] == "RESOURCE_NOT_FOUND"


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("agent_id: x\nspce: {}\n", "agent.spce: "),
        ("agent_id: x\nspec: {model: {model: offline}, temprature: 1}\n", "agent.spec.temprature: "),
        ("agent_id: Bad Id\nspec: {model: {model: offline}}\n", "agent.agent_id"),
        ("agent_id: x\nspec: {}\n", "agent.spec.model.model"),
        ("- just\n- a list\n", "mapping"),
        ("a: [\n", "YAML"),
    ],
)
def test_a_bad_agent_file_names_its_fault(suite: Suite, tmp_path: Path, content: str, names: str) -> None:
    (tmp_path / "agent.yaml").write_text(content)
    done = suite.run("agent", "create", "-f", str(tmp_path / "agent.yaml"))
    assert done.returncode == 1
    assert names in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_unknown_agent(suite: Suite) -> None:
    done = suite.run("run", "nobody", "hi", "--json")
    assert done.returncode == 1
    assert json.loads(done.stderr)["error"]["code"] == code_pb2.Code.Name(code_pb2.NOT_FOUND)


def test_nobody_answers(suite: Suite) -> None:
    done = suite.run("agent", "list", DYNAMIC_AGENTS_REGISTRY_ADDRESS="127.0.0.1:1")
    assert done.returncode == 1
    assert "is `dynamic-agents up` running?" in done.stderr


def test_a_second_suite_is_refused(suite: Suite, tmp_path: Path) -> None:
    same_folder = _up("--data-dir", str(suite.data_dir), "--port-base", str(suite_process.free_ports()))
    assert (same_folder.returncode, len(same_folder.stderr.splitlines())) == (2, 1)
    assert "in use by another" in same_folder.stderr
    same_ports = _up("--data-dir", str(tmp_path / "data"), "--port-base", str(suite.port_base))
    assert (same_ports.returncode, len(same_ports.stderr.splitlines())) == (2, 1)
    assert str(suite.port_base) in same_ports.stderr


def test_a_killed_service_is_started_again(suite: Suite, agent: str) -> None:
    os.kill(_pid_on(suite.port_base), signal.SIGKILL)
    assert "registry died (signal SIGKILL)" in suite.next("died")["text"]
    for _ in range(60):
        if suite.run("run", agent, "What is 2 + 2?").returncode == 0:
            return
    raise AssertionError("registry did not come back")


def test_an_unwritable_data_dir_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = _up("--data-dir", str(tmp_path / "file" / "data"))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "data_dir" in done.stderr


def test_a_service_that_refuses_to_start_ends_the_suite_with_its_line(tmp_path: Path) -> None:
    done = _up(
        "--data-dir",
        str(tmp_path / "data"),
        "--port-base",
        str(suite_process.free_ports()),
        DYNAMIC_AGENTS_SECRETS_DATABASE_URL="mysql://root:pw@localhost/x",
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "database_url of secrets" in done.stderr
    assert "pw" not in done.stderr


def test_ctrl_c_stops_all(tmp_path: Path) -> None:
    with suite_process.started(tmp_path / "data") as up:
        pids = [_pid_on(up.port_base + offset) for offset in range(4)]
        up.process.send_signal(signal.SIGINT)
        out, err = up.process.communicate(timeout=30)
    assert (up.process.returncode, err) == (0, "")
    assert json.loads(out.splitlines()[-1])["event"] == "stopped"
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_services_do_not_outlive_a_killed_suite(tmp_path: Path) -> None:
    with suite_process.started(tmp_path / "data") as up:
        pids = [_pid_on(up.port_base + offset) for offset in range(4)]
        up.process.kill()
        for _ in range(150):
            if not [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
                return
            time.sleep(0.1)
    raise AssertionError("services are left behind")


def test_demo(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "calculator-agent.yaml"
    for _ in range(2):  # the second one finds the agent of the first
        done = _command("demo", "--file", str(example), "--data-dir", str(tmp_path / "data"), OPENAI_API_KEY="")
        assert done.returncode == 0, done.stderr
        assert "model: offline" in done.stdout
        assert 'builtin/calculator {"expression":"17 * 23"}' in done.stdout
        assert "→ 391" in done.stdout


def test_demo_with_a_key_uses_it(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "calculator-agent.yaml"
    key = "sk-of-a-test"
    done = _command(
        "demo",
        "--file",
        str(example),
        "--data-dir",
        str(tmp_path / "data"),
        OPENAI_API_KEY=key,
        DYNAMIC_AGENTS_DEMO_MODEL="openai/none",
        DYNAMIC_AGENTS_DEMO_API_BASE="http://127.0.0.1:1/v1",
    )
    assert done.returncode == 1
    assert "model: openai/none, with the key in OPENAI_API_KEY" in done.stdout
    assert "UPSTREAM_UNAVAILABLE" in done.stderr
    assert key not in done.stdout + done.stderr


def test_python_m_services(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "services"]
    usage = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2])
    assert (usage.returncode, "usage" in usage.stderr) == (1, True)


def test_config_masks_secrets(tmp_path: Path) -> None:
    secret = "s3cret" * 8
    done = _command("config", "registry", "--json", DYNAMIC_AGENTS_JWT_SECRET=secret)
    assert json.loads(done.stdout)["registry"]["port"] == 50051
    assert secret not in done.stdout


def test_migrate_then_serve(tmp_path: Path) -> None:
    migrated = _command("migrate", "--json", DYNAMIC_AGENTS_DATA_DIR=str(tmp_path / "data"))
    assert migrated.returncode == 0, migrated.stderr
    names = [json.loads(line)["service"] for line in migrated.stdout.splitlines()]
    assert names == ["registry", "secrets", "execution"]
    assert (tmp_path / "data" / "registry.db").exists()


def test_serve_wants_a_service() -> None:
    assert _command("serve", "nonsense").returncode == 2


def _up(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return _command("up", *arguments, **env)


def _command(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env={**os.environ, **env}, capture_output=True, text=True, timeout=120
    )


def _pid_on(port: int) -> int:
    """The process that listens on a port of loopback."""
    wanted = f"0100007F:{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    rows += [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    inodes = {f"socket:[{row[9]}]" for row in rows if row[3] == "0A" and row[1].endswith(wanted[8:])}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = {str(link.readlink()) for link in (process / "fd").iterdir()}
        except OSError:
            continue
        if inodes & links:
            return int(process.name)
    raise AssertionError(f"nobody listens on {port}")
