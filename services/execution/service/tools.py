"""Tools: listing them, giving them to agents, and calling them with checked arguments."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import fields, replace
from typing import Any, Final, TypeVar

import orjson
import structlog

from libs import deadline, errors, identity
from libs.errors import Violation
from libs.identity import Caller
from services.execution.model.acts import ToolUse
from services.execution.model.targets import Part, Pinned, Spec, TargetKind
from services.execution.model.tool_calls import CallMade
from services.execution.model.tools import ASK_USER, DEFAULT_TOOL_TIMEOUT, BoundTool, Tool, ToolResult
from services.execution.service import options, schemas
from services.execution.service.cache import ResultCache
from services.execution.service.elicitation import SourceAsks
from services.execution.service.names import named
from services.execution.service.observing import NOBODY, Observer
from services.execution.service.sources import (
    Emit,
    LiveSource,
    ToolError,
    ToolSource,
    enter_key,
    follow,
    idempotency_key,
)
from services.execution.service.workflows.plan import tools_of_steps

__all__ = ["ToolError", "ToolSource", "Tools", "enter_key", "idempotency_key"]

log = structlog.get_logger()

P = TypeVar("P", bound=Part)
_DEEPEST: Final = 20
"""Protobuf's parsers give up at 100 messages within each other, and a Struct takes three for a level."""
RESULT_LIMIT: Final = 256 * 1024
_LONGEST_PAUSE: Final = 30.0
_CACHE: Final = 32 * 1024 * 1024


