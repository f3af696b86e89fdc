"""Sessions: reading, changing and deleting them, and what a run begins with."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import orjson

from libs import errors, pagination
from libs.identity import Caller
from services.execution.model.sessions import (
    Author,
    Background,
    MadeChange,
    Message,
    Pin,
    Session,
    SessionMessage,
    State,
    Talk,
    whole,
)
from services.execution.model.targets import Spec
from services.execution.model.turns import Job
from services.execution.service.history import LONGEST, window
from services.execution.service.log import storable

LARGEST_STATE: Final = 1024 * 1024
DEEPEST: Final = 20
"""Protobuf's parsers give up at 100 messages within each other, and a Struct takes three for a level."""
_MESSAGES: Final = 100
_OF_THE_REST: Final = 4096
_AT_ONCE: Final = 20
"""Messages that are read together: one alone may have some megabytes."""
_TRIES: Final = 5
_DIGITS: Final = 19

ChangeState = Callable[[str, Callable[[State], State]], Awaitable[tuple[State, int]]]
"""Changes the session's state for a call; gives the state and its version."""


@dataclass(frozen=True, slots=True)
class SessionQuery:
    user_id: str = ""
    agent_id: str = ""
    before: tuple[datetime, str] | None = None
    """Only those used less recently than this one."""


@dataclass(frozen=True, slots=True)
class ChangeQuery:
    """Both conditions must hold; an empty one is none."""

    session_id: str = ""
    agent_id: str = ""
    before: tuple[datetime, str, int] | None = None
    """Only older ones: time, session and version."""


@dataclass(frozen=True, slots=True)
class Deletion:
    executions: int
    live: Sequence[str] = field(default=())
    """Executions that must end first; then nothing was deleted."""


class SessionStore(Protocol):
    async def get(self, tenant: str, session_id: str) -> Session | None: ...

    async def list(self, tenant: str, query: SessionQuery, *, limit: int) -> Sequence[Session]:
        """The last used first."""

    async def changes(self, tenant: str, query: ChangeQuery, *, limit: int) -> Sequence[MadeChange]:
        """Changes of states, the newest first."""

    async def messages(
        self, tenant: str, session_id: str, *, after: int, up_to: int, limit: int
    ) -> Sequence[SessionMessage]:
        """Messages between two positions, the newest first."""

    async def start_of_runs(self, tenant: str, session_id: str, up_to: int, runs: int) -> int:
        """The position before the first message of the last runs up to a position."""

    async def state_at(self, tenant: str, session_id: str, time: datetime) -> tuple[State, int]: ...

    async def change(
        self, tenant: str, session_id: str, by: Author, edit: Callable[[Session], Session]
    ) -> Session | None:
        """Changes a session while nobody else does; None if there is none. The same call changes it once."""

    async def pin(
        self, talk: Talk, edit: Callable[[State, int], State], *, remembers: bool, read_only: bool = False
    ) -> Pin:
        """What the run begins with, after `edit` of the session's state and its version; later the same again."""

    async def delete(self, tenant: str, session_id: str) -> Deletion | None: ...


