"""The rules of every kind, in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import orjson

from libs.errors import Violation
from services.registry.model import Draft, Kind, Spec
from services.registry.model.agents import check_agent
from services.registry.model.events import check_event_rule
from services.registry.model.prompts import check_prompt
from services.registry.model.router_config import check_router_config
from services.registry.model.teams import check_team
from services.registry.model.templates import check_agent_template
from services.registry.model.tools import check_mcp_server, check_tool_definition, check_tool_provider
from services.registry.model.workflows import check_workflow

MOST_BYTES: Final = 1024 * 1024


def check_draft(kind: Kind, draft: Draft) -> list[Violation]:
    """What holds for every kind: no larger than every client can receive, and no text that PostgreSQL cannot store."""
    content = draft.content()
    if len(orjson.dumps(content)) > MOST_BYTES:
        return [Violation(kind, f"is larger than {MOST_BYTES} bytes as JSON")]
    return [Violation(path, "contains a NUL character") for path in _with_nul(content, kind)]


def _with_nul(value: Any, path: str) -> Iterator[str]:
    match value:
        case str() if "\0" in value:
            yield path
        case Mapping():
            for key, inner in value.items():
                if "\0" in key:
                    yield path
                yield from _with_nul(inner, f"{path}.{key}")
        case list():
            for index, inner in enumerate(value):
                yield from _with_nul(inner, f"{path}[{index}]")


CHECKS: Final[Mapping[Kind, Callable[[Spec], list[Violation]]]] = {
    Kind.AGENT: check_agent,
    Kind.ROUTER_CONFIG: check_router_config,
    Kind.TEAM: check_team,
    Kind.WORKFLOW: check_workflow,
    Kind.AGENT_TEMPLATE: check_agent_template,
    Kind.PROMPT: check_prompt,
    Kind.TOOL_DEFINITION: check_tool_definition,
    Kind.MCP_SERVER: check_mcp_server,
    Kind.TOOL_PROVIDER: check_tool_provider,
    Kind.EVENT_RULE: check_event_rule,
}