class Tools:
    """The tools of all sources. Those that come and go are pinned to an agent, as its functions are: whoever takes its
    run up finds the same.
    """

    def __init__(
        self,
        sources: Sequence[ToolSource],
        live: Sequence[LiveSource] = (),
        *,
        limit: int = RESULT_LIMIT,
        cache: int = _CACHE,
        note: Callable[[CallMade], None] = lambda _: None,
        observer: Observer = NOBODY,
    ) -> None:
        self._by_id = {tool.tool_id: (source, tool) for source in sources for tool in source.tools()}
        self._limit, self._cache, self._observer = limit, ResultCache(cache), observer
        self._note = note
        """Keeps what is known of a call outside of any run."""
        self.live = {source.name: source for source in live}

    @property
    def fixed(self) -> Sequence[Tool]:
        return [tool for _, tool in self._by_id.values()]

    def get(self, tool_id: str) -> Tool:
        if tool_id not in self._by_id:
            raise errors.NotFound("tool", tool_id)
        return self._by_id[tool_id][1]

    async def pinned(self, caller: Caller, pinned: Pinned) -> Pinned:
        """All with the tools that they name of live sources, as they are now; raises where there is no such tool."""
        parts = {key: await self.with_live(caller, part) for key, part in pinned.parts.items()}
        for part in parts.values():
            self.bind(part.spec, part.functions)
        return replace(pinned, parts=parts)

    async def with_live(self, caller: Caller, part: P) -> P:
        found: dict[str, Tool] = {}
        for pattern in (reference["tool_id"] for reference in _references(part.spec)):
            if (source := self.live.get(pattern.partition("/")[0])) is not None:
                found |= {tool.tool_id: tool for tool in await source.find(caller, pattern)}
        return replace(part, functions=(*part.functions, *map(_as_function, found.values()))) if found else part

    def bind(self, spec: Spec, functions: Sequence[Mapping[str, Any]] = ()) -> tuple[BoundTool, ...]:
        """The tools that an agent names, once each. Its functions are called by its caller."""
        known = {tool_id: tool for tool_id, (_, tool) in self._by_id.items()}
        known |= {function["tool_id"]: Tool(**function) for function in functions}
        bound: dict[str, BoundTool] = {}
        for reference in _references(spec):
            for tool in _meant(known, reference["tool_id"]):
                bound.setdefault(tool.tool_id, options.bound(tool, reference, spec))
        return named(list(bound.values()))

    async def call_directly(self, tool_id: str, arguments: Mapping[str, Any]) -> ToolResult:
        """A call outside of any run: bad arguments are the caller's error, and a source that is lost is no result."""
        tool = await self._found(tool_id)
        if tool.unusable:
            raise _unusable(tool)
        if problems := violations(tool, arguments):
            raise errors.InvalidArgument(problems)
        bound = BoundTool(tool, tool.timeout or DEFAULT_TOOL_TIMEOUT, cache_ttl=options.cache_ttl(tool))
        started = time.perf_counter()
        try:
            result = await self._made(bound, arguments)
        except SourceAsks:
            error: errors.Error = errors.FailedPrecondition(
                f"the tool {tool_id!r} asks something before it answers, which only a run can put to its user",
                reason="TOOL_ASKS",
                metadata={"tool_id": tool_id},
            )
            self._note(CallMade(tool, arguments, _failed(error, started)))
            raise error from None
        except errors.Error as failure:
            self._note(CallMade(tool, arguments, _failed(failure, started)))
            raise
        self._note(CallMade(tool, arguments, result))
        return result

    async def _found(self, tool_id: str) -> Tool:
        source = self.live.get(tool_id.partition("/")[0])
        if source is None or tool_id.endswith("*"):
            return self.get(tool_id)
        if found := await source.find(identity.current(), tool_id):
            return found[0]
        raise errors.NotFound("tool", tool_id)

    def followed(self, tools: Sequence[BoundTool], emit: Emit) -> AbstractAsyncContextManager[None]:
        """Tells, within the block, of sources of the tools that are lost or come back."""
        live = [self.live[name] for name in {bound.tool.source for bound in tools} if name in self.live]
        return _followed(live, [bound.tool.tool_id for bound in tools], emit) if live else nullcontext()

    async def call(self, bound: BoundTool, arguments: Mapping[str, Any]) -> ToolResult:
        """What the tool says; whatever goes wrong is a result with `is_error`."""
        started = time.perf_counter()
        if problems := violations(bound.tool, arguments):
            said = "; ".join(f"{v.field}: {v.description}" for v in problems)
            return ToolResult(clipped(said, self._limit), is_error=True)
        try:
            return await self._made(bound, arguments)
        except errors.Error as error:
            return ToolResult(error.message, is_error=True, duration=time.perf_counter() - started)

    async def _made(self, bound: BoundTool, arguments: Mapping[str, Any]) -> ToolResult:
        use = ToolUse(bound.tool, arguments)
        async with self._observer.seen(use):
            result = use.result = await self._result(bound, arguments)
        return result

    async def _result(self, bound: BoundTool, arguments: Mapping[str, Any]) -> ToolResult:
        """Of the call, or of an earlier one."""
        if not bound.cache_ttl:
            return await self._timed(bound, arguments)
        tool, caller = bound.tool, identity.current_or_none()
        who = [caller.tenant, caller.subject if tool.per_user else ""] if caller else []
        try:
            key = digest([who, tool.tool_id, tool.version, arguments, bound.result_limit])
        except orjson.JSONEncodeError:  # a number that no JSON of 64 bits has
            return await self._timed(bound, arguments)
        patience = deadline.narrowed(bound.timeout) or 0.0
        try:
            return await self._cache.get(key, bound.cache_ttl, patience, lambda: self._timed(bound, arguments))
        except TimeoutError:
            return ToolResult(_no_answer(patience), is_error=True, duration=patience)

    async def _timed(self, bound: BoundTool, arguments: Mapping[str, Any]) -> ToolResult:
        started = time.perf_counter()
        limit = min(bound.result_limit or self._limit, self._limit)
        output, is_error = await self._answer(bound, arguments)
        return ToolResult(clipped(output, limit), is_error, time.perf_counter() - started)

    async def _answer(self, bound: BoundTool, arguments: Mapping[str, Any]) -> tuple[str, bool]:
        """Of the first attempt that has one."""
        for attempt in range(bound.retries):
            try:
                return await self._attempt(bound, arguments)
            except _NoAnswer:
                pass
            except errors.Unavailable as error:
                log.info("tool call is made again", tool_id=bound.tool.tool_id, reason=error.reason_code)
            pause = min(bound.backoff * 2**attempt, _LONGEST_PAUSE)
            await asyncio.sleep(pause * random.uniform(0.75, 1.0))  # noqa: S311
        try:
            return await self._attempt(bound, arguments)
        except _NoAnswer as error:
            return str(error), True

    async def _attempt(self, bound: BoundTool, arguments: Mapping[str, Any]) -> tuple[str, bool]:
        tool = bound.tool
        source: ToolSource | LiveSource = self.live.get(tool.source) or self._by_id[tool.tool_id][0]
        seconds = deadline.narrowed(bound.timeout) or 0.0
        try:
            with deadline.within(seconds):
                async with asyncio.timeout(seconds):
                    output = await source.call(tool, arguments)
            problem = _problem_of_output(tool, output) if len(output) <= self._limit else None
            return (problem, True) if problem else (output, False)
        except TimeoutError:
            raise _NoAnswer(_no_answer(seconds)) from None
        except ToolError as error:
            if error.passing:
                raise _NoAnswer(str(error)) from None
            return str(error), True
        except (errors.Error, SourceAsks):
            raise
        except Exception:
            log.exception("tool failed unexpectedly", tool_id=tool.tool_id)
            raise _NoAnswer("the tool failed") from None


