"""Observers of runs: traces, metrics and hooks are told of the same acts at the same places."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from typing import Final, Protocol

from services.execution.model.acts import Act, ModelTurn
from services.execution.model.events import Event
from services.execution.model.executions import Execution
from services.execution.model.turns import ModelCall, ModelPiece

VETOED: Final = "HOOK_VETOED"


class Observer(Protocol):
    def origin(self) -> str:
        """What an execution is kept with, for whoever takes it up to observe it as one with what was before."""

    def seen(self, act: Act) -> AbstractAsyncContextManager[None]:
        """Surrounds the act. An error of libs.errors that is raised before it stands in its place."""

    def ended(self, execution: Execution, outcome: Event) -> None:
        """An execution has its end, or waits for input."""


class Observers:
    """Several as one, each around those after it."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def origin(self) -> str:
        return next((origin for one in self._observers if (origin := one.origin())), "")

    def seen(self, act: Act) -> AbstractAsyncContextManager[None]:
        return self._observers[0].seen(act) if len(self._observers) == 1 else self._seen_by_each(act)

    @asynccontextmanager
    async def _seen_by_each(self, act: Act) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for observer in self._observers:
                await stack.enter_async_context(observer.seen(act))
            yield

    def ended(self, execution: Execution, outcome: Event) -> None:
        for observer in self._observers:
            observer.ended(execution, outcome)


NOBODY: Final = Observers()


class Models(Protocol):
    def stream(self, call: ModelCall) -> AsyncGenerator[ModelPiece, None]: ...


class ObservedModels:
    def __init__(self, models: Models, observer: Observer) -> None:
        self._models, self._observer = models, observer

    async def stream(self, call: ModelCall) -> AsyncGenerator[ModelPiece, None]:
        turn, began = ModelTurn(call), time.perf_counter()
        async with self._observer.seen(turn), aclosing(self._models.stream(call)) as pieces:
            async for piece in pieces:
                turn.hear(piece, time.perf_counter() - began)
                yield piece
