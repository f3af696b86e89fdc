"""Secrets as a process, and its commands."""

from __future__ import annotations

import asyncio
import io
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import orjson
import pytest
from dynamicagents.secrets.v1 import secret_pb2, secrets_service_pb2, secrets_service_pb2_grpc

from cli.__main__ import main
from tests import a8n, harness
from tests.suite_process import COMMAND

CANARY = "sk-canary-0123"
PORT = re.compile(r"127\.0\.0\.1:(\d+)")


@contextmanager
def process(tmp_path: Path, service: str = "secrets", **env: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    log = tmp_path / "secrets.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", f"services.{service}"],
            env={**os.environ, f"DYNAMIC_AGENTS_{service.upper()}_PORT": "0", **env},
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


Command = Callable[..., "subprocess.CompletedProcess[str]"]


def started(*arguments: str, address: str = "", given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "secret", *arguments],
        env={**os.environ, **({"DYNAMIC_AGENTS_SECRETS_ADDRESS": address} if address else {})},
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The same in this process, which spares its start."""

    def run(*arguments: str, address: str = "", given: str = "") -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as patched:
            patched.setattr(sys, "argv", ["dynamic-agents", "secret", *arguments])
            patched.setattr(sys, "stdin", io.StringIO(given))
            if address:
                patched.setenv("DYNAMIC_AGENTS_SECRETS_ADDRESS", address)
            with pytest.raises(SystemExit) as ended:
                main()
        printed, said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, int(ended.value.code or 0), printed, said)

    return run


def test_commands(tmp_path: Path, command: Command) -> None:
    with process(tmp_path) as (_, address):
        put = started(
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


def test_key_is_rotated_under_a_running_service(tmp_path: Path, command: Command) -> None:
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
@pytest.mark.parametrize("service", ["secrets", "router"])
def test_no_core_is_dumped(tmp_path: Path, service: str) -> None:
    with process(tmp_path, service) as (child, _):
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
                return started("list", "--json", address=address).stdout

        assert orjson.loads(await asyncio.to_thread(listed))["secret_id"] == "one"


def test_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".dynamic-agents").touch()
    done = subprocess.run([sys.executable, "-m", "services.secrets"], capture_output=True, text=True, timeout=30)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "data_dir" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit")
async def test_disk_that_cannot_be_written_any_more(tmp_path: Path) -> None:
    """No file may grow: reads go on, a change says what is wrong, and works again when the disk does."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.secrets"),
        env={**os.environ, "DYNAMIC_AGENTS_SECRETS_PORT": "0", "DYNAMIC_AGENTS_DATA_DIR": str(tmp_path / "data")},
        stderr=asyncio.subprocess.PIPE,
    )
    assert child.stderr
    try:
        async with asyncio.timeout(30):
            while not (found := PORT.search((await child.stderr.readline()).decode())):
                assert child.returncode is None
        async with grpc.aio.insecure_channel(found[0]) as channel:
            secrets = secrets_service_pb2_grpc.SecretsServiceStub(channel)
            secret = secret_pb2.Secret(provider="openai")
            create = secrets_service_pb2.CreateSecretRequest(secret=secret, values={"api_key": CANARY})
            made = (await secrets.CreateSecret(create)).secret

            before = resource.prlimit(child.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (0, before[1]))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await secrets.CreateSecret(create)
            assert (caught.value.code(), harness.reason_of(caught.value)) == (
                grpc.StatusCode.UNAVAILABLE,
                "DATABASE_UNAVAILABLE",
            )
            assert caught.value.details() == "the database cannot be written"
            asked = secrets_service_pb2.ResolveReferencesRequest(references=["secret:openai:api_key"])
            for _ in range(3):
                assert (await secrets.ResolveReferences(asked)).results[0].value == CANARY
            get = secrets_service_pb2.GetSecretRequest(secret_id=made.secret_id)
            assert (await secrets.GetSecret(get)).secret == made

            resource.prlimit(child.pid, resource.RLIMIT_FSIZE, before)
            assert (await secrets.CreateSecret(create)).secret.version == 1
    finally:
        child.terminate()
        printed = await child.stderr.read()
        assert await child.wait() == 0
    assert b"the database cannot be written" in printed
    assert CANARY.encode() not in printed
