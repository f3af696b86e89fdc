"""Agno's side of Router."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agno.metrics import MessageMetrics
from agno.models.base import Model
from agno.models.message import Message
from agno.models.response import ModelResponse

from services.execution.gateways.agno.turns import Turns, to_agno
from services.execution.model.events import UsageReported


@dataclass
class RouterModel(Model):  # type: ignore[misc]
    """Agno's side of Router. It never sees a provider or a key."""

    id: str = ""
    name: str = "Router"
    provider: str = "router"
    turns: Turns | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> RouterModel:
        return RouterModel(id=self.id, turns=self.turns)

    async def ainvoke(
        self, messages: list[Message], assistant_message: Message, tools: Any = None, **_: Any
    ) -> ModelResponse:
        """The turn once it is whole: who reads it as it comes reads the events, and a turn may begin again."""
        assert self.turns is not None
        turn = await self.turns.turn(list(map(to_dict, messages)), list(tools or ()))
        return ModelResponse(
            role="assistant",
            content=turn.text or None,
            reasoning_content=turn.reasoning or None,
            # Agno would read Python for JSON, turn "none" into None, and log what it cannot read.
            tool_calls=[to_agno(call, "{}") for call in turn.tool_calls],
            response_usage=_metrics(turn.usage) if turn.usage else MessageMetrics(),
        )

    def ainvoke_stream(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("a turn is whole")

    def invoke(self, *args: Any, **kwargs: Any) -> ModelResponse:
        raise NotImplementedError("runs are asynchronous")

    def invoke_stream(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("runs are asynchronous")

    def _parse_provider_response(self, response: Any, **kwargs: Any) -> ModelResponse:
        raise NotImplementedError

    def _parse_provider_response_delta(self, response: Any) -> ModelResponse:
        raise NotImplementedError


def to_dict(message: Message) -> dict[str, Any]:
    return {
        "role": message.role,
        "content": message.get_content_string() if message.content is not None else "",
        "tool_calls": message.tool_calls,
        "tool_call_id": message.tool_call_id,
        "name": message.tool_name if message.role == "tool" else message.name,
    }


def _metrics(usage: UsageReported) -> MessageMetrics:
    return MessageMetrics(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        cost=usage.cost_usd,
    )
