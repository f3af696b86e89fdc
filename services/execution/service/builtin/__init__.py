"""The tools that the suite brings along. Those here reach no network, file or process; gateways offer the others."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final

from services.execution.model.tools import Tool
from services.execution.service.builtin import asking, calculator, clock, presentation, sales
from services.execution.service.builtin.offers import Offer

PURE: Final = (
    asking.ASKING,
    calculator.CALCULATOR,
    clock.CURRENT_TIME,
    *sales.OFFERS,
    *presentation.OFFERS,
)


class Builtin:
    """The source `builtin`."""

    def __init__(self, *offers: Offer) -> None:
        self._offers = {offer.tool.tool_id: offer for offer in (*PURE, *offers)}

    def tools(self) -> Sequence[Tool]:
        return [offer.tool for offer in self._offers.values()]

    async def call(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
        said = self._offers[tool.tool_id].call(**arguments)
        return await said if inspect.isawaitable(said) else said
