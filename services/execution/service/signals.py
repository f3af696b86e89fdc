"""What workflows are told from outside."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson

from libs import errors, ids
from libs.identity import Caller
from services.execution.model.executions import Execution
from services.execution.model.targets import TargetKind
from services.execution.model.workflows import Signal
from services.execution.service.executions import Executions
from services.execution.service.workflows.engine import Engine

_LARGEST: Final = 256 * 1024


class Signals:
    def __init__(self, executions: Executions, engine: Engine, wanted: asyncio.Event) -> None:
        """`wanted` is set where an execution is to be taken up."""
        self._executions, self._engine, self._wanted = executions, engine, wanted

    async def send(self, caller: Caller, execution_id: str, name: str, payload: Any, request_id: str) -> Execution:
        execution = await self._executions.get(caller, execution_id)
        if execution.target_kind is not TargetKind.WORKFLOW:
            raise errors.FailedPrecondition(
                f"only workflows take signals; this is the run of {execution.target.key}",
                metadata={"target": execution.target.key},
            )
        if len(orjson.dumps(payload)) > _LARGEST:
            raise errors.invalid("payload", f"has more than {_LARGEST} bytes as JSON")
        signal = Signal(0, name, payload, request_id or ids.new_id(), caller.subject)
        if await self._engine.signal(execution, signal):
            self._wanted.set()
        return await self._executions.get(caller, execution_id)
