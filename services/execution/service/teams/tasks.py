"""A list of tasks that the leader writes, and works off with the members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from services.execution.model.events import Event
from services.execution.model.tools import ToolResult
from services.execution.service.asking import brief
from services.execution.service.inner import Inner, InnerCall, refused
from services.execution.service.teams.crew import Crew
from services.execution.service.teams.delegation import LONGEST_TASK, member_id, tool

DEFAULT_ROUNDS: Final = 10
_MOST_TASKS: Final = 200


@dataclass(slots=True)
class Task:
    title: str
    description: str
    after: Sequence[str]
    status: str = "open"
    member_id: str = ""
    output: str = ""


class TaskList(Inner):
    def __init__(self, crew: Crew, rounds: int) -> None:
        self._crew, self._most = crew, rounds or DEFAULT_ROUNDS
        self._tasks: dict[str, Task] = {}
        self._rounds: set[int] = set()
        text = {"type": "string", "minLength": 1, "maxLength": LONGEST_TASK}
        ids = {"type": "array", "items": {"type": "string"}, "maxItems": 50}
        self.bound = (
            tool(
                "create_task",
                "Create a task",
                "Writes a task on the list and returns its id.",
                {
                    "title": {"type": "string", "minLength": 1, "maxLength": 200},
                    "description": {**text, "description": "All that whoever does it must know."},
                    "after": {**ids, "description": "Ids of tasks that must be done before; their results go along."},
                },
                ["title", "description"],
            ),
            tool(
                "run_task",
                "Have a task done",
                "Has a member do a task of the list, and returns its answer.",
                {"task_id": {"type": "string"}, "member_id": member_id(crew)},
                ["task_id", "member_id"],
            ),
            tool("list_tasks", "List the tasks", "Returns all tasks with their status.", {}, []),
        )

    async def do(self, call: InnerCall) -> tuple[ToolResult, Sequence[Event]]:
        match call.bound.tool.function_name:
            case "create_task":
                return self._create(call), ()
            case "run_task":
                return await self._run(call), ()
        return ToolResult(self._listed()), ()

    def _create(self, call: InnerCall) -> ToolResult:
        given = call.arguments
        after = given.get("after", [])
        if unknown := [one for one in after if one not in self._tasks]:
            return refused(f"after: there is no task {unknown[0]!r}")
        if len(self._tasks) >= _MOST_TASKS:
            return refused(f"the list has {_MOST_TASKS} tasks, which is the most")
        task_id = f"task-{call.number}"
        self._tasks[task_id] = Task(given["title"], given["description"], after)
        return ToolResult(task_id)

    async def _run(self, call: InnerCall) -> ToolResult:
        task = self._tasks.get(call.arguments["task_id"])
        if task is None:
            return refused(f"there is no task {call.arguments['task_id']!r}")
        if waiting := [one for one in task.after if self._tasks[one].status != "done"]:
            return refused(f"{waiting[0]} must be done before")
        if task.status in ("running", "done"):
            return refused(f"the task is {task.status} already")
        if call.turn not in self._rounds and len(self._rounds) >= self._most:
            return refused(f"the team has had its {self._most} rounds: answer from what is done")
        self._rounds.add(call.turn)
        task.status, task.member_id = "running", call.arguments["member_id"]
        result = await self._crew.ask(task.member_id, self._text(task), call.number, call.turn)
        task.status = "failed" if result.is_error else "done"
        task.output = brief(result).output
        return brief(result)

    def _text(self, task: Task) -> str:
        before = "\n".join(f"{self._tasks[one].title}: {self._tasks[one].output}" for one in task.after)
        known = f"<results_of_earlier_tasks>\n{before}\n</results_of_earlier_tasks>\n" if before else ""
        return f"{known}{task.title}\n{task.description}"

    def _listed(self) -> str:
        listed: list[dict[str, Any]] = [
            {"task_id": task_id, "title": task.title, "status": task.status, "member_id": task.member_id}
            for task_id, task in self._tasks.items()
        ]
        return orjson.dumps(listed).decode()