@asynccontextmanager
async def _followed(sources: Sequence[LiveSource], tool_ids: Sequence[str], emit: Emit) -> AsyncIterator[None]:
    following = asyncio.create_task(follow(sources, tool_ids, emit))
    try:
        yield
    finally:
        following.cancel()


class _NoAnswer(Exception):
    """Another attempt may have one."""


def _no_answer(seconds: float) -> str:
    return f"the tool did not answer within {seconds:.3g} s"


def _failed(error: errors.Error, started: float) -> ToolResult:
    return ToolResult(error.message, is_error=True, duration=time.perf_counter() - started)


def is_target(tool_id: str) -> bool:
    """It names an agent, a team or a workflow, which runs as a member."""
    return tool_id.partition("/")[0] in list(TargetKind)


def _as_function(tool: Tool) -> Mapping[str, Any]:
    """As `asdict` would, which copies every part of a schema."""
    return {field.name: getattr(tool, field.name) for field in fields(tool)}


def _references(spec: Spec) -> Iterator[Mapping[str, Any]]:
    yield from (one for one in spec.get("tools", ()) if not is_target(one["tool_id"]))
    for server in spec.get("mcp_server_ids", ()):
        yield {"tool_id": f"mcp/{server}/*"}
    yield from ({"tool_id": tool_id} for tool_id in tools_of_steps(spec))


def _meant(known: Mapping[str, Tool], pattern: str) -> Sequence[Tool]:
    if pattern.endswith("*"):
        # Whoever wants runs that stop to ask says so by name.
        begun = [tool for tool_id, tool in known.items() if tool_id.startswith(pattern[:-1]) and tool_id != ASK_USER]
        found = [tool for tool in begun if not tool.unusable]
    else:
        found = [known[pattern]] if pattern in known else []
    if not found:
        raise errors.FailedPrecondition(
            f"the agent names the tool {pattern!r}, which does not exist",
            reason="TOOL_UNKNOWN",
            metadata={"tool_id": pattern},
        )
    if found[0].unusable:
        raise _unusable(found[0])
    return found


def _unusable(tool: Tool) -> errors.FailedPrecondition:
    return errors.FailedPrecondition(
        f"the tool {tool.tool_id!r} cannot be called: {tool.warning}",
        reason="TOOL_UNUSABLE",
        metadata={"tool_id": tool.tool_id},
    )


def violations(tool: Tool, arguments: Mapping[str, Any]) -> list[Violation]:
    return [
        Violation(".".join(["arguments", *map(str, error.absolute_path)]), error.message[:300])
        for error in schemas.problems(tool.input_schema, dict(arguments))
    ]


def _problem_of_output(tool: Tool, output: str) -> str | None:
    """Why an output is not what the tool's output_schema says."""
    if tool.output_schema is None:
        return None
    try:
        value = orjson.loads(output)
    except orjson.JSONDecodeError:
        return "the tool's result is not JSON, which its output schema asks for"
    problem = next(iter(schemas.problems(tool.output_schema, value)), None)
    where = ".".join(["result", *map(str, problem.absolute_path)]) if problem else ""
    return f"the tool's result breaks its output schema: {where}: {problem.message[:300]}" if problem else None


def clipped(text: str, limit: int) -> str:
    whole = text.encode(errors="replace")
    if len(whole) <= limit:
        return whole.decode()
    return (
        f"{whole[:limit].decode(errors='ignore')}\n[cut off: the result has {len(whole)} bytes, the limit is {limit}]"
    )


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
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()
