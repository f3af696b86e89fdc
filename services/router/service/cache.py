"""Answers that are given again for an equal request of the same tenant."""

from __future__ import annotations

import base64
import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

import orjson

from libs.identity import Caller
from services.router.model import (
    AnsweredBy,
    CacheBackend,
    ChatCall,
    Chunk,
    Deployment,
    FinishReason,
    RoutingTable,
    chunk_from_dict,
    chunk_to_dict,
)

_ENDED_WELL: Final = frozenset({FinishReason.STOP, FinishReason.LENGTH})


class AnswerStore(Protocol):
    """Where answers are kept. One that is down finds nothing and keeps nothing."""

    async def get(self, key: str) -> bytes | None: ...

    async def put(self, key: str, answer: bytes, ttl: float) -> None: ...


class AnswerCache:
    def __init__(self, stores: Mapping[CacheBackend, AnswerStore]) -> None:
        self._stores = stores
        self.lookups = {"hit": 0, "miss": 0}

    async def find(self, caller: Caller, table: RoutingTable, call: ChatCall) -> Chunk | None:
        store = self._store(table, call)
        if store is None:
            return None
        kept = await store.get(_key(caller, table, call))
        found = None if kept is None else _read(kept, table)
        self.lookups["miss" if found is None else "hit"] += 1
        return found

    async def keep(self, caller: Caller, table: RoutingTable, call: ChatCall, whole: Chunk) -> None:
        store = self._store(table, call)
        if store and table.cache and whole.finish_reason in _ENDED_WELL and not whole.tool_calls:
            await store.put(_key(caller, table, call), orjson.dumps(_kept(whole)), table.cache.ttl)

    def _store(self, table: RoutingTable, call: ChatCall) -> AnswerStore | None:
        cache = table.cache
        if cache is None or call.options.no_cache:
            return None
        if cache.model_groups and table.group_of(call.model) not in cache.model_groups:
            return None
        return self._stores.get(cache.backend)


class MemoryStore:
    """Forgets the answers that were not asked for the longest."""

    def __init__(self, *, most_answers: int = 10_000, most_bytes: int = 64 * 1024 * 1024) -> None:
        self._answers: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._most_answers, self._most_bytes, self._bytes = most_answers, most_bytes, 0

    async def get(self, key: str) -> bytes | None:
        expires, answer = self._answers.get(key, (0.0, b""))
        if not answer:
            return None
        if expires <= time.monotonic():
            self._drop(key)
            return None
        self._answers.move_to_end(key)
        return answer

    async def put(self, key: str, answer: bytes, ttl: float) -> None:
        self._drop(key)
        if len(answer) > self._most_bytes:
            return
        self._answers[key] = (time.monotonic() + ttl, answer)
        self._bytes += len(answer)
        while len(self._answers) > self._most_answers or self._bytes > self._most_bytes:
            self._drop(next(iter(self._answers)))

    def _drop(self, key: str) -> None:
        _, answer = self._answers.pop(key, (0.0, b""))
        self._bytes -= len(answer)


def _key(caller: Caller, table: RoutingTable, call: ChatCall) -> str:
    """Two requests have the same key when nothing that could change the answer differs."""
    asked = [
        table.group_of(call.model),
        call.messages,
        call.tools,
        call.tool_choice,
        call.response_format,
        call.settings,
        call.options.top_logprobs,
        sorted(call.options.tags),
        [guardrail for guardrail in table.guardrails if guardrail.output],  # what passed others is not let through
    ]
    digest = hashlib.sha256(orjson.dumps(asked, default=_plain, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return f"{caller.tenant}:{digest}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError


def _kept(whole: Chunk) -> dict[str, Any]:
    kept = chunk_to_dict(replace(whole, answered_by=None, restarted=None))
    if by := whole.answered_by:
        kept["deployment"] = [by.deployment.deployment_id, by.deployment.model_group, by.deployment.model]
    return kept


def _read(found: bytes, table: RoutingTable) -> Chunk | None:
    try:
        return _chunk(orjson.loads(found), table)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None  # another version's, for all that is known


def _chunk(kept: dict[str, Any], table: RoutingTable) -> Chunk:
    """It costs nothing: nobody was asked."""
    by = None
    if made := kept.pop("deployment", None):
        known = (d for d in table.groups.get(made[1], ()) if d.deployment_id == made[0])
        by = AnsweredBy(next(known, Deployment(*made)), cached=True)
    return replace(chunk_from_dict(kept), answered_by=by, cost=0.0, cost_estimated=False)
