"""Tools that an agent has of itself: they change the state of its session, and what is remembered of its user."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from libs import errors
from services.execution.model.events import StateChanged
from services.execution.model.sessions import LONGEST_MEMORY, Pin, State
from services.execution.model.targets import Spec
from services.execution.model.tools import DEFAULT_TOOL_TIMEOUT, BoundTool, Tool, ToolResult
from services.execution.service.inner import Inner, InnerCall
from services.execution.service.log import storable
from services.execution.service.sessions import ChangeState, check_state
from services.execution.service.tools import digest, violations

STATE: Final = "builtin/update_session_state"
MEMORY: Final = "builtin/update_user_memory"
_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": LONGEST_MEMORY}
_MOST_AT_ONCE: Final = 100


class OwnTools(Inner):
    """Those of one run. What they do can be done again without harm, and what a journal says that they did can be
    taken in without doing it.
    """

    def __init__(self, pin: Pin | None = None, change: ChangeState | None = None) -> None:
        pin, self.bound = pin or Pin(), _ALL
        self.state, self.version = pin.state, pin.state_version
        self.learnt: list[str] = []
        self.forgotten: list[str] = []
        self._known = {memory.memory_id for memory in pin.memories}
        self._change = change
        self._one_by_one = asyncio.Lock()

    async def do(self, call: InnerCall) -> tuple[ToolResult, list[StateChanged]]:
        arguments = storable(dict(call.arguments))
        if call.bound.tool.tool_id == MEMORY:
            return ToolResult(self._remember(arguments)), []
        async with self._one_by_one:
            before = self.version
            try:
                await self._edit(call.call_id, arguments)
            except errors.InvalidArgument as error:
                return ToolResult(error.message, is_error=True), []
            said = orjson.dumps(self.state, option=orjson.OPT_SORT_KEYS).decode()
            return ToolResult(said), self._changed(before)

    async def recall(self, call: InnerCall, result: ToolResult) -> list[StateChanged]:
        """Without doing it: the state in the database may be another by now."""
        if violations(call.bound.tool, call.arguments):
            return []
        arguments = storable(dict(call.arguments))
        if call.bound.tool.tool_id == MEMORY:
            self._remember(arguments)
            return []
        before = self.version
        with contextlib.suppress(errors.InvalidArgument):  # it was refused then, too
            self._take(edited(self.state, arguments))
        return self._changed(before)

    async def _edit(self, call_id: str, arguments: Mapping[str, Any]) -> None:
        if self._change is None:
            self._take(edited(self.state, arguments))
        else:
            self.state, self.version = await self._change(call_id, lambda state: edited(state, arguments))

    def _changed(self, before: int) -> list[StateChanged]:
        return [StateChanged(dict(self.state), self.version)] if self.version != before else []

    def _take(self, state: State) -> None:
        if state != self.state:
            self.state, self.version = state, self.version + 1

    def _remember(self, arguments: Mapping[str, Any]) -> str:
        self.learnt = list(dict.fromkeys([*self.learnt, *arguments.get("remember", ())]))
        self.forgotten += [memory_id for memory_id in arguments.get("forget", ()) if memory_id in self._known]
        return "It will be remembered."


def edited(state: State, arguments: Mapping[str, Any]) -> State:
    removed = arguments.get("remove", ())
    made = {**{key: value for key, value in state.items() if key not in removed}, **arguments.get("set", {})}
    check_state(made, "state")
    return made


def own_tools(spec: Spec, user_id: str) -> tuple[BoundTool, ...]:
    found = []
    if spec.get("session", {}).get("agentic_state"):
        found.append(_STATE_TOOL)
    if spec.get("memory", {}).get("agentic") and user_id:
        found.append(_MEMORY_TOOL)
    return tuple(BoundTool(tool, DEFAULT_TOOL_TIMEOUT) for tool in found)


def _tool(tool_id: str, title: str, description: str, properties: dict[str, Any]) -> Tool:
    schema = {"type": "object", "properties": properties, "additionalProperties": False, "minProperties": 1}
    name = tool_id.removeprefix("builtin/")
    version = digest([name, description, schema])[:12]
    return Tool(tool_id, name, title, description, schema, version, idempotent=True)


_STATE_TOOL: Final = _tool(
    STATE,
    "Update session state",
    "Changes the state of this conversation: sets values by their keys, and removes keys. Returns the whole state.",
    {
        "set": {"type": "object", "description": "Keys with their new values."},
        "remove": {"type": "array", "items": {"type": "string"}, "description": "Keys to remove."},
    },
)
_MEMORY_TOOL: Final = _tool(
    MEMORY,
    "Update user memory",
    "Remembers facts about the user for later conversations, or forgets some. Remember only what lasts: "
    "who the user is, and what the user prefers.",
    {
        "remember": {"type": "array", "items": _TEXT, "maxItems": _MOST_AT_ONCE, "description": "One fact each."},
        "forget": {
            "type": "array",
            "items": {"type": "string"},
            "maxItems": _MOST_AT_ONCE,
            "description": "Ids of memories, as listed.",
        },
    },
)
_ALL: Final = tuple(BoundTool(tool, DEFAULT_TOOL_TIMEOUT) for tool in (_STATE_TOOL, _MEMORY_TOOL))
"""Those that a run may have; `own_tools` says which it has."""
