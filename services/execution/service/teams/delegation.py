"""Tasks for members, one at a time or several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from services.execution.model.events import Event
from services.execution.model.sessions import Message
from services.execution.model.tools import DEFAULT_TOOL_TIMEOUT, BoundTool, Tool, ToolResult
from services.execution.model.turns import Answer
from services.execution.service.asking import brief
from services.execution.service.inner import Inner, InnerCall, refused
from services.execution.service.teams.crew import Crew
from services.execution.service.tools import digest

LONGEST_TASK: Final = 100_000


def tool(name: str, title: str, description: str, properties: dict[str, Any], required: list[str]) -> BoundTool:
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    version = digest([name, description, schema])[:12]
    made = Tool(f"team/{name}", name, title, description, schema, version, idempotent=True)
    return BoundTool(made, DEFAULT_TOOL_TIMEOUT)


def member_id(crew: Crew) -> dict[str, Any]:
    return {"type": "string", "enum": list(crew.members), "description": "The member, by its id."}


class Delegation(Inner):
    """`direct`: the members' answers are the team's. `single`: of one member."""

    def __init__(self, crew: Crew, *, direct: bool, single: bool) -> None:
        self._crew, self._direct, self._single = crew, direct, single
        self._chosen: int | None = None
        self._answers: dict[int, str] = {}
        task = {"type": "string", "minLength": 1, "maxLength": LONGEST_TASK, "description": "All that it must know."}
        self.bound = (
            tool(
                "delegate_task_to_member",
                "Delegate a task to a member",
                "Gives a task to a member of the team and returns its answer.",
                {"member_id": member_id(crew), "task": task},
                ["member_id", "task"],
            ),
        )

    async def do(self, call: InnerCall) -> tuple[ToolResult, Sequence[Event]]:
        if self._single and self._chosen not in (None, call.number):
            return refused("another member has the request already"), ()
        self._chosen = call.number
        result = await self._crew.ask(call.arguments["member_id"], call.arguments["task"], call.number, call.turn)
        if result.is_error:
            self._chosen = None  # the leader may choose another one
        elif self._direct:
            self._answers[call.number] = result.output
        return brief(result), ()

    @property
    def ends(self) -> bool:
        return bool(self._answers)

    async def answer(self, messages: Sequence[Message]) -> Answer:
        return Answer("\n\n".join(output for _, output in sorted(self._answers.items())))
