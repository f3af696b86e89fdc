"""The rules of an agent template."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from libs.errors import Violation
from services.registry.model import Spec
from services.registry.model.agents import check_settings
from services.registry.model.tool_ids import check_tool_ids

_FIELD: Final = "agent_template.spec"
_CATEGORY: Final = re.compile(r"\w+([ _-]\w+)*")


def check_agent_template(spec: Spec) -> list[Violation]:
    return [*_check_category(spec), *_check_tools(spec), *_check_agent(spec)]


def _check_category(spec: Spec) -> Iterator[Violation]:
    if spec.get("category") and not _CATEGORY.fullmatch(spec["category"]):
        yield Violation(f"{_FIELD}.category", "is not a word")


def _check_tools(spec: Spec) -> Iterator[Violation]:
    if spec.get("agent", {}).get("tools"):
        yield Violation(f"{_FIELD}.agent.tools", "belong in required_tools and optional_tools")
    tool_ids, fields = [], []
    for name in ("required_tools", "optional_tools"):
        tool_ids += spec.get(name, ())
        fields += [f"{_FIELD}.{name}[{index}]" for index in range(len(spec.get(name, ())))]
    yield from check_tool_ids(tool_ids, fields)


def _check_agent(spec: Spec) -> list[Violation]:
    """The agent with the tools that it will have; its model may be chosen when it is made."""
    if "agent" not in spec:
        return [Violation(f"{_FIELD}.agent", "is required")]
    tool_ids = [*spec.get("required_tools", ()), *spec.get("optional_tools", ())]
    agent = {**spec["agent"], "tools": [{"tool_id": tool_id} for tool_id in dict.fromkeys(tool_ids)]}
    return check_settings(agent, f"{_FIELD}.agent")
