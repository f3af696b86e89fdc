"""`dynamic-agents up` as a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.connection import OFFSETS
from libs.config import StartError

COMMAND = (str(Path(sys.executable).parent / "dynamic-agents"),)


@dataclass
class Suite:
    process: subprocess.Popen[str]
    port_base: int
    data_dir: Path
    said: list[dict[str, Any]]

    def address(self, service: str) -> str:
        return f"127.0.0.1:{self.port_base + OFFSETS[service]}"

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            env={**os.environ, "DYNAMIC_AGENTS_PORT_BASE": str(self.port_base), **env},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def log(self, service: str) -> str:
        return (self.data_dir / "logs" / f"{service}.log").read_text()

    def next(self, event: str) -> dict[str, Any]:
        """Waits for a line about `event`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(json.loads(line))
            if self.said[-1]["event"] == event:
                return self.said[-1]
        raise AssertionError(f"the suite ended before {event}: {self.said} {self.process.stderr.read()}")  # type: ignore[union-attr]


@contextmanager
def started(data_dir: Path, env: Mapping[str, str] | None = None, *options: str) -> Iterator[Suite]:
    """The suite, ready; stopped with SIGINT as Ctrl-C would."""
    port_base = free_ports()
    process = subprocess.Popen(
        [*COMMAND, "up", "--json", "--port-base", str(port_base), "--data-dir", str(data_dir), *options],
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    suite = Suite(process, port_base, data_dir, [])
    try:
        suite.next("ready")
        yield suite
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def free_ports() -> int:
    """A base with four free ports, away from those of other tests and from those that the system gives to anybody."""
    from cli.suite import _require_free

    beside = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 6
    base = 20000 + 2000 * beside + (os.getpid() * 37 + time.monotonic_ns()) % 1900
    while True:
        try:
            for service in OFFSETS:
                _require_free(service, base + OFFSETS[service])
            return base
        except StartError:
            base += 10
