"""Tools as a server describes them -> tools that can be offered."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from services.execution.model.tools import Tool
from services.execution.service import schemas
from services.execution.service.log import storable
from services.execution.service.names import fitted
from services.execution.service.suspicion import suspicion
from services.execution.service.tools import digest

_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
_LONGEST_NAME: Final = 128
LONGEST_DESCRIPTION: Final = 10_000
_LONGEST_TITLE: Final = 200
_MOST_EXAMPLES: Final = 10
MOST_TOOLS: Final = 2000


@dataclass(frozen=True, slots=True)
class Description:
    name: str
    function_name: str
    title: str
    description: str
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any] | None = None
    read_only: bool = False
    idempotent: bool = False
    takes_key: bool = False
    destructive: bool = False
    open_world: bool = False
    examples: Sequence[Mapping[str, Any]] = ()
    timeout: float | None = None
    relayed: bool = False


def to_tools(source_id: str, descriptions: Iterable[Description]) -> tuple[dict[str, Tool], str]:
    """The tools that are offered, by id, and what is to be said of those that are not."""
    tools: dict[str, Tool] = {}
    left_out = []
    for one in descriptions:
        tool_id = f"{source_id}/{one.name}"
        if not _NAME.fullmatch(one.name) or len(one.name) > _LONGEST_NAME or tool_id in tools:
            left_out.append(ascii(one.name)[:60])
            continue
        try:
            tools[tool_id] = _to_tool(tool_id, one)
        except (TypeError, ValueError, RecursionError):  # numbers or texts that cannot be handed on
            left_out.append(ascii(one.name)[:60])
    return tools, f"left out, for their names or schemas: {', '.join(left_out[:10])}" if left_out else ""


def _to_tool(tool_id: str, one: Description) -> Tool:
    made = Tool(
        tool_id=tool_id,
        function_name=fitted(one.function_name),
        title=storable(one.title)[:_LONGEST_TITLE],
        description=storable(one.description)[:LONGEST_DESCRIPTION],
        input_schema=storable(one.input_schema),
        output_schema=storable(one.output_schema),
        version="",
        read_only=one.read_only,
        idempotent=one.idempotent,
        takes_key=one.takes_key,
        destructive=one.destructive,
        open_world=one.open_world,
        examples=[storable(example) for example in one.examples][:_MOST_EXAMPLES],
        timeout=one.timeout,
        relayed=one.relayed,
    )
    suspicious = suspicion(made)
    made = _checked(made)
    made = replace(made, warning="; ".join(filter(None, [made.warning, suspicious])))
    return replace(made, version=digest({**asdict(made), "timeout": None, "relayed": None})[:12])


def _checked(tool: Tool) -> Tool:
    """A schema that cannot be applied makes a tool unusable where it is of the arguments."""
    if problem := schemas.problem_of(tool.input_schema):
        empty = {"type": "object"}
        warning = f"its input schema {problem}"
        return replace(tool, input_schema=empty, output_schema=None, warning=warning, unusable=True)
    if tool.output_schema is not None and (problem := schemas.problem_of(tool.output_schema)):
        return replace(tool, output_schema=None, warning=f"results are not checked: its output schema {problem}")
    return tool
