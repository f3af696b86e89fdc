"""A plugin, as docs/hooks.md describes: it keeps what it is told, and does as the test says."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from services.execution.hooks import Agent, Ended, Hooks, Model, Tool, Veto


class Recording(Hooks):
    told: ClassVar[list[tuple[Any, ...]]] = []
    vetoes: ClassVar[set[str]] = set()
    sleeps: ClassVar[dict[str, float]] = {}

    def _at(self, point: str, *what: Any) -> None:
        self.told.append((point, *what))
        time.sleep(self.sleeps.get(point, 0.0))
        if point in self.vetoes:
            raise Veto(f"no {point}")

    async def before_agent(self, agent: Agent) -> None:
        self._at("before_agent", agent)

    async def after_agent(self, agent: Agent, ended: Ended) -> None:
        self._at("after_agent", agent, ended)

    def before_model(self, model: Model) -> None:
        self._at("before_model", model)
        model.messages[0].clear()  # type: ignore[attr-defined]  # a copy: nobody minds

    def after_model(self, model: Model, ended: Ended) -> None:
        self._at("after_model", model, ended)

    def before_tool(self, tool: Tool) -> None:
        self._at("before_tool", tool)

    def after_tool(self, tool: Tool, ended: Ended) -> None:
        self._at("after_tool", tool, ended)
