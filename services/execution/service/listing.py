"""Finding executions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Final, Protocol

import orjson

from libs import pagination
from libs.identity import Caller
from services.execution.model.executions import Execution, Status

_OF_THE_REST: Final = 1024


@dataclass(frozen=True, slots=True)
class ExecutionQuery:
    """All conditions must hold; an empty one is none."""

    agent_id: str = ""
    session_id: str = ""
    user_id: str = ""
    team_id: str = ""
    workflow_id: str = ""
    statuses: tuple[Status, ...] = ()
    created_from: datetime | None = None
    created_before: datetime | None = None
    before: str = ""
    """Only executions older than this one: their ids are in the order of their time."""


class ListingStore(Protocol):
    async def list(self, tenant: str, query: ExecutionQuery, *, limit: int) -> Sequence[Execution]:
        """The newest first."""


class Listing:
    def __init__(self, store: ListingStore) -> None:
        self._store = store

    async def list(
        self, caller: Caller, page_size: int, page_token: str, query: ExecutionQuery
    ) -> tuple[Sequence[Execution], str]:
        bound = asdict(query)
        size = pagination.page_size(page_size)
        query = replace(query, before=pagination.from_token(page_token, bound))
        found = await self._store.list(caller.tenant, query, limit=size + 1)
        page = pagination.fitting(found[:size], _bytes)
        if len(found) == len(page):
            return page, ""
        return page, pagination.to_token(page[-1].execution_id, bound)


def _bytes(execution: Execution) -> int:
    """About. The answer as data is the answer as text once more."""
    texts = len(execution.input.encode()) + 2 * len(execution.output.encode())
    return texts + len(orjson.dumps([dict(execution.metadata), execution.error])) + _OF_THE_REST
