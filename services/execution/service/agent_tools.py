"""Agents, teams and workflows as tools of an agent: it asks, and goes on with what they answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from services.execution.model.events import Event
from services.execution.model.targets import Spec, Target, TargetKind, told_apart
from services.execution.model.tools import Tool, ToolResult
from services.execution.service import options
from services.execution.service.asking import Asking, brief
from services.execution.service.inner import Inner, InnerCall
from services.execution.service.names import fitted
from services.execution.service.tools import digest, is_target

_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "input": {"type": "string", "minLength": 1, "maxLength": 1_000_000, "description": "What to do or to answer."}
    },
    "required": ["input"],
    "additionalProperties": False,
}


class AgentTools(Inner):
    def __init__(self, asking: Asking, spec: Spec) -> None:
        self._asking = asking
        references = [one for one in spec.get("tools", ()) if is_target(one["tool_id"])]
        names = told_apart([Target.of(one["tool_id"]) for one in references])
        tools = (self._tool(one["tool_id"], name) for one, name in zip(references, names, strict=True))
        self.bound = tuple(options.bound(tool, one, spec) for tool, one in zip(tools, references, strict=True))

    def _tool(self, key: str, called: str) -> Tool:
        part, target = self._asking.work.pinned.parts[key], Target.of(key)
        kind = "an agent" if target.kind is TargetKind.AGENT else f"a {target.kind.value}"
        description = part.description or f"Asks {target.target_id}, {kind}."
        name = fitted(f"ask_{called}".replace("-", "_"))
        version = digest([key, part.revision])[:12]
        return Tool(key, name, target.target_id, description, _SCHEMA, version, idempotent=True, open_world=True)

    async def do(self, call: InnerCall) -> tuple[ToolResult, Sequence[Event]]:
        return brief(await self._asking.ask(call.bound.tool.tool_id, call.arguments["input"], call.number)), ()
