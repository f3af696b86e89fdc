"""How much of a run fits into one message: what does not could never be sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from libs import errors
from services.execution.model.events import ExecutionCompleted
from services.execution.model.executions import Execution
from services.execution.service.tools import clipped

_PART: Final = 4
"""Of what a message holds, a text that comes with other things gets one in so many."""


class Room:
    def __init__(self, limit: int, weigh: Callable[[Execution, ExecutionCompleted], int]) -> None:
        self._limit, self._weigh = limit, weigh

    def require(self, execution: Execution, completed: ExecutionCompleted) -> None:
        if self._weigh(execution, completed) > self._limit:
            raise errors.ResourceExhausted(
                f"the run's answer does not fit into a message, which has at most {self._limit} bytes",
                reason="MESSAGE_TOO_LARGE",
                metadata={"limit_bytes": str(self._limit)},
            )

    def clipped(self, text: str) -> str:
        return clipped(text, self._limit // _PART)