class Sessions:
    def __init__(self, store: SessionStore) -> None:
        self._store = store

    async def list(
        self, caller: Caller, page_size: int, page_token: str, query: SessionQuery
    ) -> tuple[Sequence[Session], str]:
        bound = {"user_id": query.user_id, "agent_id": query.agent_id}
        if after := pagination.from_token(page_token, bound):
            query = replace(query, before=_place(after))
        size = pagination.page_size(page_size)
        found = await self._store.list(caller.tenant, query, limit=size + 1)
        page = pagination.fitting(found[:size], _bytes)
        if len(found) == len(page):
            return page, ""
        last = page[-1]
        return page, pagination.to_token(f"{last.update_time.isoformat()} {last.session_id}", bound)

    async def get(
        self, caller: Caller, session_id: str, max_messages: int, state_at: datetime | None
    ) -> tuple[Session, Sequence[SessionMessage]]:
        session = await self._store.get(caller.tenant, session_id)
        if session is None:
            raise errors.NotFound("session", session_id)
        if state_at is not None:
            state, version = await self._store.state_at(caller.tenant, session_id, state_at)
            session = replace(session, state=state, state_version=version)
        after = session.message_count - (max_messages or _MESSAGES)
        left = pagination.MOST_BYTES - len(orjson.dumps(session.state)) - _bytes(session)
        return session, await self._newest(caller.tenant, session_id, after, session.message_count, left)

    async def _newest(
        self, tenant: str, session_id: str, after: int, up_to: int, left: int
    ) -> Sequence[SessionMessage]:
        """Messages between two positions, the oldest first; of too many bytes the newest, read a few at a time."""
        found: list[SessionMessage] = []
        while left > 0:
            some = await self._store.messages(tenant, session_id, after=after, up_to=up_to, limit=_AT_ONCE)
            fitting = pagination.fitting(some, _bytes_of_message, left)
            found += fitting
            if len(fitting) < len(some) or len(some) < _AT_ONCE:
                break
            up_to, left = some[-1].position - 1, left - sum(map(_bytes_of_message, some))
        return found[::-1]

    async def changes(
        self, caller: Caller, page_size: int, page_token: str, query: ChangeQuery
    ) -> tuple[Sequence[MadeChange], str]:
        bound = {"session_id": query.session_id, "agent_id": query.agent_id}
        if after := pagination.from_token(page_token, bound):
            place, _, version = after.rpartition(" ")
            query = replace(query, before=(*_place(place), _number(version)))
        size = pagination.page_size(page_size)
        found = await self._store.changes(caller.tenant, query, limit=size + 1)
        page = pagination.fitting(found[:size], lambda one: len(orjson.dumps(one.change.set)) + _OF_THE_REST)
        if len(found) == len(page):
            return page, ""
        last = page[-1]
        return page, pagination.to_token(f"{last.time.isoformat()} {last.session_id} {last.change.version}", bound)

    async def update(self, caller: Caller, session_id: str, etag: str, changes: Mapping[str, Any]) -> Session:
        changes = storable(dict(changes))
        if "state" in changes:
            check_state(changes["state"], "session.state")

        def edit(session: Session) -> Session:
            if etag and etag != session.etag:
                raise errors.Aborted(f"session {session_id!r} has changed since", metadata={"etag": session.etag})
            return replace(session, **changes)

        made = await self._store.change(caller.tenant, session_id, Author(subject=caller.subject), edit)
        if made is None:
            raise errors.NotFound("session", session_id)
        return made

    async def delete(self, caller: Caller, session_id: str, cancel: Callable[[str], Awaitable[object]]) -> int:
        """Cancels the session's runs and deletes all that it has; gives how many executions those were."""
        for _ in range(_TRIES):
            deleted = await self._store.delete(caller.tenant, session_id)
            if deleted is None:
                raise errors.NotFound("session", session_id)
            if not deleted.live:
                return deleted.executions
            for execution_id in deleted.live:
                with contextlib.suppress(errors.NotFound):
                    await cancel(execution_id)
        raise errors.Unavailable(f"runs of session {session_id!r} begin faster than they end", retry_after=1.0)

    async def background(self, talk: Talk, job: Job, *, read_only: bool = False) -> Background:
        """What the run is told beside its input. It is read once: a run taken up again is told the same."""
        spec, request = job.agent.spec, job.request
        wanted = spec.get("history", {})
        if not _reads(talk, spec, request.session_state):
            return Background(window(request.history, wanted))
        initial = whole(spec.get("session", {}).get("initial_state", {}))

        def edit(current: State, version: int) -> State:
            made = {**(current if version else initial), **request.session_state}
            check_state(made, "session_state")
            return made

        remembers = bool(talk.user_id and spec.get("memory"))
        pin = await self._store.pin(talk, edit, remembers=remembers, read_only=read_only)
        return Background(window(await self._history(talk, job, pin), wanted), pin)

    async def _history(self, talk: Talk, job: Job, pin: Pin) -> Sequence[Message]:
        wanted = job.agent.spec.get("history", {})
        runs, messages = wanted.get("num_runs", 0), wanted.get("num_messages", 0)
        if not talk.session_id or not pin.message_count or not (runs or messages):
            return job.request.history
        of, up_to = (talk.tenant, talk.session_id), pin.message_count
        after = await self._store.start_of_runs(*of, up_to, runs) if runs else up_to - messages
        return [kept.message for kept in await self._newest(*of, after, up_to, LONGEST)]

    def state_of(self, talk: Talk) -> ChangeState:
        """For the tool calls of a run: each changes the state once."""

        async def change(call_id: str, edit: Callable[[State], State]) -> tuple[State, int]:
            by = Author("", talk.execution_id, talk.agent_id, call_id)
            made = await self._store.change(
                talk.tenant, talk.session_id, by, lambda session: replace(session, state=edit(session.state))
            )
            if made is None:
                raise errors.NotFound("session", talk.session_id)
            return made.state, made.state_version

        return change


def _reads(talk: Talk, spec: Spec, state: State) -> bool:
    """Whether the run has anything to read or to set: most runs have not, and wait for no database."""
    of_session = talk.session_id and (spec.get("history") or spec.get("session"))
    of_user = talk.user_id and spec.get("memory")
    return bool(of_session or of_user or state or spec.get("session", {}).get("initial_state"))


def check_state(state: State, field: str) -> None:
    if _depth(state) > DEEPEST:
        raise errors.invalid(field, f"is nested deeper than {DEEPEST}")
    if len(orjson.dumps(state)) > LARGEST_STATE:
        raise errors.invalid(field, f"has more than {LARGEST_STATE} bytes of JSON")


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0) if isinstance(value, Mapping | list) else 0


def _bytes(session: Session) -> int:
    return len(session.summary.encode()) + len(orjson.dumps(dict(session.metadata))) + _OF_THE_REST


def _bytes_of_message(kept: SessionMessage) -> int:
    return len(orjson.dumps(kept.message))


def _place(last: str) -> tuple[datetime, str]:
    """Of a session in the list, as its page token says it. Whoever makes tokens of their own is told so."""
    time, _, session_id = last.partition(" ")
    try:
        return datetime.fromisoformat(time).astimezone(UTC), session_id
    except (ValueError, OverflowError):
        raise _no_token() from None


def _number(text: str) -> int:
    if not (text.isdecimal() and len(text) < _DIGITS):
        raise _no_token()
    return int(text)


def _no_token() -> errors.InvalidArgument:
    return errors.invalid("page_token", "is not a token of this service")
