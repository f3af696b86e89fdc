"""Hand-offs: the conversation moves, with all that was said in it, to somebody else, whose answer is the run's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from libs import errors
from services.execution.model.events import Event, HandedOff
from services.execution.model.sessions import Message
from services.execution.model.targets import Spec, Target, TargetKind, told_apart
from services.execution.model.tools import DEFAULT_TOOL_TIMEOUT, BoundTool, Tool, ToolResult
from services.execution.model.turns import Answer, Part
from services.execution.service.asking import Asking, place
from services.execution.service.inner import Inner, InnerCall, refused
from services.execution.service.names import fitted
from services.execution.service.tools import digest

_MOST_VISITS: Final = 2
"""Times that one conversation may come to somebody: back once, for what was forgotten."""
_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"reason": {"type": "string", "maxLength": 1000, "description": "Why, in one sentence."}},
    "additionalProperties": False,
}


class Handoffs(Inner):
    def __init__(self, asking: Asking, spec: Spec) -> None:
        self._asking = asking
        self._here = asking.work.pinned.target
        self._path = asking.work.handed or (self._here,)
        self._moved: tuple[str, int] | None = None
        handoffs = spec.get("handoffs", ())
        targets = [target_named(one) for one in handoffs]
        names = told_apart(targets)
        self._keys = {f"handoff/{name}": target.key for name, target in zip(names, targets, strict=True)}
        self.bound = tuple(map(self._bound, handoffs, targets, names))

    def _bound(self, handoff: Mapping[str, Any], target: Target, called: str) -> BoundTool:
        part = self._asking.work.pinned.parts[target.key]
        when = handoff.get("description") or part.description
        description = f"Hands the whole conversation over to {target.target_id}, who answers in your place. {when}"
        name = fitted(f"transfer_to_{called}".replace("-", "_"))
        version = digest([target.key, description])[:12]
        tool = Tool(f"handoff/{called}", name, target.target_id, description.strip(), _SCHEMA, version, idempotent=True)
        return BoundTool(tool, DEFAULT_TOOL_TIMEOUT)

    async def do(self, call: InnerCall) -> tuple[ToolResult, Sequence[Event]]:
        key = self._keys[call.bound.tool.tool_id]
        if self._moved is not None and self._moved[1] != call.number:
            return refused("the conversation has been handed over already"), ()
        if self._path.count(key) >= _MOST_VISITS:
            path = " -> ".join([*self._path, key])
            raise errors.Aborted(
                f"the conversation goes round in circles: {path}", reason="HANDOFF_LOOP", metadata={"path": path}
            )
        self._moved = key, call.number
        here, there = Target.of(self._here), Target.of(key)
        return ToolResult(f"{there.target_id} goes on with the conversation."), [
            HandedOff(here.target_id, there.target_id, call.arguments.get("reason", ""))
        ]

    @property
    def ends(self) -> bool:
        return self._moved is not None

    async def answer(self, messages: Sequence[Message]) -> Answer:
        assert self._moved is not None
        key, number = self._moved
        request = self._asking.work.request
        part = Part(
            key,
            request.input,
            output_schema=request.output_schema or self._asking.work.pinned.whole.spec.get("output_schema"),
            history=_as_context(messages),
            media=request.media,
            handed=(*self._path, key),
        )
        return await self._asking.run(place(Target.of(key), number), part)


def _as_context(messages: Sequence[Message]) -> tuple[Mapping[str, Any], ...]:
    """What was said before the input comes again: without the calls of tools that who takes over does not have."""
    said = [{**one, "tool_calls": []} for one in messages if one["role"] in ("user", "assistant") and one["content"]]
    last = max((index for index, one in enumerate(said) if one["role"] == "user"), default=len(said))
    return tuple(one for index, one in enumerate(said) if index != last)


def target_named(named: Mapping[str, Any]) -> Target:
    """The one of agent_id, team_id and workflow_id that is there."""
    return next(Target(kind, named[f"{kind.value}_id"]) for kind in TargetKind if f"{kind.value}_id" in named)
