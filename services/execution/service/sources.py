"""Where tools come from."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Protocol

from libs import errors, identity
from libs.identity import Caller
from services.execution.model.events import Event, ToolSourceChanged
from services.execution.model.tools import Progress, SourceState, SourceStatus, Tool

_PROGRESS_PAUSE: Final = 0.2
OnProgress = Callable[[Progress], None]
Emit = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Origin:
    """The run that makes a call; all is empty outside of any run."""

    key: str = ""
    """The same for each attempt at the call."""
    execution_id: str = ""
    user_id: str = ""


class ToolError(Exception):
    """A tool cannot do what it was asked; `passing`: it may be able to later."""

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


class ToolSource(Protocol):
    """Tools that every tenant has, known from the start."""

    def tools(self) -> Sequence[Tool]: ...

    async def call(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
        """The output; raises ToolError with what the caller of the tool should know."""


class LiveSource(Protocol):
    """Tools of tenants, which come and go. The first part of their ids is the source's own."""

    @property
    def name(self) -> str: ...

    @property
    def changes(self) -> Changes: ...

    async def find(self, caller: Caller, pattern: str) -> Sequence[Tool]:
        """Those with this id, or whose ids begin with what is before the *. What is not known yet is asked for; where
        the pattern names one part of the source, that part must answer (TOOL_SOURCE_UNAVAILABLE).
        """

    async def known(self, caller: Caller) -> tuple[Sequence[Tool], Sequence[SourceStatus]]:
        """All that are known, and how its parts are; what is not known yet is asked for without waiting."""

    async def call(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
        """As of ToolSource, for the current caller; raises TOOL_SOURCE_UNAVAILABLE where the source is lost."""


class Changes:
    """Tells whoever listens that something has changed."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Event] = set()

    def tell(self) -> None:
        for listener in self._listeners:
            listener.set()

    @contextmanager
    def heard_by(self, listener: asyncio.Event) -> Iterator[None]:
        self._listeners.add(listener)
        try:
            yield
        finally:
            self._listeners.discard(listener)


async def follow(sources: Sequence[LiveSource], tool_ids: Sequence[str], emit: Emit) -> None:
    """Tells of each part of the sources that has some of the tools when it is lost, and when it is back."""
    caller, changed = identity.current(), asyncio.Event()
    lost: set[str] | None = None
    with ExitStack() as stack:
        for source in sources:
            stack.enter_context(source.changes.heard_by(changed))
        while True:
            changed.clear()
            with suppress(errors.Error):
                parts = [part for source in sources for part in (await source.known(caller))[1]]
                used = [part for part in parts if any(one.startswith(f"{part.source_id}/") for one in tool_ids)]
                if lost is None:
                    lost = {part.source_id for part in used if part.state is SourceState.FAILED}
                for part in used:
                    if part.state is (SourceState.READY if part.source_id in lost else SourceState.FAILED):
                        lost ^= {part.source_id}
                        emit(ToolSourceChanged(part.source_id, f"TOOL_SOURCE_STATE_{part.state.name}", part.message))
            await changed.wait()


def unavailable(source: str, why: str) -> errors.Unavailable:
    return errors.Unavailable(
        f"{source}: {why}", reason="TOOL_SOURCE_UNAVAILABLE", metadata={"source": source}, retry_after=1.0
    )


DEPTH: Final = "dynamicagents.dev/depth"
"""Where calls and runs carry how many of them wait for each other: in their metadata, as those of MCP do."""
TOOL_ID: Final = "dynamicagents.dev/tool-id"
"""Where the suite's MCP server says what a tool is called within."""
_depth: ContextVar[int] = ContextVar("depth", default=0)
_NOBODY: Final = Origin()
_origin: ContextVar[Origin] = ContextVar("origin", default=_NOBODY)
_progress: ContextVar[OnProgress | None] = ContextVar("progress", default=None)


def enter_key(key: str, execution_id: str = "", user_id: str = "") -> None:
    """Sets the idempotency key of the call that the current task makes, and whose it is."""
    _origin.set(Origin(key, execution_id, user_id))


def origin() -> Origin:
    return _origin.get()


def idempotency_key() -> str:
    """The same for each attempt at a call of a run; empty outside of any run."""
    return _origin.get().key


def enter_depth(depth: int) -> None:
    """Sets how many calls and runs wait for what the current task does."""
    _depth.set(depth)


def depth() -> int:
    return _depth.get()


def depth_of(metadata: Mapping[str, Any]) -> int:
    """What the metadata of a call or a run says of it; other people's texts are none."""
    try:
        return max(0, int(metadata.get(DEPTH, 0)))
    except (TypeError, ValueError, OverflowError):
        return 0


@contextmanager
def progress_told(tell: OnProgress) -> Iterator[None]:
    """Tells how far the call within is; not more often than anybody reads, and not after its end."""
    last, ended = -math.inf, False

    def told(progress: Progress) -> None:
        nonlocal last
        if not ended and (now := time.monotonic()) - last >= _PROGRESS_PAUSE:
            last = now
            tell(progress)

    token = _progress.set(told)
    try:
        yield
    finally:
        ended = True
        _progress.reset(token)


def on_progress() -> OnProgress | None:
    return _progress.get()
