"""`dynamic-agents tools check`, as a user types it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from tests import tool_provider
from tests.suite_process import Suite

BUNDLE = """\
kind: ToolProvider
tool_provider_id: shop
spec: {{address: {address}}}
---
kind: Agent
agent_id: seller
spec:
  model: {{model: offline}}
  tools: [{{tool_id: grpc/shop/say}}]
"""


def lines(output: str) -> list[Any]:
    return [json.loads(line) for line in output.splitlines()]


async def run(suite: Suite, *arguments: str) -> Any:
    return await asyncio.to_thread(suite.run, *arguments)


async def test_a_provider_is_checked(suite: Suite, tmp_path: Path) -> None:
    async with (
        tool_provider.serving(tools={"say": {}, "count": {}}) as provider,
        tool_provider.serving(tools={"say": {"input_schema": tool_provider.TEXT}, "new": {}}) as candidate,
    ):
        file = tmp_path / "bundle.yaml"
        file.write_text(BUNDLE.format(address=provider.address))
        applied = await run(suite, "apply", "-f", str(file))
        assert applied.returncode == 0, applied.stderr
        same = await run(suite, "tools", "check", "shop")
        assert (same.returncode, same.stdout.split()[:2]) == (0, ["unchanged", "grpc/shop/count"])
        found = await run(suite, "tools", "check", "shop", "--candidate", candidate.address)
        assert found.returncode == 1
        for part in ("breaking", "grpc/shop/say  agents: seller", "! input.text is required now", "added", "removed"):
            assert part in found.stdout
        as_json = await run(suite, "tools", "check", "shop", "--candidate", candidate.address, "--json")
        assert as_json.returncode == 1
        assert [one["change"] for one in lines(as_json.stdout)] == [
            "TOOL_CHANGE_REMOVED",
            "TOOL_CHANGE_ADDED",
            "TOOL_CHANGE_BREAKING",
        ]
        unknown = await run(suite, "tools", "check", "nobody")
        assert unknown.returncode == 1
        assert "RESOURCE_NOT_FOUND" in unknown.stderr
        both = await run(suite, "tools", "check", "shop", "--candidate", "a:1", "--candidate-provider", "b")
        assert both.returncode == 2
