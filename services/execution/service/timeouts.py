"""How long model calls of a kind usually take, and from when on one is taken for lost."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol

from libs import errors
from services.execution.model.turns import ModelCall, ModelPiece

_KEPT: Final = 200
"""Durations kept of a kind."""
_KINDS: Final = 1000
_ENOUGH: Final = 20
_QUANTILE: Final = 0.95


class Models(Protocol):
    def stream(self, call: ModelCall) -> AsyncGenerator[ModelPiece, None]: ...


def quantile(durations: Sequence[float], q: float) -> float:
    """The least of `durations` that at least the part `q` of them do not exceed."""
    ordered = sorted(durations)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Patience:
    """`factor` times what is usual, but at least `floor` seconds. Factor 0: no end."""

    factor: float
    floor: float

    def limit(self, durations: Sequence[float]) -> float | None:
        """None while too few calls are known."""
        if not self.factor or len(durations) < _ENOUGH:
            return None
        return max(self.floor, self.factor * quantile(durations, _QUANTILE))


class Durations:
    """The last durations of each kind of call; of the kinds, those used last."""

    def __init__(self) -> None:
        self._by_kind: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()

    def note(self, kind: tuple[str, str], seconds: float) -> None:
        self._by_kind.setdefault(kind, deque(maxlen=_KEPT)).append(seconds)
        self._by_kind.move_to_end(kind)
        if len(self._by_kind) > _KINDS:
            self._by_kind.popitem(last=False)

    def of(self, kind: tuple[str, str]) -> Sequence[float]:
        return self._by_kind.get(kind, ())


class TimedModels:
    """Models whose calls end when they take much longer than they usually do."""

    def __init__(self, models: Models, patience: Patience) -> None:
        self._models, self._patience, self._durations = models, patience, Durations()

    async def stream(self, call: ModelCall) -> AsyncGenerator[ModelPiece, None]:
        kind = (call.agent_id, call.model)
        limit = self._patience.limit(self._durations.of(kind))
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with aclosing(self._models.stream(call)) as pieces:
            while (piece := await self._next(pieces, limit, started)) is not None:
                yield piece
        self._durations.note(kind, loop.time() - started)

    @staticmethod
    async def _next(pieces: AsyncGenerator[ModelPiece, None], limit: float | None, started: float) -> ModelPiece | None:
        try:
            async with asyncio.timeout_at(None if limit is None else started + limit) as patience:
                return await anext(pieces, None)
        except TimeoutError:
            if not patience.expired():
                raise
            raise errors.DeadlineExceeded(
                f"the model had not answered after {limit:.1f} s, far longer than it usually takes",
                metadata={"limit": f"{limit:.3f}"},
            ) from None
