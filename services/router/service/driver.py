"""A call is driven from attempt to attempt until one has answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import structlog

from libs import errors
from services.router.model import (
    AnsweredBy,
    Call,
    ChatCall,
    Chunk,
    Credentials,
    Deployment,
    FailedAttempt,
    Failure,
    MidStreamFailure,
)
from services.router.service.accounts import Accounts
from services.router.service.course import Course
from services.router.service.places import Places
from services.router.service.ports import Keys
from services.router.service.state import Seat

log = structlog.get_logger()

Ask = Callable[[Deployment, Credentials, Any], AsyncGenerator[Any, None]]
"""Asks a deployment; its pieces are Chunks, or one Embedded or Reranked."""


class Driver:
    def __init__(self, keys: Keys, places: Places, accounts: Accounts) -> None:
        self._keys, self._places, self._accounts = keys, places, accounts

    async def run(self, course: Course, ask: Ask) -> AsyncGenerator[Any, None]:
        while True:
            seat, goes_on = await self._places.take(course)
            answered_by = AnsweredBy(seat.state.deployment, tuple(course.attempts.all_failed))
            call = course.prefilled() if goes_on else course.call
            begun, heard = False, len(course.said) if goes_on else 0
            try:
                async with aclosing(self.attempt(course, seat, call, ask)) as pieces:
                    async for piece in pieces:
                        if not begun:
                            begun = True
                            if goes_on:
                                piece = course.joined(piece)
                            elif course.broken:
                                yield Chunk(restarted=course.broken, answered_by=answered_by)
                            course.resumes(goes_on=goes_on)
                            piece = replace(piece, answered_by=answered_by)
                        elif piece.finish_reason:
                            piece = replace(piece, answered_by=answered_by)
                        self._hears(course, seat, piece)
                        yield piece
                self._accounts.answered(course, seat, None)
                return
            except Failure as failure:
                pause = self._next(course, seat, failure, begun=begun)
            finally:
                self._accounts.left(course, seat, begun=begun, heard=heard)
            if pause:
                await asyncio.sleep(pause)

    async def attempt(self, course: Course, seat: Seat, call: Call, ask: Ask) -> AsyncGenerator[Any, None]:
        """One deployment is asked, again with a renewed key where the provider refused the one at hand."""
        deployment, begun = seat.state.deployment, False
        credentials = await self._credentials(course, deployment)
        while True:
            try:
                async with aclosing(ask(deployment, credentials, call)) as pieces:
                    while (piece := await _next_piece(pieces, course, deployment, begun=begun)) is not None:
                        if not begun:
                            begun = True
                            seat.answers()
                        yield piece
                return
            except Failure as failure:
                if begun or failure.error.reason_code != "UPSTREAM_AUTH" or not deployment.references or seat.renewed:
                    raise
                renewed = await self._credentials(course, deployment, refresh=True)
                if renewed == credentials:
                    raise
                credentials, seat.renewed = renewed, True
            log.info("key renewed", deployment_id=deployment.deployment_id)

    def _hears(self, course: Course, seat: Seat, piece: Any) -> None:
        """Takes note of a piece on its way to the caller."""
        if isinstance(piece, Chunk):
            course.hears(piece)
            if not piece.finish_reason:
                return
        self._accounts.answered(course, seat, piece)

    def _next(self, course: Course, seat: Seat, failure: Failure, *, begun: bool) -> float:
        """Counts a failed attempt; seconds until the next one, or raises what ends the call."""
        attempts, seconds, deployment = course.attempts, seat.seconds, seat.state.deployment
        reason = failure.error.reason_code
        log.warning("attempt failed", deployment_id=deployment.deployment_id, reason=reason, begun=begun)
        self._accounts.failed(course, seat, failure)
        if begun and (
            course.call.options.mid_stream_failure is MidStreamFailure.FAIL or not isinstance(course.call, ChatCall)
        ):
            failure.error.metadata["attempts"] = str(len(attempts.all_failed) + 1)
            raise failure.error from None
        if begun:
            course.broken = FailedAttempt(deployment.deployment_id, reason, seconds, deployment.model_group)
        others = self._places.others(course, deployment.deployment_id)
        return attempts.failed(deployment, failure, seconds, others=others, left=course.left)

    async def _credentials(self, course: Course, deployment: Deployment, *, refresh: bool = False) -> Credentials:
        if not (references := deployment.references):
            return Credentials()
        try:
            async with asyncio.timeout(course.left):
                values = await self._keys.resolve([*references.values()], refresh=refresh)
        except TimeoutError:
            raise _late(course, deployment) from None
        except errors.Error as error:
            raise Failure(error, may_pass=False) from None
        found = dict(zip(references, values, strict=True))
        return Credentials(found.pop("api_key", None), found)


async def _next_piece(pieces: AsyncIterator[Any], course: Course, deployment: Deployment, *, begun: bool) -> Any:
    patience, left = _patience(course, deployment, begun=begun), course.left
    try:
        async with asyncio.timeout(patience if left is None else min(patience, left)):
            return await anext(pieces, None)
    except TimeoutError:
        raise _late(course, deployment) from None


def _patience(course: Course, deployment: Deployment, *, begun: bool) -> float:
    table, options = course.table, course.call.options
    silence = table.timeout if deployment.timeout is None else deployment.timeout
    if not course.stream:
        return silence
    if begun:
        return options.idle_timeout or silence
    return options.first_token_timeout or table.first_token_timeout or silence


def _late(course: Course, deployment: Deployment) -> Failure:
    text = f"deployment {deployment.deployment_id} did not answer in time"
    metadata = {"deployment_id": deployment.deployment_id}
    return Failure(errors.DeadlineExceeded(text, metadata=metadata), may_pass=course.left != 0)
