"""A tool that takes its time and may not be called twice."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from services.execution.model.tools import Tool


class Waiting:
    def tools(self) -> Sequence[Tool]:
        return [Tool("test/wait", "wait", "Wait", "Waits.", {"type": "object"}, "1")]

    async def call(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
        await asyncio.sleep(float(arguments.get("seconds", 30)))
        return "waited"
