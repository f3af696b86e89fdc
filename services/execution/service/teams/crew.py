"""The members at work: what each was asked in this run, and what it said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.execution.model.tools import ToolResult
from services.execution.service.asking import Asking, brief
from services.execution.service.teams.roster import Member


@dataclass(frozen=True, slots=True)
class Told:
    """What a member was asked, in which of the leader's turns, and what it said."""

    turn: int
    number: int
    member_id: str
    task: str
    output: str


class Crew:
    def __init__(
        self,
        asking: Asking,
        members: Sequence[Member],
        *,
        shares: bool,
        history: Sequence[Mapping[str, Any]],
        media: Sequence[Mapping[str, str]],
        output_schema: Mapping[str, Any] | None,
    ) -> None:
        self.members = {one.member_id: one for one in members}
        self._asking, self._shares, self._schema = asking, shares, output_schema
        self._history, self._media = history, media
        self._told: list[Told] = []

    async def ask(self, member_id: str, task: str, number: int, turn: int) -> ToolResult:
        result = await self._asking.ask(
            self.members[member_id].key,
            f"{self._before(turn)}{task}",
            number,
            output_schema=self._schema,
            history=self._history,
            media=self._media,
        )
        self._told.append(Told(turn, number, member_id, task, brief(result).output))
        return result

    def _before(self, turn: int) -> str:
        """What others did in earlier turns: of the same turn nobody knows who comes first."""
        told = sorted((one for one in self._told if one.turn < turn), key=lambda one: one.number)
        if not self._shares or not told:
            return ""
        lines = "\n".join(f"{one.member_id} was asked: {one.task}\n{one.member_id} said: {one.output}" for one in told)
        return f"<what_others_did>\n{lines}\n</what_others_did>\n"
