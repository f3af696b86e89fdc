"""Tools: listing them, giving them to agents, and calling them with checked arguments."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import orjson
import structlog

from libs import deadline, errors, pagination
from libs.errors import Violation
from services.execution.model import DEFAULT_TOOL_TIMEOUT, BoundTool, Spec, Tool, ToolResult
from services.execution.service.schemas import validator

log = structlog.get_logger()

_DEEPEST: Final = 20
"""Protobuf's parsers give up at 100 messages within each other, and a Struct takes three for a level."""


class ToolSource(Protocol):
    def tools(self) -> Sequence[Tool]: ...

    async def call(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
        """The output; raises ToolError with what the caller of the tool should know."""


class ToolError(Exception):
    """A tool cannot do what it was asked."""


class Tools:
    def __init__(self, sources: Sequence[ToolSource]) -> None:
        self._by_id = {tool.tool_id: (source, tool) for source in sources for tool in source.tools()}

    def list(self, page_size: int, page_token: str) -> tuple[Sequence[Tool], str]:
        after = pagination.from_token(page_token, {})
        size = pagination.page_size(page_size)
        found = [tool for tool_id, (_, tool) in sorted(self._by_id.items()) if tool_id > after]
        more = len(found) > size
        return found[:size], pagination.to_token(found[size - 1].tool_id, {}) if more else ""

    def get(self, tool_id: str) -> Tool:
        if tool_id not in self._by_id:
            raise errors.NotFound("tool", tool_id)
        return self._by_id[tool_id][1]

    def bind(self, spec: Spec) -> tuple[BoundTool, ...]:
        """The tools that an agent names, once each."""
        bound: dict[str, BoundTool] = {}
        for reference in spec.get("tools", ()):
            seconds = float(reference["timeout"].removesuffix("s")) if "timeout" in reference else DEFAULT_TOOL_TIMEOUT
            for tool in self._named(reference["tool_id"]):
                bound.setdefault(tool.tool_id, BoundTool(tool, seconds))
        return tuple(bound.values())

    def _named(self, pattern: str) -> Sequence[Tool]:
        if pattern.endswith("*"):
            found = [tool for _, tool in self._by_id.values() if tool.tool_id.startswith(pattern[:-1])]
        else:
            found = [self._by_id[pattern][1]] if pattern in self._by_id else []
        if not found:
            raise errors.FailedPrecondition(
                f"the agent names the tool {pattern!r}, which does not exist",
                reason="TOOL_UNKNOWN",
                metadata={"tool_id": pattern},
            )
        return found

    async def call_directly(self, tool_id: str, arguments: Mapping[str, Any]) -> ToolResult:
        """A call outside of any run: bad arguments are the caller's error."""
        tool = self.get(tool_id)
        if problems := violations(tool, arguments):
            raise errors.InvalidArgument(problems)
        return await self.call(BoundTool(tool, DEFAULT_TOOL_TIMEOUT), arguments)

    async def call(self, bound: BoundTool, arguments: Mapping[str, Any]) -> ToolResult:
        """What the tool says; whatever goes wrong is a result with `is_error`."""
        started = time.perf_counter()
        output, is_error = await self._outcome(bound, arguments)
        return ToolResult(output, is_error, time.perf_counter() - started)

    async def _outcome(self, bound: BoundTool, arguments: Mapping[str, Any]) -> tuple[str, bool]:
        if problems := violations(bound.tool, arguments):
            return "; ".join(f"{v.field}: {v.description}" for v in problems), True
        source, tool = self._by_id[bound.tool.tool_id]
        seconds = deadline.narrowed(bound.timeout) or 0.0
        try:
            async with asyncio.timeout(seconds):
                return await source.call(tool, arguments), False
        except TimeoutError:
            return f"the tool did not answer within {bound.timeout:g} s", True
        except ToolError as error:
            return str(error), True
        except Exception:
            log.exception("tool failed unexpectedly", tool_id=tool.tool_id)
            return "the tool failed", True


def violations(tool: Tool, arguments: Mapping[str, Any]) -> list[Violation]:
    return [
        Violation(".".join(["arguments", *map(str, error.absolute_path)]), error.message[:300])
        for error in validator(tool.input_schema).iter_errors(dict(arguments))
    ]


def parse_object(text: str) -> dict[str, Any] | None:
    """The JSON object that a model wrote; None if it is none, or too deep to be sent."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) and not _too_deep(value) else None


def _too_deep(value: Any, level: int = 0) -> bool:
    if level > _DEEPEST:
        return True
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_too_deep(item, level + 1) for item in items)


def digest(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value)).hexdigest()
