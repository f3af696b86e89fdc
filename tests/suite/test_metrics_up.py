"""`dynamic-agents up --metrics-base`, with several workers of a service."""

from __future__ import annotations

import socket
from pathlib import Path

from tests import metrics_page, suite_process

FIRST = {
    "registry": "registry_cache_lookups_total",
    "router": "router_deployments",
    "secrets": "secrets_cache_lookups_total",
    "execution": "executions",
}


async def test_each_worker_of_each_service_has_a_port_of_its_own(tmp_path: Path) -> None:
    base = _free(6)
    workers = {"DYNAMIC_AGENTS_REGISTRY_WORKERS": "2", "DYNAMIC_AGENTS_EXECUTION_WORKERS": "2"}
    with suite_process.started(tmp_path / "data", workers, "--metrics-base", str(base)) as up:
        assert f"http://127.0.0.1:{base}/metrics, and so on to {base + 5}" in up.said[-1]["text"]
        pages = [await metrics_page.read(base + offset) for offset in range(6)]
    owners = ["registry", "registry", "router", "secrets", "execution", "execution"]
    for owner, page in zip(owners, pages, strict=True):
        assert {FIRST[owner], "grpc_server_started_total", "process_resident_memory_bytes"} <= page.names
        assert not page.names & {name for service, name in FIRST.items() if service != owner}


def _free(count: int) -> int:
    """A base of so many free ports in a row."""
    for base in range(suite_process.free_ports() + 10, 64000, 10):
        try:
            for port in range(base, base + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
    raise AssertionError("no free ports")
