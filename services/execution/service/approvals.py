"""Which calls need somebody's approval: policies in CEL, evaluated by the library that Registry checks them with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Final

import structlog
from cel_expr_python import cel

from libs import identity
from services.execution.model.executions import ExecuteRequest, Usage
from services.execution.model.inputs import Kind
from services.execution.model.tools import Approval, BoundTool, Tool

log = structlog.get_logger()
_VARIABLES: Final = ("tool", "arguments", "caller", "usage")
_OF_TOOL: Final = (
    "tool_id",
    "function_name",
    "source",
    "version",
    "title",
    "read_only",
    "idempotent",
    "destructive",
    "open_world",
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a policy may look at beside the tool."""

    arguments: Mapping[str, Any]
    caller: Mapping[str, Any]
    usage: Mapping[str, Any]


def facts(request: ExecuteRequest, usage: Usage, arguments: Mapping[str, Any]) -> Facts:
    """Scopes are those with which the run began: it may have been taken up since, with none."""
    caller = identity.current_or_none()
    who = {"tenant": caller.tenant, "subject": caller.subject} if caller else {"tenant": "", "subject": ""}
    return Facts(arguments, {**who, "scopes": list(request.scopes), "user_id": request.user_id}, usage.to_dict())


def asking(bound: BoundTool, known: Facts) -> BoundTool:
    """The tool as it asks for this call. Of several policies that apply, the shortest wait holds."""
    if bound.asks not in (None, Kind.APPROVAL):
        return bound
    applying = [one for one in bound.approvals if _applies(one, bound.tool, known)]
    if bound.asks is None and not applying:
        return bound
    waits = [one.expires_after for one in applying if one.expires_after]
    return replace(bound, asks=Kind.APPROVAL, expires_after=min(waits, default=None))


def _applies(approval: Approval, tool: Tool, known: Facts) -> bool:
    """A policy that cannot be evaluated applies: better one question too many."""
    if not approval.condition:
        return True
    try:
        data = {"tool": {name: getattr(tool, name) for name in _OF_TOOL}, **asdict(known)}
        value = _compiled(approval.condition).eval(data=data).value()
    except Exception as error:
        value = error
    if not isinstance(value, bool):
        log.warning("approval policy cannot be evaluated", tool_id=tool.tool_id, problem=str(value)[:200])
    return value is not False


@lru_cache(maxsize=1024)
def _compiled(condition: str) -> Any:
    return _ENVIRONMENT.compile(condition)


_ENVIRONMENT: Final = cel.NewEnv(variables={name: cel.Type.Map(cel.Type.STRING, cel.Type.DYN) for name in _VARIABLES})
