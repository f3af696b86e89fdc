"""What hosts offer, looked at: tools that cannot be called are not taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace

from services.execution.model.hosts import Rejected
from services.execution.model.tools import Tool
from services.execution.service import schemas
from services.execution.service.record import storable
from services.execution.service.tools import digest


def taken(offered: Sequence[tuple[str, Tool]]) -> tuple[dict[str, Tool], list[Rejected]]:
    """Those that are taken, by the host's names for them, with their versions."""
    found: dict[str, Tool] = {}
    rejected: list[Rejected] = []
    for index, (name, tool) in enumerate(offered):
        if name in found:
            rejected.append(Rejected(name, f"register.tools[{index}].name", "is registered twice"))
        elif problem := _problem(tool):
            field, reason = problem
            rejected.append(Rejected(name, f"register.tools[{index}].{field}", reason))
        else:
            found[name] = _versioned(tool)
    return found, rejected


def _problem(tool: Tool) -> tuple[str, str] | None:
    for field, schema in (("input_schema", tool.input_schema), ("output_schema", tool.output_schema)):
        if schema is not None and (reason := schemas.problem_of(schema)):
            return field, reason
    for index, example in enumerate(tool.examples):
        if problem := next(iter(schemas.problems(tool.input_schema, example)), None):
            return f"examples[{index}]", f"breaks the input schema: {problem.message[:200]}"
    return None


def _versioned(tool: Tool) -> Tool:
    tool = Tool(**storable(asdict(tool)))
    return replace(tool, version=digest(asdict(tool))[:12])


def listed(offers: Iterable[tuple[str, Mapping[str, Tool]]]) -> dict[str, Tool]:
    """The tools of hosts, by id. Offers come with the names of their hosts, the newest first: where two describe a tool
    differently, the newer one is believed.
    """
    found: dict[str, Tool] = {}
    differing: dict[str, list[str]] = {}
    for host_id, tools in offers:
        for tool in tools.values():
            known = found.setdefault(tool.tool_id, tool)
            if known.version != tool.version:
                differing.setdefault(tool.tool_id, []).append(host_id)
    for tool_id, hosts in differing.items():
        warning = f"older hosts describe it differently: {', '.join(sorted(hosts)[:10])}"
        found[tool_id] = replace(found[tool_id], warning=warning)
    return found
