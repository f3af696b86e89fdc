"""Secrets as a process, and its commands."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from tests import a8n
from tests.suite_process import COMMAND

CANARY = "sk-canary-0123"
PORT = re.compile(r"127\.0\.0\.1:(\d+)")


@contextmanager
def process(tmp_path: Path, **env: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    log = tmp_path / "secrets.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "services.secrets"],
            env={**os.environ, "DYNAMIC_AGENTS_SECRETS_PORT": "0", **env},
            stderr=output,
        )
    try:
        end = time.monotonic() + 30
        while not (found := PORT.search(log.read_text())):
            assert child.poll() is None, log.read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        yield child, found[0]
    finally:
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0


def command(*arguments: str, address: str = "", given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "secret", *arguments],
        env={**os.environ, **({"DYNAMIC_AGENTS_SECRETS_ADDRESS": address} if address else {})},
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_commands(tmp_path: Path) -> None:
    with process(tmp_path) as (_, address):
        put = command(
            "put", "openai", "--name", "crm", "--label", "a=b", "--json", address=address, given=f"{CANARY}\n"
        )
        made = orjson.loads(put.stdout)
        assert (made["provider"], made["fields"], made["labels"]) == ("openai", ["api_key"], {"a": "b"})
        two = command("put", "slack", "--field", "bot_token", "--field", "app_token", address=address, given="x\ny\n")
        assert "secret:slack:app_token secret:slack:bot_token" in " ".join(two.stdout.split())
        listed = command("list", "--provider", "openai", "--json", address=address)
        assert orjson.loads(listed.stdout)["secret_id"] == made["secret_id"]
        rotated = command("rotate", made["secret_id"], "--json", address=address, given="sk-2")
        assert orjson.loads(rotated.stdout)["version"] == "2"
        assert command("delete", made["secret_id"], address=address).returncode == 0
        assert "slack" in command("list", address=address).stdout
        bad = command("put", "openai", "--field", "a", "--field", "b", address=address, given="only one")
        assert (bad.returncode, "standard input" in bad.stderr) == (1, True)
        unknown = command("delete", "absent", "--json", address=address)
        assert orjson.loads(unknown.stderr)["error"]["reason"] == "RESOURCE_NOT_FOUND"
        for output in (put, two, listed, rotated):
            assert CANARY not in output.stdout + output.stderr


def test_key_is_rotated_under_a_running_service(tmp_path: Path) -> None:
    with process(tmp_path) as (_, address):
        made = orjson.loads(command("put", "openai", "--json", address=address, given=CANARY).stdout)
        before = (tmp_path / ".dynamic-agents" / "vault.key").read_bytes()
        done = command("rotate-key", "--json")
        assert orjson.loads(done.stdout)["versions"] == 1, done.stderr
        assert (tmp_path / ".dynamic-agents" / "vault.key").read_bytes() != before
        assert command("rotate", made["secret_id"], address=address, given="sk-2").returncode == 0
        assert command("put", "groq", address=address, given="gsk").returncode == 0
    with process(tmp_path) as (_, address):
        assert len(command("list", "--json", address=address).stdout.splitlines()) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_no_core_is_dumped(tmp_path: Path) -> None:
    with process(tmp_path) as (child, _):
        limits = Path(f"/proc/{child.pid}/limits").read_text()
        assert re.search(r"Max core file size\s+0\s+0", limits)
        if os.geteuid() != 0:
            with pytest.raises(PermissionError):
                Path(f"/proc/{child.pid}/environ").read_bytes()


async def test_a8n_with_two_variables(tmp_path: Path) -> None:
    async with a8n.serving() as identity:
        identity.add("one", "openai", {"api_key": CANARY})
        env = {"DYNAMIC_AGENTS_A8N_URL": identity.url, "DYNAMIC_AGENTS_A8N_TOKEN": a8n.TOKEN}

        def listed() -> str:
            with process(tmp_path, **env) as (_, address):
                return command("list", "--json", address=address).stdout

        assert orjson.loads(await asyncio.to_thread(listed))["secret_id"] == "one"


def test_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".dynamic-agents").touch()
    done = subprocess.run([sys.executable, "-m", "services.secrets"], capture_output=True, text=True, timeout=30)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "data_dir" in done.stderr
