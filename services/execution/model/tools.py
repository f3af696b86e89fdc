"""Tools and what they answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from services.execution.model.inputs import Kind

DEFAULT_TOOL_TIMEOUT: Final = 30.0
ASK_USER: Final = "builtin/ask_user"


@dataclass(frozen=True, slots=True)
class Tool:
    tool_id: str
    function_name: str
    title: str
    description: str
    input_schema: dict[str, Any]
    version: str
    output_schema: dict[str, Any] | None = None
    read_only: bool = False
    idempotent: bool = False
    takes_key: bool = False
    """Its source hands the idempotency key on, so that a call which is made twice has the effect of one."""
    destructive: bool = False
    open_world: bool = False
    examples: Sequence[Mapping[str, Any]] = ()
    timeout: float | None = None
    """Longest time of a call, as its source says."""
    warning: str = ""
    unusable: bool = False
    cache_ttl: float = 0.0
    """For how long a result holds, as its source says; 0: it does not say."""
    per_user: bool = False
    """It acts with what its caller may do: a result is that caller's alone."""
    relayed: bool = False
    """A suite's MCP server offers it, perhaps our own."""

    @property
    def repeatable(self) -> bool:
        """A call that may have been made can be made again."""
        return self.idempotent or self.read_only or self.takes_key

    @property
    def source(self) -> str:
        return self.tool_id.split("/", 1)[0]


@dataclass(frozen=True, slots=True)
class AgentCard:
    """What others are told of an agent."""

    agent_id: str
    revision: int
    title: str
    description: str
    input_schema: Mapping[str, Any] | None = None
    output_schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    output: str
    is_error: bool = False
    duration: float = 0.0
    cached: bool = False
    """It is that of an earlier call; the tool was not called."""
    refused: bool = False
    """The run itself would not make the call: nothing was done."""


@dataclass(frozen=True, slots=True)
class Approval:
    """When calls wait until somebody has allowed them, and for how long."""

    condition: str = ""
    """In CEL; empty: always."""
    expires_after: float | None = None


@dataclass(frozen=True, slots=True)
class BoundTool:
    """A tool as an agent has it."""

    tool: Tool
    timeout: float
    asks: Kind | None = None
    """What each call waits for."""
    expires_after: float | None = None
    """Seconds after which an approval that did not come is a no."""
    approvals: tuple[Approval, ...] = ()
    """Any of them may have a call wait."""
    retries: int = 0
    backoff: float = 0.5
    cache_ttl: float = 0.0
    result_limit: int = 0


class SourceState(StrEnum):
    PENDING = "pending"
    READY = "ready"
    IDLE = "idle"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SourceStatus:
    source_id: str
    state: SourceState = SourceState.PENDING
    message: str = ""
    tool_count: int = 0
    protocol_version: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a call is."""

    progress: float
    total: float = 0.0
    message: str = ""
