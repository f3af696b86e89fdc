"""Runs of workflows, whole or as steps of others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from libs import errors
from libs.errors import Violation
from services.execution.model.targets import Workflow
from services.execution.model.turns import Answer, Work
from services.execution.service import schemas
from services.execution.service.journal import Journal
from services.execution.service.targets import Members
from services.execution.service.workflows.engine import Engine, Place
from services.execution.service.workflows.expressions import View, plain
from services.execution.service.workflows.interpreter import Interpreter
from services.execution.service.workflows.plan import planned
from services.execution.service.workflows.toolbox import Toolbox, ToolCaller
from services.execution.service.workflows.values import as_text


class WorkflowRunner:
    def __init__(self, engine: Engine, tools: ToolCaller, *, limit: int) -> None:
        self._engine, self._tools, self._interpreter = engine, tools, Interpreter(limit)

    async def run(self, work: Work, journal: Journal, members: Members) -> Answer:
        workflow = work.pinned.whole
        assert isinstance(workflow, Workflow)
        plan, given = planned(workflow.spec), _given(workflow, work.request.input)
        view = View(given, dict(work.request.session_state), last=given)
        toolbox = Toolbox(self._tools, self._tools.bind(workflow.spec, workflow.functions))

        async def interpreted(place: Place) -> Any:
            return await self._interpreter.run(plan, view, place, work.request.output_schema)

        output = await self._engine.start(_bounded(work, workflow), journal, members, toolbox, interpreted)
        return Answer(as_text(output), output if isinstance(output, dict) else None)


def _bounded(work: Work, workflow: Workflow) -> Work:
    """Within the limits of the workflow itself."""
    budget = dict(work.request.budget)
    for name in ("max_model_calls", "max_tool_calls"):
        if limit := workflow.spec.get("limits", {}).get(name):
            budget[name] = min(limit, budget.get(name) or limit)
    return replace(work, request=replace(work.request, budget=budget))


def _given(workflow: Workflow, text: str) -> Any:
    """What the expressions see as the input: data, where there is a schema for it."""
    schema = workflow.spec.get("input_schema")
    if schema is None:
        return text
    try:
        value = plain(orjson.loads(text))
    except (orjson.JSONDecodeError, ValueError):
        raise errors.invalid("input", "is not JSON, which the workflow's input_schema asks for") from None
    if problems := schemas.problems(schema, value):
        fields = [".".join(["input", *map(str, problem.absolute_path)]) for problem in problems]
        said = [Violation(field, problem.message[:300]) for field, problem in zip(fields, problems, strict=True)]
        raise errors.InvalidArgument(said)
    return value
