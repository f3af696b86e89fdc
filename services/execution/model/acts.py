"""What a run does, as those see it who observe runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.execution.model.tools import Tool, ToolResult
from services.execution.model.turns import Answer, ModelCall, ModelPiece, Work


@dataclass(slots=True)
class TargetRun:
    """A target at work, whole or as a part of another one, to its answer or to where it was interrupted."""

    work: Work
    answer: Answer | None = None


@dataclass(slots=True)
class ModelTurn:
    """A turn that is asked of a model; its text is there once it is over."""

    call: ModelCall
    said: ModelPiece = field(default_factory=ModelPiece)
    texts: list[str] = field(default_factory=list)
    first_piece: float | None = None
    """Seconds until the model began to answer."""

    def hear(self, piece: ModelPiece, seconds: float) -> None:
        if self.first_piece is None:
            self.first_piece = seconds
        if piece.restarted:
            self.said, self.texts = ModelPiece(), []
        self.texts.append(piece.text)
        self.said.tool_calls += piece.tool_calls
        self.said.usage = piece.usage or self.said.usage

    @property
    def text(self) -> str:
        return "".join(self.texts)


@dataclass(slots=True)
class ToolUse:
    """A call of a tool, of a run or from outside of any."""

    tool: Tool
    arguments: Mapping[str, Any]
    result: ToolResult | None = None


Act = TargetRun | ModelTurn | ToolUse
