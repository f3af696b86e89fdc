"""Who asked for what, and what became of it: a record for each allow, deny, hit and miss, never with a value."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, Self

import structlog

from libs import errors
from libs.identity import Caller
from services.secrets.model import Scope, Value

log = structlog.get_logger()
_MOST: Final = 100_000
"""Records that wait for a database that does not answer; then the oldest go."""
_BATCH: Final = 1000
_PAUSE: Final = 1.0
_FORGET_EVERY: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Record:
    tenant: str
    subject: str
    time: datetime
    action: str
    outcome: str
    scope: str = ""
    provider: str = ""
    field: str = ""
    secret_id: str = ""
    version: int = 0
    key_id: str = ""
    digest: str = ""
    service: str = ""


class AuditStore(Protocol):
    async def append(self, records: Sequence[Record]) -> None: ...

    async def forget(self, before: datetime) -> None: ...


class Trail:
    """Records are written in batches. With `fail_closed` who leaves one waits until it is written, or is refused."""

    def __init__(
        self,
        store: AuditStore,
        digest: Callable[[Value], tuple[str, str]],
        *,
        fail_closed: bool = False,
        interval: float = 0.25,
        days: int = 90,
    ) -> None:
        self._store, self._digest, self._fail_closed = store, digest, fail_closed
        self._interval, self._days = (0.0 if fail_closed else interval), days
        self._waiting: list[Record] = []
        self._outcome: asyncio.Future[None] | None = None
        self._ready, self._writing = asyncio.Event(), asyncio.Lock()
        self._lost = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        async with self._writing:  # a batch that is cut off is nobody's, and who waits for it is never told
            self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self._flush()

    def record(
        self,
        caller: Caller,
        action: str,
        outcome: str,
        *,
        scope: Scope = Scope.SYSTEM,
        provider: str = "",
        field: str = "",
        secret_id: str = "",
        version: int = 0,
        value: Value | None = None,
    ) -> Record:
        key_id, digest = ("", "") if value is None else self._digest(value)
        return Record(
            caller.tenant,
            caller.subject,
            datetime.now(UTC),
            action,
            outcome,
            scope.name.lower(),
            provider,
            field,
            secret_id,
            version,
            key_id,
            digest,
            caller.service,
        )

    async def write(self, records: Iterable[Record]) -> None:
        self._waiting.extend(records)
        if len(self._waiting) > _MOST:
            self._lost += len(self._waiting) - _MOST
            del self._waiting[:-_MOST]
        self._ready.set()
        if self._fail_closed:
            if self._outcome is None:
                self._outcome = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._outcome)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        forgotten = -_FORGET_EVERY
        while True:
            await self._ready.wait()
            if len(self._waiting) < _BATCH:
                await asyncio.sleep(self._interval)
            written = await self._flush()
            if loop.time() - forgotten > _FORGET_EVERY:
                forgotten = loop.time()
                await self._forget()
            if not written and not self._fail_closed:
                await asyncio.sleep(_PAUSE)

    async def _forget(self) -> None:
        try:
            await self._store.forget(datetime.now(UTC) - timedelta(days=self._days))
        except Exception as error:
            log.warning("old audit records stay", kind=type(error).__name__)

    async def _flush(self) -> bool:
        async with self._writing:
            return await self._write()

    async def _write(self) -> bool:
        batch, outcome = self._waiting, self._outcome
        self._waiting, self._outcome = [], None
        self._ready.clear()
        if not batch:
            return True
        try:
            await self._store.append(batch)
        except Exception as error:
            log.error("the audit trail cannot be written", kind=type(error).__name__, records=len(batch))
            if outcome and not outcome.done():
                outcome.set_exception(_unwritten())
                outcome.exception()
            if not self._fail_closed:
                self._waiting[:0] = batch
                self._ready.set()
            return False
        if outcome and not outcome.done():
            outcome.set_result(None)
        if self._lost:
            log.error("audit records were lost", records=self._lost)
            self._lost = 0
        return True


def _unwritten() -> errors.Unavailable:
    return errors.Unavailable("the audit trail cannot be written", reason="AUDIT_UNAVAILABLE", retry_after=1.0)
