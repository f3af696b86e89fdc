"""A tool with an effect that can be counted: it makes a file named after the idempotency key of its call, once."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.execution.model.tools import Tool
from services.execution.service.tools import idempotency_key

FOLDER = "DYNAMIC_AGENTS_TEST_COUNTING"
"""Names the folder of the files."""
ATTEMPTS = "attempts"


class Counting:
    def tools(self) -> Sequence[Tool]:
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        return [Tool("test/count", "count", "Count", "Counts.", schema, "1", takes_key=True)]

    async def call(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
        folder, key = Path(os.environ[FOLDER]), idempotency_key()
        with (folder / ATTEMPTS).open("a") as attempts:
            attempts.write(key + "\n")
        await asyncio.sleep(random.uniform(0, 0.02))
        (folder / key.replace("/", " ")).touch()
        await asyncio.sleep(random.uniform(0, 0.02))
        return f"counted {arguments['n']}"
