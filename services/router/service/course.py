"""One call on its way: what was asked for, what is left of its time, what was said so far."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from libs import deadline
from libs.identity import Caller
from services.router.model import Budget, Call, ChatCall, Chunk, FailedAttempt, MidStreamFailure, RoutingTable
from services.router.service.attempts import Attempts
from services.router.service.selection import Wish

PREFILL: Final = "prefill"


class Course:
    __slots__ = ("attempts", "broken", "budgets", "call", "caller", "ends", "said", "stream", "table", "tools", "wish")

    def __init__(
        self, caller: Caller, table: RoutingTable, group: str, call: Call, wish: Wish, budgets: Sequence[Budget]
    ) -> None:
        self.caller, self.table, self.call, self.wish, self.budgets = caller, table, call, wish, budgets
        self.attempts = Attempts(table, group, call.options)
        self.stream = isinstance(call, ChatCall) and call.stream
        timeout = call.options.timeout
        self.ends = None if timeout is None else time.monotonic() + timeout
        self.said: list[str] = []
        self.tools = False
        self.broken: FailedAttempt | None = None
        """The attempt whose pieces were sent before it failed."""

    @property
    def left(self) -> float | None:
        """Seconds."""
        own = None if self.ends is None else max(0.0, self.ends - time.monotonic())
        return deadline.narrowed(own)

    def hears(self, piece: Chunk) -> None:
        if piece.text:
            self.said.append(piece.text)
        if piece.tool_calls or piece.tool_call_deltas:
            self.tools = True

    def resumes(self, *, goes_on: bool) -> None:
        """Another attempt speaks: it goes on, or what was said before is void."""
        self.broken = None
        if not goes_on:
            self.said, self.tools = [], False

    @property
    def may_go_on(self) -> bool:
        """Whether another deployment could continue what was said."""
        wanted = self.call.options.mid_stream_failure is MidStreamFailure.CONTINUE
        return bool(self.broken and wanted and not self.tools and "".join(self.said).strip())

    def prefilled(self) -> Call:
        """The call with what was said as the beginning of the answer."""
        assert isinstance(self.call, ChatCall)
        said = "".join(self.said).rstrip()  # providers refuse a beginning that ends in space
        message = {"role": "assistant", "content": said, "prefix": True}
        return replace(self.call, messages=[*self.call.messages, message])

    def joined(self, piece: Chunk) -> Chunk:
        """The first piece of a continuation without the space that was sent already."""
        said = "".join(self.said)
        sent = said[len(said.rstrip()) :]
        while sent and not piece.text.startswith(sent):
            sent = sent[1:]
        return replace(piece, text=piece.text[len(sent) :]) if sent else piece
